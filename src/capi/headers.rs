//! The reader of rate-limit headers on its own.

use std::ffi::c_char;

use super::abi::{self, Struct, structs};
use super::config::dimension_code;
use super::error::{Failure, grate_error, grate_status, guard};
use crate::feedback::headers::{self, QuotaReport};

/// A number that the headers do not tell.
pub const GRATE_ABSENT: u64 = u64::MAX;

/// One header field, as it came: bytes with lengths, no NUL needed. This struct is fixed for good and has no size field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_header {
    /// Field name, in any case.
    pub name: *const c_char,
    /// Bytes of the name.
    pub name_len: u64,
    /// Field value.
    pub value: *const c_char,
    /// Bytes of the value.
    pub value_len: u64,
}

/// What headers tell of one quota. A number that they do not tell is `GRATE_ABSENT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_header_quota {
    /// `sizeof(grate_header_quota)`: only the first element's is read, and it is the step of the array.
    pub struct_size: u32,
    /// A `GRATE_DIMENSION_`.
    pub dimension: i32,
    /// The size of the quota.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Milliseconds from receipt until it is filled up, partly or wholly.
    pub reset_in_ms: u64,
    /// The window that the limit is for, in milliseconds, if the headers themselves say so.
    pub window_ms: u64,
}

/// What the headers of one response tell about rate limits.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct grate_header_report {
    /// `sizeof(grate_header_report)`.
    pub struct_size: u32,
    /// 1 if the response comes from a cache (`Age` above 0), so that its quotas are those of an earlier time; else 0.
    pub cached: i32,
    /// Milliseconds to wait from receipt (Retry-After and its relatives), or `GRATE_ABSENT`.
    pub retry_after_ms: u64,
    /// In: an array of the caller's, or NULL.
    pub quotas: *mut grate_header_quota,
    /// In: how many elements it has.
    pub quotas_capacity: u64,
    /// Out: how many elements were written: all, or as many as fit.
    pub quotas_len: u64,
    /// Out: how many quotas the headers tell of, at most 16.
    pub quotas_total: u64,
}
structs! {
    grate_header_quota = 40,
    grate_header_report = 48,
}

/// Initialises the first `size` bytes of `quota` (pass `sizeof *quota`). Does nothing for NULL.
///
/// # Safety
/// `quota` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_header_quota_init(quota: *mut grate_header_quota, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(quota, size) }
}

/// Initialises the first `size` bytes of `report` (pass `sizeof *report`). Does nothing for NULL.
///
/// # Safety
/// `report` must be NULL or writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_header_report_init(report: *mut grate_header_report, size: u32) {
    // SAFETY: the caller's promise.
    unsafe { abi::init(report, size) }
}

/// Reads rate-limit headers without an engine, as `grate_engine_complete` and `_observe` do: `Retry-After`, `x-ratelimit-*`,
/// `anthropic-ratelimit-*`, all drafts of the IETF `RateLimit` fields, and the forms of single providers. What cannot be
/// read is absent. `received_at_unix_ms` is the time of receipt, to which instants in the headers are made relative.
/// Fails with `GRATE_ERR_NULL_POINTER`, `GRATE_ERR_STRUCT_SIZE`, `GRATE_ERR_INVALID_ARGUMENT` (an impossible length).
/// Does not allocate. Safe on any thread.
///
/// # Safety
/// `fields` must be NULL or an array of `len` valid fields; `out` NULL or valid with its array; `err` NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grate_parse_headers(
    fields: *const grate_header,
    len: u64,
    received_at_unix_ms: u64,
    out: *mut grate_header_report,
    err: *mut grate_error,
) -> grate_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(err, || {
            let mut to = abi::check_out(out)?;
            let rows = if to.quotas.is_null() { 0 } else { to.quotas_capacity };
            let step = if rows == 0 { 0 } else { abi::check_out(to.quotas)?.struct_size as usize };
            let rows = abi::checked_len(rows, step, grate_header_quota::NAME)?;
            let report = match len {
                0 => headers::parse([], received_at_unix_ms),
                _ => headers::parse(self::fields(fields, len)?, received_at_unix_ms),
            };
            to.cached = i32::from(report.cached);
            to.retry_after_ms = report.retry_after_ms.unwrap_or(GRATE_ABSENT);
            to.quotas_total = report.quotas().len() as u64;
            to.quotas_len = to.quotas_total.min(rows as u64);
            for (i, quota) in report.quotas().iter().take(rows).enumerate() {
                let row = to.quotas.byte_add(i * step);
                row.cast::<u32>().write_unaligned(step as u32);
                abi::write(row, &told(quota));
            }
            abi::write(out, &to);
            Ok(())
        })
    }
}

fn told(quota: &QuotaReport) -> grate_header_quota {
    grate_header_quota {
        struct_size: 0,
        dimension: dimension_code(quota.dimension),
        limit: quota.limit.unwrap_or(GRATE_ABSENT),
        remaining: quota.remaining.unwrap_or(GRATE_ABSENT),
        reset_in_ms: quota.reset_in_ms.unwrap_or(GRATE_ABSENT),
        window_ms: quota.window_ms.unwrap_or(GRATE_ABSENT),
    }
}

/// The names and values of an array of header fields, after a look at every pointer and length.
///
/// # Safety
/// The array is valid with all that it points to.
pub(super) unsafe fn fields<'a>(
    start: *const grate_header,
    len: u64,
) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])>, Failure> {
    if start.is_null() {
        return Err(Failure::null("headers"));
    }
    let len = abi::checked_len(len, size_of::<grate_header>(), "headers")?;
    // SAFETY: `i` is within the array.
    let at = move |i: usize| unsafe { start.add(i).read_unaligned() };
    for i in 0..len {
        let field = at(i);
        for (text, len) in [(field.name, field.name_len), (field.value, field.value_len)] {
            abi::checked_len(len, size_of::<u8>(), "a header field")?;
            if text.is_null() && len > 0 {
                return Err(Failure::null("a header field"));
            }
        }
    }
    let bytes = |text: *const c_char, len: u64| {
        if len == 0 {
            return &[][..];
        }
        // SAFETY: not NULL, and readable for its length by the caller's promise.
        unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len as usize) }
    };
    Ok((0..len).map(move |i| (bytes(at(i).name, at(i).name_len), bytes(at(i).value, at(i).value_len))))
}
