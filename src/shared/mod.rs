//! State that the worker processes of one host share: a file, mapped by all of them.
//!
//! * `file`: making, opening and leaving the file, and what stands at its beginning.
//! * `mapping`: the file as memory.
//! * `copy`: a copy of it, to look at.
//! * `check`: putting a file right that nobody left in order.
//! * `users`: the list of those that use it.
//! * `document`: the configuration in it.
//! * `process`: who is who, and who is still there.

#[cfg(unix)]
mod check;
#[cfg(unix)]
mod copy;
#[cfg(unix)]
mod document;
#[cfg(unix)]
mod file;
#[cfg(unix)]
mod mapping;
pub(crate) mod process;
#[cfg(unix)]
mod users;

#[cfg(unix)]
pub(crate) use copy::copy;
#[cfg(unix)]
pub(crate) use file::{Condition, Sharing, TOO_SMALL};

use std::path::PathBuf;

#[cfg(unix)]
use crate::cell::Cell;

/// A checksum with one more word in it, which it tells from any other (the multiplier is 2^64 / golden ratio).
fn mix(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A checksum, never 0: each word changes it in a way that no other can undo.
#[cfg(unix)]
fn sum(words: &[Cell]) -> u64 {
    words.iter().fold(words.len() as u64, |sum, word| mix(sum, word.get())).max(1)
}

/// The file in which an engine's state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    /// Where it is. Made if it is not there.
    pub path: PathBuf,
    /// Its size in bytes if it is made; 0 is [`StateFile::DEFAULT_SIZE`].
    pub size: u64,
    /// Whether a file that cannot be used is replaced by a new one.
    pub replace_unusable: bool,
}

impl StateFile {
    /// Enough for a thousand providers with three quotas each.
    pub const DEFAULT_SIZE: u64 = 16 << 20;
    /// The smallest size.
    pub const MIN_SIZE: u64 = 1 << 20;
    /// The largest size.
    pub const MAX_SIZE: u64 = 1 << 36;
}

/// How a state file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileUsage {
    /// Its size in bytes.
    pub size: u64,
    /// How many of them are taken.
    pub used: u64,
    /// When a process last used it, to some 20 ms, in nanoseconds since the Unix epoch; 0 is never.
    pub active_unix_ns: u64,
    /// Its processes are those of another container: here, their ids mean something else.
    pub elsewhere: bool,
}
