//! Clips made by formula, and the changes that tests make to them.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::time::Duration;

use sora_watermark::{
    Detector, Embedder, Key, LumaPlane, LumaPlaneMut, LumaRange, Options, Payload, SampleFormat, Strength,
    Verdict,
};

#[derive(Clone)]
pub struct Clip {
    pub width: usize,
    pub height: usize,
    pub fps: f64,
    pub frames: Vec<Vec<u8>>,
}

/// A hash as noise in [0, 1).
fn noise(x: i64, y: i64, seed: u64) -> f64 {
    let mut h = (x as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (y as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F)
        ^ seed;
    h = (h ^ h >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    h = (h ^ h >> 29).wrapping_mul(0x94D0_49BB_1331_11EB);
    (h >> 40) as f64 / (1u64 << 24) as f64
}

fn smooth(x: f64, y: f64, seed: u64) -> f64 {
    let (i, j) = (x.floor() as i64, y.floor() as i64);
    let (s, t) = (x.fract().rem_euclid(1.0), y.fract().rem_euclid(1.0));
    let (s, t) = (s * s * (3.0 - 2.0 * s), t * t * (3.0 - 2.0 * t));
    let row = |j| noise(i, j, seed) * (1.0 - s) + noise(i + 1, j, seed) * s;
    row(j) * (1.0 - t) + row(j + 1) * t
}

/// A texture of several octaves that pans.
pub fn texture(width: usize, height: usize, frames: usize, fps: f64, seed: u64) -> Clip {
    let frame = |n: usize| {
        let (dx, dy) = (n as f64 * 1.7 * 8.0 / fps, n as f64 * 0.6 * 8.0 / fps);
        (0..width * height)
            .map(|i| {
                let (x, y) = ((i % width) as f64 + dx, (i / width) as f64 + dy);
                let octaves = [(40.0, 90.0), (13.0, 40.0), (5.0, 24.0), (2.3, 10.0)];
                let value: f64 =
                    octaves.iter().map(|(size, weight)| weight * smooth(x / size, y / size, seed)).sum();
                (40.0 + value).clamp(0.0, 255.0) as u8
            })
            .collect()
    };
    Clip { width, height, fps, frames: (0..frames).map(frame).collect() }
}

impl Clip {
    pub fn time(&self, frame: usize) -> Duration {
        Duration::from_secs_f64(frame as f64 / self.fps)
    }

    pub fn marked(&self, payload: Payload) -> Self {
        self.marked_with(&Key::public(), payload, Strength::Standard)
    }

    pub fn marked_with(&self, key: &Key, payload: Payload, strength: Strength) -> Self {
        let mut clip = self.clone();
        let mut embedder =
            Embedder::new(key, payload, self.width, self.height, strength).expect("a good size");
        for n in 0..clip.frames.len() {
            let time = clip.time(n);
            let data = &mut clip.frames[n];
            let mut plane = LumaPlaneMut::new(
                data,
                SampleFormat::U8,
                self.width,
                self.height,
                self.width,
                LumaRange::Limited,
            )
            .expect("a good plane");
            embedder.embed(&mut plane, time).expect("its size");
        }
        clip
    }

    pub fn psnr(&self, other: &Self) -> f64 {
        let pairs = self.frames.iter().flatten().zip(other.frames.iter().flatten());
        let sum: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        20.0 * 255f64.log10() - 10.0 * (sum / (self.frames.len() * self.width * self.height) as f64).log10()
    }

    fn map(&self, width: usize, height: usize, pixel: impl Fn(&[u8], usize, usize) -> u8) -> Self {
        let frame =
            |frame: &Vec<u8>| (0..width * height).map(|i| pixel(frame, i % width, i / width)).collect();
        Self { width, height, fps: self.fps, frames: self.frames.iter().map(frame).collect() }
    }

    pub fn cropped(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        self.map(width, height, |frame, x, y| frame[(y + top) * self.width + x + left])
    }

    pub fn flipped(&self) -> Self {
        self.map(self.width, self.height, |frame, x, y| frame[y * self.width + self.width - 1 - x])
    }

    /// Turned clockwise by a quarter.
    pub fn turned(&self) -> Self {
        self.map(self.height, self.width, |frame, x, y| frame[(self.height - 1 - x) * self.width + y])
    }

    /// Bilinear.
    pub fn scaled(&self, width: usize, height: usize) -> Self {
        self.map(width, height, |frame, x, y| {
            let at = |i: usize, from: usize, to: usize| {
                let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
                (at as usize, (at as usize + 1).min(from - 1), at.fract())
            };
            let ((x0, x1, s), (y0, y1, t)) = (at(x, self.width, width), at(y, self.height, height));
            let value = |x: usize, y: usize| f64::from(frame[y * self.width + x]);
            let row = |y| value(x0, y) * (1.0 - s) + value(x1, y) * s;
            (row(y0) * (1.0 - t) + row(y1) * t).round() as u8
        })
    }

    pub fn starting_at(&self, first: usize) -> Self {
        Self { frames: self.frames[first..].to_vec(), ..self.clone() }
    }

    pub fn push(&self, detector: &mut Detector) {
        (0..self.frames.len()).for_each(|n| self.push_one(detector, n));
    }

    pub fn push_one(&self, detector: &mut Detector, n: usize) {
        let (width, height) = (self.width, self.height);
        let plane =
            LumaPlane::new(&self.frames[n], SampleFormat::U8, width, height, width, LumaRange::Limited);
        detector.push(&plane.expect("a good plane"), self.time(n)).expect("time goes on");
    }
}

pub fn detector(keys: Vec<Key>, options: Options) -> Detector {
    Detector::new(keys, options).expect("good options")
}

pub fn detect(clip: &Clip, options: Options) -> Verdict {
    let mut detector = detector(vec![Key::public()], options);
    clip.push(&mut detector);
    detector.verdict()
}
