//! Large pieces of memory, each a mapping of its own, and a stock of those that were freed.
//!
//! A mapping can be cut anywhere and made longer without a copy (mremap), so no piece of the stock is of the wrong size:
//! the smallest one that is large enough is cut, else the largest is made longer, and only what is added costs page
//! faults. The stock is never larger than what is in use, but for a few megabytes.

use std::alloc::Layout;
use std::collections::BTreeSet;
use std::ptr;
use std::sync::MutexGuard;

/// Before each piece lies a line of the cache that says how long it is; so pieces are aligned to this.
const HEADER: usize = 64;

/// Pieces below this, header included, are `malloc`'s: it is good at them.
const LARGE: usize = 1 << 18;

/// Lengths of mappings are multiples of this: pages of every machine that libtorch runs on, and not too many sizes.
const GRAIN: usize = 1 << 16;

/// From this length on, huge pages are asked for.
const HUGE: usize = 1 << 22;

/// The stock may have as much as is in use, and this much, however little that is. With half of what is in use a third
/// more time went into pages taken anew, with twice of it hardly less (docs/benchmark-cpu.md).
const STOCK: usize = 32 << 20;

/// Mappings, by their first byte and length.
pub(crate) struct Pool {
    /// Length and address of each piece of the stock.
    stock: BTreeSet<(usize, usize)>,
    kept: usize,
    used: usize,
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self { stock: BTreeSet::new(), kept: 0, used: 0 }
    }

    /// Bytes of the pieces that are in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Bytes of the stock.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// Gives the stock back.
    pub(crate) fn trim(&mut self) {
        self.shrink(0);
    }

    /// A mapping of `length` bytes; null where the system has no more.
    fn take(&mut self, length: usize) -> *mut u8 {
        let mut found = self.reuse(length);
        if found.is_null() {
            found = map(length);
        }
        if found.is_null() && self.kept > 0 {
            self.trim();
            found = map(length);
        }
        if !found.is_null() {
            self.used += length;
        }
        found
    }

    fn give(&mut self, piece: *mut u8, length: usize) {
        self.used -= length;
        self.keep(piece as usize, length);
        self.shrink(STOCK.max(self.used));
    }

    /// A piece of the stock, cut or made longer.
    fn reuse(&mut self, length: usize) -> *mut u8 {
        if let Some(&(longer, at)) = self.stock.range((length, 0)..).next() {
            self.forget(longer, at);
            if longer > length {
                self.keep(at + length, longer - length);
            }
            return at as *mut u8;
        }
        let Some(&(shorter, at)) = self.stock.last() else { return ptr::null_mut() };
        // SAFETY: the mapping is ours, of this length, and nobody uses it.
        let grown = unsafe { libc::mremap(at as *mut libc::c_void, shorter, length, libc::MREMAP_MAYMOVE) };
        if grown == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        self.forget(shorter, at);
        wish_huge(grown.cast(), length);
        grown.cast()
    }

    fn keep(&mut self, at: usize, length: usize) {
        self.stock.insert((length, at));
        self.kept += length;
    }

    fn forget(&mut self, length: usize, at: usize) {
        self.stock.remove(&(length, at));
        self.kept -= length;
    }

    /// Gives the longest pieces back until no more than `limit` bytes are kept.
    fn shrink(&mut self, limit: usize) {
        while self.kept > limit {
            let Some(&(length, at)) = self.stock.last() else { return };
            let excess = self.kept - limit;
            // What is left of the last one stays.
            let rest = length.saturating_sub(excess.next_multiple_of(GRAIN));
            self.forget(length, at);
            if rest > 0 {
                self.keep(at, rest);
            }
            // SAFETY: the end of a mapping of ours that nobody uses.
            unsafe { libc::munmap((at + rest) as *mut libc::c_void, length - rest) };
        }
    }
}

fn map(length: usize) -> *mut u8 {
    // SAFETY: a new mapping touches nothing that is there.
    let made = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if made == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    wish_huge(made.cast(), length);
    made.cast()
}

/// Asks for huge pages in a mapping of ours; where the system refuses, pages are small.
fn wish_huge(mapping: *mut u8, length: usize) {
    if length >= HUGE {
        // SAFETY: advice changes nothing that is written there.
        unsafe { libc::madvise(mapping.cast(), length, libc::MADV_HUGEPAGE) };
    }
}

/// At least `bytes` of memory behind a header; null where there is none.
pub(crate) fn take<'a>(bytes: usize, pool: impl FnOnce() -> MutexGuard<'a, Pool>) -> *mut u8 {
    let Some(whole) = bytes.checked_add(HEADER + GRAIN) else { return ptr::null_mut() };
    let whole = whole - GRAIN;
    let (begin, length) = if whole < LARGE {
        let Ok(layout) = Layout::from_size_align(whole, HEADER) else { return ptr::null_mut() };
        // SAFETY: the size is not 0, as it has the header.
        (unsafe { std::alloc::alloc(layout) }, whole)
    } else {
        let length = whole.next_multiple_of(GRAIN);
        (pool().take(length), length)
    };
    if begin.is_null() {
        return begin;
    }
    // SAFETY: the header is inside, and aligned.
    unsafe {
        begin.cast::<usize>().write(length);
        begin.add(HEADER)
    }
}

/// # Safety
/// `piece` came from [`take`] with the same pool and is not used any more.
pub(crate) unsafe fn give<'a>(piece: *mut u8, pool: impl FnOnce() -> MutexGuard<'a, Pool>) {
    // SAFETY: the header lies before the piece.
    let (begin, length) = unsafe {
        let begin = piece.sub(HEADER);
        (begin, begin.cast::<usize>().read())
    };
    if length < LARGE {
        // SAFETY: as it was allocated.
        unsafe { std::alloc::dealloc(begin, Layout::from_size_align_unchecked(length, HEADER)) };
    } else {
        pool().give(begin, length);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A generator of which tests need no more than that it is the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound
        }
    }

    fn locked(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
        pool.lock().expect("nobody panicked")
    }

    /// Bytes in use and in the stock, together.
    fn mapped(pool: &Mutex<Pool>) -> usize {
        let pool = locked(pool);
        pool.used + pool.kept
    }

    #[test]
    fn pieces_keep_what_is_written_while_others_come_and_go() {
        let pool = Mutex::new(Pool::new());
        let mut numbers = Numbers(7);
        let mut pieces: Vec<(*mut u8, usize, u8)> = Vec::new();
        for round in 0..2000_usize {
            if pieces.len() > 20 || (numbers.below(3) == 0 && !pieces.is_empty()) {
                let (piece, bytes, mark) = pieces.swap_remove(numbers.below(pieces.len()));
                // SAFETY: the piece has this many bytes.
                let held = unsafe { std::slice::from_raw_parts(piece, bytes) };
                assert!(held.iter().step_by(511).all(|byte| *byte == mark) && held[bytes - 1] == mark);
                // SAFETY: from this pool, and gone from the list.
                unsafe { give(piece, || locked(&pool)) };
            } else {
                let bound = [8, 18, 20, 23][numbers.below(4)];
                let bytes = 1 + numbers.below(1 << bound);
                let (piece, mark) = (take(bytes, || locked(&pool)), round as u8);
                assert!(!piece.is_null() && (piece as usize).is_multiple_of(HEADER));
                // SAFETY: the piece has this many bytes.
                unsafe { ptr::write_bytes(piece, mark, bytes) };
                pieces.push((piece, bytes, mark));
            }
            let pool = locked(&pool);
            assert!(pool.kept <= STOCK.max(pool.used), "{} of {}", pool.kept, pool.used);
            assert_eq!(pool.kept, pool.stock.iter().map(|(length, _)| length).sum::<usize>());
        }
        for (piece, ..) in pieces {
            // SAFETY: from this pool, and nobody has it any more.
            unsafe { give(piece, || locked(&pool)) };
        }
        locked(&pool).trim();
        assert_eq!(mapped(&pool), 0);
    }

    #[test]
    fn what_was_freed_is_used_again_whatever_its_length() {
        let pool = Mutex::new(Pool::new());
        let (short, long) = (2 << 20, 5 << 20);
        let first = take(long, || locked(&pool));
        // SAFETY: from this pool.
        unsafe { give(first, || locked(&pool)) };
        let before = locked(&pool).kept;
        assert!(before >= long, "freed pieces are kept: {before}");
        let second = take(short, || locked(&pool));
        assert_eq!(second, first, "a longer piece is cut");
        assert_eq!(mapped(&pool), before);
        // SAFETY: from this pool.
        unsafe { give(second, || locked(&pool)) };
        let third = take(long, || locked(&pool));
        let after = mapped(&pool);
        assert!(after < before + long, "a shorter piece is made longer: {after} of {before}");
        // SAFETY: from this pool.
        unsafe { give(third, || locked(&pool)) };
        locked(&pool).trim();
    }

    #[test]
    fn more_than_there_is_is_null() {
        let pool = Mutex::new(Pool::new());
        for bytes in [usize::MAX, usize::MAX - HEADER, usize::MAX / 2, 1 << 50] {
            assert!(take(bytes, || locked(&pool)).is_null(), "{bytes}");
        }
        assert_eq!(mapped(&pool), 0);
    }
}
