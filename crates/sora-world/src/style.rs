//! Styles: what is done to a shaded picture, with the edges and objects the ray-caster knows.

use crate::attributes::Style;
use crate::clip::Size;
use crate::math::{Vec3, fract, noise, smoothstep, v3};

/// A shaded picture and what is known about it; all planes are [H, W] row-major.
#[derive(Debug)]
pub(crate) struct Picture<'a> {
    pub(crate) size: Size,
    /// Linear RGB.
    pub(crate) colour: &'a mut Vec<Vec3>,
    /// Object ids, 0 for ground and sky.
    pub(crate) mask: &'a [u8],
    /// Strength of the line between objects, faces and backdrop, 0..1.
    pub(crate) edge: &'a [f32],
    /// Paint of each object, by id - 1.
    pub(crate) paints: &'a [Vec3],
}

/// Perceived lightness of linear light, 0..1.
fn lightness(c: Vec3) -> f32 {
    (0.2126 * c.x + 0.7152 * c.y + 0.0722 * c.z).clamp(0.0, 1.0).sqrt()
}

fn saturate(c: Vec3, amount: f32) -> Vec3 {
    let grey = Vec3::splat(0.2126 * c.x + 0.7152 * c.y + 0.0722 * c.z);
    let out = grey.lerp(c, amount);
    v3(out.x.max(0.0), out.y.max(0.0), out.z.max(0.0))
}

impl Picture<'_> {
    /// Redraws the picture in `style`.
    pub(crate) fn apply(&mut self, style: Style) {
        match style {
            Style::Shaded => {}
            Style::Watercolour => self.watercolour(),
            Style::Pencil => self.pencil(),
            Style::PixelArt => self.pixel_art(),
            Style::Neon => self.neon(),
            Style::Blueprint => self.blueprint(),
            Style::Sepia => self.sepia(),
            Style::Cartoon => self.cartoon(),
        }
    }

    fn width(&self) -> usize {
        self.size.width as usize
    }

    fn height(&self) -> usize {
        self.size.height as usize
    }

    /// Pixels per 1/128 of the shorter side: lines and brushes grow with the picture.
    fn unit(&self) -> f32 {
        self.size.width.min(self.size.height) as f32 / 128.0
    }

    /// Every pixel of the picture with its column and row.
    fn each(&mut self, mut paint: impl FnMut(usize, f32, f32, Vec3) -> Vec3) {
        let width = self.width();
        for (at, colour) in self.colour.iter_mut().enumerate() {
            *colour = paint(at, (at % width) as f32 + 0.5, (at / width) as f32 + 0.5, *colour);
        }
    }

    /// The drawn lines: object edges, widened to at least a pixel and a half.
    fn outlines(&self) -> Vec<f32> {
        let mut lines = self.edge.to_vec();
        let radius = 0.5 * self.unit() - 0.15;
        blur(&mut lines, self.width(), self.height(), radius.max(0.2));
        lines.iter_mut().for_each(|line| *line = (*line * 1.5).min(1.0));
        lines
    }

    /// Lines where the backdrop itself changes: horizon, tiles, clouds, discs.
    fn contours(&self, low: f32, high: f32) -> Vec<f32> {
        let (width, height) = (self.width(), self.height());
        let light: Vec<f32> = self.colour.iter().map(|c| lightness(*c)).collect();
        let mut contour = vec![0.0; light.len()];
        for row in 1..height.saturating_sub(1) {
            for column in 1..width.saturating_sub(1) {
                let at = row * width + column;
                if self.mask[at] == 0 {
                    let (dx, dy) = (light[at + 1] - light[at - 1], light[at + width] - light[at - width]);
                    contour[at] = smoothstep(low, high, (dx * dx + dy * dy).sqrt());
                }
            }
        }
        contour
    }

    fn cartoon(&mut self) {
        let lines = self.outlines();
        let mask = self.mask;
        self.each(|at, _, _, c| {
            // Few flat tones on the backdrop; objects are banded where they are lit.
            let flat = if mask[at] == 0 {
                let light = lightness(c).max(1e-3);
                let steps = 9.0;
                let whole = (light * steps) as i32 as f32;
                let level = (whole + smoothstep(0.40, 0.60, light * steps - whole)) / steps;
                c * ((level / light) * (level / light))
            } else {
                c
            };
            saturate(flat, 1.35).lerp(v3(0.008, 0.008, 0.012), lines[at])
        });
    }

    fn sepia(&mut self) {
        let (w, h) = (self.size.width as f32, self.size.height as f32);
        self.each(|_, x, y, c| {
            let (dx, dy) = (x / w - 0.5, y / h - 0.5);
            let vignette = 1.0 - 0.75 * smoothstep(0.30, 0.75, (dx * dx + dy * dy).sqrt());
            let light = smoothstep(-0.05, 1.0, lightness(c));
            v3(0.035, 0.018, 0.008).lerp(v3(0.92, 0.70, 0.42), light * light * vignette)
        });
    }

    fn blueprint(&mut self) {
        let lines = self.outlines();
        let contours = self.contours(0.10, 0.30);
        let unit = self.unit();
        let mask = self.mask;
        self.each(|at, x, y, c| {
            let paper = v3(0.012, 0.075, 0.33);
            let cell = 8.0 * unit;
            let grid = |v: f32| {
                let off = (fract(v / cell) - 0.5).abs() * cell;
                1.0 - smoothstep(0.0, 0.9 * unit.max(1.0), 0.5 * cell - off)
            };
            let ruled = paper + v3(0.03, 0.06, 0.10) * grid(x).max(grid(y));
            let body = if mask[at] != 0 { 0.05 + 0.16 * lightness(c) } else { 0.0 };
            let ink = lines[at].max(0.45 * contours[at]).max(body);
            ruled.lerp(v3(0.80, 0.90, 1.0), ink)
        });
    }

    fn pencil(&mut self) {
        let lines = self.outlines();
        let contours = self.contours(0.08, 0.35);
        let unit = self.unit();
        let (mask, paints) = (self.mask, self.paints);
        self.each(|at, x, y, c| {
            let object = mask[at] != 0;
            // The backdrop is only hinted at.
            let tone = (1.0 - lightness(c)) * if object { 1.0 } else { 0.62 };
            let grain = noise(x * 0.9 / unit, y * 0.9 / unit);
            // Strokes get wider as the tone gets darker, and cross in the deepest shades.
            let stroke = |across: f32, dark: f32| {
                let off = (fract(across / (5.6 * unit)) - 0.5).abs() * 2.0;
                smoothstep(1.0 - dark - 0.25, 1.0 - dark + 0.25, off) * smoothstep(0.05, 0.25, dark)
            };
            let wobble = 1.5 * unit * noise(x * 0.06 / unit, y * 0.06 / unit);
            let first = stroke(x + y + wobble, (tone - 0.12).clamp(0.0, 0.9));
            let second = stroke(x - y + wobble, ((tone - 0.5) * 1.4).clamp(0.0, 0.9));
            let shade = (first * 0.62).max(second * 0.75) * (0.65 + 0.5 * grain);
            let outline = (lines[at] * 0.95).max(0.5 * contours[at]) * (0.75 + 0.35 * grain);
            let graphite = v3(0.035, 0.035, 0.04);
            // Objects are filled with coloured pencil.
            let paper = v3(0.88, 0.87, 0.83) * (0.97 + 0.05 * grain);
            let (fill, ink) = match paints.get(usize::from(mask[at]).wrapping_sub(1)) {
                Some(paint) => (paper.lerp(*paint, 0.42 + 0.25 * grain), paint.lerp(graphite, 0.45)),
                None => (paper.lerp(saturate(c, 1.2), 0.16), graphite),
            };
            fill.lerp(ink, shade).lerp(graphite, outline)
        });
    }

    fn neon(&mut self) {
        let (width, height) = (self.width(), self.height());
        let (lines, contours) = (self.outlines(), self.contours(0.07, 0.30));
        let unit = self.unit();
        let tubes: Vec<Vec3> = (0..lines.len())
            .map(|at| {
                // A line belongs to the object it runs along, on whichever side of the edge the pixel lies.
                let owner = self.mask[at].max(if lines[at] > 0.1 { self.neighbour(at) } else { 0 });
                match self.paints.get(usize::from(owner).wrapping_sub(1)) {
                    Some(paint) => glowing(*paint) * lines[at],
                    None => v3(0.05, 0.28, 0.62) * (0.55 * contours[at]),
                }
            })
            .collect();
        let near = spread(&tubes, width, height, 1.6 * unit);
        let far = spread(&tubes, width, height, 5.0 * unit);
        let (mask, paints) = (self.mask, self.paints);
        self.each(|at, _, _, c| {
            let night = c * 0.045 + v3(0.006, 0.003, 0.016);
            let body = match paints.get(usize::from(mask[at]).wrapping_sub(1)) {
                Some(paint) => paint.times(v3(0.16, 0.16, 0.16)),
                None => Vec3::ZERO,
            };
            night + body + tubes[at] * 0.9 + near[at] * 1.0 + far[at] * 1.1
        });
    }

    /// The largest object id around a pixel.
    fn neighbour(&self, at: usize) -> u8 {
        let (width, height) = (self.width(), self.height());
        let (column, row) = (at % width, at / width);
        let mut id = 0;
        for y in row.saturating_sub(2)..(row + 3).min(height) {
            for x in column.saturating_sub(2)..(column + 3).min(width) {
                id = id.max(self.mask[y * width + x]);
            }
        }
        id
    }

    fn pixel_art(&mut self) {
        let (width, height) = (self.width(), self.height());
        let block = (width.min(height) / 32).max(1);
        let mut columns = vec![0_u8; width.div_ceil(block) * height.div_ceil(block)];
        let across = width.div_ceil(block);
        // The object in the middle of each block.
        for (at, id) in columns.iter_mut().enumerate() {
            let row = ((at / across) * block + block / 2).min(height - 1);
            let column = ((at % across) * block + block / 2).min(width - 1);
            *id = self.mask[row * width + column];
        }
        for top in (0..height).step_by(block) {
            for left in (0..width).step_by(block) {
                let (bottom, right) = ((top + block).min(height), (left + block).min(width));
                let at = (top / block) * across + left / block;
                let id = columns[at];
                let mut sum = Vec3::ZERO;
                let mut count = 0.0;
                for row in top..bottom {
                    for column in left..right {
                        // Only what the block shows: no mixed colours along outlines.
                        if self.mask[row * width + column] == id {
                            sum += self.colour[row * width + column];
                            count += 1.0;
                        }
                    }
                }
                let mut c = sum * (1.0 / f32::max(count, 1.0));
                let beside = |dx: isize, dy: isize| {
                    let (x, y) = ((left / block) as isize + dx, (top / block) as isize + dy);
                    let inside = (0..across as isize).contains(&x) && y >= 0;
                    if inside {
                        columns.get(y as usize * across + x as usize).copied().unwrap_or(id)
                    } else {
                        id
                    }
                };
                let border =
                    [(-1, 0), (1, 0), (0, -1), (0, 1)].into_iter().any(|(dx, dy)| beside(dx, dy) != id);
                if id != 0 && border {
                    c = c * 0.30;
                }
                let c = posterize(saturate(c, 1.2));
                for row in top..bottom {
                    self.colour[row * width + left..row * width + right].fill(c);
                }
            }
        }
    }

    fn watercolour(&mut self) {
        let (width, height) = (self.width(), self.height());
        let unit = self.unit();
        let painted = kuwahara(self.colour, width, height, (2.0 * unit + 0.5) as usize);
        *self.colour = painted;
        let mut pools = self.edge.to_vec();
        blur(&mut pools, width, height, 0.6 * unit);
        let (w, h) = (self.size.width as f32, self.size.height as f32);
        self.each(|at, x, y, c| {
            let blotch = noise(x * 0.055 / unit, y * 0.055 / unit);
            let grain = noise(x * 0.7 / unit, y * 0.7 / unit);
            let paper = v3(0.93, 0.91, 0.86) * (0.95 + 0.07 * grain);
            // Pigment is thin where the wash ran and gathers along the edges.
            let density = (0.74 + 0.30 * blotch + 0.10 * (grain - 0.5) + 0.55 * pools[at]).clamp(0.0, 1.0);
            let wash = saturate(c, 1.4).lerp(v3(0.93, 0.91, 0.86), 0.06);
            let border = x.min(y).min(w - x).min(h - y) / unit + 5.0 * (blotch - 0.5) + 2.0 * (grain - 0.5);
            paper.lerp(wash, density * smoothstep(0.5, 3.5, border)) * (1.0 - 0.50 * pools[at].min(1.0))
        });
    }
}

/// A paint as bright as a tube can be: black glows grey.
fn glowing(paint: Vec3) -> Vec3 {
    let top = paint.x.max(paint.y).max(paint.z);
    if top < 0.05 { Vec3::splat(0.22) } else { paint * (1.0 / top) + Vec3::splat(0.06) }
}

/// Six levels per channel, even in what the eye sees.
fn posterize(c: Vec3) -> Vec3 {
    let level = |v: f32| {
        let seen = v.clamp(0.0, 1.0).sqrt();
        let step = (seen * 6.0 + 0.5) as i32 as f32 / 6.0;
        step * step
    };
    v3(level(c.x), level(c.y), level(c.z))
}

/// Two passes of a box of about `radius` pixels each way, along both axes; fractions of pixels count.
pub(crate) fn blur(plane: &mut [f32], width: usize, height: usize, radius: f32) {
    let pass = |plane: &mut [f32], length: usize, stride: usize, lines: usize, across: usize| {
        let whole = radius as usize;
        let part = radius - whole as f32;
        let weight = 1.0 / (2.0 * radius + 1.0);
        let mut line = vec![0.0; length];
        for index in 0..lines {
            let start = index * across;
            for (k, value) in line.iter_mut().enumerate() {
                *value = plane[start + k * stride];
            }
            let at = |k: isize| line[k.clamp(0, length as isize - 1) as usize];
            let mut sum: f32 = (-(whole as isize)..=whole as isize).map(at).sum();
            for k in 0..length as isize {
                let ends = at(k - whole as isize - 1) + at(k + whole as isize + 1);
                plane[start + k as usize * stride] = (sum + part * ends) * weight;
                sum += at(k + whole as isize + 1) - at(k - whole as isize);
            }
        }
    };
    for _ in 0..2 {
        pass(plane, width, 1, height, width);
        pass(plane, height, width, width, 1);
    }
}

/// The same for colours: the glow around a light.
fn spread(colours: &[Vec3], width: usize, height: usize, radius: f32) -> Vec<Vec3> {
    let channel = |pick: fn(&Vec3) -> f32| {
        let mut plane: Vec<f32> = colours.iter().map(pick).collect();
        blur(&mut plane, width, height, radius);
        plane
    };
    let (red, green, blue) = (channel(|c| c.x), channel(|c| c.y), channel(|c| c.z));
    red.into_iter().zip(green).zip(blue).map(|((x, y), z)| v3(x, y, z)).collect()
}

/// The filter of Kuwahara et al. (1976): each pixel takes the mean of the calmest of its four quadrants, which
/// flattens textures and keeps edges, as a brush does.
fn kuwahara(colours: &[Vec3], width: usize, height: usize, radius: usize) -> Vec<Vec3> {
    // Summed-area tables make the cost independent of the radius; f64 keeps differences of large sums exact
    // enough.
    let stride = width + 1;
    let mut sums = vec![[0.0_f64; 5]; stride * (height + 1)];
    for row in 0..height {
        let mut line = [0.0_f64; 5];
        for column in 0..width {
            let c = colours[row * width + column];
            let light = f64::from(lightness(c));
            let values = [f64::from(c.x), f64::from(c.y), f64::from(c.z), light, light * light];
            for (total, value) in line.iter_mut().zip(values) {
                *total += value;
            }
            let above = sums[row * stride + column + 1];
            let here = &mut sums[(row + 1) * stride + column + 1];
            for k in 0..5 {
                here[k] = above[k] + line[k];
            }
        }
    }
    let window = |left: usize, top: usize, right: usize, bottom: usize| {
        let n = ((right - left) * (bottom - top)) as f64;
        let corner = |column: usize, row: usize| sums[row * stride + column];
        let (a, b, c, d) =
            (corner(right, bottom), corner(left, bottom), corner(right, top), corner(left, top));
        let mean: [f64; 5] = std::array::from_fn(|k| (a[k] - b[k] - c[k] + d[k]) / n);
        mean
    };
    let mut out = Vec::with_capacity(colours.len());
    for row in 0..height {
        for column in 0..width {
            let (left, right) = (column.saturating_sub(radius), (column + radius + 1).min(width));
            let (top, bottom) = (row.saturating_sub(radius), (row + radius + 1).min(height));
            let quadrants = [
                window(left, top, column + 1, row + 1),
                window(column, top, right, row + 1),
                window(left, row, column + 1, bottom),
                window(column, row, right, bottom),
            ];
            let mut best = (f64::MAX, Vec3::ZERO);
            for mean in quadrants {
                let colour = v3(mean[0] as f32, mean[1] as f32, mean[2] as f32);
                let spread = mean[4] - mean[3] * mean[3];
                if spread < best.0 {
                    best = (spread, colour);
                }
            }
            out.push(best.1);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_a_flat_plane_and_the_sum_of_a_spot() {
        let mut flat = vec![0.4; 12 * 7];
        blur(&mut flat, 12, 7, 1.7);
        assert!(flat.iter().all(|v| (v - 0.4).abs() < 1e-5));
        let mut spot = vec![0.0; 21 * 21];
        spot[10 * 21 + 10] = 1.0;
        blur(&mut spot, 21, 21, 1.5);
        assert!((spot.iter().sum::<f32>() - 1.0).abs() < 1e-4);
    }

    #[test]
    fn kuwahara_keeps_a_step_sharp() {
        let (dark, light) = (Vec3::splat(0.1), Vec3::splat(0.9));
        let step: Vec<Vec3> = (0..16 * 16).map(|at| if at % 16 < 8 { dark } else { light }).collect();
        for (before, after) in step.iter().zip(kuwahara(&step, 16, 16, 2)) {
            assert!((*before - after).length() < 1e-4, "{before:?} became {after:?}");
        }
    }
}
