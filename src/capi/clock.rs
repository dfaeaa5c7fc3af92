//! `grate_clock`: the mock clock and the caller's own.

use std::ffi::c_void;
use std::sync::Arc;

use super::abi;
use super::error::{Failure, GRATE_OK, UserData, grate_error, grate_status, guard, guard_free};
use crate::clock::{Clock, MockClock};
use crate::config::ms_to_ns;

/// A source of time for engines. Made by `grate_clock_mock_new` or `grate_clock_callback_new`, freed by
/// `grate_clock_free`. Engines keep what they need of it, so it may be freed before them.
/// All functions may be called on any thread at any time.
pub struct grate_clock {
    kind: Kind,
}

enum Kind {
    Mock(Arc<MockClock>),
    Callback(Arc<CallbackClock>),
}

impl grate_clock {
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        match &self.kind {
            Kind::Mock(clock) => clock.clone(),
            Kind::Callback(clock) => clock.clone(),
        }
    }

    fn mock(&self) -> Result<&MockClock, Failure> {
        match &self.kind {
            Kind::Mock(clock) => Ok(clock),
            Kind::Callback(_) => {
                Err(Failure::invalid(format_args!("this clock is the caller's own: only a mock clock can be set")))
            }
        }
    }
}

/// Returns monotonic nanoseconds, from any starting point. Called on the caller's threads, several at once,
/// with no lock of the engine held. It must not call into the engine, unwind, or `longjmp`.
/// A value lower than an earlier one counts as "no time has passed".
pub type grate_monotonic_ns_fn = Option<unsafe extern "C" fn(user_data: *mut c_void) -> u64>;

/// Returns milliseconds since the Unix epoch. The same rules as for `grate_monotonic_ns_fn`.
pub type grate_unix_ms_fn = Option<unsafe extern "C" fn(user_data: *mut c_void) -> u64>;

struct CallbackClock {
    monotonic_ns: unsafe extern "C" fn(*mut c_void) -> u64,
    unix_ms: unsafe extern "C" fn(*mut c_void) -> u64,
    user_data: UserData,
}

impl Clock for CallbackClock {
    fn monotonic_ns(&self) -> u64 {
        // SAFETY: the caller of grate_clock_callback_new promised a function that may be called so.
        unsafe { (self.monotonic_ns)(self.user_data.0) }
    }

    fn unix_ns(&self) -> u64 {
        // SAFETY: likewise.
        ms_to_ns(unsafe { (self.unix_ms)(self.user_data.0) })
    }
}

/// A clock that stands still until it is moved: for tests and simulations. It starts at 0 ns and `unix_ms`.
/// Never NULL. Free it with `grate_clock_free`.
#[unsafe(no_mangle)]
pub extern "C" fn grate_clock_mock_new(unix_ms: u64) -> *mut grate_clock {
    let clock = Arc::new(MockClock::new(unix_ms));
    Box::into_raw(Box::new(grate_clock { kind: Kind::Mock(clock) }))
}

/// A clock that asks the caller: `monotonic_ns` for intervals and `unix_ms` for calendar windows and dates.
/// `user_data` is handed to both and must stay valid until the clock and every engine made with it are freed.
/// On success `*out` is a clock to free with `grate_clock_free`. Fails with `GRATE_ERR_NULL_POINTER`.
///
/// # Safety
/// `out` must be NULL or writable, `err` NULL or a valid `grate_error`; the functions must obey their types' rules.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_clock_callback_new(
    monotonic_ns: grate_monotonic_ns_fn,
    unix_ms: grate_unix_ms_fn,
    user_data: *mut c_void,
    out: *mut *mut grate_clock,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        guard(err, || {
            abi::out(out, "out")?;
            let (Some(monotonic_ns), Some(unix_ms)) = (monotonic_ns, unix_ms) else {
                return Err(Failure::null("a clock function"));
            };
            let clock = CallbackClock { monotonic_ns, unix_ms, user_data: UserData(user_data) };
            let clock = Box::new(grate_clock { kind: Kind::Callback(Arc::new(clock)) });
            abi::write_value(out, Box::into_raw(clock))
        })
    }
}

/// Frees a clock. Engines made with it keep working. Does nothing for NULL. A clock is freed once, and no call
/// with the clock itself may run at the same time.
///
/// # Safety
/// `clock` must be NULL or come from a `grate_clock_` constructor, and not be used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_clock_free(clock: *mut grate_clock) {
    if !clock.is_null() {
        // SAFETY: made by Box::into_raw, freed once.
        guard_free(|| drop(unsafe { Box::from_raw(clock) }));
    }
}

/// Moves a mock clock.
///
/// # Safety
/// `clock` is NULL or alive.
unsafe fn with_mock(clock: *const grate_clock, change: impl FnOnce(&MockClock)) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(std::ptr::null_mut(), || {
            change(abi::reference(clock, "clock")?.mock()?);
            Ok(())
        })
    }
}

/// Advances a mock clock by `ms` milliseconds, monotonic and Unix time alike; it stops at the end of a `uint64_t`
/// of nanoseconds (584 years; for an engine time stands still 146 years after it was made). Fails with
/// `GRATE_ERR_NULL_POINTER`, or `GRATE_ERR_INVALID_ARGUMENT` for a clock that is not a mock.
///
/// # Safety
/// `clock` must be NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_clock_advance_ms(clock: *mut grate_clock, ms: u64) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe { with_mock(clock, |mock| mock.advance_ns(ms_to_ns(ms))) }
}

/// Advances a mock clock by `secs` seconds. Otherwise like `grate_clock_advance_ms`.
///
/// # Safety
/// `clock` must be NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_clock_advance_secs(clock: *mut grate_clock, secs: u64) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe { with_mock(clock, |mock| mock.advance_ns(secs.saturating_mul(1_000_000_000))) }
}

/// Sets a mock clock to `ns` nanoseconds after its start; going back is allowed and counts as "no time has passed".
/// Otherwise like `grate_clock_advance_ms`.
///
/// # Safety
/// `clock` must be NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_clock_set_ns(clock: *mut grate_clock, ns: u64) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe { with_mock(clock, |mock| mock.set_ns(ns)) }
}

/// What the clock shows, in monotonic nanoseconds; 0 for NULL.
///
/// # Safety
/// `clock` must be NULL or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_clock_now_ns(clock: *const grate_clock) -> u64 {
    let mut now = 0;
    // SAFETY: the caller's promise.
    let status = unsafe {
        guard(std::ptr::null_mut(), || {
            now = abi::reference(clock, "clock")?.clock().monotonic_ns();
            Ok(())
        })
    };
    if status == GRATE_OK { now } else { 0 }
}
