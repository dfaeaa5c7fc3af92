//! The limiters that `tools/bench` times beside libgrate, behind a C interface, so that one program can run all sides in
//! turns. `tools/bench/sides.c` declares it.
//!
//! A call through it runs a whole batch, so that these sides pay for no boundary: they are as fast as Rust programs
//! have them.
#![allow(unsafe_code, reason = "exports functions to C")]

mod governor;
mod limiter;

use crate::governor::Governor;
use limiter::Limiter;

/// What is measured. The same as in `workload.h`, where the fields are explained.
#[derive(Clone)]
#[repr(C)]
pub struct Workload {
    clock: u32,
    providers: u32,
    quotas: u32,
    apart: u32,
    requests_per_minute: u64,
    tokens: u64,
    latency_ms: u64,
    cooldown_secs: u64,
}

/// The clocks and operations of `workload.h`.
mod constants {
    pub const MOCK: u32 = 0;
    pub const SYSTEM: u32 = 2;
    pub const SELECT: u32 = 0;
    pub const SELECT_RANKED: u32 = 1;
    pub const OBSERVE: u32 = 2;
}

/// Exports a competitor as functions: one that makes it, one that runs an operation so many times, one that frees it.
macro_rules! export {
    ($type:ty: $new:ident, $run:ident, $free:ident) => {
        /// Makes one.
        ///
        /// # Safety
        /// `workload` points to a workload.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $new(workload: *const Workload) -> *mut $type {
            // SAFETY: the caller's promise.
            Box::into_raw(Box::new(<$type>::new(unsafe { &*workload })))
        }

        /// Runs an operation `n` times.
        ///
        /// # Safety
        /// `this` is alive, and no other call uses it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $run(this: *mut $type, operation: u32, n: u64) {
            // SAFETY: the caller's promise.
            unsafe { &mut *this }.run(operation, n);
        }

        /// Frees it.
        ///
        /// # Safety
        /// `this` is alive, and is not used afterwards.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $free(this: *mut $type) {
            // SAFETY: the caller's promise; it came out of a box.
            drop(unsafe { Box::from_raw(this) });
        }
    };
}

export!(Limiter: limiter_new, limiter_run, limiter_free);
export!(Governor: governor_new, governor_run, governor_free);

/// A second caller of the same engine, for another thread.
///
/// # Safety
/// `this` is alive, and no other call uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn limiter_another(this: *const Limiter) -> *mut Limiter {
    // SAFETY: the caller's promise.
    Box::into_raw(Box::new(unsafe { &*this }.another()))
}
