//! Large pieces of memory, each a mapping of its own, and a stock of those that were freed.
//!
//! A mapping can be cut anywhere and made longer without a copy (mremap), so no piece of the stock is of the wrong size:
//! the smallest one that is large enough is cut, else the largest is made longer, and only what is added costs page
//! faults. What was cut is one piece again when both parts are free. With its stock a process holds no more than it once
//! used at the same time, and a quarter of that.

use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet};
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

/// The stock may have this much, however little is in use.
const STOCK: usize = 32 << 20;

/// And else a share of the most that was in use at once: with it, what other pieces leave over is large enough more often
/// (docs/benchmark-cpu.md has what memory and time this costs and saves).
const SHARE: usize = 4;

/// A piece: its first byte, its length, and the number of the mapping that it is part of. Pieces of one mapping that lie
/// next to each other are one piece when both are free; a mapping never grows, so it is one to the system as well, which
/// makes only such longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    at: usize,
    length: usize,
    mapping: usize,
}

/// Mappings.
pub(crate) struct Pool {
    /// Length and mapping of each piece of the stock, by its first byte.
    stock: BTreeMap<usize, (usize, usize)>,
    /// Length and first byte of each of them.
    lengths: BTreeSet<(usize, usize)>,
    kept: usize,
    used: usize,
    /// The most that was in use since the stock was last given back.
    most: usize,
    /// Mappings that there have been.
    mappings: usize,
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self { stock: BTreeMap::new(), lengths: BTreeSet::new(), kept: 0, used: 0, most: 0, mappings: 0 }
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
        self.most = self.used;
        self.shrink(0);
    }

    /// What the stock may have: with it no more is held than was in use at once, and a share of that.
    fn limit(&self) -> usize {
        STOCK.max(self.most - self.used + self.most / SHARE)
    }

    /// A piece of `length` bytes; none where the system has no more.
    fn take(&mut self, length: usize) -> Option<Piece> {
        let mut found = self.reuse(length).or_else(|| self.map(length));
        if found.is_none() && self.kept > 0 {
            self.trim();
            found = self.map(length);
        }
        if found.is_some() {
            self.used += length;
            self.most = self.most.max(self.used);
            self.shrink(self.limit());
        }
        found
    }

    fn give(&mut self, piece: Piece) {
        self.used -= piece.length;
        self.keep(piece);
        self.shrink(self.limit());
    }

    /// A piece of the stock, cut or made longer.
    fn reuse(&mut self, length: usize) -> Option<Piece> {
        if let Some(&(_, at)) = self.lengths.range((length, 0)..).next() {
            let longer = self.forget(at);
            let rest = longer.length - length;
            if rest > 0 {
                self.keep(Piece { at: at + length, length: rest, ..longer });
            }
            return Some(Piece { length, ..longer });
        }
        let &(shorter, at) = self.lengths.last()?;
        // SAFETY: part of one mapping of ours, of this length, and nobody uses it.
        let grown = unsafe { libc::mremap(at as *mut libc::c_void, shorter, length, libc::MREMAP_MAYMOVE) };
        if grown == libc::MAP_FAILED {
            return None;
        }
        self.forget(at);
        wish_huge(grown.cast(), length);
        Some(self.new_mapping(grown as usize, length))
    }

    fn map(&mut self, length: usize) -> Option<Piece> {
        let made = map(length);
        (!made.is_null()).then(|| self.new_mapping(made as usize, length))
    }

    fn new_mapping(&mut self, at: usize, length: usize) -> Piece {
        self.mappings += 1;
        Piece { at, length, mapping: self.mappings }
    }

    /// Adds a piece to the stock, as one with those of its mapping that lie next to it.
    fn keep(&mut self, mut piece: Piece) {
        let is_beside = |(at, &(length, mapping)): (&usize, &(usize, usize))| {
            (mapping == piece.mapping && at + length == piece.at).then_some(*at)
        };
        if let Some(before) = self.stock.range(..piece.at).next_back().and_then(is_beside) {
            let before = self.forget(before);
            piece = Piece { length: before.length + piece.length, ..before };
        }
        let end = piece.at + piece.length;
        if self.stock.get(&end).is_some_and(|&(_, mapping)| mapping == piece.mapping) {
            piece.length += self.forget(end).length;
        }
        self.stock.insert(piece.at, (piece.length, piece.mapping));
        self.lengths.insert((piece.length, piece.at));
        self.kept += piece.length;
    }

    /// Takes the piece that begins at `at` out of the stock.
    fn forget(&mut self, at: usize) -> Piece {
        let (length, mapping) = self.stock.remove(&at).expect("it is in the stock");
        self.lengths.remove(&(length, at));
        self.kept -= length;
        Piece { at, length, mapping }
    }

    /// Gives the longest pieces back until no more than `limit` bytes are kept.
    fn shrink(&mut self, limit: usize) {
        while self.kept > limit {
            let Some(&(_, at)) = self.lengths.last() else { return };
            let excess = self.kept - limit;
            let piece = self.forget(at);
            // What is left of the last one stays.
            let rest = piece.length.saturating_sub(excess.next_multiple_of(GRAIN));
            if rest > 0 {
                self.keep(Piece { length: rest, ..piece });
            }
            // SAFETY: the end of a piece of ours that nobody uses.
            unsafe { libc::munmap((at + rest) as *mut libc::c_void, piece.length - rest) };
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

/// What lies before the memory of a piece: its length and its mapping, 0 for those of `malloc`.
type Header = [usize; 2];

/// At least `bytes` of memory behind a header; null where there is none.
pub(crate) fn take<'a>(bytes: usize, pool: impl FnOnce() -> MutexGuard<'a, Pool>) -> *mut u8 {
    let Some(whole) = bytes.checked_add(HEADER + GRAIN) else { return ptr::null_mut() };
    let whole = whole - GRAIN;
    let (begin, header) = if whole < LARGE {
        let Ok(layout) = Layout::from_size_align(whole, HEADER) else { return ptr::null_mut() };
        // SAFETY: the size is not 0, as it has the header.
        (unsafe { std::alloc::alloc(layout) }, [whole, 0])
    } else {
        match pool().take(whole.next_multiple_of(GRAIN)) {
            Some(Piece { at, length, mapping }) => (at as *mut u8, [length, mapping]),
            None => (ptr::null_mut(), [0, 0]),
        }
    };
    if begin.is_null() {
        return begin;
    }
    // SAFETY: the header is inside, and aligned.
    unsafe {
        begin.cast::<Header>().write(header);
        begin.add(HEADER)
    }
}

/// # Safety
/// `piece` came from [`take`] with the same pool and is not used any more.
pub(crate) unsafe fn give<'a>(piece: *mut u8, pool: impl FnOnce() -> MutexGuard<'a, Pool>) {
    // SAFETY: the header lies before the piece.
    let (begin, [length, mapping]) = unsafe {
        let begin = piece.sub(HEADER);
        (begin, begin.cast::<Header>().read())
    };
    if mapping == 0 {
        // SAFETY: as it was allocated.
        unsafe { std::alloc::dealloc(begin, Layout::from_size_align_unchecked(length, HEADER)) };
    } else {
        pool().give(Piece { at: begin as usize, length, mapping });
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

    /// Gives back what [`take`] gave from this pool, and what nobody uses any more.
    fn free(pool: &Mutex<Pool>, piece: *mut u8) {
        // SAFETY: every test frees what it took, once.
        unsafe { give(piece, || locked(pool)) };
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
                free(&pool, piece);
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
            assert!(pool.kept <= pool.limit() && pool.used <= pool.most, "{} of {}", pool.kept, pool.most);
            assert_eq!(pool.kept, pool.stock.values().map(|(length, _)| length).sum::<usize>());
            let lengths = pool.stock.iter().map(|(at, (length, _))| (*length, *at));
            assert_eq!(pool.lengths, lengths.collect());
        }
        for (piece, ..) in pieces {
            free(&pool, piece);
        }
        locked(&pool).trim();
        assert_eq!(mapped(&pool), 0);
    }

    #[test]
    fn what_was_freed_is_used_again_whatever_its_length() {
        let pool = Mutex::new(Pool::new());
        let (short, long) = (2 << 20, 5 << 20);
        let first = take(long, || locked(&pool));
        free(&pool, first);
        let before = locked(&pool).kept;
        assert!(before >= long, "freed pieces are kept: {before}");
        let second = take(short, || locked(&pool));
        assert_eq!(second, first, "a longer piece is cut");
        assert_eq!(mapped(&pool), before);
        free(&pool, second);
        let third = take(long, || locked(&pool));
        let after = mapped(&pool);
        assert!(after < before + long, "a shorter piece is made longer: {after} of {before}");
        free(&pool, third);
        locked(&pool).trim();
    }

    #[test]
    fn what_was_cut_is_one_piece_again_in_whatever_order_its_parts_are_freed() {
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            let pool = Mutex::new(Pool::new());
            let whole = take(6 << 20, || locked(&pool));
            free(&pool, whole);
            let before = mapped(&pool);
            let parts = [1_usize, 2, 2].map(|megabytes| take(megabytes << 20, || locked(&pool)));
            assert_eq!(parts[0], whole);
            for i in order {
                free(&pool, parts[i]);
            }
            assert_eq!(locked(&pool).stock.len(), 1, "{order:?}");
            let again = take(6 << 20, || locked(&pool));
            assert_eq!(again, whole, "{order:?}");
            assert_eq!(mapped(&pool), before, "nothing was mapped anew");
            free(&pool, again);
            locked(&pool).trim();
            assert_eq!(mapped(&pool), 0);
        }
    }

    #[test]
    fn what_is_held_follows_the_most_that_was_in_use_and_is_given_back() {
        let pool = Mutex::new(Pool::new());
        let megabytes = |n: usize| n << 20;
        let pieces: Vec<*mut u8> = (0..40).map(|_| take(megabytes(10), || locked(&pool))).collect();
        let most = locked(&pool).used;
        for piece in pieces {
            free(&pool, piece);
            assert!(mapped(&pool) <= most + most / SHARE);
        }
        assert!(mapped(&pool) >= most, "all of it is kept for the next");
        // Lengths that do not fit into each other, again and again.
        for round in 0..200 {
            let lengths = [7, 13, 29, 3 + round % 11];
            let pieces = lengths.map(|n| take(megabytes(n), || locked(&pool)));
            for piece in pieces {
                free(&pool, piece);
            }
            assert!(mapped(&pool) <= most + most / SHARE);
        }
        locked(&pool).trim();
        assert_eq!(mapped(&pool), 0);
        // Given back, it does not count any more.
        let small = take(megabytes(1), || locked(&pool));
        free(&pool, small);
        assert!(mapped(&pool) <= STOCK, "{}", mapped(&pool));
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
