//! Styles for pictures that no scene is known of.

use crate::attributes::Style;
use crate::clip::Size;
use crate::math::{Vec3, smoothstep, v3};
use crate::render::encoding;
use crate::style::{Picture, blur};

/// Draws a picture, sRGB bytes `[H, W, 3]`, in `style`, by what the picture itself shows: lines are where it changes
/// quickly, and what is one object in a scene is here all that has about one colour. Gives as many bytes.
///
/// # Panics
/// If there are other than 3 bytes per pixel of `size`.
pub fn redraw(pixels: &[u8], size: Size, style: Style) -> Vec<u8> {
    assert_eq!(pixels.len(), size.area() * 3, "bytes of a picture of {}x{}", size.width, size.height);
    if style == Style::Shaded || pixels.is_empty() {
        return pixels.to_vec();
    }
    let encode = encoding();
    let decode = decoding(&encode);
    let mut colour: Vec<Vec3> = pixels
        .chunks_exact(3)
        .map(|p| v3(decode[usize::from(p[0])], decode[usize::from(p[1])], decode[usize::from(p[2])]))
        .collect();
    let edge = edges(&colour, size);
    // Tubes of neon have the colour of what they run along. Elsewhere a picture without a scene is all backdrop.
    let (mask, paints) =
        if style == Style::Neon { regions(&colour) } else { (vec![0; colour.len()], Vec::new()) };
    Picture { size, colour: &mut colour, mask: &mask, edge: &edge, paints: &paints }.apply(style);
    colour.iter().flat_map(|c| c.array().map(|v| encode[(v.clamp(0.0, 1.0) * 4095.0) as usize])).collect()
}

/// The linear light of every byte: the middle of what is encoded as it.
fn decoding(encode: &[u8]) -> [f32; 256] {
    let (mut sums, mut counts) = ([0.0f32; 256], [0.0f32; 256]);
    for (level, &byte) in encode.iter().enumerate() {
        sums[usize::from(byte)] += level as f32 / 4095.0;
        counts[usize::from(byte)] += 1.0;
    }
    let mut light = [0.0; 256];
    for byte in 1..256 {
        // In the dark, a byte may have no level of its own.
        light[byte] = if counts[byte] > 0.0 { sums[byte] / counts[byte] } else { light[byte - 1] };
    }
    light
}

/// Where colour changes within a pixel or two, 0..1.
fn edges(colour: &[Vec3], size: Size) -> Vec<f32> {
    let (width, height) = (size.width as usize, size.height as usize);
    // As the eye sees it, and less its grain.
    let plane = |pick: fn(&Vec3) -> f32| {
        let mut plane: Vec<f32> = colour.iter().map(|c| pick(c).max(0.0).sqrt()).collect();
        blur(&mut plane, width, height, 0.35 * size.width.min(size.height) as f32 / 128.0);
        plane
    };
    let planes = [plane(|c| c.x), plane(|c| c.y), plane(|c| c.z)];
    let mut edge = vec![0.0; colour.len()];
    for row in 1..height.saturating_sub(1) {
        for column in 1..width.saturating_sub(1) {
            let at = row * width + column;
            let change = |p: &Vec<f32>| {
                let (dx, dy) = (p[at + 1] - p[at - 1], p[at + width] - p[at - width]);
                dx * dx + dy * dy
            };
            let strongest = planes.iter().map(change).fold(0.0, f32::max).sqrt();
            edge[at] = smoothstep(0.10, 0.32, strongest);
        }
    }
    edge
}

/// Numbers from 1 on for colours that are about the same, and the mean colour of each: four levels a channel.
fn regions(colour: &[Vec3]) -> (Vec<u8>, Vec<Vec3>) {
    let level = |v: f32| ((v.clamp(0.0, 1.0).sqrt() * 4.0) as u8).min(3);
    let mask: Vec<u8> = colour.iter().map(|c| 1 + 16 * level(c.x) + 4 * level(c.y) + level(c.z)).collect();
    let mut sums = vec![(Vec3::ZERO, 0.0f32); 64];
    for (c, id) in colour.iter().zip(&mask) {
        let (sum, count) = &mut sums[usize::from(*id) - 1];
        *sum += *c;
        *count += 1.0;
    }
    (mask, sums.into_iter().map(|(sum, count)| sum * (1.0 / count.max(1.0))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 64, height: 48 };

    /// Left half dark red, right half light blue.
    fn halves() -> Vec<u8> {
        (0..SIZE.area()).flat_map(|at| if at % 64 < 32 { [120, 30, 30] } else { [150, 190, 230] }).collect()
    }

    #[test]
    fn every_style_changes_a_picture_and_shaded_does_not() {
        let picture = halves();
        for style in Style::ALL {
            let drawn = redraw(&picture, SIZE, *style);
            assert_eq!(drawn.len(), picture.len());
            assert_eq!(drawn == picture, *style == Style::Shaded, "{style:?}");
        }
    }

    #[test]
    fn bytes_are_decoded_to_what_is_encoded_as_them() {
        let encode = encoding();
        let decode = decoding(&encode);
        for byte in 0..=255u8 {
            let again = encode[(decode[usize::from(byte)] * 4095.0) as usize];
            assert!(again.abs_diff(byte) <= 13, "{byte} became {again}");
        }
        assert!(decode.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn lines_are_where_the_picture_changes() {
        let drawn = redraw(&halves(), SIZE, Style::Pencil);
        let light = |column: usize| -> u32 {
            (8..40)
                .map(|row| (0..3).map(|c| u32::from(drawn[(row * 64 + column) * 3 + c])).sum::<u32>())
                .sum()
        };
        assert!(light(32) < light(48) / 2, "{} at the edge, {} beside it", light(32), light(48));
    }
}
