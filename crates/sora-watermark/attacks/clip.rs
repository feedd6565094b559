//! Clips in memory and as y4m files (YUV4MPEG2, 4:2:0, 8 bits).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sora_watermark::{
    Detector, Embedder, Key, LumaPlane, LumaPlaneMut, LumaRange, Options, Payload, SampleFormat, Strength,
    Verdict,
};

/// Frames of 4:2:0, each with its own time.
#[derive(Clone)]
pub(crate) struct Clip {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Frames per second as a fraction.
    pub(crate) rate: (u32, u32),
    /// Y, U and V of each frame, one after the other.
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) times: Vec<Duration>,
}

/// What a clip is called, by its file.
pub(crate) fn name(path: &Path) -> Result<&str> {
    path.file_stem().and_then(|stem| stem.to_str()).context("a clip's name")
}

/// A byte that looks random, by its place.
pub(crate) fn random_byte(i: usize, seed: usize) -> u8 {
    let mut h = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (seed as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    h = (h ^ h >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (h >> 37) as u8
}

impl Clip {
    pub(crate) fn new(width: usize, height: usize, rate: (u32, u32), frames: Vec<Vec<u8>>) -> Self {
        let time =
            |n: usize| Duration::from_nanos(n as u64 * 1_000_000_000 * u64::from(rate.1) / u64::from(rate.0));
        let times = (0..frames.len()).map(time).collect();
        Self { width, height, rate, frames, times }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n').context("no y4m header")?;
        let header = std::str::from_utf8(&bytes[..end])?;
        let field =
            |tag: char| header.split(' ').find_map(|word| word.strip_prefix(tag)).context("y4m field");
        let (width, height): (usize, usize) = (field('W')?.parse()?, field('H')?.parse()?);
        let (over, under) = field('F')?.split_once(':').context("y4m rate")?;
        let size = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
        let mut frames = Vec::new();
        let mut at = end + 1;
        while at < bytes.len() {
            let Some(line) = bytes[at..].iter().position(|byte| *byte == b'\n') else { break };
            at += line + 1;
            if at + size > bytes.len() {
                break;
            }
            frames.push(bytes[at..at + size].to_vec());
            at += size;
        }
        Ok(Self::new(width, height, (over.parse()?, under.parse()?), frames))
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let clip = Self::parse(&fs::read(path)?).with_context(|| format!("{}", path.display()))?;
        if clip.frames.is_empty() {
            bail!("{} has no frames", path.display());
        }
        Ok(clip)
    }

    pub(crate) fn y4m(&self) -> Vec<u8> {
        let Self { width, height, rate, .. } = self;
        let mut out =
            format!("YUV4MPEG2 W{width} H{height} F{}:{} Ip A1:1 C420jpeg\n", rate.0, rate.1).into_bytes();
        for frame in &self.frames {
            out.extend_from_slice(b"FRAME\n");
            out.extend_from_slice(frame);
        }
        out
    }

    /// Frames whose index passes, with their times.
    pub(crate) fn filtered(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.frames.len()).filter(|n| keep(*n)).collect();
        let frames = kept.iter().map(|n| self.frames[*n].clone()).collect();
        let times = kept.iter().map(|n| self.times[*n]).collect();
        Self { frames, times, ..*self }
    }

    pub(crate) fn luma<'a>(&self, frame: &'a [u8]) -> Result<LumaPlane<'a>> {
        let Self { width, height, .. } = *self;
        Ok(LumaPlane::new(frame, SampleFormat::U8, width, height, width, LumaRange::Limited)?)
    }

    pub(crate) fn marked(&self, key: &Key, payload: Payload, strength: Strength) -> Result<Self> {
        let mut embedder = Embedder::new(key, payload, self.width, self.height, strength)?;
        let mut clip = self.clone();
        for (frame, time) in clip.frames.iter_mut().zip(&self.times) {
            let (width, height) = (self.width, self.height);
            let mut plane =
                LumaPlaneMut::new(frame, SampleFormat::U8, width, height, width, LumaRange::Limited)?;
            embedder.embed(&mut plane, *time)?;
        }
        Ok(clip)
    }

    pub(crate) fn detect(
        &self,
        keys: Vec<Key>,
        expected: Option<Payload>,
        options: Options,
    ) -> Result<Verdict> {
        let mut detector = Detector::new(keys, options)?;
        if let Some(payload) = expected {
            detector.expect(payload);
        }
        for (frame, time) in self.frames.iter().zip(&self.times) {
            detector.push(&self.luma(frame)?, *time)?;
        }
        Ok(detector.verdict())
    }

    /// The same with white noise of this standard deviation on its luma, near to Gaussian, new in every frame.
    pub(crate) fn noisy(&self, deviation: f64) -> Self {
        let mut clip = self.clone();
        let size = self.width * self.height;
        for (n, frame) in clip.frames.iter_mut().enumerate() {
            for (i, value) in frame[..size].iter_mut().enumerate() {
                // The sum of four uniform bytes has a variance of 4 (256² - 1) / 12.
                let bytes = (0..4).map(|k| u32::from(random_byte((n * size + i) * 4 + k, 5)));
                let sum: u32 = bytes.sum();
                let noise = (f64::from(sum) - 510.0) / ((4.0 * 65535.0) / 12.0f64).sqrt() * deviation;
                *value = (f64::from(*value) + noise).round().clamp(16.0, 235.0) as u8;
            }
        }
        clip
    }

    /// Luma PSNR in dB over all frames.
    pub(crate) fn psnr(&self, other: &Self) -> f64 {
        let size = self.width * self.height;
        let squares = self.frames.iter().zip(&other.frames).map(|(a, b)| {
            a[..size].iter().zip(&b[..size]).map(|(a, b)| (i64::from(*a) - i64::from(*b)).pow(2)).sum::<i64>()
        });
        let mean = squares.sum::<i64>() as f64 / (size * self.frames.len()) as f64;
        10.0 * (255.0 * 255.0 / mean.max(1e-9)).log10()
    }
}
