//! How strong a mark is.

use std::str::FromStr;

use crate::blur::Plane;
use crate::error::WatermarkError;

/// How strong a mark is: a preset, or a luma PSNR that every frame is brought to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Strength {
    /// For masters and clean distribution: about 3 dB weaker than standard.
    Subtle,
    /// The default; the published tables are measured with it.
    #[default]
    Standard,
    /// For heavy compression: about 3 dB stronger than standard. Where there is no texture most people see it beside the
    /// unmarked picture, as they do the standard one on dark areas (docs/benchmark-watermark.md).
    Robust,
    /// Every frame is brought to this luma PSNR (see [`Strength::psnr`]).
    Psnr(Decibels),
}

/// A target PSNR, checked to be in range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decibels(f64);

impl Decibels {
    /// The value in dB.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Strength {
    /// Lowest target PSNR, in dB.
    pub const MIN_PSNR: f64 = 30.0;
    /// Highest target PSNR, in dB.
    pub const MAX_PSNR: f64 = 60.0;

    /// A target luma PSNR in dB. No pixel changes by more than 7.8 of 255, so below some 38 dB a frame whose texture takes most
    /// of the mark keeps a higher one.
    ///
    /// # Errors
    /// [`WatermarkError::Strength`] unless it is a number from 30 to 60.
    pub fn psnr(db: f64) -> Result<Self, WatermarkError> {
        if (Self::MIN_PSNR..=Self::MAX_PSNR).contains(&db) {
            Ok(Self::Psnr(Decibels(db)))
        } else {
            Err(Self::refuse(&db.to_string()))
        }
    }

    fn refuse(value: &str) -> WatermarkError {
        let value = value.chars().take(40).collect();
        WatermarkError::Strength { value, min: Self::MIN_PSNR, max: Self::MAX_PSNR }
    }
}

impl FromStr for Strength {
    type Err = WatermarkError;

    fn from_str(text: &str) -> Result<Self, WatermarkError> {
        match text.trim() {
            "subtle" => Ok(Self::Subtle),
            "standard" => Ok(Self::Standard),
            "robust" => Ok(Self::Robust),
            other => other.parse().map_err(|_| Self::refuse(other)).and_then(Self::psnr),
        }
    }
}

/// A strength, made ready for frames of one size.
///
/// The mask says where a frame hides the mark; this says how much of it the frame as a whole takes. A preset
/// follows the mask between two bounds of PSNR: busy frames are held above the lower, dark and flat frames,
/// whose mark a coarse quantiser would wipe out, are raised to the upper. Both follow from the frame alone,
/// so the loop costs no latency.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// Gain over the mask.
    gain: f32,
    /// Lowest and highest PSNR of a frame, in dB.
    bounds: (f64, f64),
}

impl Level {
    /// Sides up to this, in pixels, get a stronger mark: their chips are smaller than a pixel.
    pub(crate) const SMALL: usize = 192;
    const SMALL_GAIN: f32 = 1.25;

    pub(crate) fn of(strength: Strength, short: usize) -> Self {
        // Larger frames have more pixels per chip to average over.
        let size = (short as f32 / 256.0).max(1.0).powf(-0.35);
        let small = if short <= Self::SMALL { Self::SMALL_GAIN } else { 1.0 };
        let preset = |gain: f32, lowest: f64| {
            let highest = lowest + 8.2 - 20.0 * f64::from(size).log10();
            Self { gain: gain * size * small, bounds: (lowest, highest) }
        };
        match strength {
            Strength::Subtle => preset(0.53, 45.3),
            Strength::Standard => preset(0.75, 42.3),
            Strength::Robust => preset(1.06, 39.3),
            Strength::Psnr(target) => Self { gain: 1.0, bounds: (target.get(), target.get()) },
        }
    }

    /// The factor for a frame whose mask this is.
    pub(crate) fn gain(self, mask: &Plane) -> f32 {
        let power = mask.data.iter().map(|value| value * value).sum::<f32>() / mask.data.len() as f32;
        let rms = f64::from(self.gain * power.sqrt().max(1e-3));
        let psnr = 20.0 * (255.0 / rms).log10();
        let wanted = psnr.clamp(self.bounds.0, self.bounds.1);
        self.gain * 10f64.powf((psnr - wanted) / 20.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_and_decibels_are_read() {
        assert_eq!("robust".parse(), Ok(Strength::Robust));
        assert_eq!("45.5".parse(), Strength::psnr(45.5));
        assert_eq!(Strength::default(), Strength::Standard);
    }

    #[test]
    fn busy_and_flat_frames_are_brought_within_the_bounds() {
        let psnr = |strength: Strength, amplitude: f32, short: usize| {
            let mask = Plane::new(256, 144).map(|_| amplitude);
            20.0 * (255.0 / (amplitude * Level::of(strength, short).gain(&mask))).log10()
        };
        assert!((psnr(Strength::Standard, 4.0, 256) - 42.3).abs() < 0.01);
        assert!((psnr(Strength::Standard, 0.4, 256) - 50.5).abs() < 0.01);
        assert!((psnr(Strength::Standard, 1.2, 256) - 49.05).abs() < 0.01);
        assert!(psnr(Strength::Standard, 0.4, 720) > 53.0);
        let exact = Strength::psnr(44.0).expect("in range");
        assert!((psnr(exact, 0.5, 256) - 44.0).abs() < 0.01 && (psnr(exact, 3.0, 1080) - 44.0).abs() < 0.01);
    }

    #[test]
    fn nan_and_values_out_of_range_are_refused_by_name() {
        for (text, value) in [("NaN", "NaN"), ("inf", "inf"), ("12", "12"), ("loud", "loud"), ("", "")] {
            let error = text.parse::<Strength>().expect_err("no strength").to_string();
            assert!(error.starts_with(&format!("strength `{value}` is neither")), "{error}");
            assert!(error.contains("from 30 to 60 dB"), "{error}");
        }
    }
}
