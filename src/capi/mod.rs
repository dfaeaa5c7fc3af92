//! The C API: conversion only. Each function reads its arguments, calls the engine, and writes the results.
//!
//! Rules of the boundary are in `abi.rs`; codes, messages and the panic guard in `error.rs`.
#![allow(unsafe_code, reason = "this module is the boundary; the engine has no unsafe code")]
#![allow(non_camel_case_types, reason = "C names")]
#![allow(clippy::result_large_err, reason = "a Failure carries its message by value: no allocation on the hot path")]

mod abi;
mod clock;
mod config;
mod engine;
mod error;
mod headers;
mod inspect;
mod route;

pub use clock::*;
pub use config::*;
pub use engine::*;
pub use error::*;
pub use headers::*;
pub use inspect::*;
pub use route::*;

use std::ffi::c_char;

/// Major version of the header and library.
pub const GRATE_VERSION_MAJOR: u32 = 0;
/// Minor version of the header and library.
pub const GRATE_VERSION_MINOR: u32 = 1;
/// Patch version of the header and library.
pub const GRATE_VERSION_PATCH: u32 = 0;
/// `major * 1000000 + minor * 1000 + patch`; compare with `grate_version()`.
pub const GRATE_VERSION: u32 = 1_000;

/// The version of the library that is linked, as `GRATE_VERSION` is that of the header.
/// Safe on any thread.
#[unsafe(no_mangle)]
pub extern "C" fn grate_version() -> u32 {
    GRATE_VERSION
}

/// The version of the library as text, such as `"0.1.0"`. Static storage, nothing to free.
#[unsafe(no_mangle)]
pub extern "C" fn grate_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
