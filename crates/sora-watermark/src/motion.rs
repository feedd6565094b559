//! What a frame shows that its neighbours in time do not explain by motion.
//!
//! The picture moves, the mark does not: it lies still and changes three times a second. A frame at least one pattern
//! away, moved to where its parts are now, predicts the picture and nothing of the mark, so the difference shows the mark
//! much more clearly. It is the motion compensation of video encoders (hierarchical block matching, overlapped as in
//! H.263's annex F), with the displacement of the whole frame from phase correlation (C. D. Kuglin and D. C. Hines,
//! 1975) among the starting points, since pans are faster than any search around zero reaches. Payload signs
//! are not used, so the bound of `statistic` holds for what is left as for any other picture.

use multiversion::multiversion;
use rustfft::num_complex::Complex32;

use crate::blur::{Plane, gaussian};
use crate::carrier::TILE;
use crate::fourier::TileFft;
use crate::front_end::{difference, halved};

/// Side of the blocks that have a vector each, in samples of the raster.
const BLOCK: usize = 8;
/// Side of the square around a block that is compared, in samples of each level.
const SUPPORT: usize = 16;
/// Half of the size of the level before, each.
const LEVELS: usize = 3;
/// Samples around the best start that are tried, finest level first.
const REACH: [i32; LEVELS] = [1, 2, 6];
/// The same around the displacement of the whole frame, at the coarsest level.
const PAN_REACH: i32 = 2;
/// Samples that a square may lie outside of a picture; its edge is repeated there.
const BORDER: i32 = 64;
/// What a vector other than zero costs, in code values of the whole square, and each sample of its length.
const ANY_MOTION: f32 = 16.0;
const PER_SAMPLE: f32 = 1.6;
/// Standard deviation of the neighbourhood in which a prediction is judged.
const SIGMA: f32 = 4.0;
/// What is smoother than this is no part of the mark.
const SMOOTH: f32 = 6.0;

/// A vector in samples: across and down.
type Vector = (i32, i32);

/// A raster made ready for being compared.
pub(crate) struct Scales {
    /// With edges repeated, finest first.
    levels: Vec<Padded>,
    pub(crate) raster: Plane,
    /// The spectrum of the middle at half size.
    spectrum: Vec<Complex32>,
}

impl Scales {
    pub(crate) fn new(raster: Plane) -> Self {
        let half = halved(&raster);
        let mut spectrum = faded_middle(&half);
        TileFft::new().forward(&mut spectrum);
        let levels = vec![Padded::new(&raster), Padded::new(&half), Padded::new(&halved(&half))];
        Self { levels, raster, spectrum }
    }

    /// Where the whole of this picture lies in another, by phase correlation.
    fn pan(&self, other: &Self) -> Vector {
        let whitened = |(here, there): (&Complex32, &Complex32)| {
            let cross = there * here.conj();
            cross / (cross.norm().sqrt() + 1e-3)
        };
        let mut cross: Vec<Complex32> = self.spectrum.iter().zip(&other.spectrum).map(whitened).collect();
        TileFft::new().inverse(&mut cross);
        let place = (0..cross.len()).max_by(|a, b| cross[*a].re.total_cmp(&cross[*b].re)).unwrap_or(0);
        let signed = |i: usize| if i > TILE / 2 { i as i32 - TILE as i32 } else { i as i32 };
        (2 * signed(place % TILE), 2 * signed(place / TILE))
    }
}

/// The middle of a plane without its mean, faded towards its borders: at most one tile.
fn faded_middle(plane: &Plane) -> Vec<Complex32> {
    let (width, height) = (plane.width.min(TILE), plane.height.min(TILE));
    let (left, top) = ((plane.width - width) / 2, (plane.height - height) / 2);
    let rows = || (top..top + height).map(|y| &plane.row(y)[left..left + width]);
    let mean = rows().flatten().sum::<f32>() / (width * height) as f32;
    let fade = |i: usize, side: usize| (std::f32::consts::PI * (i as f32 + 0.5) / side as f32).sin();
    let mut out = vec![Complex32::default(); TILE * TILE];
    for (y, (out, row)) in out.chunks_exact_mut(TILE).zip(rows()).enumerate() {
        for (x, (out, value)) in out.iter_mut().zip(row).enumerate() {
            out.re = (value - mean) * fade(x, width) * fade(y, height);
        }
    }
    out
}

/// A plane with its edges repeated on all sides.
struct Padded {
    data: Vec<f32>,
    width: i32,
    height: i32,
}

impl Padded {
    fn new(plane: &Plane) -> Self {
        let border = BORDER as usize;
        let mut data = Vec::with_capacity((plane.width + 2 * border) * (plane.height + 2 * border));
        for y in 0..plane.height + 2 * border {
            let row = plane.row(y.saturating_sub(border).min(plane.height - 1));
            data.extend(std::iter::repeat_n(row[0], border));
            data.extend_from_slice(row);
            data.extend(std::iter::repeat_n(row[plane.width - 1], border));
        }
        Self { data, width: plane.width as i32, height: plane.height as i32 }
    }

    fn stride(&self) -> usize {
        (self.width + 2 * BORDER) as usize
    }

    /// Where a square of this side with this corner begins; `None` when it does not lie within the border.
    fn place(&self, (x, y): Vector, side: i32) -> Option<usize> {
        let inside = |at: i32, size: i32| (-BORDER..=size + BORDER - side).contains(&at);
        (inside(x, self.width) && inside(y, self.height))
            .then(|| (y + BORDER) as usize * self.stride() + (x + BORDER) as usize)
    }
}

/// Rows of a square between two looks at whether it still can be the best.
const ROWS: usize = 4;
/// What a bound is lowered by, so that no rounding makes it one of another sum.
const SAFE: f32 = 0.9999;

/// The sum of absolute differences of two squares and `more`, infinite where it cannot be below `most`. All sums below it are
/// exactly those that would be found without a bound.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn distance(
    (a, a_stride): (&[f32], usize),
    (b, b_stride): (&[f32], usize),
    more: [f32; 2],
    most: f32,
) -> f32 {
    let mut sums = [0.0f32; SUPPORT];
    for first in (0..SUPPORT).step_by(ROWS) {
        for row in first..first + ROWS {
            // Lengths that the compiler knows, so that it needs no loop.
            let (Some(a), Some(b)) = (
                a.get(row * a_stride..).and_then(|a| a.first_chunk::<SUPPORT>()),
                b.get(row * b_stride..).and_then(|b| b.first_chunk::<SUPPORT>()),
            ) else {
                return f32::INFINITY;
            };
            for i in 0..SUPPORT {
                sums[i] += (a[i] - b[i]).abs();
            }
        }
        // In pairs: one after the other takes as long as the differences do.
        let mut halves = sums;
        let mut half = SUPPORT / 2;
        while half > 0 {
            for i in 0..half {
                halves[i] += halves[i + half];
            }
            half /= 2;
        }
        if (halves[0] + more[0] + more[1]) * SAFE > most {
            return f32::INFINITY;
        }
    }
    sums.iter().sum::<f32>() + more[0] + more[1]
}

/// One level's comparison of a block.
struct Matcher<'a> {
    target: &'a Padded,
    reference: &'a Padded,
    corner: Vector,
    here: usize,
    /// Samples of the raster per sample of the level.
    unit: i32,
}

impl<'a> Matcher<'a> {
    /// `centre` in samples of the raster.
    fn new(target: &'a Padded, reference: &'a Padded, centre: Vector, unit: i32) -> Option<Self> {
        let corner = (centre.0 / unit - SUPPORT as i32 / 2, centre.1 / unit - SUPPORT as i32 / 2);
        let here = target.place(corner, SUPPORT as i32)?;
        Some(Self { target, reference, corner, here, unit })
    }

    /// How badly a vector fits; infinite where that is not better than `most`.
    fn cost(&self, vector: Vector, most: f32) -> f32 {
        let corner = (self.corner.0 + vector.0, self.corner.1 + vector.1);
        let Some(there) = self.reference.place(corner, SUPPORT as i32) else { return f32::INFINITY };
        let length = (vector.0.abs() + vector.1.abs()) * self.unit;
        let any = if length == 0 { 0.0 } else { ANY_MOTION };
        distance(
            (&self.target.data[self.here..], self.target.stride()),
            (&self.reference.data[there..], self.reference.stride()),
            [any, PER_SAMPLE * length as f32],
            most,
        )
    }

    /// The best of some vectors, and of those around it.
    fn best(&self, starts: &[Vector], reach: i32) -> (f32, Vector) {
        let better = |best: (f32, Vector), vector: Vector| {
            let cost = self.cost(vector, best.0);
            if cost < best.0 { (cost, vector) } else { best }
        };
        let start = starts.iter().fold((f32::INFINITY, (0, 0)), |best, vector| better(best, *vector));
        let from = start.1;
        let around = (-reach..=reach).flat_map(|y| (-reach..=reach).map(move |x| (x, y)));
        around
            .filter(|step| *step != (0, 0))
            .fold(start, |best, (x, y)| better(best, (from.0 + x, from.1 + y)))
    }

    /// The fraction of a sample by which the best fit lies beside a vector: the vertex of a parabola each way.
    fn fraction(&self, vector: Vector, cost: f32) -> (f32, f32) {
        let vertex = |x: i32, y: i32| {
            let before = self.cost((vector.0 - x, vector.1 - y), f32::INFINITY);
            let after = self.cost((vector.0 + x, vector.1 + y), f32::INFINITY);
            let curve = before + after - 2.0 * cost;
            if curve.is_finite() && curve > 1e-3 {
                ((before - after) / (2.0 * curve)).clamp(-0.5, 0.5)
            } else {
                0.0
            }
        };
        (vertex(1, 0), vertex(0, 1))
    }
}

/// Where each block of `target` lies in `reference`, in samples, row by row.
fn vectors(target: &Scales, reference: &Scales) -> Vec<(f32, f32)> {
    let size = blocks(&target.raster);
    let pan = target.pan(reference);
    let mut field: Vec<Vector> = vec![(0, 0); size.0 * size.1];
    let mut found = vec![(0.0, 0.0); size.0 * size.1];
    for level in (0..LEVELS).rev() {
        let unit = 1 << level;
        let panned = (pan.0 / unit, pan.1 / unit);
        let (here, there) = (&target.levels[level], &reference.levels[level]);
        let before = field.clone();
        for at in 0..field.len() {
            let (column, row) = (at % size.0, at / size.0);
            let centre = |block: usize| (block * BLOCK + BLOCK / 2) as i32;
            let centre = (centre(column), centre(row));
            if level == LEVELS - 1 && (row % 2 == 1 || column % 2 == 1) {
                // Four blocks are four samples of the coarsest level wide: they share its vector.
                field[at] = field[(row & !1) * size.0 + (column & !1)];
                continue;
            }
            let Some(matcher) = Matcher::new(here, there, centre, unit) else { continue };
            let (cost, vector) = if level == LEVELS - 1 {
                let (near, far) = (matcher.best(&[(0, 0)], REACH[level]), matcher.best(&[panned], PAN_REACH));
                if far.0 < near.0 { far } else { near }
            } else {
                matcher.best(&starts(&before, size, (column, row), panned), REACH[level])
            };
            field[at] = vector;
            if level == 0 && vector != (0, 0) {
                let (x, y) = matcher.fraction(vector, cost);
                found[at] = (vector.0 as f32 + x, vector.1 as f32 + y);
            }
        }
    }
    found
}

/// Where a level begins: no motion, the whole frame's, and what the level before found here and in the four blocks around.
fn starts(
    before: &[Vector],
    size: (usize, usize),
    (column, row): (usize, usize),
    panned: Vector,
) -> Vec<Vector> {
    let around = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)];
    let found = around.iter().filter_map(|(x, y)| {
        let (column, row) = (column.checked_add_signed(*x)?, row.checked_add_signed(*y)?);
        (column < size.0 && row < size.1).then(|| before[row * size.0 + column])
    });
    let mut all: Vec<Vector> = found.map(|(x, y)| (2 * x, 2 * y)).chain([(0, 0), panned]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn blocks(raster: &Plane) -> (usize, usize) {
    (raster.width.div_ceil(BLOCK), raster.height.div_ceil(BLOCK))
}

/// Weights of Catmull and Rom's cubic for the four samples around a place.
pub(crate) fn cubic(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [
        0.5 * (-t3 + 2.0 * t2 - t),
        0.5 * (3.0 * t3 - 5.0 * t2 + 2.0),
        0.5 * (-3.0 * t3 + 4.0 * t2 + t),
        0.5 * (t3 - t2),
    ]
}

/// `target` made of parts of `reference`: blocks of twice the size, faded into each other.
pub(crate) fn predicted(target: &Scales, reference: &Scales) -> Plane {
    const SIDE: usize = 2 * BLOCK;
    let field = vectors(target, reference);
    let source = &reference.levels[0];
    let (width, height) = (target.raster.width as i32, target.raster.height as i32);
    let (columns, _) = blocks(&target.raster);
    let mut out = Plane::new(target.raster.width, target.raster.height);
    let mut weight = out.clone();
    let fade: [f32; SIDE] = std::array::from_fn(|i| 1.0 - ((i as f32 + 0.5) / BLOCK as f32 - 1.0).abs());
    let mut across = [[0.0f32; SIDE]; SIDE + 3];
    for (n, (x, y)) in field.into_iter().enumerate() {
        let corner = (
            (n % columns * BLOCK) as i32 - BLOCK as i32 / 2,
            (n / columns * BLOCK) as i32 - BLOCK as i32 / 2,
        );
        let whole = (x.floor(), y.floor());
        let (along, down) = (cubic(x - whole.0), cubic(y - whole.1));
        // One sample more on each side for the cubic, moved into the border where it lies outside.
        let inside = |at: i32, size: i32| at.clamp(-BORDER, size + BORDER - SIDE as i32 - 3);
        let from =
            (inside(corner.0 + whole.0 as i32 - 1, width), inside(corner.1 + whole.1 as i32 - 1, height));
        let Some(place) = source.place(from, SIDE as i32 + 3) else { continue };
        for (row, out) in source.data[place..].chunks(source.stride()).zip(&mut across) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = (0..4).map(|tap| along[tap] * row[i + tap]).sum();
            }
        }
        let (left, right) = ((-corner.0).max(0), (width - corner.0).min(SIDE as i32));
        for j in 0..SIDE {
            let y = corner.1 + j as i32;
            if !(0..height).contains(&y) {
                continue;
            }
            let first = (y * width + corner.0 + left) as usize;
            let sums = out.data[first..].iter_mut().zip(&mut weight.data[first..]);
            for ((out, weight), i) in sums.zip(left as usize..right as usize) {
                let value: f32 = (0..4).map(|tap| down[tap] * across[j + tap][i]).sum();
                let share = fade[i] * fade[j];
                *out += share * value;
                *weight += share;
            }
        }
    }
    out.data.iter_mut().zip(&weight.data).for_each(|(value, weight)| *value /= weight.max(1e-6));
    out
}

/// `raster` less what predictions of it explain: where one fits better it counts for more, where none fits little is
/// taken away.
pub(crate) fn unexplained(raster: &Plane, predictions: &[Plane]) -> Plane {
    /// Variances below these, in code values squared, say nothing.
    const LEAST_ERROR: f32 = 0.05;
    const LEAST_POWER: f32 = 0.1;
    let product = |a: &Plane, b: &Plane| {
        let data = a.data.iter().zip(&b.data).map(|(a, b)| a * b).collect();
        Plane { width: a.width, height: a.height, data }
    };
    let (mut mean, mut weights) =
        (Plane::new(raster.width, raster.height), Plane::new(raster.width, raster.height));
    for prediction in predictions {
        let error = difference(raster, prediction);
        let error = gaussian(&product(&error, &error), SIGMA);
        let sums = mean.data.iter_mut().zip(&mut weights.data);
        for (((mean, weight), prediction), error) in sums.zip(&prediction.data).zip(&error.data) {
            let share = 1.0 / (error.max(0.0) + LEAST_ERROR);
            *mean += share * prediction;
            *weight += share;
        }
    }
    mean.data.iter_mut().zip(&weights.data).for_each(|(mean, weight)| *mean /= weight.max(1e-6));
    let detail = |plane: &Plane| difference(plane, &gaussian(plane, SMOOTH));
    let (mut rest, expected) = (detail(raster), detail(&mean));
    let common = gaussian(&product(&rest, &expected), SIGMA);
    let power = gaussian(&product(&expected, &expected), SIGMA);
    for (((rest, expected), common), power) in
        rest.data.iter_mut().zip(&expected.data).zip(&common.data).zip(&power.data)
    {
        *rest -= (common / (power.max(0.0) + LEAST_POWER)).clamp(0.0, 1.0) * expected;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blurred noise: a texture without a period.
    fn texture(width: usize, height: usize) -> Plane {
        let mut state = 7u64;
        let mut noise = Plane::new(width, height);
        for value in &mut noise.data {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *value = (state >> 40) as f32 / 65536.0;
        }
        gaussian(&noise, 2.0).map(|value| 128.0 + 2.0 * (value - 128.0))
    }

    /// A window of a larger picture.
    fn window(picture: &Plane, left: f32, top: f32, width: usize, height: usize) -> Plane {
        let mut out = Plane::new(width, height);
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (x as f32 + left, y as f32 + top);
                let at = |x: usize, y: usize| picture.row(y)[x];
                let (i, j, s, t) = (u as usize, v as usize, u.fract(), v.fract());
                let (above, below) = (
                    at(i, j) * (1.0 - s) + at(i + 1, j) * s,
                    at(i, j + 1) * (1.0 - s) + at(i + 1, j + 1) * s,
                );
                out.row_mut(y)[x] = above * (1.0 - t) + below * t;
            }
        }
        out
    }

    fn power(plane: &Plane) -> f32 {
        // What a pan brings in has no likeness before.
        let inner = || (56..plane.height - 56).flat_map(|y| &plane.row(y)[56..plane.width - 56]);
        inner().map(|value| value * value).sum::<f32>() / inner().count() as f32
    }

    #[test]
    fn pans_are_explained_however_fast_they_are() {
        let picture = texture(520, 460);
        let before = Scales::new(window(&picture, 80.0, 90.0, 320, 240));
        for (x, y) in [(3.0, -2.0), (-21.5, 7.25), (52.0, -30.0)] {
            let after = Scales::new(window(&picture, 80.0 + x, 90.0 + y, 320, 240));
            let rest = unexplained(&after.raster, &[predicted(&after, &before)]);
            let detail = unexplained(&after.raster, &[Plane::new(320, 240)]);
            // Half a sample is interpolated, which a texture this fine shows a little.
            assert!(power(&rest) < 0.08 * power(&detail), "{x} {y}: {} of {}", power(&rest), power(&detail));
        }
    }

    #[test]
    fn the_best_of_all_vectors_is_found_without_all_of_their_sums() {
        let picture = texture(420, 400);
        let [here, there] =
            [(80.0, 90.0), (83.0, 88.5)].map(|(x, y)| Padded::new(&window(&picture, x, y, 200, 160)));
        let mut kept = 0;
        for centre in [(40, 40), (100, 90), (4, 4), (196, 156)] {
            let matcher = Matcher::new(&here, &there, centre, 1).expect("it lies inside");
            let start = (2, -1);
            let sum = |(x, y): Vector| {
                let at = |plane: &Padded, x: i32, y: i32| {
                    let place = plane.place((x, y), 1).expect("it lies inside");
                    plane.data[place]
                };
                let mut sums = [0.0f32; SUPPORT];
                for row in 0..SUPPORT as i32 {
                    for (column, sum) in sums.iter_mut().enumerate() {
                        let (left, top) = (matcher.corner.0 + column as i32, matcher.corner.1 + row);
                        *sum += (at(&here, left, top) - at(&there, left + x, top + y)).abs();
                    }
                }
                let any = if (x, y) == (0, 0) { 0.0 } else { ANY_MOTION };
                sums.iter().sum::<f32>() + any + PER_SAMPLE * (x.abs() + y.abs()) as f32
            };
            let around = (-3..=3).flat_map(|y| (-3..=3).map(move |x| (x, y)));
            let mut best = (sum(start), start);
            for (x, y) in around {
                let vector = (start.0 + x, start.1 + y);
                let cost = sum(vector);
                // To the last bit, where it is better; and no number where it is not.
                let bounded = matcher.cost(vector, best.0);
                assert!(bounded == cost || (bounded == f32::INFINITY && cost >= best.0), "{bounded} {cost}");
                kept += u32::from(bounded == cost);
                if cost < best.0 {
                    best = (cost, vector);
                }
            }
            assert_eq!(matcher.best(&[start], 3), best);
        }
        assert!(kept < 100, "of 196 sums most are not needed: {kept} were added up");
    }

    #[test]
    fn what_lies_still_in_front_of_a_moving_picture_stays() {
        let picture = texture(420, 400);
        let mark = texture(200, 160).map(|value| (value - 128.0) / 20.0);
        let plain = |left: f32| window(&picture, left, 90.0, 200, 160);
        let mut marked = plain(92.0);
        marked.data.iter_mut().zip(&mark.data).for_each(|(value, mark)| *value += mark);
        let before = Scales::new(plain(80.0));
        let after = Scales::new(marked);
        let rest = unexplained(&after.raster, &[predicted(&after, &before)]);
        // Away from the side that moved in.
        let inner = |plane: &Plane| -> Vec<f32> {
            (24..plane.height - 24).flat_map(|y| plane.row(y)[24..plane.width - 24].to_vec()).collect()
        };
        let dot = |a: &Plane, b: &Plane| inner(a).iter().zip(inner(b)).map(|(a, b)| a * b).sum::<f32>();
        let correlation = |plane: &Plane| dot(plane, &mark) / (dot(plane, plane) * dot(&mark, &mark)).sqrt();
        assert!(correlation(&rest) > 0.5, "{}", correlation(&rest));
        assert!(correlation(&unexplained(&after.raster, &[Plane::new(200, 160)])) < 0.15);
    }

    #[test]
    fn pictures_that_have_nothing_in_common_are_not_made_worse() {
        let picture = texture(420, 400);
        let other = texture(421, 400);
        let (a, b) = (window(&picture, 10.0, 10.0, 200, 160), window(&other, 130.0, 190.0, 200, 160));
        let (a, b) = (Scales::new(a), Scales::new(b));
        let rest = unexplained(&a.raster, &[predicted(&a, &b)]);
        let detail = unexplained(&a.raster, &[Plane::new(200, 160)]);
        assert!(power(&rest) < power(&detail), "{} of {}", power(&rest), power(&detail));
    }

    #[test]
    fn the_smallest_frames_and_flat_ones_have_vectors() {
        for (width, height) in [(64, 64), (65, 255), (455, 256)] {
            let flat = Scales::new(Plane::new(width, height).map(|_| 16.0));
            assert!(vectors(&flat, &flat).iter().all(|vector| *vector == (0.0, 0.0)));
            assert!(
                unexplained(&flat.raster, &[predicted(&flat, &flat)]).data.iter().all(|v| v.abs() < 1e-3)
            );
        }
    }
}
