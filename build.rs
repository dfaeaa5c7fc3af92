//! What plain cargo leaves out of a shared library that is to be installed.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    // Without a SONAME a program records the path it was linked with, and an incompatible version would be loaded as
    // if it were this one.
    let major = variable("CARGO_PKG_VERSION_MAJOR");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libgrate.so.{major}");
    // Rust's thread-locals leave destructors behind that run when a thread ends: after a `dlclose` they would be calls
    // into unmapped memory. So the library stays mapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
