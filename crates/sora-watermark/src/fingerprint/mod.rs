//! What a marked clip looks like, coarsely: against marks that were carried over to another clip.
//!
//! Whoever has a marked clip can copy the mark's residual onto footage of their own, and a detector will find it
//! there. Therefore whoever keeps something under a mark's id keeps a fingerprint of the clip with it, and compares
//! the clip in which the mark was found. A fingerprint is a row of tiny pictures, two per second at first: the mean
//! luma of cells of 16 x 16 chips, 16 cells on the short side, far coarser than the mark itself.
//!
//! A detector says how a seen clip lies to the marked one, in space (modulo a tile of 128 chips) and in time (modulo
//! a cycle of four seconds). The cells and the steps of a seen clip's fingerprint are laid so that they fall onto
//! those of the marked one: a clip that was cropped, mirrored, scaled, turned or cut is compared in the right place, and
//! only whole tiles and whole cycles are left to try.

mod compare;
mod take;

pub use compare::{Agreement, Likeness};
pub use take::Fingerprinter;

use crate::carrier::CHIPS;
use crate::error::WatermarkError;

/// Chips on a side of a cell.
const CELL: usize = 16;
/// Milliseconds between two samples at first; doubled when there are too many of them.
const STEP: u32 = 500;
/// Largest step: the cycle of the patterns, which is the unit of time that a detector cannot tell apart.
const CYCLE: u32 = 4000;
/// Most bytes of samples; with 16:9 that is half an hour at the first step, and four hours at the last.
const MOST_BYTES: usize = 2 << 20;
/// Most cells: the longest frames have a ratio of 16.
const MOST_CELLS: usize = (CHIPS / CELL) * (CHIPS / CELL) * crate::plane::MAX_ASPECT;
/// What the bytes begin with.
const MAGIC: &[u8; 4] = b"SFP1";
/// Bytes before the samples.
const HEADER: usize = 20;

/// A fingerprint of a clip, or of what was seen of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    columns: usize,
    rows: usize,
    /// Width and height of the frames that it was taken of, in pixels.
    size: (usize, usize),
    /// Cell of the upper left corner. That of a seen clip is known modulo a tile.
    corner: (i64, i64),
    /// Milliseconds between samples, a divisor of the cycle.
    step: u32,
    samples: Vec<Sample>,
}

/// The frame that is shown at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    /// In steps since the clip's first frame. That of a seen clip is known modulo a cycle.
    index: u32,
    /// Mean luma of each cell, row by row.
    cells: Vec<u8>,
}

impl Fingerprint {
    /// What fingerprints of this kind are called where they are kept.
    pub const KIND: &str = "org.sora-gst.fingerprint.1";

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// There is no sample in it.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The fingerprint of a marked clip as bytes, to be kept; at most about 2 MiB.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        // The bounds of frames keep the numbers small.
        for number in [self.columns, self.rows, self.size.0, self.size.1] {
            bytes.extend_from_slice(&(number as u16).to_le_bytes());
        }
        bytes.extend_from_slice(&self.step.to_le_bytes());
        bytes.extend_from_slice(&(self.samples.len() as u32).to_le_bytes());
        for sample in &self.samples {
            bytes.extend_from_slice(&sample.index.to_le_bytes());
            bytes.extend_from_slice(&sample.cells);
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// [`WatermarkError::Fingerprint`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WatermarkError> {
        let bad = |reason: &'static str| WatermarkError::Fingerprint { found: bytes.len(), reason };
        if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
            return Err(bad("they do not begin like one"));
        }
        let short = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let long = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (columns, rows, size) = (short(4), short(6), (short(8), short(10)));
        let (step, count) = (long(12), long(16) as usize);
        let cells = columns * rows;
        if cells == 0 || cells > MOST_CELLS {
            return Err(bad("their number of cells is out of bounds"));
        }
        if crate::plane::check_size(size.0, size.1).is_err() {
            return Err(bad("the size of their frames is out of bounds"));
        }
        if step < STEP || !CYCLE.is_multiple_of(step) {
            return Err(bad("their step is none"));
        }
        let length = count.checked_mul(cells + 4).and_then(|samples| samples.checked_add(HEADER));
        if length != Some(bytes.len()) {
            return Err(bad("their length is another than they say"));
        }
        let sample = |bytes: &[u8]| Sample {
            index: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            cells: bytes[4..].to_vec(),
        };
        let samples: Vec<Sample> = bytes[HEADER..].chunks_exact(cells + 4).map(sample).collect();
        if !samples.is_sorted_by(|a, b| a.index < b.index) {
            return Err(bad("their samples are out of order"));
        }
        Ok(Self { columns, rows, size, corner: (0, 0), step, samples })
    }

    /// Leaves out every other step, as long as there is more than is kept.
    fn thin(&mut self) {
        while self.samples.len() * (self.columns * self.rows + 4) > MOST_BYTES && self.step < CYCLE {
            self.step *= 2;
            self.samples.retain(|sample| sample.index.is_multiple_of(2));
            self.samples.iter_mut().for_each(|sample| sample.index /= 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(count: u32) -> Fingerprint {
        let cells = |index: u32| (0..28 * 16).map(|cell| (cell * 7 + index * 31) as u8).collect();
        let samples = (0..count).map(|index| Sample { index, cells: cells(index) }).collect();
        Fingerprint { columns: 28, rows: 16, size: (1280, 720), corner: (0, 0), step: STEP, samples }
    }

    #[test]
    fn bytes_round_trip_and_others_are_refused() {
        let whole = fingerprint(5);
        let bytes = whole.to_bytes();
        assert_eq!(Fingerprint::from_bytes(&bytes), Ok(whole));
        let error = |bytes: &[u8]| Fingerprint::from_bytes(bytes).expect_err("none").to_string();
        assert!(error(b"").contains("0 bytes"));
        assert!(error(&bytes[..bytes.len() - 1]).contains("length"));
        for (at, part) in
            [(0, "begin"), (4, "length"), (9, "size"), (12, "step"), (16, "length"), (HEADER, "order")]
        {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            assert!(error(&changed).contains(part), "{at}: {}", error(&changed));
        }
        let mut none = bytes;
        none[4..8].fill(0);
        assert!(error(&none).contains("cells"));
    }

    #[test]
    fn a_long_clip_is_thinned_and_keeps_its_times() {
        let mut long = fingerprint(10_000);
        long.thin();
        assert_eq!(long.step, 4 * STEP);
        assert!(long.to_bytes().len() <= MOST_BYTES + HEADER);
        assert_eq!(long.samples[3].index, 3);
        assert_eq!(long.samples[3].cells, fingerprint(13).samples[12].cells);
    }
}
