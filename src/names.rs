//! Names that are handed out as pointers: they lie among the records, and stay as long as the engine.
#![allow(unsafe_code, reason = "shows words as text")]

use std::ffi::{CStr, c_char};

use crate::cell::Cell;
use crate::config::MAX_NAME_LEN;

/// A name, NUL-terminated. Set once, before anyone hears of it.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Name<const OF: usize>([Cell; WORDS]);

const WORDS: usize = MAX_NAME_LEN / size_of::<u64>() + 1;

/// The name of a provider, by the index of its record.
pub(crate) type ProviderName = Name<0>;
/// The name of a pool; its quotas tell which.
pub(crate) type PoolName = Name<1>;

impl<const OF: usize> Name<OF> {
    pub(crate) fn set(&self, name: &str) {
        let mut bytes = [0; WORDS * size_of::<u64>()];
        let len = name.len().min(MAX_NAME_LEN);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        for (word, bytes) in self.0.iter().zip(bytes.chunks_exact(size_of::<u64>())) {
            let mut word_bytes = [0; size_of::<u64>()];
            word_bytes.copy_from_slice(bytes);
            let new = u64::from_ne_bytes(word_bytes);
            if word.get() != new {
                word.set(new);
            }
        }
    }

    pub(crate) fn get(&self) -> &CStr {
        // SAFETY: initialised bytes, which nobody changes after they were set.
        let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) };
        CStr::from_bytes_until_nul(bytes).unwrap_or_default()
    }

    /// The same, without a look at its length.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *const c_char {
        std::ptr::from_ref(self).cast()
    }
}
