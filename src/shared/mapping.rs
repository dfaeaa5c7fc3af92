//! A file, or a copy of one, as memory.
#![allow(unsafe_code, reason = "system calls")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};

/// Bytes that begin at a page, and stay where they are until this is dropped.
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: it only says where the bytes are.
unsafe impl Send for Mapping {}
// SAFETY: likewise.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The first `len` bytes of a file, which has so many; changes go to the file, and to all who map it. It is marked as mapped:
    /// through the same file opened `again`, so that it can be told whether the mark stays. With what was seen of marks.
    pub(super) fn shared(file: &File, again: Option<File>, len: usize) -> io::Result<(Self, Marks)> {
        let others = is_marked(file) != Some(false);
        let mapped = again.as_ref().unwrap_or(file);
        let mapping = Self::new(len, libc::MAP_SHARED, mapped.as_raw_fd())?;
        let marked = mark(mapped);
        let stays = again.map(drop).is_some() && marked && is_marked(file) == Some(true);
        Ok((mapping, Marks { others, stays }))
    }

    /// Zeroed bytes that are nobody else's; may be more than there is memory, of which those that are used are taken.
    pub(super) fn private(len: usize) -> io::Result<Self> {
        Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1)
    }

    fn new(len: usize, flags: libc::c_int, file: libc::c_int) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the system's choice.
        let base = unsafe { libc::mmap(null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, file, 0) };
        match NonNull::new(base.cast()) {
            Some(base) if base.as_ptr() != libc::MAP_FAILED.cast() => Ok(Self { base, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The bytes at an offset; `None` if they are not all inside.
    #[inline]
    pub(super) fn at(&self, offset: u64, bytes: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(offset).ok()?;
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.len);
        // SAFETY: inside.
        inside.then(|| unsafe { self.base.add(offset) })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All of it, for who is still alone with it.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: nobody else has it, as it is borrowed for good; all bytes are valid.
        unsafe { NonNull::slice_from_raw_parts(self.base, self.len).as_mut() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped so, and nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// What marks of who maps a file tell.
pub(super) struct Marks {
    /// Somebody else has marked it, as far as is known.
    pub(super) others: bool,
    /// The mark stays as long as the mapping. Not where the system or the file has no such locks, or where the file system maps another
    /// file in the place of its own, as overlayfs does.
    pub(super) stays: bool,
}

/// Marks a file that is mapped, by a lock far behind all bytes: it stays with an open file as long as that is mapped, and is seen from
/// other containers. Whether that is done.
fn mark(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    return lock_mark(file, libc::F_OFD_SETLK, libc::F_RDLCK).is_some();
    #[cfg(not(target_os = "linux"))]
    false
}

/// Whether a file is marked through another open file, if the system tells.
fn is_marked(file: &File) -> Option<bool> {
    #[cfg(target_os = "linux")]
    return lock_mark(file, libc::F_OFD_GETLK, libc::F_WRLCK).map(|found| found != libc::F_UNLCK);
    #[cfg(not(target_os = "linux"))]
    None
}

/// What kind of lock the system tells; `None` if it fails.
#[cfg(target_os = "linux")]
fn lock_mark(file: &File, command: libc::c_int, kind: libc::c_int) -> Option<libc::c_int> {
    // SAFETY: all of it are integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_start = libc::off_t::MAX - 1;
    lock.l_len = 1;
    // SAFETY: an open file, and the struct that the command takes.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, &mut lock) } == 0;
    done.then(|| libc::c_int::from(lock.l_type))
}

/// Has a file's space set aside, so that writing to it cannot fail later: a fault in mapped memory ends the process.
pub(super) fn allocate(file: &File, len: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        if file.metadata()?.len() < len && len > most() {
            // Else the system would end the process.
            return Err(io::Error::other("the process may not make so large a file (ulimit -f)"));
        }
        let len = libc::off_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: an open file.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
    #[cfg(not(target_os = "linux"))]
    file.set_len(len)
}

/// How large a file the process may make.
#[cfg(target_os = "linux")]
fn most() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: writes to the struct.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    limit.rlim_cur
}

/// The lock of a file, until it is dropped.
pub(crate) struct Locked(File);

impl Locked {
    /// Waits until nobody else holds it.
    pub(super) fn new(file: File) -> io::Result<Self> {
        loop {
            // SAFETY: an open file.
            if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } == 0 {
                return Ok(Self(file));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Whether nobody holds the lock of a file now.
    pub(super) fn is_free(file: &File) -> bool {
        // SAFETY: an open file; whose lock goes when it is closed, as nothing is mapped.
        unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // To close it is not enough: a mapping keeps the open file, and that its lock.
        // SAFETY: an open file.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}
