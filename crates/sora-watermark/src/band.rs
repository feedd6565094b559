//! What a window shows at the mark's frequencies: all that a key's search looks at.
//!
//! Each key carries its pilot at other frequencies with other signs, but what is folded and transformed is the same for
//! all keys, and so is every way in which a picture can be mirrored or turned by quarters: these only say which frequency
//! is looked up for which.

use rustfft::num_complex::Complex32;

use crate::carrier::TILE;
use crate::chips::Orientation;
use crate::fourier::{ACROSS, REACH, TileFft};

/// Two real images of one tile at the frequencies of the mark's band.
pub(crate) struct Band {
    /// Rows from 0 to REACH, columns from -REACH to REACH: the first image's coefficient and the second's.
    values: Vec<(Complex32, Complex32)>,
}

impl Band {
    /// Of two images that are the real and the imaginary part of a tile, which is used up.
    pub(crate) fn new(tile: &mut [Complex32], fft: &mut TileFft) -> Self {
        let spectrum = fft.forward_band(tile);
        let at = |column: usize, row: usize| {
            let here = spectrum[column * TILE + row];
            let there = spectrum[(2 * REACH - column) * TILE + (TILE - row) % TILE].conj();
            let difference = here - there;
            ((here + there) * 0.5, Complex32::new(difference.im, -difference.re) * 0.5)
        };
        let rows = (0..=REACH).flat_map(|row| (0..ACROSS).map(move |column| (column, row)));
        Self { values: rows.map(|(column, row)| at(column, row)).collect() }
    }

    /// Both coefficients of a frequency of the pattern, in a picture of this orientation.
    pub(crate) fn at(&self, frequency: (i32, i32), orientation: Orientation) -> (Complex32, Complex32) {
        self.get(&Spot::of(frequency, orientation))
    }

    /// Both coefficients at a spot.
    pub(crate) fn get(&self, spot: &Spot) -> (Complex32, Complex32) {
        let (first, second) = self.values[usize::from(spot.place)];
        let conjugate = |value: Complex32| Complex32::new(value.re, value.im * spot.sign);
        (conjugate(first), conjugate(second))
    }
}

/// Where a frequency of the pattern is found in the band of a picture.
pub(crate) struct Spot {
    place: u16,
    /// Of the imaginary part.
    sign: f32,
}

impl Spot {
    /// In a picture of this orientation.
    pub(crate) fn of(frequency: (i32, i32), orientation: Orientation) -> Self {
        let (column, row) = orientation.seen(frequency);
        // The images are real: half of their spectra is the conjugate of the other.
        let sign = if row < 0 { -1.0 } else { 1.0 };
        let (column, row) = if row < 0 { (-column, -row) } else { (column, row) };
        Self { place: (row * ACROSS as i32 + column + REACH as i32) as u16, sign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value for each place of a tile.
    fn picture(x: usize, y: usize, salt: usize) -> f32 {
        ((x * 7919 + y * 104_729 + salt * 31) % 257) as f32 / 257.0 - 0.5
    }

    #[test]
    fn a_picture_mirrored_or_turned_has_the_same_band_at_other_frequencies() {
        let mut fft = TileFft::new();
        let mut band = |value: &dyn Fn(usize, usize) -> Complex32| {
            let mut tile: Vec<_> = (0..TILE * TILE).map(|i| value(i % TILE, i / TILE)).collect();
            Band::new(&mut tile, &mut fft)
        };
        let value = |x: usize, y: usize| Complex32::new(picture(x, y, 1), picture(x, y, 2));
        let upright = band(&value);
        let wrap = |value: i32| value.rem_euclid(TILE as i32) as usize;
        for orientation in Orientation::ALL {
            // What is at (x, y) of the pattern is seen at the place that the orientation says.
            let mut seen = vec![Complex32::default(); TILE * TILE];
            for (x, y) in (0..TILE * TILE).map(|i| (i % TILE, i / TILE)) {
                let (a, b) = orientation.seen((x as i32, y as i32));
                seen[wrap(b) * TILE + wrap(a)] = value(x, y);
            }
            let turned = band(&|x, y| seen[y * TILE + x]);
            for frequency in [(5, 0), (-3, 11), (20, 17), (0, 27), (-27, 1)] {
                let ((a, b), (c, d)) =
                    (turned.at(frequency, orientation), upright.at(frequency, Orientation::UPRIGHT));
                assert!((a - c).norm() + (b - d).norm() < 1e-2, "{orientation:?} {frequency:?}: {a} {c}");
            }
        }
    }
}
