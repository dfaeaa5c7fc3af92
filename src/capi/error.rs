//! Status codes, the caller's error struct, and the guard around every exported function.

use std::ffi::{c_char, c_void};
use std::fmt::{self, Write};
use std::mem::{offset_of, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::abi::{self, structs};
use crate::error::Error;

/// The result of a call: `GRATE_OK` or one of the `GRATE_ERR_` codes. Numbers are never reused.
pub type grate_status = i32;

/// Done.
pub const GRATE_OK: i32 = 0;
/// A pointer that must not be NULL is.
pub const GRATE_ERR_NULL_POINTER: i32 = 1;
/// A `struct_size` is too small, absurdly large, or the struct uses a field that this library does not know.
pub const GRATE_ERR_STRUCT_SIZE: i32 = 2;
/// A name is empty, longer than 128 bytes, not UTF-8, or contains control characters.
pub const GRATE_ERR_INVALID_NAME: i32 = 3;
/// A value is out of its range; the message says which.
pub const GRATE_ERR_INVALID_ARGUMENT: i32 = 4;
/// A configuration contradicts itself or the one in force; nothing was applied.
pub const GRATE_ERR_INVALID_CONFIG: i32 = 5;
/// A JSON document is malformed; the message gives line and column; nothing was applied.
pub const GRATE_ERR_INVALID_JSON: i32 = 6;
/// No capability of that name is registered.
pub const GRATE_ERR_UNKNOWN_CAPABILITY: i32 = 7;
/// No provider of that name is registered.
pub const GRATE_ERR_UNKNOWN_PROVIDER: i32 = 8;
/// No provider can take the request now; the decision says which one frees first, when, and what holds it.
pub const GRATE_ERR_NO_PROVIDER_AVAILABLE: i32 = 9;
/// The lease was settled already, has expired, or never existed.
pub const GRATE_ERR_STALE_LEASE: i32 = 10;
/// The buffer is too small; the length that it needs was written.
pub const GRATE_ERR_BUFFER_TOO_SMALL: i32 = 11;
/// More than 1048576 providers, 4194304 quotas (each provider has two at least; removed ones count) or 16777216 leases, or more of
/// them than a state file of its size has room for.
pub const GRATE_ERR_CAPACITY: i32 = 12;
/// A bug in libgrate: a panic was caught. Please report it; the process and other engines are unharmed.
pub const GRATE_ERR_PANIC: i32 = 13;
/// The state file cannot be used: it is damaged, not one, of another version, or cannot be opened; the message says which.
pub const GRATE_ERR_STATE_FILE: i32 = 14;

const NAMES: [&std::ffi::CStr; 15] = [
    c"GRATE_OK",
    c"GRATE_ERR_NULL_POINTER",
    c"GRATE_ERR_STRUCT_SIZE",
    c"GRATE_ERR_INVALID_NAME",
    c"GRATE_ERR_INVALID_ARGUMENT",
    c"GRATE_ERR_INVALID_CONFIG",
    c"GRATE_ERR_INVALID_JSON",
    c"GRATE_ERR_UNKNOWN_CAPABILITY",
    c"GRATE_ERR_UNKNOWN_PROVIDER",
    c"GRATE_ERR_NO_PROVIDER_AVAILABLE",
    c"GRATE_ERR_STALE_LEASE",
    c"GRATE_ERR_BUFFER_TOO_SMALL",
    c"GRATE_ERR_CAPACITY",
    c"GRATE_ERR_PANIC",
    c"GRATE_ERR_STATE_FILE",
];

/// The symbolic name of a status code, such as `"GRATE_ERR_STALE_LEASE"`; `"GRATE_ERR_UNKNOWN"` for a number
/// that this version does not know. Static storage, never NULL, nothing to free. Safe on any thread.
#[unsafe(no_mangle)]
pub extern "C" fn grate_status_name(status: grate_status) -> *const c_char {
    usize::try_from(status).ok().and_then(|i| NAMES.get(i)).unwrap_or(&c"GRATE_ERR_UNKNOWN").as_ptr()
}

/// Bytes of `grate_error.message`, terminating NUL included.
pub const GRATE_ERROR_MESSAGE_SIZE: usize = 504;

/// What went wrong, in the caller's own memory: nothing to free, no thread-local state.
///
/// Pass NULL to every function where the code is enough. Otherwise initialise it once with
/// `GRATE_ERROR_INIT`; each call that gets it sets `code` and `message` (on success `GRATE_OK` and `""`).
/// One struct must not be used by two threads at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_error {
    /// `sizeof(grate_error)`.
    pub struct_size: u32,
    /// The status that the call returned.
    pub code: i32,
    /// What is wrong and what to do about it: NUL-terminated UTF-8, cut at a character if it is too long.
    pub message: [c_char; GRATE_ERROR_MESSAGE_SIZE],
}
structs! { grate_error = 512, }

/// Initialises the first `size` bytes of `error` (pass `sizeof *error`). Does nothing for NULL.
///
/// # Safety
/// `error` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_error_init(error: *mut grate_error, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(error, size) }
}

/// Why a call fails: a code and a message, without allocation.
pub(super) struct Failure {
    code: grate_status,
    message: Text,
}

#[allow(clippy::large_enum_variant, reason = "boxing would allocate")]
enum Text {
    Fixed(&'static str),
    Formatted(Message),
}

impl Text {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Fixed(text) => text.as_bytes(),
            Self::Formatted(text) => text.bytes.get(..text.len).unwrap_or_default(),
        }
    }
}

impl Failure {
    #[cold]
    #[inline(never)]
    pub(super) fn new(code: grate_status, message: fmt::Arguments<'_>) -> Self {
        let mut text = Message { bytes: [0; GRATE_ERROR_MESSAGE_SIZE], len: 0 };
        // A message too long for the buffer is cut: the only way in which this can fail.
        let _ = text.write_fmt(message);
        Self { code, message: Text::Formatted(text) }
    }

    /// A failure whose text needs no formatting: for the hot path.
    pub(super) fn fixed(code: grate_status, message: &'static str) -> Self {
        Self { code, message: Text::Fixed(message) }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn null(what: &str) -> Self {
        Self::new(GRATE_ERR_NULL_POINTER, format_args!("{what} is NULL"))
    }

    pub(super) fn invalid(message: fmt::Arguments<'_>) -> Self {
        Self::new(GRATE_ERR_INVALID_ARGUMENT, message)
    }

    /// An error of the engine about the thing called `name`.
    #[cold]
    pub(super) fn about(error: &Error, name: &[u8]) -> Self {
        // A name that is not UTF-8 is an invalid one.
        let name = std::str::from_utf8(name).unwrap_or_default();
        match error {
            // Its text says what is wrong with the name, which may not be fit to print.
            Error::InvalidName(_) => Self::new(code(error), format_args!("{error}")),
            _ => Self::new(code(error), format_args!("{error}: '{name}'")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(code(&error), format_args!("{error}"))
    }
}

/// Which code tells of which error of the engine.
fn code(error: &Error) -> grate_status {
    match error {
        Error::InvalidName(_) => GRATE_ERR_INVALID_NAME,
        Error::InvalidArgument(_) => GRATE_ERR_INVALID_ARGUMENT,
        Error::InvalidConfig(_) => GRATE_ERR_INVALID_CONFIG,
        Error::InvalidJson(_) => GRATE_ERR_INVALID_JSON,
        Error::UnknownCapability => GRATE_ERR_UNKNOWN_CAPABILITY,
        Error::UnknownProvider | Error::UnregisteredProvider(_) => GRATE_ERR_UNKNOWN_PROVIDER,
        Error::StaleLease => GRATE_ERR_STALE_LEASE,
        Error::Capacity(_) => GRATE_ERR_CAPACITY,
        Error::StateFile(_) => GRATE_ERR_STATE_FILE,
    }
}

/// A message under construction; writing stops at the end of the buffer.
struct Message {
    bytes: [u8; GRATE_ERROR_MESSAGE_SIZE],
    len: usize,
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = GRATE_ERROR_MESSAGE_SIZE - 1 - self.len;
        let cut = (0..=room.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(text.bytes().take(cut)) {
            *to = from;
        }
        self.len += cut;
        if cut < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Runs the body of an exported function: no panic leaves it, and its failure lands in `err`.
///
/// # Safety
/// `err` is NULL or points to a `grate_error` of the caller.
#[inline]
pub(super) unsafe fn guard(err: *mut grate_error, body: impl FnOnce() -> Result<(), Failure>) -> grate_status {
    if !err.is_null() {
        // An error struct that cannot be written is refused before anything is done.
        // SAFETY: the caller's promise.
        if let Err(failure) = unsafe { abi::size_of_caller(err) } {
            return failure.code;
        }
    }
    // Nothing of the engine is left locked by an unwinding call. A failure, which is large, is told where it arises.
    let told = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "fault-injection")]
        crate::fault::point(crate::fault::Place::Call);
        match body() {
            // SAFETY: checked above.
            Ok(()) => unsafe { tell(err, GRATE_OK, b"") },
            // SAFETY: likewise.
            Err(failure) => unsafe { tell(err, failure.code, failure.message.bytes()) },
        }
    }));
    told.unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let failure = Failure::new(GRATE_ERR_PANIC, format_args!("internal error, please report it: {text}"));
        // Dropping a payload may panic again; it is tiny and this path is a bug's, so leak it.
        std::mem::forget(payload);
        // SAFETY: likewise.
        unsafe { tell(err, failure.code, failure.message.bytes()) }
    })
}

/// Writes code and message into a checked error struct, if there is one; the code again.
///
/// # Safety
/// `err` is NULL or has a size that was checked.
#[inline]
unsafe fn tell(err: *mut grate_error, code: grate_status, text: &[u8]) -> grate_status {
    if err.is_null() {
        return code;
    }
    let at = err.cast::<u8>();
    // SAFETY: the struct holds at least its first version: code, and a message longer than `text`.
    unsafe {
        at.add(offset_of!(grate_error, code)).cast::<i32>().write_unaligned(code);
        let message = at.add(offset_of!(grate_error, message));
        std::ptr::copy_nonoverlapping(text.as_ptr(), message, text.len());
        message.add(text.len()).write(0);
    }
    code
}

/// Runs the body of a `_free`: a panic while dropping must not reach C either.
pub(super) fn guard_free(body: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(body)) {
        std::mem::forget(payload);
    }
}

/// A pointer that a callback gets back; the caller vouches for its use on any thread.
#[derive(Clone, Copy)]
pub(super) struct UserData(pub(super) *mut c_void);
// SAFETY: the pointer is only handed back to the caller's callback, which is documented to be callable on any thread.
unsafe impl Send for UserData {}
// SAFETY: likewise.
unsafe impl Sync for UserData {}
