//! Bytes, played as calls of the C API, with everything that comes back checked. Any bytes will do: the fuzz targets of
//! `fuzz/` bring their own, the tests here pseudo-random ones and those that the fuzzer kept.
//!
//! * [`calls`]: sequences of calls on one engine, in `world` and `settle`, held against `quota`, a plain log of every quota that
//!   is counted anew each time. `checks` has what must hold of each answer, `op` and `input` make calls of bytes.
//! * [`configure_json`]: documents of any kind.
//! * [`parse_headers`]: header fields of any kind.
//!
//! `api` calls the C functions as a careful program would. A broken promise is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how it tells of a finding")]

mod api;
mod checks;
mod headers;
mod input;
mod json;
mod op;
mod quota;
mod settle;
mod world;

pub use headers::parse_headers;
pub use json::configure_json;
pub use world::calls;
