//! Where the records of an engine lie: in chunks that never move while it lives, on the heap, or in a file that the worker
//! processes of a host share.
#![allow(unsafe_code, reason = "hands out memory for records")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::cell::Cell;
use crate::lock::{Guard, Lock};
#[cfg(unix)]
use crate::shared::Sharing;
use crate::shared::process::{self, Process, User};
use crate::table::{CHUNKS, chunks_for, records_of};

/// A record: cells and nothing else.
///
/// # Safety
/// The type consists of atomic integers, so that all bytes are valid and it needs no drop, is as long as a multiple of eight
/// bytes, and its layout is the same in every build (`repr(C)`). Two types have different tables.
pub(crate) unsafe trait Stored: Send + Sync + Sized {
    /// Which table of the memory holds them.
    const TABLE: usize;
    /// How many words are written down before each operation. The rest is before it changes: see `Journal::keep_rest_once`.
    const KEPT: usize = size_of::<Self>() / size_of::<Cell>();
    /// How many places in memory the next record is ahead: odd, so that all of a chunk are used.
    const STRIDE: usize = 1;
}

macro_rules! stored {
    ($($record:ty = $table:expr $(, every $stride:expr)? $(, keeping $kept:expr)?;)*) => {$(
        // SAFETY: see the type; the tables differ, see below.
        unsafe impl Stored for $record {
            const TABLE: usize = $table;
            $(const STRIDE: usize = $stride;)?
            $(const KEPT: usize = $kept;)?
        }
        const _: () = assert!(size_of::<$record>().is_multiple_of(8) && align_of::<$record>() <= ALIGN && $table < TABLES);
    )*
    /// The size of the records of each table.
    const RECORDS: [usize; TABLES] = {
        let mut sizes = [0; TABLES];
        $(sizes[$table] = size_of::<$record>();)*
        sizes
    };};
}
/// Providers are used by different threads and processes at the same time, and one after the other they would be fetched
/// ahead together: processors do that within a page. Measured: two processes on neighbours do 1.95 of the work of one with
/// this, and 1.65 without.
const APART: usize = 37;

stored! {
    crate::provider::Provider = 0, every APART;
    crate::quota::Quota = 1, keeping crate::quota::Quota::KEPT;
    crate::quota::Mark = 2;
    crate::lease::Lease = 3;
    crate::estimate::Estimator = 4;
    crate::names::ProviderName = 5;
    crate::names::PoolName = 6;
    crate::journal::Word = 7;
}
const TABLES: usize = 8;

/// A number that differs between builds whose records differ in size.
pub(crate) const SIZES: u32 = {
    let (mut sum, mut i) = (size_of::<Head>() as u32, 0);
    while i < TABLES {
        sum = sum.wrapping_mul(31).wrapping_add(RECORDS[i] as u32);
        i += 1;
    }
    sum
};

/// Chunks begin where no two of them share what processors fetch at once.
pub(crate) const ALIGN: usize = 128;

/// What there is once in an engine.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Head {
    /// Counts changes of the configuration by two; odd while one is under way. Only files count.
    pub(crate) generation: Cell,
    /// No lease expires before this time.
    pub(crate) next_expiry: Cell,
    /// When somebody has to look after the other processes.
    pub(crate) next_tick: Cell,
    /// What the clock showed when the engine was made, or the host started: it may count from anywhere.
    pub(crate) start: Cell,
    /// The engine's time then.
    pub(crate) first: Cell,
    /// Held by who changes the configuration.
    pub(crate) changing: Lock,
    /// How many estimators know anything: who looks for one that does looks again only when there is one more.
    pub(crate) knowing: Cell,
    /// Where the generations of lease slots start.
    pub(crate) seed: Cell,
    /// Decisions that found no provider available.
    pub(crate) none_available: Padded,
    pub(crate) tables: [Directory; TABLES],
}

/// Counted by all threads.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Padded(pub(crate) Cell);

/// What is known of a table.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Directory {
    pub(crate) lock: Lock,
    pub(crate) len: Cell,
    /// Where in a file its chunks begin; 0 is nowhere yet.
    chunks: [Cell; CHUNKS],
}

/// The memory of an engine.
pub(crate) struct Memory {
    head: NonNull<Head>,
    backing: Backing,
    /// Who this is: the user in leases, and its process in locks.
    user: AtomicU64,
    process: AtomicU64,
}

enum Backing {
    Heap(Mutex<Vec<(NonNull<u8>, Layout)>>),
    #[cfg(unix)]
    File(Sharing),
}

// SAFETY: the head and all chunks consist of atomics, and live as long as this.
unsafe impl Send for Memory {}
// SAFETY: likewise.
unsafe impl Sync for Memory {}

/// The only user, where there is no other.
const ALONE: u64 = 1;

impl Memory {
    pub(crate) fn heap() -> Self {
        let blocks = Mutex::new(Vec::new());
        let head = zeroed(&blocks, Layout::new::<Head>()).cast();
        Self::new(head, Backing::Heap(blocks), ALONE)
    }

    #[cfg(unix)]
    pub(crate) fn shared(file: Sharing, user: User) -> Self {
        Self::new(file.head(), Backing::File(file), user)
    }

    fn new(head: NonNull<Head>, backing: Backing, user: User) -> Self {
        Self { head, backing, user: AtomicU64::new(user), process: AtomicU64::new(process::of(user)) }
    }

    /// The file that it is, if it is one.
    #[cfg(unix)]
    pub(crate) fn sharing(&self) -> Option<&Sharing> {
        match &self.backing {
            Backing::Heap(_) => None,
            Backing::File(file) => Some(file),
        }
    }

    /// Whether processes share it.
    pub(crate) fn is_shared(&self) -> bool {
        !matches!(self.backing, Backing::Heap(_))
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head {
        // SAFETY: it lives as long as this, and consists of atomics.
        unsafe { self.head.as_ref() }
    }

    pub(crate) fn directory<T: Stored>(&self) -> &Directory {
        &self.head().tables[T::TABLE]
    }

    /// Who this is, in leases.
    #[inline]
    pub(crate) fn user(&self) -> User {
        self.user.load(Ordering::Relaxed)
    }

    /// Who this is, in locks.
    #[inline]
    pub(crate) fn process(&self) -> Process {
        self.process.load(Ordering::Relaxed)
    }

    /// A child of the process is another one.
    #[cfg(unix)]
    pub(crate) fn become_user(&self, user: User) {
        self.user.store(user, Ordering::Relaxed);
        self.process.store(process::of(user), Ordering::Relaxed);
    }

    /// Whether the process of a user, or of the holder of a lock, is gone.
    pub(crate) fn is_dead(&self, user: User) -> bool {
        self.is_shared() && process::is_dead(user)
    }

    /// Takes a lock under which nothing is ever half done: if the process that holds it dies, it is free.
    pub(crate) fn lock<'a>(&self, lock: &'a Lock) -> Guard<'a> {
        lock.lock(self.process(), |held| {
            if self.is_dead(held) {
                drop(lock.seize(held, self.process()));
            }
        })
    }

    /// Whether so many bytes can be used for what is configured. Some are left to leases.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        match &self.backing {
            Backing::Heap(_) => bytes < usize::MAX,
            #[cfg(unix)]
            Backing::File(file) => bytes <= file.free() - file.free() / LEFT_TO_LEASES,
        }
    }

    /// Bytes at an offset; `None` if they are not all inside, or if it is not one piece.
    fn at(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        match &self.backing {
            Backing::Heap(_) => None,
            #[cfg(unix)]
            Backing::File(file) => file.at(offset as u64, bytes),
        }
    }

    /// Where it begins, if it is one piece.
    pub(crate) fn base(&self) -> Option<usize> {
        self.at(0, 0).map(|base| base.addr().get())
    }

    /// Words at an offset from there; `None` if they are not all inside.
    pub(crate) fn words(&self, offset: usize, len: usize) -> Option<&[Cell]> {
        let at = self.at(offset, len.checked_mul(size_of::<Cell>())?)?.cast::<Cell>();
        // SAFETY: inside the memory, which lives as long as this and consists of atomics.
        at.is_aligned().then(|| unsafe { NonNull::slice_from_raw_parts(at, len).as_ref() })
    }

    /// Offset and length of all chunks; `None` if one is missing or is not all inside.
    #[cfg(unix)]
    pub(crate) fn chunks(&self) -> Option<Vec<(u64, u64)>> {
        let mut all = Vec::new();
        for (directory, size) in self.head().tables.iter().zip(RECORDS) {
            let needed = chunks_for(usize::try_from(directory.len.get()).ok()?)?;
            for (nth, chunk) in directory.chunks.iter().enumerate() {
                let at = chunk.get();
                if at == 0 && nth >= needed {
                    continue;
                }
                let bytes = records_of(nth).checked_mul(size)?;
                if at != 0 {
                    self.at(usize::try_from(at).ok()?, bytes)?;
                    all.push((at, bytes as u64));
                } else if nth + 1 == needed || size > size_of::<Cell>() {
                    // Records that come in runs may have left a chunk out.
                    return None;
                }
            }
        }
        Some(all)
    }

    /// A new chunk of a table, zeroed. Under the table's lock.
    pub(crate) fn new_chunk<T: Stored>(&self, nth: usize, records: usize) -> Option<NonNull<T>> {
        let layout = Layout::array::<T>(records).ok()?.align_to(ALIGN).ok()?;
        match &self.backing {
            Backing::Heap(blocks) => Some(zeroed(blocks, layout).cast()),
            #[cfg(unix)]
            Backing::File(file) => {
                let offset = file.allocate(self, layout.size())?;
                self.directory::<T>().chunks.get(nth)?.set(offset);
                self.chunk(nth, records)
            }
        }
    }

    /// A chunk that may be there already, as another process made it.
    pub(crate) fn chunk<T: Stored>(&self, nth: usize, records: usize) -> Option<NonNull<T>> {
        let offset = self.directory::<T>().chunks.get(nth)?.get() as usize;
        let aligned = offset != 0 && offset.is_multiple_of(ALIGN);
        aligned.then(|| self.at(offset, records.checked_mul(size_of::<T>())?)).flatten().map(NonNull::cast)
    }
}

#[cfg(unix)]
const LEFT_TO_LEASES: usize = 8;

/// A zeroed block that is freed with the memory.
fn zeroed(blocks: &Mutex<Vec<(NonNull<u8>, Layout)>>, layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here is empty.
    let Some(block) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { std::alloc::handle_alloc_error(layout) };
    blocks.lock().push((block, layout));
    block
}

impl Drop for Memory {
    fn drop(&mut self) {
        #[allow(irrefutable_let_patterns, reason = "not where there are files")]
        if let Backing::Heap(blocks) = &self.backing {
            for (block, layout) in blocks.lock().drain(..) {
                // SAFETY: allocated so, and nothing refers to it any more: whatever does keeps this alive.
                unsafe { dealloc(block.as_ptr(), layout) };
            }
        }
    }
}
