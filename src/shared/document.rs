//! The configuration as it lies in a state file.

use super::sum;
use crate::cell::Cell;
use crate::memory::Memory;

/// Two places: the generation tells which one is in force, and the next one comes into the other.
#[repr(C)]
pub(super) struct Documents([Document; 2]);

#[repr(C)]
struct Document {
    at: Cell,
    room: Cell,
    len: Cell,
    sum: Cell,
}

impl Documents {
    /// Where the document of a generation is: of an odd one, that which is coming into force.
    fn place(&self, generation: u64) -> &Document {
        &self.0[(generation.div_ceil(2) % 2) as usize]
    }

    /// Offsets and lengths of the places that are taken.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|document| (document.at.get(), document.room.get())).filter(|part| *part != (0, 0))
    }

    /// Writes down the document of a generation; `None` if there is no room. `allocate` makes some.
    pub(super) fn write(
        &self,
        generation: u64,
        text: &[u8],
        memory: &Memory,
        allocate: impl FnOnce(usize) -> Option<u64>,
    ) -> Option<()> {
        let document = self.place(generation);
        if document.room.get() < text.len() as u64 {
            // So that a document that grows does not take a new place each time.
            let room = text.len().next_power_of_two().max(4096);
            let at = allocate(room)?;
            document.room.set(0);
            document.at.set(at);
            document.room.set(room as u64);
        }
        let words = text.len().div_ceil(size_of::<u64>());
        let to = memory.words(document.at.get() as usize, words)?;
        for (word, bytes) in to.iter().zip(text.chunks(size_of::<u64>())) {
            let mut padded = [0; size_of::<u64>()];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.set(u64::from_ne_bytes(padded));
        }
        document.len.set(text.len() as u64);
        document.sum.set(sum(to));
        Some(())
    }

    /// The document of a generation; `None` if it is damaged.
    pub(super) fn read(&self, generation: u64, memory: &Memory) -> Option<Vec<u8>> {
        let document = self.place(generation);
        let len = usize::try_from(document.len.get()).ok()?;
        let words = memory.words(document.at.get() as usize, len.checked_next_multiple_of(8)? / size_of::<u64>())?;
        let whole = sum(words) == document.sum.get();
        whole.then(|| words.iter().flat_map(|word| word.get().to_ne_bytes()).take(len).collect())
    }
}
