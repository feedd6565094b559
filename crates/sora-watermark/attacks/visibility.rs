//! What an eye sees of the mark, by a model of human vision that knows flicker: ColorVideoVDP (R. K. Mantiuk et al.,
//! SIGGRAPH 2024), in just objectionable differences: 10 is no visible difference, and at 9 three of four people prefer the
//! unmarked clip.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use colorvideovdp::{Color, Cvvdp, DisplayModel, Execution, Image, Options};
use serde_json::json;
use sora_watermark::{Payload, Strength};

use crate::clip::Clip;
use crate::measure::key;

/// A monitor of 24 inches with 1920 x 1080 pixels, 200 cd/m² in an office, seen from 0.6 m: 37 pixels per degree.
const DISPLAY: &str = "standard_fhd";
/// Pictures per second that the model is shown: a clip's frames are repeated, as a screen does. Its temporal filters need
/// more than the 8 frames per second of the clips.
const SHOWN_RATE: u32 = 24;
const _: () = assert!(SHOWN_RATE.is_multiple_of(8));

/// Size and rate of the clips of [`Visibility`].
const SIZE: (usize, usize) = (256, 256);
const SECONDS: u32 = 4;

/// A frame of limited-range BT.709, as sRGB in 0 to 1.
fn shown(clip: &Clip, frame: &[u8]) -> Result<Image> {
    let (width, height) = (clip.width, clip.height);
    let (luma, chroma) = frame.split_at(width * height);
    let (blue, red) = chroma.split_at(width.div_ceil(2) * height.div_ceil(2));
    let mut out = Vec::with_capacity(3 * width * height);
    for (i, value) in luma.iter().enumerate() {
        let at = i / width / 2 * width.div_ceil(2) + i % width / 2;
        let y = (f32::from(*value) - 16.0) / 219.0;
        let [b, r] = [blue[at], red[at]].map(|value| (f32::from(value) - 128.0) / 224.0);
        let rgb = [y + 1.5748 * r, y - 0.1873 * b - 0.4681 * r, y + 1.8556 * b];
        out.extend(rgb.map(|value| value.clamp(0.0, 1.0)));
    }
    Ok(Image::new(width, height, 3, out)?)
}

/// How little of the difference between two clips is seen, in JOD.
pub(crate) fn jod(original: &Clip, marked: &Clip) -> Result<f64> {
    let options = Options::default().with_execution(Execution::SingleThread).with_memory_limit_bytes(4 << 30);
    let metric = Cvvdp::new(DisplayModel::from_name(DISPLAY)?, options)?;
    let times = SHOWN_RATE * original.rate.1 / original.rate.0;
    anyhow::ensure!(
        times * original.rate.0 == SHOWN_RATE * original.rate.1,
        "{SHOWN_RATE} is no multiple of the rate"
    );
    let frames = |clip: &Clip| -> Result<Vec<Image>> {
        let frames = clip.frames.iter().map(|frame| shown(clip, frame)).collect::<Result<Vec<_>>>()?;
        Ok(frames.into_iter().flat_map(|frame| std::iter::repeat_n(frame, times as usize)).collect())
    };
    let prediction =
        metric.predict_video(&frames(marked)?, &frames(original)?, SHOWN_RATE as f32, Color::Srgb)?;
    Ok(f64::from(prediction.jod))
}

/// The mark where nothing hides it: flat areas, dark ones and gradients, standing still, with the patterns changing three
/// times a second as they do, and with one pattern that stays.
#[derive(clap::Args)]
pub(crate) struct Visibility {
    /// Results file to write (lines of JSON).
    results: PathBuf,
}

/// A picture without texture.
struct Area {
    name: &'static str,
    /// Luma by place, in 0 to 1 across and down.
    luma: fn(f32, f32) -> f32,
}

const AREAS: [Area; 6] = [
    Area { name: "black (16)", luma: |_, _| 16.0 },
    Area { name: "dark (35)", luma: |_, _| 35.0 },
    Area { name: "mid grey (110)", luma: |_, _| 110.0 },
    Area { name: "bright (200)", luma: |_, _| 200.0 },
    Area { name: "gradient across, 16 to 235", luma: |x, _| 16.0 + 219.0 * x },
    Area { name: "night sky, 20 to 60 down", luma: |_, y| 20.0 + 40.0 * y },
];

const STRENGTHS: [(&str, Strength); 3] =
    [("subtle", Strength::Subtle), ("standard", Strength::Standard), ("robust", Strength::Robust)];

impl Area {
    fn clip(&self) -> Clip {
        let (width, height) = SIZE;
        let value = |i: usize| {
            let (x, y) = (i % width, i / width);
            (self.luma)(x as f32 / (width - 1) as f32, y as f32 / (height - 1) as f32).round() as u8
        };
        let luma = (0..width * height).map(value);
        let frame: Vec<u8> = luma.chain(std::iter::repeat_n(128, width * height / 2)).collect();
        Clip::new(width, height, (SHOWN_RATE, 1), vec![frame; (SHOWN_RATE * SECONDS) as usize])
    }
}

impl Visibility {
    pub(crate) fn run(&self) -> Result<()> {
        let mut file = File::create(&self.results).with_context(|| self.results.display().to_string())?;
        let payload = Payload::from_id([0x2a; 11]);
        for area in AREAS {
            let clip = area.clip();
            for (name, strength) in STRENGTHS {
                let changing = clip.marked(&key(), payload, strength)?;
                let mut at_rest = clip.clone();
                at_rest.times.fill(Duration::ZERO);
                let staying = at_rest.marked(&key(), payload, strength)?;
                let line = json!({
                    "area": area.name, "strength": name, "psnr": clip.psnr(&changing),
                    "changing": jod(&clip, &changing)?, "staying": jod(&clip, &staying)?,
                });
                writeln!(file, "{line}")?;
                println!("{line}");
            }
        }
        Ok(())
    }
}
