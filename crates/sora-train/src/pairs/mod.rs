//! Pairs of videos of one thing in two styles, from which the transformer learns to restyle what it is shown.
//!
//! Three in five are scenes, drawn in both styles. Two in five are moving textures (see `textures.rs`), drawn over by
//! what they show themselves: camera pictures have no scene that is known either.

mod learning;

use sora_world::{Clip, Domain, Size, Style};

use crate::data::{self, Purpose};
use crate::seeds::Seeds;
use crate::textures;

pub(crate) use learning::{Pairs, PairsArgs};

/// One pair; RGB bytes `[T, H, W, 3]` each.
pub(crate) struct Pair {
    /// What is to be made.
    pub(crate) target: Vec<u8>,
    /// What is shown.
    pub(crate) source: Vec<u8>,
    /// What is asked for, in a few words and in many.
    pub(crate) prompts: [String; 2],
}

/// Pair `index` of a purpose, the same for the same seed.
pub(crate) fn pair(seed: u64, purpose: Purpose, index: u64, size: Size, frames: usize) -> Pair {
    // Scenes of this index are drawn from seeds of their own.
    let mut seeds = Seeds::new(seed ^ 0x7061_6972, purpose as u64, index);
    let styled = |seeds: &mut Seeds| loop {
        let style = Style::ALL[seeds.below(Style::ALL.len() as u64) as usize];
        if style != Style::Shaded {
            return style;
        }
    };
    let style = styled(&mut seeds);
    let phrase = |seeds: &mut Seeds, style: Style| style.phrases()[seeds.below(3) as usize].to_owned();
    let (target, mut source, style, long) = if seeds.below(5) < 2 {
        let mut source = textures::render(&mut seeds, frames, (size.width as usize, size.height as usize));
        light(&mut source, size, &mut seeds);
        let target =
            source.chunks_exact(size.area() * 3).flat_map(|frame| sora_world::redraw(frame, size, style));
        let long = phrase(&mut seeds, style);
        (target.collect(), source, style, long)
    } else {
        let domain = Domain::core();
        let scene = data::scene_of_split(seed, purpose, index, &domain, false);
        // Now and then the way back, and from one style to another.
        let (from, to) = match seeds.below(12) {
            0 => (style, Style::Shaded),
            1 | 2 => (styled(&mut seeds), style),
            _ => (Style::Shaded, style),
        };
        let drawn = |style| -> Clip { scene.with_style(style).render(size, frames) };
        let target = scene.with_style(to);
        let long = match seeds.below(2) {
            0 => target.detailed_caption(),
            _ => target.prompt(seeds.next_u64()),
        };
        (drawn(to).frames, drawn(from).frames, to, long)
    };
    filmed(&mut source, &mut seeds);
    Pair { target, source, prompts: [phrase(&mut seeds, style), long] }
}

/// Uneven light and rough surfaces, which photographs have and discs of one colour do not: every pixel is multiplied by
/// clouds of noise, coarse ones more than fine ones, that drift across the picture.
fn light(pixels: &mut [u8], size: Size, seeds: &mut Seeds) {
    if seeds.below(4) == 0 {
        return;
    }
    let (depth, roughness) = (seeds.range(0.2, 0.9), seeds.range(0.3, 0.6));
    let drift = [seeds.range(-1.0, 1.0), seeds.range(-1.0, 1.0)];
    let salt = seeds.next_u64();
    // A number from 0 to 1 for every corner of a grid.
    let corner = |octave: u64, column: i32, row: i32| {
        Seeds::new(salt, octave, (column as u32 as u64) << 32 | u64::from(row as u32)).unit()
    };
    let cloud = |octave: u64, x: f32, y: f32| {
        let (column, row) = (x.floor(), y.floor());
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (across, down) = (smooth(x - column), smooth(y - row));
        let (column, row) = (column as i32, row as i32);
        let line = |row| {
            let (left, right) = (corner(octave, column, row), corner(octave, column + 1, row));
            left + (right - left) * across
        };
        let (top, bottom) = (line(row), line(row + 1));
        top + (bottom - top) * down
    };
    let (width, height) = (size.width as usize, size.height as usize);
    for (frame, picture) in pixels.chunks_exact_mut(width * height * 3).enumerate() {
        for (at, pixel) in picture.chunks_exact_mut(3).enumerate() {
            let (x, y) = (
                (at % width) as f32 - drift[0] * frame as f32,
                (at / width) as f32 - drift[1] * frame as f32,
            );
            let (mut sum, mut share) = (0.0, 1.0);
            for octave in 0..4 {
                let grid = 64.0 / (1 << (2 * octave)).min(32) as f32;
                sum += share * (cloud(octave, x / grid, y / grid) - 0.5);
                share *= roughness;
            }
            let factor = 1.0 + depth * sum;
            pixel.iter_mut().for_each(|v| *v = (f32::from(*v) * factor).round().clamp(0.0, 255.0) as u8);
        }
    }
}

/// What cameras do to what they see: exposure, contrast and grain. The target is what was there.
fn filmed(pixels: &mut [u8], seeds: &mut Seeds) {
    if seeds.below(3) == 0 {
        return;
    }
    let (gain, gamma, grain) = (seeds.range(0.8, 1.15), seeds.range(0.75, 1.35), seeds.range(0.0, 6.0));
    let curve: Vec<f32> = (0..=255).map(|v| 255.0 * gain * (v as f32 / 255.0).powf(gamma)).collect();
    for value in pixels {
        let noise = (seeds.unit() + seeds.unit() - 1.0) * grain;
        *value = (curve[usize::from(*value)] + noise).round().clamp(0.0, 255.0) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_the_same_for_the_same_seed_and_their_sides_differ() {
        let size = Size { width: 32, height: 32 };
        for index in 0..12 {
            let one = pair(3, Purpose::Validation, index, size, 2);
            let two = pair(3, Purpose::Validation, index, size, 2);
            assert!(one.target == two.target && one.source == two.source && one.prompts == two.prompts);
            assert_eq!(one.target.len(), 2 * 32 * 32 * 3);
            assert_eq!(one.source.len(), one.target.len());
            assert_ne!(one.source, one.target);
            assert!(one.prompts.iter().all(|prompt| !prompt.is_empty()));
        }
    }
}
