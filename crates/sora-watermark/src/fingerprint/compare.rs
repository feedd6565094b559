//! Comparing what was seen with what was marked.

use std::collections::BTreeMap;

use super::{CELL, CYCLE, Fingerprint};
use crate::carrier::TILE;

/// From this score on it is the clip that was marked, where its motion agrees too.
const AGREES: f64 = 0.7;
/// From this score of the motion on that does.
const MOVES_ALIKE: f64 = 0.5;
/// Below this score it is another.
const DIFFERS: f64 = 0.35;
/// Least detail of a sample, in cells, that says anything.
const LEAST_DETAIL: f64 = 4.0;
/// Least motion of a sample, in cells, that says anything.
const LEAST_MOTION: f64 = 3.0;
/// Most samples of the seen clip that are compared.
const MOST_SAMPLES: usize = 64;
/// Least part of what could be compared that must be, in space and in time.
const LEAST_PART: f64 = 0.8;
/// Added to the local contrast of cells, in 8-bit code values: where there is less, there is nothing.
const FLOOR: f32 = 6.0;
/// Cells to each side that a cell is seen against.
const AROUND: usize = 2;

/// How much a seen clip resembles a marked one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Likeness {
    /// Correlation of their details, -1 to 1, in the place and at the time where it is largest.
    pub score: f64,
    /// Correlation of what changes in them over time; `None` where hardly anything does. Clips with the same backdrop or frame
    /// have details in common, and not this.
    pub motion: Option<f64>,
    /// Detail that was compared, in cells per sample: little detail says little.
    pub detail: f64,
    /// Samples that were compared.
    pub samples: usize,
}

/// What follows from a [`Likeness`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// It is the marked clip, or one that looks like it.
    Agrees,
    /// It is another clip.
    Differs,
    /// It cannot be said.
    Unclear,
}

impl Likeness {
    /// The one of two that says more for the clip.
    #[must_use]
    pub fn better(self, other: Self) -> Self {
        if self.samples == 0 || other.rank() > self.rank() { other } else { self }
    }

    fn rank(&self) -> f64 {
        self.score + self.motion.unwrap_or(self.score)
    }

    /// What follows.
    pub fn agreement(&self) -> Agreement {
        if self.samples == 0 || self.detail < LEAST_DETAIL {
            Agreement::Unclear
        } else if self.score >= AGREES && self.motion.is_none_or(|motion| motion >= MOVES_ALIKE) {
            Agreement::Agrees
        } else if self.score < DIFFERS {
            Agreement::Differs
        } else {
            Agreement::Unclear
        }
    }
}

impl Fingerprint {
    /// Compares this fingerprint, of a marked clip, with that of a clip in which its mark was found.
    pub fn likeness(&self, seen: &Self) -> Likeness {
        let most = seen.samples.len().div_ceil(MOST_SAMPLES).max(1);
        let fits = |time: u64| time.is_multiple_of(u64::from(self.step));
        let time = |index: u32, step: u32| u64::from(index) * u64::from(step);
        let chosen: Vec<(i64, Vec<f32>)> = (seen.samples.iter())
            .filter(|sample| fits(time(sample.index, seen.step)))
            .step_by(most)
            .map(|sample| (time(sample.index, seen.step) as i64, detail(&sample.cells, seen.columns)))
            .collect();
        let marked: BTreeMap<i64, Vec<f32>> = (self.samples.iter())
            .map(|sample| (time(sample.index, self.step) as i64, detail(&sample.cells, self.columns)))
            .collect();
        let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return Likeness::default() };
        let Some((end, _)) = marked.last_key_value() else { return Likeness::default() };
        let cycle = i64::from(CYCLE);
        let least = ((chosen.len() as f64 * LEAST_PART).ceil() as usize).max(1);
        let mut best = Likeness::default();
        for turn in -last.0.div_euclid(cycle)..=(end - first.0).div_euclid(cycle) {
            let pairs: Vec<_> = (chosen.iter())
                .filter_map(|(time, seen)| Some((marked.get(&(time + turn * cycle))?, seen)))
                .collect();
            if pairs.len() < least {
                continue;
            }
            for overlap in self.overlaps(seen) {
                best = best.better(overlap.correlate(&pairs));
            }
        }
        best
    }

    /// The ways in which the seen cells can lie on the marked ones, whole tiles apart.
    fn overlaps(&self, seen: &Self) -> Vec<Overlap> {
        let tile = (TILE / CELL) as i64;
        let axis = |marked: usize, seen: usize, corner: i64| -> Vec<(usize, usize, usize)> {
            let first = corner.rem_euclid(tile) - tile * (seen as i64).div_euclid(tile) - tile;
            let places = (first..marked as i64).step_by(tile as usize);
            let part = |place: i64| {
                let (from, to) = (place.max(0), (place + seen as i64).min(marked as i64));
                (to > from).then(|| (from as usize, (from - place) as usize, (to - from) as usize))
            };
            places.filter_map(part).collect()
        };
        let columns = axis(self.columns, seen.columns, seen.corner.0);
        let rows = axis(self.rows, seen.rows, seen.corner.1);
        let least = LEAST_PART * (self.columns.min(seen.columns) as f64) * (self.rows.min(seen.rows) as f64);
        let mut overlaps = Vec::new();
        for (x, seen_x, width) in columns {
            for &(y, seen_y, height) in &rows {
                if (width * height) as f64 >= least {
                    let widths = (self.columns, seen.columns);
                    overlaps.push(Overlap {
                        at: (x, y),
                        seen: (seen_x, seen_y),
                        size: (width, height),
                        widths,
                    });
                }
            }
        }
        overlaps
    }
}

/// Where seen cells lie on marked ones.
struct Overlap {
    at: (usize, usize),
    seen: (usize, usize),
    size: (usize, usize),
    widths: (usize, usize),
}

impl Overlap {
    /// Both cells of each place that lies in both.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.size.1).flat_map(move |row| {
            let marked = (self.at.1 + row) * self.widths.0 + self.at.0;
            let seen = (self.seen.1 + row) * self.widths.1 + self.seen.0;
            (0..self.size.0).map(move |column| (marked + column, seen + column))
        })
    }

    fn correlate(&self, pairs: &[(&Vec<f32>, &Vec<f32>)]) -> Likeness {
        let (mut detail, mut motion) = (Products::default(), Products::default());
        let count = pairs.len() as f64;
        for (marked, seen) in self.places() {
            let mut place = Products::default();
            let (mut marked_sum, mut seen_sum) = (0.0, 0.0);
            for (a, b) in pairs {
                let (a, b) = (f64::from(a[marked]), f64::from(b[seen]));
                place.add(a * b, a * a, b * b);
                (marked_sum, seen_sum) = (marked_sum + a, seen_sum + b);
            }
            detail.add(place.both, place.marked, place.seen);
            // What is left when what stands still is taken away.
            motion.add(
                place.both - marked_sum * seen_sum / count,
                place.marked - marked_sum * marked_sum / count,
                place.seen - seen_sum * seen_sum / count,
            );
        }
        Likeness {
            score: detail.correlation(),
            motion: (motion.least() / count >= LEAST_MOTION).then(|| motion.correlation()),
            detail: detail.least() / count,
            samples: pairs.len(),
        }
    }
}

/// Sums of products of marked and seen values.
#[derive(Default)]
struct Products {
    both: f64,
    marked: f64,
    seen: f64,
}

impl Products {
    fn add(&mut self, both: f64, marked: f64, seen: f64) {
        (self.both, self.marked, self.seen) = (self.both + both, self.marked + marked, self.seen + seen);
    }

    fn correlation(&self) -> f64 {
        let norm = (self.marked.max(0.0) * self.seen.max(0.0)).sqrt();
        if norm > 0.0 { self.both / norm } else { 0.0 }
    }

    fn least(&self) -> f64 {
        self.marked.min(self.seen)
    }
}

/// What stands out of each cell's surroundings, divided by how much does there.
fn detail(cells: &[u8], columns: usize) -> Vec<f32> {
    let rows = cells.len() / columns;
    let values: Vec<f32> = cells.iter().map(|value| f32::from(*value)).collect();
    let means = boxed(&values, columns, rows);
    let outstanding: Vec<f32> = values.iter().zip(&means).map(|(value, mean)| value - mean).collect();
    let squares: Vec<f32> = outstanding.iter().map(|value| value * value).collect();
    let power = boxed(&squares, columns, rows);
    outstanding.iter().zip(&power).map(|(value, power)| value / (power.sqrt() + FLOOR)).collect()
}

/// Means over each cell and those around it that there are.
fn boxed(values: &[f32], columns: usize, rows: usize) -> Vec<f32> {
    let mut means = Vec::with_capacity(values.len());
    for y in 0..rows {
        for x in 0..columns {
            let (left, right) = (x.saturating_sub(AROUND), (x + AROUND + 1).min(columns));
            let (top, bottom) = (y.saturating_sub(AROUND), (y + AROUND + 1).min(rows));
            let sum: f32 = (top..bottom)
                .map(|y| values[y * columns + left..y * columns + right].iter().sum::<f32>())
                .sum();
            means.push(sum / ((right - left) * (bottom - top)) as f32);
        }
    }
    means
}
