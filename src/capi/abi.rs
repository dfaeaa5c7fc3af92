//! How structs, strings and arrays cross the boundary.
//!
//! Every struct starts with its size as the caller's header knew it. An input struct may be shorter than ours
//! (an older caller: the rest reads as zero, which means "default") or longer (a newer one: accepted while the
//! unknown tail is zero). Of an output struct only what the caller has room for is written.

use std::ffi::c_char;
use std::mem::{MaybeUninit, size_of};
use std::ptr;

use super::error::{Failure, GRATE_ERR_INVALID_NAME, GRATE_ERR_STRUCT_SIZE};
use crate::config::MAX_NAME_LEN;

/// No caller has a struct this large: a bigger `struct_size` is an uninitialised field, not a newer header.
const MAX_STRUCT_SIZE: usize = 4096;

/// A struct of the C API: `#[repr(C)]`, `uint32_t struct_size` first, without padding.
///
/// # Safety
/// Any bit pattern, all zeroes included, must be a valid value.
pub(super) unsafe trait Struct: Copy {
    /// The C name, for messages.
    const NAME: &'static str;
    /// `sizeof` in the first header that had the struct. Frozen: a caller can have nothing shorter.
    const V1_SIZE: usize;
}

/// Declares structs of the boundary with their frozen first sizes.
macro_rules! structs {
    ($($ty:ident = $v1:literal,)*) => {$(
        // SAFETY: integers, doubles and raw pointers only; the tests check that there is no padding.
        unsafe impl $crate::capi::abi::Struct for $ty {
            const NAME: &'static str = stringify!($ty);
            const V1_SIZE: usize = $v1;
        }
        const _: () = assert!(size_of::<$ty>() >= $v1, "structs only grow");
    )*};
}
pub(super) use structs;

/// Reads `struct_size` and checks it against the frozen minimum.
///
/// # Safety
/// `at` is NULL or points to a struct whose `struct_size` tells how many bytes may be read.
pub(super) unsafe fn size_of_caller<T: Struct>(at: *const T) -> Result<usize, Failure> {
    if at.is_null() {
        return Err(Failure::null(T::NAME));
    }
    // SAFETY: not NULL; read byte-wise, as a caller's buffer need not be aligned.
    let size = unsafe { at.cast::<u32>().read_unaligned() } as usize;
    if size < T::V1_SIZE || size > MAX_STRUCT_SIZE { Err(wrong_size::<T>(size)) } else { Ok(size) }
}

#[cold]
#[inline(never)]
fn wrong_size<T: Struct>(size: usize) -> Failure {
    Failure::new(
        GRATE_ERR_STRUCT_SIZE,
        format_args!(
            "{}.struct_size is {size}, not {} to {MAX_STRUCT_SIZE}: initialise it with its _INIT macro or _init function",
            T::NAME,
            T::V1_SIZE
        ),
    )
}

/// Copies an input struct, extended with zeroes to the size this library knows.
///
/// # Safety
/// As for [`size_of_caller`].
pub(super) unsafe fn read<T: Struct>(at: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_caller(at) }?;
    let known = size.min(size_of::<T>());
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `size` bytes may be read, and `known` is no more than either struct has.
    unsafe { ptr::copy_nonoverlapping(at.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known) };
    for i in known..size {
        // SAFETY: below the caller's size.
        if unsafe { at.cast::<u8>().add(i).read() } != 0 {
            return Err(Failure::new(
                GRATE_ERR_STRUCT_SIZE,
                format_args!("{} uses a field that this version of the library does not know", T::NAME),
            ));
        }
    }
    // SAFETY: every bit pattern is valid for a `Struct`.
    Ok(unsafe { value.assume_init() })
}

/// Whether a caller's struct is one of ours, of this very version: the usual case on the hot path, where nothing is copied.
///
/// # Safety
/// As for [`size_of_caller`].
#[inline]
unsafe fn is_ours<T: Struct>(at: *const T) -> bool {
    // SAFETY: the caller's promise.
    !at.is_null() && at.is_aligned() && unsafe { at.cast::<u32>().read() } as usize == size_of::<T>()
}

/// An input struct where the caller has it, if it is of this very version.
///
/// # Safety
/// As for [`size_of_caller`]; nothing writes to the struct meanwhile.
#[inline]
pub(super) unsafe fn ours<'a, T: Struct>(at: *const T) -> Option<&'a T> {
    // SAFETY: the caller's promise; any bytes are a valid `Struct`.
    unsafe { if is_ours(at) { Some(&*at) } else { None } }
}

/// The same of an output struct.
///
/// # Safety
/// As for [`size_of_caller`]; nothing else uses the struct meanwhile.
#[inline]
pub(super) unsafe fn ours_mut<'a, T: Struct>(at: *mut T) -> Option<&'a mut T> {
    // SAFETY: the caller's promise; any bytes are a valid `Struct`.
    unsafe { if is_ours(at) { Some(&mut *at) } else { None } }
}

/// An input struct where the caller has it, or else as [`read`] copies it, to `copy`. NULL is all defaults if there are any.
///
/// # Safety
/// As for [`size_of_caller`]; nothing writes to the struct meanwhile.
#[inline]
pub(super) unsafe fn view<'a, T: Struct>(
    at: *const T,
    default: Option<&'a T>,
    copy: &'a mut MaybeUninit<T>,
) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise; any bytes are a valid `Struct`.
    unsafe {
        match ours(at) {
            Some(ours) => Ok(ours),
            None => view_other(at, default, copy),
        }
    }
}

/// The same for NULL and a struct of another version.
///
/// # Safety
/// As for [`view`].
#[cold]
#[inline(never)]
unsafe fn view_other<'a, T: Struct>(
    at: *const T,
    default: Option<&'a T>,
    copy: &'a mut MaybeUninit<T>,
) -> Result<&'a T, Failure> {
    match default {
        Some(default) if at.is_null() => Ok(default),
        // SAFETY: the caller's promise.
        _ => Ok(copy.write(unsafe { read(at) }?)),
    }
}

/// An output struct where the caller has it, or else as [`check_out`] copies it, to `copy`: to be given back by [`finish`].
///
/// # Safety
/// As for [`size_of_caller`]; nothing else uses the struct meanwhile.
#[inline]
pub(super) unsafe fn edit<T: Struct>(at: *mut T, copy: &mut MaybeUninit<T>) -> Result<&mut T, Failure> {
    // SAFETY: the caller's promise; any bytes are a valid `Struct`.
    unsafe {
        match ours_mut(at) {
            Some(ours) => Ok(ours),
            None => edit_other(at, copy),
        }
    }
}

/// The same for a struct of another version.
///
/// # Safety
/// As for [`edit`].
#[cold]
#[inline(never)]
unsafe fn edit_other<T: Struct>(at: *mut T, copy: &mut MaybeUninit<T>) -> Result<&mut T, Failure> {
    // SAFETY: the caller's promise.
    Ok(copy.write(unsafe { check_out(at) }?))
}

/// Writes what [`edit`] gave, if it is a copy.
///
/// # Safety
/// As for [`write()`].
#[inline]
pub(super) unsafe fn finish<T: Struct>(at: *mut T, edited: &T) {
    if !ptr::eq(at, edited) {
        // SAFETY: the caller's promise.
        unsafe { write(at, edited) }
    }
}

/// Like [`read`], with all defaults for NULL.
///
/// # Safety
/// As for [`size_of_caller`].
pub(super) unsafe fn read_or_default<T: Struct>(at: *const T) -> Result<T, Failure> {
    if at.is_null() {
        // SAFETY: all zeroes is a valid `Struct`.
        return Ok(unsafe { MaybeUninit::zeroed().assume_init() });
    }
    // SAFETY: the caller's promise.
    unsafe { read(at) }
}

/// Copies `len` input structs of an array whose step is the first element's `struct_size`.
///
/// # Safety
/// `at` points to `len` structs laid out that way, or `len` is 0.
pub(super) unsafe fn read_array<T: Struct>(at: *const T, len: u64) -> Result<Vec<T>, Failure> {
    if len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: there is a first element.
    let step = unsafe { size_of_caller(at) }?;
    let len = checked_len(len, step, T::NAME)?;
    let mut all = Vec::with_capacity(len.min(1024));
    for i in 0..len {
        // SAFETY: inside the array, by the caller's promise.
        let element = unsafe { at.byte_add(i * step) };
        // SAFETY: likewise.
        let size = unsafe { size_of_caller(element) }?;
        if size != step {
            return Err(Failure::new(
                GRATE_ERR_STRUCT_SIZE,
                format_args!("{}: element {i} has another struct_size than the first", T::NAME),
            ));
        }
        // SAFETY: likewise.
        all.push(unsafe { read(element) }?);
    }
    Ok(all)
}

/// Refuses a length that cannot be real: an array that would wrap around the address space.
pub(super) fn checked_len(len: u64, step: usize, what: &str) -> Result<usize, Failure> {
    usize::try_from(len)
        .ok()
        .filter(|n| n.checked_mul(step).is_some_and(|bytes| bytes <= isize::MAX as usize))
        .ok_or_else(|| Failure::invalid(format_args!("{what}: a length of {len} is impossible")))
}

/// Checks an output struct before anything is done, and copies what the caller put in.
///
/// # Safety
/// As for [`size_of_caller`].
pub(super) unsafe fn check_out<T: Struct>(at: *mut T) -> Result<T, Failure> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_caller(at.cast_const()) }?;
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: no more bytes than either struct has; any bytes are a valid `Struct`.
    unsafe {
        ptr::copy_nonoverlapping(at.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), size.min(size_of::<T>()));
        Ok(value.assume_init())
    }
}

/// Writes an output struct: as much as the caller has room for, leaving `struct_size` as it is and the
/// part that this library does not know zero.
///
/// # Safety
/// `at` has passed [`check_out`] and is writable for its `struct_size`.
pub(super) unsafe fn write<T: Struct>(at: *mut T, value: &T) {
    const HEAD: usize = size_of::<u32>();
    // SAFETY: checked before.
    unsafe {
        let size = at.cast::<u32>().read_unaligned() as usize;
        if is_ours(at.cast_const()) {
            // The usual case, and fast for a fixed size.
            *at = *value;
            at.cast::<u32>().write(size as u32);
            return;
        }
        let known = size.min(size_of::<T>());
        ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>().add(HEAD), at.cast::<u8>().add(HEAD), known - HEAD);
        ptr::write_bytes(at.cast::<u8>().add(known), 0, size - known);
    }
}

/// Fills `size` bytes at `at` with the default of `T`: zeroes, and the size itself in front.
/// The size comes from the caller's header, so a newer library never writes past an older struct.
///
/// # Safety
/// `at` is NULL or writable for `size` bytes.
pub(super) unsafe fn init<T: Struct>(at: *mut T, size: u32) {
    if !at.is_null() && size as usize >= size_of::<u32>() && size as usize <= MAX_STRUCT_SIZE {
        // SAFETY: `size` bytes are writable.
        unsafe {
            ptr::write_bytes(at.cast::<u8>(), 0, size as usize);
            at.cast::<u32>().write_unaligned(size);
        }
    }
}

unsafe extern "C" {
    /// The length of a string, or `most` if that is less (POSIX 2008).
    fn strnlen(at: *const c_char, most: usize) -> usize;
}

/// The bytes of a NUL-terminated name. Looks at no more than the longest legal name and its terminator, so
/// that a string without end is an error and not a walk through memory.
///
/// # Safety
/// `at` is NULL or readable up to its NUL, or for `MAX_NAME_LEN + 1` bytes, and lives as long as `'a`.
pub(super) unsafe fn name<'a>(at: *const c_char, what: &str) -> Result<&'a str, Failure> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { name_bytes(at, what) }?;
    std::str::from_utf8(bytes)
        .map_err(|_| Failure::new(GRATE_ERR_INVALID_NAME, format_args!("{what} is not valid UTF-8")))
}

/// The same where it is only looked up: what is not UTF-8 is found nowhere.
///
/// # Safety
/// As for [`name`].
#[inline]
pub(super) unsafe fn name_bytes<'a>(at: *const c_char, what: &str) -> Result<&'a [u8], Failure> {
    if at.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: bytes up to the NUL are readable, and no byte after it is touched.
    let len = unsafe { strnlen(at, MAX_NAME_LEN + 1) };
    if len > MAX_NAME_LEN {
        return Err(too_long(what));
    }
    // SAFETY: `len` bytes were just read.
    Ok(unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) })
}

#[cold]
#[inline(never)]
fn too_long(what: &str) -> Failure {
    Failure::new(
        GRATE_ERR_INVALID_NAME,
        format_args!("{what} is longer than {MAX_NAME_LEN} bytes or has no terminating NUL"),
    )
}

/// Like [`name`], with `None` for NULL.
///
/// # Safety
/// As for [`name`].
pub(super) unsafe fn optional_name<'a>(at: *const c_char, what: &str) -> Result<Option<&'a str>, Failure> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { name(at, what) }.map(Some)
}

/// `at` as a reference, or an error that names it.
///
/// # Safety
/// `at` is NULL or points to a live `T` that nothing writes to while `'a` lasts.
pub(super) unsafe fn reference<'a, T>(at: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { at.as_ref() }.ok_or_else(|| Failure::null(what))
}

/// Writes a plain output value.
///
/// # Safety
/// `at` is NULL or writable for a `T`.
pub(super) unsafe fn write_value<T>(at: *mut T, value: T) -> Result<(), Failure> {
    out(at, "out")?;
    // SAFETY: not NULL, so writable.
    unsafe { at.write_unaligned(value) };
    Ok(())
}

/// Refuses a NULL output pointer, before anything is done.
pub(super) fn out<T>(at: *mut T, what: &str) -> Result<(), Failure> {
    if at.is_null() {
        return Err(Failure::null(what));
    }
    Ok(())
}
