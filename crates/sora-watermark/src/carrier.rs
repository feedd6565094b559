//! Carriers: which frequencies of the tile carry what, with which keyed signs (design, key material).
//!
//! The pattern is periodic with a tile of 128 x 128 chips; a chip is 1/256 of the short side, so that a resized
//! video has the same chips. Frequencies from 5 to 28 cycles per tile carry the mark: a keyed fifth of them
//! the pilot, which finds the geometry, the others the payload. The pilot's signs do not depend on the
//! payload, and the payload's signs are independent of the pilot's: the proof in `statistic` needs both.

use rustfft::num_complex::Complex32;

use crate::band::Spot;
use crate::chips::Orientation;
use crate::fourier::TileFft;
use crate::key::Key;
use crate::payload::Payload;
use crate::polar;

/// Chips along a side of the tile.
pub(crate) const TILE: usize = 128;
/// Chips along the short side of a frame.
pub(crate) const CHIPS: usize = 256;
/// Different patterns; after them the cycle starts again.
pub(crate) const PATTERNS: usize = 12;
/// Patterns per second.
pub(crate) const PATTERNS_PER_SECOND: f64 = 3.0;
/// Bands of equal ratio that frequencies are sorted into, for whitening and weights.
pub(crate) const RINGS: usize = 8;

const LOWEST: f64 = 5.0;
const HIGHEST: f64 = 28.0;
/// One frequency in so many carries the pilot.
const PILOT_SHARE: usize = 5;

/// A frequency of the tile: `column` cycles across (-63 to 63), `row` cycles down (0 to 63).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frequency {
    pub(crate) column: i32,
    pub(crate) row: i32,
    pub(crate) ring: usize,
}

impl Frequency {
    /// Cycles per tile.
    pub(crate) fn radius(self) -> f64 {
        f64::from(self.column).hypot(f64::from(self.row))
    }

    /// Column and row.
    pub(crate) fn both(self) -> (i32, i32) {
        (self.column, self.row)
    }

    /// Where its coefficient lies in a spectrum.
    pub(crate) fn index(self) -> usize {
        self.row as usize * TILE + self.column.rem_euclid(TILE as i32) as usize
    }

    /// Where the conjugate of its coefficient lies.
    pub(crate) fn mirror(self) -> usize {
        let wrap = |value: i32| value.rem_euclid(TILE as i32) as usize;
        wrap(-self.row) * TILE + wrap(-self.column)
    }
}

/// All frequencies of the mark, in a fixed order.
fn frequencies() -> Vec<Frequency> {
    let half = TILE as i32 / 2;
    let plane = (0..half).flat_map(|row| (-half + 1..half).map(move |column| (row, column)));
    plane
        .filter(|(row, column)| *row > 0 || *column > 0)
        .filter_map(|(row, column)| {
            let radius = f64::from(column).hypot(f64::from(row));
            let position = (radius / LOWEST).ln() / (HIGHEST / LOWEST).ln() * RINGS as f64;
            let ring = (position.max(0.0) as usize).min(RINGS - 1);
            (LOWEST..HIGHEST).contains(&radius).then_some(Frequency { column, row, ring })
        })
        .collect()
}

/// The key's choice of carriers and signs.
pub(crate) struct Carriers {
    pub(crate) pilot: Vec<Frequency>,
    /// +-1 +- i for each pilot frequency.
    pub(crate) pilot_signs: Vec<Complex32>,
    /// Where each pilot frequency is found in the band of a picture, by the number of its orientation.
    pub(crate) pilot_spots: Vec<Vec<Spot>>,
    pub(crate) payload: Vec<Frequency>,
    pub(crate) patterns: Vec<PatternCode>,
}

/// The payload's share of one pattern: real parts of all its frequencies, then imaginary parts.
pub(crate) struct PatternCode {
    /// The keyed sign of each dimension.
    pub(crate) signs: Vec<f32>,
    /// Which bit of the code word each dimension carries.
    pub(crate) bits: Vec<u16>,
}

impl Carriers {
    pub(crate) fn new(key: &Key) -> Self {
        let all = frequencies();
        let order = key.stream("frequencies").permutation(all.len());
        let pilots = all.len() / PILOT_SHARE;
        let pick = |order: &[usize]| {
            let mut order = order.to_vec();
            order.sort_unstable();
            order.into_iter().map(|i| all[i]).collect::<Vec<_>>()
        };
        let (pilot, payload) = (pick(&order[..pilots]), pick(&order[pilots..]));
        let mut stream = key.stream("pilot");
        let pilot_signs = pilot.iter().map(|_| Complex32::new(stream.sign(), stream.sign())).collect();
        let patterns =
            (0..PATTERNS).map(|pattern| PatternCode::new(key, pattern, 2 * payload.len())).collect();
        let spots = |orientation: Orientation| {
            pilot.iter().map(|frequency| Spot::of(frequency.both(), orientation)).collect()
        };
        let pilot_spots = Orientation::ALL.into_iter().map(spots).collect();
        Self { pilot, pilot_signs, pilot_spots, payload, patterns }
    }

    /// The tile of each pattern for this payload, rows of 128 chips, RMS 1.
    ///
    /// `gain` gives the amplitude of a frequency by its radius in cycles per tile.
    pub(crate) fn tiles(&self, payload: Payload, gain: impl Fn(f64) -> f32) -> Vec<Vec<f32>> {
        let code = polar::encode(&payload.protected_bits());
        let mut fft = TileFft::new();
        let half = self.payload.len();
        (0..PATTERNS)
            .map(|j| {
                let pattern = &self.patterns[j];
                let value = |d: usize| pattern.signs[d] * code[usize::from(pattern.bits[d])];
                let payload = self
                    .payload
                    .iter()
                    .enumerate()
                    .map(|(d, f)| (*f, Complex32::new(value(d), value(d + half))));
                let polarity = if j % 2 == 0 { 1.0 } else { -1.0 };
                let pilot = self.pilot.iter().zip(&self.pilot_signs).map(|(f, sign)| (*f, sign * polarity));
                let mut spectrum = vec![Complex32::default(); TILE * TILE];
                for (frequency, value) in payload.chain(pilot) {
                    let value = value * gain(frequency.radius());
                    spectrum[frequency.index()] = value;
                    spectrum[frequency.mirror()] = value.conj();
                }
                fft.inverse(&mut spectrum);
                let energy: f32 = spectrum.iter().map(|value| value.re * value.re).sum();
                let scale = (spectrum.len() as f32 / energy).sqrt();
                spectrum.iter().map(|value| value.re * scale).collect()
            })
            .collect()
    }
}

impl PatternCode {
    fn new(key: &Key, pattern: usize, dimensions: usize) -> Self {
        let mut signs = key.stream(&format!("payload signs {pattern}"));
        let signs = (0..dimensions).map(|_| signs.sign()).collect();
        let order = key.stream(&format!("payload bits {pattern}")).permutation(dimensions);
        let bits = order.into_iter().map(|place| (place % polar::LENGTH) as u16).collect();
        Self { signs, bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_has_the_designs_number_of_carriers() {
        let carriers = Carriers::new(&Key::public());
        assert_eq!(carriers.pilot.len() + carriers.payload.len(), 1190);
        assert_eq!((carriers.pilot.len(), 2 * carriers.payload.len()), (238, 1904));
    }

    #[test]
    fn every_coded_bit_is_carried_about_equally_often() {
        let carriers = Carriers::new(&Key::public());
        let mut count = vec![0; polar::LENGTH];
        for pattern in &carriers.patterns {
            pattern.bits.iter().for_each(|bit| count[usize::from(*bit)] += 1);
        }
        // 1904 = 1024 + 880 dimensions over 12 patterns.
        assert!(count.iter().all(|count| (12..=24).contains(count)));
    }

    #[test]
    fn tiles_are_real_have_unit_power_and_no_mean() {
        let carriers = Carriers::new(&Key::public());
        let tiles = carriers.tiles(Payload::from_id([3; 11]), |_| 1.0);
        for tile in &tiles {
            let mean = tile.iter().sum::<f32>() / tile.len() as f32;
            let power = tile.iter().map(|value| value * value).sum::<f32>() / tile.len() as f32;
            assert!(mean.abs() < 1e-4 && (power - 1.0).abs() < 1e-3, "{mean} {power}");
        }
        // Successive patterns share the pilot with opposite sign only: a fifth of the energy.
        let dot = tiles[0].iter().zip(&tiles[1]).map(|(a, b)| a * b).sum::<f32>() / tiles[0].len() as f32;
        assert!((-0.26..-0.14).contains(&dot), "{dot}");
    }
}
