//! The terminal: raw, on its other screen, and as it was before when this is dropped.
#![allow(unsafe_code, reason = "system calls")]

use std::io::{self, Read, Write, stdout};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

/// The other screen, no cursor, no lines that go on in the next.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// The cursor goes up first: what is above it would stay, where the terminal has grown since.
const LEAVE: &str = "\x1b[H\x1b[?7h\x1b[?25h\x1b[?1049l";

const INPUT: RawFd = libc::STDIN_FILENO;
const OUTPUT: RawFd = libc::STDOUT_FILENO;

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// It is time.
    Time,
    /// Keys were pressed.
    Keys(Vec<u8>),
    /// The size is another.
    Resized,
    /// A signal asks to end, or the terminal is gone.
    Left,
}

/// A terminal in use.
pub struct Terminal {
    before: libc::termios,
    signals: UnixStream,
}

/// Where signals are told; a signal handler can do no more than write.
static SIGNALS: AtomicI32 = AtomicI32::new(-1);

extern "C" fn tell(signal: libc::c_int) {
    let number = signal as u8;
    // SAFETY: writes one byte of this frame to a descriptor that stays open.
    unsafe { libc::write(SIGNALS.load(Ordering::Relaxed), (&raw const number).cast(), 1) };
}

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn enter() -> io::Result<Self> {
        let mut before = MaybeUninit::uninit();
        // SAFETY: writes to the struct.
        check(unsafe { libc::tcgetattr(INPUT, before.as_mut_ptr()) })?;
        // SAFETY: written, as the call succeeded.
        let before: libc::termios = unsafe { before.assume_init() };
        let terminal = Self { before, signals: signals()? };
        let mut raw = before;
        // SAFETY: changes the struct.
        unsafe { libc::cfmakeraw(&mut raw) };
        // SAFETY: reads the struct.
        check(unsafe { libc::tcsetattr(INPUT, libc::TCSAFLUSH, &raw) })?;
        terminal.show(ENTER)?;
        Ok(terminal)
    }

    /// Writes to it.
    ///
    /// # Errors
    /// It is gone.
    pub fn show(&self, text: &str) -> io::Result<()> {
        let mut out = stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Waits for what comes first.
    ///
    /// # Errors
    /// The system refuses.
    pub fn wait(&mut self, until: Instant) -> io::Result<Event> {
        let of = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut ready = [of(self.signals.as_raw_fd()), of(INPUT)];
        loop {
            // Not before it is time.
            let left = until.saturating_duration_since(Instant::now()).as_nanos().div_ceil(1_000_000);
            // SAFETY: reads and writes the two structs.
            match unsafe { libc::poll(ready.as_mut_ptr(), 2, left.try_into().unwrap_or(libc::c_int::MAX)) } {
                0 if until <= Instant::now() => return Ok(Event::Time),
                0 => {}
                n if n > 0 => break,
                _ => {
                    let why = io::Error::last_os_error();
                    if why.kind() != io::ErrorKind::Interrupted {
                        return Err(why);
                    }
                }
            }
        }
        if ready[0].revents != 0 {
            let mut number = [0];
            self.signals.read_exact(&mut number)?;
            return Ok(if libc::c_int::from(number[0]) == libc::SIGWINCH { Event::Resized } else { Event::Left });
        }
        let mut bytes = [0; 64];
        // SAFETY: writes to the array.
        let read = unsafe { libc::read(INPUT, bytes.as_mut_ptr().cast(), bytes.len()) };
        match usize::try_from(read) {
            Ok(0) | Err(_) => Ok(Event::Left),
            Ok(len) => Ok(Event::Keys(bytes[..len].into())),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If it is gone, nothing is to be done.
        let _ = self.show(LEAVE);
        // SAFETY: reads the struct.
        unsafe { libc::tcsetattr(INPUT, libc::TCSAFLUSH, &self.before) };
    }
}

/// Has signals told.
fn signals() -> io::Result<UnixStream> {
    let (told, tell_to) = UnixStream::pair()?;
    // A handler must not wait.
    tell_to.set_nonblocking(true)?;
    SIGNALS.store(tell_to.as_raw_fd(), Ordering::Relaxed);
    // Open as long as the handlers are there.
    std::mem::forget(tell_to);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGWINCH] {
        // SAFETY: the handler does one system call that is allowed in handlers.
        if unsafe { libc::signal(signal, tell as *const () as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(told)
}

/// Columns and lines: as the terminal says, else the environment, else the usual.
pub fn size() -> (usize, usize) {
    let mut told = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: writes to the struct.
    unsafe { libc::ioctl(OUTPUT, libc::TIOCGWINSZ, &mut told) };
    let of = |told: u16, variable: &str, usual: usize| {
        let named =
            || std::env::var(variable).ok().and_then(|value| value.parse().ok()).filter(|n| (1..=1000).contains(n));
        if told > 0 { told.into() } else { named().unwrap_or(usual) }
    };
    (of(told.ws_col, "COLUMNS", 80), of(told.ws_row, "LINES", 24))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
