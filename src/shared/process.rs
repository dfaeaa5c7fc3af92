//! Processes: who this one is, and whether another is still there.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mix;

/// A process as one number below 2^43: its id, and when it started, so that a later one with the same id is another. 0 is none.
pub(crate) type Process = u64;

const PID_BITS: u32 = 22;
/// In place of when a process started, where the system did not tell: it may have no file left to read it from. Not 0: with
/// it, small numbers in a damaged file would be processes that live.
const UNKNOWN: u64 = (1 << (PROCESS_BITS - PID_BITS)) - 1;

/// What the system says of a process.
struct Seen {
    /// Ticks since the host started, as far as they are kept; never 0 or [`UNKNOWN`].
    started: u64,
    /// It has ended, and its parent has not yet asked how.
    ended: bool,
}

/// This process.
pub(super) fn this() -> Process {
    let pid = std::process::id();
    encode(pid, look(pid).map_or(UNKNOWN, |seen| seen.started))
}

/// A user of shared state: an engine of a process. A process may have several.
pub(crate) type User = u64;

/// Bits of a process: what is above them in a number tells which of its users it is, or what it holds a lock for.
pub(crate) const PROCESS_BITS: u32 = 43;

/// One more user in this process.
pub(crate) fn new_user() -> User {
    static USERS: AtomicU64 = AtomicU64::new(0);
    // From a number that those before an exec hardly had.
    this() | program().wrapping_add(USERS.fetch_add(1, Ordering::Relaxed)) << PROCESS_BITS
}

/// The program that this process runs, as a number that all copies of this library in it find, and that another program, which the
/// process goes on with, does not share: from where the system has put its parts, at random. Always the same where it does not.
#[allow(unsafe_code, reason = "a call of the C library")]
pub(super) fn program() -> u64 {
    // Where the random bytes lie that the system gives each, and not what they are: the Go runtime overwrites them when it starts, as
    // it does with the first library in Go that a program loads.
    #[cfg(target_os = "linux")]
    return [libc::AT_RANDOM, libc::AT_BASE, libc::AT_PHDR].into_iter().fold(0, |sum, part| {
        // SAFETY: asks for a value, and fails with 0.
        mix(sum, unsafe { libc::getauxval(part) })
    });
    #[cfg(not(target_os = "linux"))]
    0
}

/// The process of a user, or of the holder of a lock.
pub(crate) fn of(user: User) -> Process {
    user & ((1 << PROCESS_BITS) - 1)
}

/// The id of a user's process, as the system has it.
pub(crate) fn pid(user: User) -> u32 {
    (user & ((1 << PID_BITS) - 1)) as u32
}

fn encode(pid: u32, started: u64) -> Process {
    u64::from(pid) | started << PID_BITS
}

/// Whether the process of a user, or of the holder of a lock, is gone.
pub(crate) fn is_dead(user: User) -> bool {
    let pid = pid(user);
    if pid == 0 || !exists(pid) {
        return true;
    }
    let started = of(user) >> PID_BITS;
    look(pid).is_some_and(|seen| seen.ended || (started != UNKNOWN && seen.started != started))
}

/// `None` where the system does not tell. Allocates nothing: it is asked in the middle of calls.
fn look(pid: u32) -> Option<Seen> {
    let (mut path, mut stat) = ([0; 32], [0; 1024]);
    write!(&mut path[..], "/proc/{pid}/stat").ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?.to_str().ok()?;
    let len = File::open(path).ok()?.read(&mut stat).ok()?;
    let stat = stat.get(..len)?;
    // The name, in parentheses, may contain anything.
    let behind_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(stat.get(behind_name..)?).ok()?.split_ascii_whitespace();
    let (state, threads, started) = (fields.next()?, fields.nth(16)?, fields.nth(1)?.parse::<u64>().ok()?);
    // The first thread may have ended before the others.
    let ended = matches!(state, "X" | "x") || (state == "Z" && threads <= "1");
    Some(Seen { started: (started & UNKNOWN).clamp(1, UNKNOWN - 1), ended })
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "a system call")]
fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 is none.
    let sent = unsafe { libc::kill(pid, 0) } == 0;
    // Else it may not be asked, and security modules have errors of their own for that.
    sent || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(not(unix))]
fn exists(_: u32) -> bool {
    true
}

/// When the host started, as a number that no two starts share; 0 where the system does not tell.
pub(crate) fn boot() -> u64 {
    let id = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.iter().fold(0, |sum, byte| mix(sum, u64::from(*byte)))
}

/// In which space process ids are told, as containers have their own; 0 where the system does not tell.
pub(crate) fn space() -> u64 {
    #[cfg(unix)]
    return fs::metadata("/proc/self/ns/pid").map_or(0, |file| std::os::unix::fs::MetadataExt::ino(&file));
    #[cfg(not(unix))]
    0
}

static FORKS: AtomicU64 = AtomicU64::new(0);

/// How often this process, or one before it, was forked since [`count_forks`].
#[inline]
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Has forks counted from now on.
pub(crate) fn count_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(unix)]
        at_fork();
    });
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "a call of the C library")]
fn at_fork() {
    unsafe extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler does one atomic step, which is allowed after a fork. It fails for want of memory only; then a child
    // goes on in its parent's name.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_others_do_not() {
        let this = this();
        assert!(this > 0 && this < 1 << 43);
        assert!(!is_dead(this));
        assert_eq!(of(new_user()), this);
        assert_ne!(new_user(), new_user());
        assert!(is_dead(0));
        assert!(is_dead(encode(pid(this), 0)) && !is_dead(encode(pid(this), UNKNOWN)));
        assert!(is_dead(encode(pid(this), (this >> PID_BITS) + 1)), "the same id, started at another time");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = encode(child.id(), look(child.id()).unwrap().started);
        // Ended and not yet waited for, and then gone.
        while !is_dead(id) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert!(is_dead(id));
    }

    #[test]
    fn the_host_has_started() {
        assert_eq!(boot(), boot());
        assert_eq!(space(), space());
    }
}
