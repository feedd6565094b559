//! Moving textures that look like nothing in particular: dead leaves, gradients and noise.
//!
//! A VAE that saw only our own worlds would fail on camera pictures. Overlapping discs of random size and
//! colour have the edge and scale statistics of photographs (the dead leaves model: Lee, Mumford,
//! Huang 2001).

use crate::seeds::Seeds;

struct Leaf {
    x: f32,
    y: f32,
    radius: f32,
    dx: f32,
    dy: f32,
    colour: [f32; 3],
    stripe: f32,
}

/// RGB bytes `[T, height, width, 3]`.
pub(crate) fn render(seeds: &mut Seeds, num_frames: usize, (width, height): (usize, usize)) -> Vec<u8> {
    let pan = [seeds.range(-2.0, 2.0), seeds.range(-2.0, 2.0)];
    let scale = width.max(height) as f32;
    let leaves: Vec<Leaf> = (0..40 + seeds.below(60))
        .map(|_| {
            // Radii follow a power law, small ones on top.
            let radius = scale * 0.03 / seeds.range(0.06, 1.0);
            Leaf {
                x: seeds.range(-0.2, 1.2) * scale,
                y: seeds.range(-0.2, 1.2) * scale,
                radius,
                dx: pan[0] + seeds.range(-0.7, 0.7),
                dy: pan[1] + seeds.range(-0.7, 0.7),
                colour: std::array::from_fn(|_| seeds.unit()),
                stripe: if seeds.unit() < 0.3 { seeds.range(0.2, 1.2) } else { 0.0 },
            }
        })
        .collect();
    let (top, bottom): ([f32; 3], [f32; 3]) =
        (std::array::from_fn(|_| seeds.unit()), std::array::from_fn(|_| seeds.unit()));
    let grain = if seeds.unit() < 0.5 { seeds.range(0.0, 0.02) } else { 0.0 };

    let mut frames = Vec::with_capacity(num_frames * width * height * 3);
    for t in 0..num_frames {
        for row in 0..height {
            for column in 0..width {
                let (x, y) = (column as f32, row as f32);
                let blend = y / scale;
                let mut colour: [f32; 3] = std::array::from_fn(|c| top[c] + (bottom[c] - top[c]) * blend);
                for leaf in &leaves {
                    let (dx, dy) = (x - leaf.x - leaf.dx * t as f32, y - leaf.y - leaf.dy * t as f32);
                    let distance = (dx * dx + dy * dy).sqrt();
                    let cover = (leaf.radius - distance + 0.5).clamp(0.0, 1.0);
                    if cover > 0.0 {
                        let shade = 1.0 + 0.3 * (dx + dy) / leaf.radius.max(1.0) * 0.5;
                        let stripe =
                            if leaf.stripe > 0.0 { 0.8 + 0.2 * (dx * leaf.stripe).sin() } else { 1.0 };
                        for (value, leaf_value) in colour.iter_mut().zip(leaf.colour) {
                            *value += cover * (leaf_value * shade * stripe - *value);
                        }
                    }
                }
                let noise = (seeds.unit() - 0.5) * 2.0 * grain;
                frames.extend(colour.map(|value| ((value + noise).clamp(0.0, 1.0) * 255.0).round() as u8));
            }
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: usize = 5;
    const SIDES: (usize, usize) = (48, 32);

    fn texture(seed: u64) -> Vec<u8> {
        render(&mut Seeds::new(seed, 0, 0), FRAMES, SIDES)
    }

    /// Mean absolute difference, in levels of 255.
    fn difference(a: &[u8], b: &[u8]) -> f64 {
        let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        sum / a.len() as f64
    }

    #[test]
    fn a_seed_is_one_texture_that_moves_and_another_seed_another() {
        let frame = SIDES.0 * SIDES.1 * 3;
        for seed in 0..8 {
            let frames = texture(seed);
            assert_eq!(frames.len(), FRAMES * frame);
            assert_eq!(frames, texture(seed));
            let moves = difference(&frames[..frame], &frames[frame..2 * frame]);
            let other = difference(&frames[..frame], &texture(seed + 100)[..frame]);
            assert!(moves > 0.1 && other > 10.0 && moves < other, "{seed}: moves {moves}, other {other}");
        }
    }

    #[test]
    fn edges_are_steep_and_few_as_in_photographs() {
        // Noise has many steep places and hardly a flat one, a gradient only flat ones.
        let (width, height) = SIDES;
        let (mut steep, mut flat, mut count) = (0, 0, 0);
        for seed in 0..8 {
            let frames = texture(seed);
            for row in frames[..width * height * 3].chunks(width * 3) {
                for (left, right) in row.iter().zip(&row[3..]) {
                    count += 1;
                    steep += u32::from(left.abs_diff(*right) > 40);
                    flat += u32::from(left.abs_diff(*right) < 8);
                }
            }
        }
        let [steep, flat] = [steep, flat].map(|n| f64::from(n) / f64::from(count));
        assert!((0.01..0.3).contains(&steep) && flat > 0.5, "{steep} are steep, {flat} flat");
    }
}
