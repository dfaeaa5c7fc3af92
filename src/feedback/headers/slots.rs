//! A short list with room for a fixed number of entries.

/// Up to `N` entries in order of arrival; entries beyond that are dropped.
///
/// The fixed room bounds both memory and work on hostile input.
pub(super) struct Slots<T, const N: usize>([Option<T>; N]);

impl<T, const N: usize> Default for Slots<T, N> {
    fn default() -> Self {
        Self([const { None }; N])
    }
}

impl<T, const N: usize> Slots<T, N> {
    pub(super) fn push(&mut self, entry: T) {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(entry);
        }
    }

    /// The entry that `is_it` accepts, made first if it is not there yet.
    pub(super) fn find_or_add(&mut self, is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> Option<&mut T> {
        let mut slots = self.0.iter_mut();
        let slot = slots.find(|slot| slot.as_ref().is_none_or(&is_it))?;
        Some(slot.get_or_insert_with(make))
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().flatten()
    }
}
