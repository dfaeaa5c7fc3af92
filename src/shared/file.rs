//! The state file: making, opening and leaving it.
//!
//! It begins with a head of its own, then comes the engine's, and then chunks of records and documents, one after the other.
//! Who makes it does so under another name, so that it is there as a whole or not at all. Who opens or leaves it holds the
//! file's lock meanwhile, and so can tell whether anybody else uses it. If nobody does and the last one left it in order, a
//! checksum says so.
#![allow(unsafe_code, reason = "shows mapped bytes as records")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::check::{end_lost_threads, put_right};
use super::document::Documents;
use super::mapping::{Locked, Mapping, Marks, allocate};
use super::process::{self, Process, User};
use super::users::Users;
use super::{FileUsage, StateFile, sum};
use crate::book::Book;
use crate::cell::Cell;
use crate::error::Error;
use crate::lock::Lock;
use crate::memory::{ALIGN, Head, Memory};

/// What stands at the beginning.
#[repr(C, align(128))]
pub(super) struct FileHead {
    magic: Cell,
    /// See [`LAYOUT`].
    layout: Cell,
    size: Cell,
    /// The checksum of a file that its last user left in order; 0 while it is used.
    left: Cell,
    boot: Cell,
    /// The space of the process ids of `users`.
    space: Cell,
    /// Guards `allocated`.
    lock: Lock,
    /// How far chunks and documents reach.
    pub(super) allocated: Cell,
    /// The engine's time and the wall clock, as they were lately.
    seen_mono: Cell,
    seen_unix: Cell,
    documents: Documents,
    /// A user is there whose mark on the file does not stay.
    unmarked: Cell,
    /// Those that use the file.
    users: Users,
}

/// "libgrate", as bytes in the order of this machine.
const MAGIC: u64 = u64::from_ne_bytes(*b"libgrate");
/// Counts changes of what records mean.
const FORMAT: u64 = 5;
/// What must agree for two builds to use one file: the format, and the sizes of all records.
const LAYOUT: u64 = FORMAT << 32 | crate::memory::SIZES as u64;
const HEAD_AT: usize = size_of::<FileHead>();
pub(super) const CHUNKS_AT: usize = HEAD_AT + size_of::<Head>();

/// A state file that this process uses.
pub(crate) struct Sharing {
    mapping: Mapping,
    /// Where it is, to be locked; a copy is nowhere.
    path: Option<PathBuf>,
    /// Which of the users is to be looked at next.
    next: AtomicU64,
}

/// In what condition a file was opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It is new.
    New,
    /// Others use it.
    Used,
    /// The last one left it in order.
    Left,
    /// The last ones died.
    Abandoned,
}

pub(super) fn failed(what: &str, path: &Path, why: impl std::fmt::Display) -> Error {
    Error::StateFile(format!("cannot {what} '{}': {why}", path.display()))
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::StateFile(format!("'{}' {why}", path.display()))
}

pub(super) const NO_BOOK: &str = "is damaged: its configuration cannot be read";

/// What is wrong with a file that is not replaced.
fn used(why: &str) -> String {
    format!("{why}, and processes use it")
}

impl Sharing {
    /// Opens a file, or makes it with a book in force. Whoever gets the lock decides what must be done first, and then drops
    /// it.
    pub(crate) fn open(file: &StateFile, book: &Book) -> Result<(Arc<Memory>, Condition, Locked), Error> {
        let size = if file.size == 0 { StateFile::DEFAULT_SIZE } else { file.size };
        if !(StateFile::MIN_SIZE..=StateFile::MAX_SIZE).contains(&size) {
            return Err(Error::InvalidConfig(format!("a state file of {size} bytes is not between 1 MiB and 64 GiB")));
        }
        // Absolute, as a process may change its directory.
        let path = std::path::absolute(&file.path).map_err(|why| failed("find", &file.path, why))?;
        process::count_forks();
        loop {
            match open(&path) {
                Ok(known) => {
                    let known = Locked::new(known).map_err(|why| failed("lock", &path, why))?;
                    if !is_at(known.file(), &path) {
                        // Replaced before it was locked.
                        continue;
                    }
                    match Self::attach(known.file(), &path) {
                        Ok((memory, condition)) => return Ok((memory, condition, known)),
                        Err(Refused::Kept(why)) => return Err(why),
                        Err(Refused::Unusable(why)) if !file.replace_unusable => return Err(why),
                        Err(Refused::Unusable(_)) => {
                            // Not the link that leads to it.
                            let path = fs::canonicalize(&path).map_err(|why| failed("find", &path, why))?;
                            let (memory, new, name) = Self::make(&path, size, book)?;
                            if let Err(why) = fs::rename(&name, &path) {
                                let _ = fs::remove_file(&name);
                                return Err(failed("replace", &path, why));
                            }
                            return Ok((memory, Condition::New, new));
                        }
                    }
                }
                Err(why) if why.kind() == io::ErrorKind::NotFound => {
                    if path.is_symlink() {
                        return Err(unusable(
                            &path,
                            "is a symbolic link that leads nowhere: make it lead to a state file, or remove it",
                        ));
                    }
                    let (memory, new, name) = Self::make(&path, size, book)?;
                    let linked = fs::hard_link(&name, &path);
                    let _ = fs::remove_file(&name);
                    match linked {
                        Ok(()) => return Ok((memory, Condition::New, new)),
                        // Another was faster, or took ours for one that was left behind.
                        Err(why) if matches!(why.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                            continue;
                        }
                        Err(why) => return Err(failed("make", &path, why)),
                    }
                }
                Err(why) => return Err(failed("open", &path, why)),
            }
        }
    }

    /// An empty file beside a path, and its name.
    fn create(path: &Path) -> Result<(File, PathBuf), Error> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        loop {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}.{}{UNFINISHED}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
            let name = PathBuf::from(name);
            match options.open(&name) {
                Ok(file) => return Ok((file, name)),
                // Of another copy of the library, or of a process of another container.
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(failed("make", &name, why)),
            }
        }
    }

    /// A new file, locked, under a name of its own.
    fn make(path: &Path, size: u64, book: &Book) -> Result<(Arc<Memory>, Locked, PathBuf), Error> {
        remove_unfinished(path);
        let (file, name) = Self::create(path)?;
        let made = (|| {
            let file = Locked::new(file)?;
            allocate(file.file(), size)?;
            let len = usize::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            let again = open_again(file.file(), &name);
            Ok((Mapping::shared(file.file(), again, len)?, file))
        })();
        let made = made.map_err(|why: io::Error| failed("make", &name, why)).and_then(|((mapping, marks), file)| {
            let sharing = Self { mapping, path: Some(path.to_owned()), next: AtomicU64::new(0) };
            let head = sharing.file_head();
            head.size.set(size);
            head.layout.set(LAYOUT);
            head.boot.set(process::boot());
            head.space.set(process::space());
            head.allocated.set(CHUNKS_AT as u64);
            let me = process::new_user();
            let memory = Arc::new(Memory::shared(sharing, me));
            let sharing = memory.sharing().ok_or(TOO_SMALL)?;
            sharing.enlist(me, &marks)?;
            sharing.announce(&memory, book)?;
            sharing.publish();
            // What lacks the last word was never finished.
            sharing.file_head().magic.set(MAGIC);
            Ok((memory, file))
        });
        match made {
            Ok((memory, file)) => Ok((memory, file, name)),
            Err(why) => {
                let _ = fs::remove_file(&name);
                Err(why)
            }
        }
    }

    /// Uses a file that is there, and locked.
    fn attach(file: &File, path: &Path) -> Result<(Arc<Memory>, Condition), Refused> {
        let useless = |why: &str| Refused::Unusable(unusable(path, why));
        let system = |why: io::Error| Refused::Kept(failed("open", path, why));
        let found = file.metadata().map_err(system)?;
        if !found.is_file() {
            return Err(Refused::Kept(unusable(path, "is not a regular file: a state file is")));
        }
        if found.len() < CHUNKS_AT as u64 {
            return Err(useless("is not a state file of libgrate, or was cut off"));
        }
        // Not more than is there: a fault in mapped memory would end the process.
        let len = usize::try_from(found.len()).map_err(|_| useless("is too large"))?;
        let (mapping, marks) = Mapping::shared(file, open_again(file, path), len).map_err(system)?;
        let sharing = Self { mapping, path: Some(path.to_owned()), next: AtomicU64::new(0) };
        let head = sharing.file_head();
        sharing.is_of_this_build().map_err(useless)?;
        let in_use = sharing.is_in_use(&marks);
        let refuse = |why: &str| {
            if in_use { Refused::Kept(unusable(path, &used(why))) } else { useless(why) }
        };
        sharing.is_ours().map_err(refuse)?;
        // A copy may have holes, for which the disk may have no room later.
        allocate(file, found.len()).map_err(system)?;
        let me = sharing.users().new_user();
        if in_use && sharing.is_elsewhere() {
            let why = "is used in another container: its processes cannot be told apart from here";
            return Err(Refused::Kept(unusable(path, why)));
        }
        let condition = match head.left.get() {
            0 if in_use => Condition::Used,
            0 => Condition::Abandoned,
            sum if sum == sharing.sum() => Condition::Left,
            // The system may have written down only a part before the host stopped.
            _ if !sharing.is_of_this_start() => Condition::Abandoned,
            _ => return Err(refuse("is damaged: its checksum is wrong")),
        };
        let memory = Arc::new(Memory::shared(sharing, me));
        if let Some(sharing) = memory.sharing() {
            if condition != Condition::Used {
                sharing.is_sound(&memory).map_err(refuse)?;
                let head = sharing.file_head();
                drop(head.lock.seize(head.lock.holder(), memory.process()));
                // In use from here on.
                head.left.set(0);
                head.space.set(process::space());
                head.users.clear();
                head.unmarked.set(0);
            }
            if condition == Condition::Abandoned {
                put_right(&memory).map_err(refuse)?;
            } else if sharing.users().has_lost_threads() {
                let head = sharing.file_head();
                drop(head.lock.seize(memory.process(), memory.process()));
                end_lost_threads(&memory);
            }
            // Else another may be writing it: see `is_readable`.
            if condition != Condition::Used {
                sharing.present_book(&memory).ok_or_else(|| refuse(NO_BOOK))?;
            }
            sharing.enlist(me, &marks).map_err(Refused::Kept)?;
        }
        Ok((memory, condition))
    }

    /// Whether the configuration of a file that others use can be read. Waits for who is writing it, and so must not hold the file's
    /// lock: that may be a thread that was lost to an exec, and its process has to open the file before anybody goes on.
    pub(crate) fn is_readable(&self, memory: &Memory) -> Result<(), Error> {
        let _changing = memory.lock(&self.head_ref().changing);
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        self.present_book(memory).map(drop).ok_or_else(|| unusable(path, &used(NO_BOOK)))
    }

    /// On a copy of a file.
    pub(super) fn on_copy(mapping: Mapping, path: &Path) -> Result<Arc<Memory>, Error> {
        let sharing = Self { mapping, path: None, next: AtomicU64::new(0) };
        sharing.is_ours().map_err(|why| unusable(path, why))?;
        let memory = Arc::new(Memory::shared(sharing, process::new_user()));
        if let Some(sharing) = memory.sharing() {
            sharing.is_sound(&memory).and_then(|()| put_right(&memory)).map_err(|why| unusable(path, why))?;
        }
        Ok(memory)
    }

    /// Leaves the file; the last one says that it is in order.
    pub(crate) fn leave(&self, memory: &Memory) {
        let Some(path) = &self.path else { return };
        // Without a lock, another that opens it finds the processes, and this one gone.
        let Some(file) = self.locked() else { return self.users().strike_out(memory.user()) };
        let locked = is_at(file.file(), path) && self.is_mapped_from(file.file());
        self.users().strike_out(memory.user());
        let head = self.file_head();
        if locked && !self.users().any_lives() {
            // Those who died may have left locks behind: only a check can tell.
            let in_order = self.users().is_empty();
            head.left.set(if in_order { self.sum() } else { 0 });
        }
    }

    /// Whatever file is where this one was, locked, if there is one.
    fn locked(&self) -> Option<Locked> {
        open(self.path.as_ref()?).and_then(Locked::new).ok()
    }

    /// Whether a file is the one that was mapped: both show the same word that no other has.
    fn is_mapped_from(&self, file: &File) -> bool {
        let mut word = [0; size_of::<u64>()];
        let at = (HEAD_AT + std::mem::offset_of!(Head, seed)) as u64;
        std::os::unix::fs::FileExt::read_exact_at(file, &mut word, at).is_ok()
            && self.mapping.at(at, word.len()).is_some()
            && u64::from_ne_bytes(word) == self.head_ref().seed.get()
    }

    fn file_head(&self) -> &FileHead {
        let head = self.mapping.at(0, HEAD_AT).map_or(NonNull::dangling(), NonNull::cast::<FileHead>);
        // SAFETY: every mapping is at least as long, and begins at a page; all of it is atomics.
        unsafe { head.as_ref() }
    }

    fn head_ref(&self) -> &Head {
        // SAFETY: inside the mapping, which is at least as long; all of it is atomics.
        unsafe { self.head().as_ref() }
    }

    /// The head of the engine, which lives as long as this.
    pub(crate) fn head(&self) -> NonNull<Head> {
        // Every mapping is long enough.
        self.mapping.at(HEAD_AT as u64, size_of::<Head>()).map_or(NonNull::dangling(), NonNull::cast)
    }

    /// Why its head cannot be read, if it cannot.
    fn is_of_this_build(&self) -> Result<(), &'static str> {
        let head = self.file_head();
        if head.magic.get() == 0 && head.layout.get() == LAYOUT {
            return Err("is being made, or was never finished");
        }
        if head.magic.get() != MAGIC {
            return Err("is not a state file of libgrate");
        }
        if head.layout.get() != LAYOUT {
            return Err("was made by another version of libgrate: remove it when no process uses it any more");
        }
        Ok(())
    }

    /// What is wrong with the head, if anything.
    fn is_ours(&self) -> Result<(), &'static str> {
        self.is_of_this_build()?;
        let whole = self.file_head().size.get() == self.mapping.len() as u64;
        if whole { Ok(()) } else { Err("was cut off or extended") }
    }

    /// What is wrong with where things lie, if anything.
    pub(super) fn is_sound(&self, memory: &Memory) -> Result<(), &'static str> {
        self.is_ours()?;
        let damaged = "is damaged: its tables contradict each other";
        let allocated = self.file_head().allocated.get();
        let mut parts: Vec<_> =
            memory.chunks().ok_or(damaged)?.into_iter().chain(self.file_head().documents.parts()).collect();
        parts.sort_unstable();
        let mut end = CHUNKS_AT as u64;
        for (at, len) in parts {
            if at < end || !at.is_multiple_of(ALIGN as u64) {
                return Err(damaged);
            }
            end = at.checked_add(len).ok_or(damaged)?;
        }
        if end > allocated || allocated > self.mapping.len() as u64 { Err(damaged) } else { Ok(()) }
    }

    /// New zeroed bytes, by their offset, aligned to [`ALIGN`]; `None` if there is no room.
    pub(crate) fn allocate(&self, memory: &Memory, bytes: usize) -> Option<u64> {
        let head = self.file_head();
        let _guard = memory.lock(&head.lock);
        let at = head.allocated.get();
        let end = at.checked_add(bytes as u64)?.checked_next_multiple_of(ALIGN as u64)?;
        // Whoever damaged the file may have written there. What is zero takes no memory, and so is not written.
        let words = memory.words(at as usize, (end - at) as usize / size_of::<Cell>())?;
        words.iter().filter(|word| word.get() != 0).for_each(|word| word.set(0));
        head.allocated.set(end);
        Some(at)
    }

    /// How many bytes are not yet used.
    pub(crate) fn free(&self) -> usize {
        self.mapping.len().saturating_sub(self.file_head().allocated.get() as usize)
    }

    /// The bytes at an offset; `None` if they are not all inside.
    #[inline]
    pub(crate) fn at(&self, offset: u64, bytes: usize) -> Option<NonNull<u8>> {
        self.mapping.at(offset, bytes)
    }

    /// Puts a forked child on the list of users. It did not open the file, which the last one may have left in order since. If
    /// there are too many, it goes on without a place, and tries again.
    pub(crate) fn join(&self, me: User) {
        let _locked = self.locked();
        let _ = self.users().enlist(me);
        self.file_head().left.set(0);
    }

    /// Those that use the file.
    pub(crate) fn users(&self) -> &Users {
        &self.file_head().users
    }

    /// The next user on the list, if it is gone: none of this process is.
    pub(crate) fn next_if_gone(&self, this: Process) -> Option<User> {
        self.users().next_if_gone(&self.next, this)
    }

    /// How it is used.
    pub(crate) fn usage(&self) -> FileUsage {
        let head = self.file_head();
        FileUsage {
            size: self.mapping.len() as u64,
            used: head.allocated.get(),
            active_unix_ns: head.seen_unix.get(),
            elsewhere: self.is_elsewhere(),
        }
    }

    /// Whether the host has not been started since it was used, as far as that is known.
    fn is_of_this_start(&self) -> bool {
        let (then, now) = (self.file_head().boot.get(), process::boot());
        then == now || then == 0 || now == 0
    }

    /// Whether users are there. Those of another container cannot be told apart, and those of a copy are users of another file.
    fn is_in_use(&self, marks: &Marks) -> bool {
        let users = self.users();
        let any_lives = if self.is_elsewhere() { !users.is_empty() } else { users.any_lives() };
        let may_map = marks.others || !marks.stays || self.file_head().unmarked.get() != 0;
        any_lives && self.is_of_this_start() && may_map
    }

    /// Puts a user on the list that maps the file.
    fn enlist(&self, me: User, marks: &Marks) -> Result<(), Error> {
        if !marks.stays {
            self.file_head().unmarked.set(1);
        }
        self.users().enlist(me)
    }

    /// Whether its processes are those of another container.
    fn is_elsewhere(&self) -> bool {
        self.is_of_this_start() && self.file_head().space.get() != process::space()
    }

    /// Notes the time, for after a start of the host.
    pub(crate) fn note_time(&self, mono: u64, unix_ns: u64) {
        self.file_head().seen_mono.set(mono);
        self.file_head().seen_unix.set(unix_ns);
    }

    /// If the clock does not go on from where it was, as the host was started since: the engine's time now.
    pub(crate) fn time_goes_on(&self, clock_ns: u64, unix_ns: u64) -> Option<u64> {
        let (file, head) = (self.file_head(), self.head_ref());
        let seen = file.seen_mono.get();
        let (same_start, boot) = (self.is_of_this_start(), process::boot());
        if boot != 0 {
            file.boot.set(boot);
        }
        if !same_start {
            file.space.set(process::space());
        }
        let goes_on = clock_ns.checked_sub(head.start.get()).map(|ns| ns.saturating_add(head.first.get()));
        if same_start && goes_on.is_some_and(|now| now >= seen) {
            return None;
        }
        Some(seen.saturating_add(unix_ns.saturating_sub(file.seen_unix.get())))
    }

    /// Writes down the book that comes into force next, and says so.
    pub(crate) fn announce(&self, memory: &Memory, book: &Book) -> Result<(), Error> {
        let text = serde_json::to_vec(book).map_err(|why| Error::StateFile(format!("cannot write the book: {why}")))?;
        let generation = self.head_ref().generation.get();
        self.file_head()
            .documents
            .write(generation + 1, &text, memory, |room| self.allocate(memory, room))
            .ok_or(TOO_SMALL)?;
        self.head_ref().generation.set(generation | 1);
        Ok(())
    }

    /// What was announced, if anything, is in force. The new generation.
    pub(crate) fn publish(&self) -> u64 {
        let generation = self.head_ref().generation.get().next_multiple_of(2);
        fence(Ordering::Release);
        self.head_ref().generation.set(generation);
        generation
    }

    /// The book of a generation: of the present one, which is in force, or coming into force if that is odd, as a change was broken
    /// off; or of the one before.
    pub(crate) fn book(&self, memory: &Memory, generation: u64) -> Option<Book> {
        fence(Ordering::Acquire);
        let text = self.file_head().documents.read(generation, memory)?;
        serde_json::from_slice(&text).ok().filter(Book::is_sound)
    }

    /// The book of the present generation.
    pub(super) fn present_book(&self, memory: &Memory) -> Option<Book> {
        self.book(memory, self.head_ref().generation.get())
    }

    /// The checksum of all that is used, but for the checksum itself.
    fn sum(&self) -> u64 {
        let head = self.file_head();
        let left = head.left.get();
        head.left.set(0);
        let used = (head.allocated.get() as usize).min(self.mapping.len()) / size_of::<u64>();
        let words = self.mapping.at(0, used * size_of::<u64>()).map(|at| {
            // SAFETY: inside the mapping; all of it is atomics.
            unsafe { NonNull::slice_from_raw_parts(at.cast::<Cell>(), used).as_ref() }
        });
        let sum = sum(words.unwrap_or_default());
        head.left.set(left);
        sum
    }
}

/// Why a file is not used.
enum Refused {
    /// It is of no use to anybody.
    Unusable(Error),
    /// It may be of use to others, and is not replaced.
    Kept(Error),
}

pub(crate) const TOO_SMALL: Error =
    Error::Capacity("providers, quotas or leases for the state file: make it with a larger state_size");

/// Ends the name of a file that is being made.
const UNFINISHED: &str = ".unfinished";

/// Removes what processes left behind that died while they made a file for this path. Who makes one holds its lock.
fn remove_unfinished(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let rest = found.as_bytes().strip_prefix(name.as_bytes()).filter(|rest| rest.starts_with(b"."));
        if rest.is_some_and(|rest| rest.ends_with(UNFINISHED.as_bytes()))
            && open(&entry.path()).is_ok_and(|file| Locked::is_free(&file))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Opens what may be a state file, or anything: also a pipe is not waited for.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Opens a file once more, if it is still at its path.
fn open_again(file: &File, path: &Path) -> Option<File> {
    open(path).ok().filter(|again| is_same(file, again.metadata()))
}

/// Whether an open file is what a path leads to.
fn is_at(file: &File, path: &Path) -> bool {
    is_same(file, fs::metadata(path))
}

fn is_same(file: &File, other: io::Result<fs::Metadata>) -> bool {
    let id = |found: io::Result<fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
    id(file.metadata()).is_some_and(|this| Some(this) == id(other))
}
