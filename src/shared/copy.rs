//! A copy of a state file, to look at: those who use the file do not notice.
#![allow(unsafe_code, reason = "shows copied bytes as a record")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Sharing;
use super::file::{CHUNKS_AT, FileHead, failed};
use super::mapping::Mapping;
use crate::error::Error;
use crate::memory::Memory;

/// How often a file is read whose content makes no sense: one copy in four does not, while another process configures in a loop.
const ATTEMPTS: u32 = 20;

/// A file as it is now, put right, as it tells what those who use it were about to write.
pub(crate) fn copy(path: &Path) -> Result<Arc<Memory>, Error> {
    let once = || read(path).map_err(|why| failed("read", path, why)).and_then(|copy| Sharing::on_copy(copy, path));
    (1..ATTEMPTS).fold(once(), |copied, _| copied.or_else(|_| once()))
}

/// The bytes that are used. The others are zero, and most of the file is empty.
fn read(path: &Path) -> io::Result<Mapping> {
    let mut file = open(path)?;
    let found = file.metadata()?;
    let len = if found.is_file() { found.len() } else { 0 };
    let mut copy = Mapping::private(usize::try_from(len.max(CHUNKS_AT as u64)).unwrap_or(usize::MAX))?;
    let head = (len as usize).min(CHUNKS_AT);
    file.read_exact(copy.bytes_mut().get_mut(..head).unwrap_or_default())?;
    // SAFETY: the copy is at least as long, and begins at a page; all of it is atomics.
    let used = unsafe { NonNull::from(copy.bytes_mut()).cast::<FileHead>().as_ref() }.allocated.get();
    if let Some(rest) = copy.bytes_mut().get_mut(CHUNKS_AT..usize::try_from(used).unwrap_or(0)) {
        file.read_exact(rest)?;
    }
    Ok(copy)
}

/// Opens a file so that not even the time of its last access changes, where the system allows that: to its owner and to root.
fn open(path: &Path) -> io::Result<File> {
    let with = |flags| OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | flags).open(path);
    #[cfg(target_os = "linux")]
    match with(libc::O_NOATIME) {
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {}
        opened => return opened,
    }
    with(0)
}
