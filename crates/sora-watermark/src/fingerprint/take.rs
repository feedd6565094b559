//! Taking a fingerprint: from the frames that are marked, or from those in which a mark was found.

use std::time::Duration;

use super::{CELL, CYCLE, Fingerprint, MOST_BYTES, STEP, Sample};
use crate::blur::Plane;
use crate::carrier::CHIPS;
use crate::chips::{Axis, Orientation};
use crate::front_end::Rasteriser;
use crate::plane::LumaPlane;
use crate::verdict::{Geometry, Mark, TimeRange};

/// Points on a side of a cell that its mean is taken of.
const POINTS: usize = 8;
/// A cell that sticks out by less is whole, in chips.
const SLACK: f64 = 2.0;
/// When a sample is taken, in milliseconds after its step: where frames of the usual rates do not begin, so that a clock
/// that is a little off finds the same frame.
const PHASE: f64 = 31.0;
/// How long a frame is shown where nobody says it, in milliseconds.
const SHOWN: f64 = 40.0;

/// Takes a fingerprint of the frames that are shown to it. Memory is bounded, however long the clip.
pub struct Fingerprinter {
    geometry: Option<Geometry>,
    /// Size of the marked frames, where those that are seen are all of them.
    whole: Option<(usize, usize)>,
    /// Where in the seen clip the mark is; empty: everywhere.
    ranges: Vec<TimeRange>,
    size: Option<(usize, usize)>,
    rasteriser: Option<Rasteriser>,
    taken: Fingerprint,
    /// Index of the next sample, in steps of [`STEP`].
    next: u64,
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self::new()
    }
}

impl Fingerprinter {
    /// Of a clip while it is marked. Times count from its first frame, as for an embedder.
    pub fn new() -> Self {
        let taken = Fingerprint {
            columns: 0,
            rows: 0,
            size: (0, 0),
            corner: (0, 0),
            step: STEP,
            samples: Vec::new(),
        };
        Self { geometry: None, whole: None, ranges: Vec::new(), size: None, rasteriser: None, taken, next: 0 }
    }

    /// Of a clip in which a mark was found. Times count from the first frame that the detector saw.
    pub fn of_seen(mark: &Mark) -> Self {
        Self { geometry: Some(mark.geometry), ranges: mark.ranges.clone(), ..Self::new() }
    }

    /// Of a clip in which a mark was found, where its frames are taken for all of the marked ones, whatever shape they
    /// have now: a detector says only roughly how far a picture was stretched.
    pub fn of_seen_whole(mark: &Mark, marked: &Fingerprint) -> Self {
        Self { whole: Some(marked.size), ..Self::of_seen(mark) }
    }

    /// Whether the frame that is shown from `time` on, for `shown`, would be taken. To ask before a frame is
    /// converted or copied.
    pub fn wants(&self, time: Duration, shown: Option<Duration>) -> bool {
        self.index(time, shown).is_some()
    }

    /// The step that falls into the time in which a frame is shown.
    fn index(&self, time: Duration, shown: Option<Duration>) -> Option<u64> {
        if !self.ranges.is_empty()
            && !self.ranges.iter().any(|range| (range.start..range.end).contains(&time))
        {
            return None;
        }
        let (offset, speed) = self
            .geometry
            .map_or((0.0, 1.0), |geometry| (geometry.cycle_offset.as_secs_f64() * 1e3, geometry.speed));
        let shown = shown.map_or(SHOWN, |shown| shown.as_secs_f64() * 1e3) * speed;
        let from = offset + time.as_secs_f64() * 1e3 * speed - PHASE;
        let index = (from / f64::from(STEP)).ceil().max(self.next as f64);
        (index * f64::from(STEP) < from + shown).then_some(index as u64)
    }

    /// Takes a sample of the frame, where one is due. A frame of another shape than the first has no place in it.
    pub fn push(&mut self, luma: &LumaPlane<'_>, time: Duration, shown: Option<Duration>) {
        let Some(index) = self.index(time, shown) else { return };
        self.next = index + 1;
        let per_step = u64::from(self.taken.step / STEP);
        let full = self.taken.samples.len() * (self.taken.columns * self.taken.rows + 4) > MOST_BYTES;
        let (Ok(index), true) = (u32::try_from(index / per_step), index.is_multiple_of(per_step)) else {
            return;
        };
        if full && self.taken.step >= CYCLE {
            return;
        }
        let size = (luma.width, luma.height);
        if self.rasteriser.as_ref().is_none_or(|rasteriser| rasteriser.size() != size) {
            self.rasteriser = Some(Rasteriser::new(luma.width, luma.height));
        }
        let Some(rasteriser) = &mut self.rasteriser else { return };
        let raster = rasteriser.raster(luma);
        let view = View::new(&raster, self.geometry.as_ref(), self.whole);
        let (corner, (columns, rows)) = view.cells();
        if self.size.is_none() {
            (self.taken.corner, self.taken.columns, self.taken.rows) = (corner, columns, rows);
            (self.taken.size, self.size) = (size, Some(size));
        }
        let fits = (self.taken.corner, self.taken.columns, self.taken.rows) == (corner, columns, rows);
        if fits && columns * rows > 0 {
            let cells = view.means(&raster, corner, (columns, rows));
            self.taken.samples.push(Sample { index, cells });
            self.taken.thin();
        }
    }

    /// What was taken so far; `None` where that is nothing.
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        (!self.taken.is_empty()).then_some(&self.taken)
    }
}

/// How chips lie in a raster.
struct View {
    size: (f64, f64),
    pitch: (f64, f64),
    shift: (f64, f64),
    orientation: Orientation,
    /// In radians.
    rotation: f64,
}

impl View {
    fn new(raster: &Plane, geometry: Option<&Geometry>, whole: Option<(usize, usize)>) -> Self {
        let size = (raster.width as f64, raster.height as f64);
        let base = size.0.min(size.1) / CHIPS as f64;
        let orientation = geometry.map_or(Orientation::UPRIGHT, |geometry| Orientation {
            flipped: geometry.flipped,
            quarter_turns: geometry.quarter_turns,
        });
        if let Some((width, height)) = whole {
            let chip = width.min(height) as f64 / CHIPS as f64;
            let chips = (width as f64 / chip, height as f64 / chip);
            // Where the marked frame's way across leads back, its last chip is seen first.
            let (across, down) = orientation.axes();
            let shift = |axis: Axis, chips: f64| if axis.back { 1.0 - chips } else { 0.0 };
            let seen = if across.down { (chips.1, chips.0) } else { chips };
            let pitch = (size.0 / seen.0, size.1 / seen.1);
            let shift = (shift(across, chips.0), shift(down, chips.1));
            return Self { size, pitch, shift, orientation, rotation: 0.0 };
        }
        match geometry {
            None => Self { size, pitch: (base, base), shift: (0.0, 0.0), orientation, rotation: 0.0 },
            Some(geometry) => Self {
                size,
                pitch: (geometry.scale_x * base, geometry.scale_y * base),
                shift: (geometry.shift_x, geometry.shift_y),
                orientation,
                rotation: geometry.rotation.to_radians(),
            },
        }
    }

    /// Place in the raster of a place in the marked frame, given in chips from its upper left corner. The inverse
    /// of what the detector's folding does.
    fn place(&self, (u, v): (f64, f64)) -> (f64, f64) {
        // Patterns shift, and pictures are turned, about the middle of a chip.
        let (across, down) = self.orientation.seen((u - 0.5 + self.shift.0, v - 0.5 + self.shift.1));
        let (across, down) = (across + 0.5, down + 0.5);
        if self.rotation == 0.0 {
            return (across * self.pitch.0, down * self.pitch.1);
        }
        let (sin, cos) = self.rotation.sin_cos();
        let middle = |size: f64, pitch: f64| (size / pitch).floor() / 2.0;
        let x = (across - middle(self.size.0, self.pitch.0)) * self.pitch.0;
        let y = (down - middle(self.size.1, self.pitch.1)) * self.pitch.1;
        (self.size.0 / 2.0 + cos * x - sin * y, self.size.1 / 2.0 + sin * x + cos * y)
    }

    /// The cells that can be seen whole: the first, and how many.
    fn cells(&self) -> ((i64, i64), (usize, usize)) {
        let chips = (self.size.0 / self.pitch.0, self.size.1 / self.pitch.1);
        let (across, down) = self.orientation.axes();
        let span = |axis: Axis, shift: f64| {
            let length = if axis.down { chips.1 } else { chips.0 };
            (if axis.back { 1.0 - shift - length } else { -shift }, length)
        };
        let range = |(from, length): (f64, f64)| {
            let cell = CELL as f64;
            let first = ((from - SLACK) / cell).ceil();
            let last = ((from + length + SLACK) / cell).floor();
            (first as i64, (last - first).max(0.0) as usize)
        };
        let ((x, columns), (y, rows)) = (range(span(across, self.shift.0)), range(span(down, self.shift.1)));
        ((x, y), (columns, rows))
    }

    fn means(&self, raster: &Plane, corner: (i64, i64), (columns, rows): (usize, usize)) -> Vec<u8> {
        let unit = CELL as f64 / POINTS as f64;
        let clamped = |at: f64, size: usize| (at.max(0.0) as usize).min(size - 1);
        let mut cells = Vec::with_capacity(columns * rows);
        for row in 0..rows as i64 {
            for column in 0..columns as i64 {
                let mut sum = 0.0;
                for point in 0..POINTS * POINTS {
                    let along =
                        |cell: i64, point: usize| cell as f64 * CELL as f64 + (point as f64 + 0.5) * unit;
                    let (u, v) =
                        (along(corner.0 + column, point % POINTS), along(corner.1 + row, point / POINTS));
                    let (x, y) = self.place((u, v));
                    sum += raster.row(clamped(y, raster.height))[clamped(x, raster.width)];
                }
                cells.push((sum / (POINTS * POINTS) as f32).round().clamp(0.0, 255.0) as u8);
            }
        }
        cells
    }
}
