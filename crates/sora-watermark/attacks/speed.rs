//! Times of embedding and detection.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sora_watermark::{
    Embedder, LumaPlaneMut, LumaRange, Options, Payload, PixelLayout, RgbFrameMut, SampleFormat, Strength,
};

use crate::clip::Clip;
use crate::measure::key;

const SIZES: [(usize, usize); 4] = [(256, 256), (640, 360), (1280, 720), (1920, 1080)];
/// Sizes at which formats are compared.
const COMPARED: [(usize, usize); 2] = [(640, 360), (1920, 1080)];
/// Frames of each format in turn, so that what else the machine does meets all alike.
const TURN: usize = 10;
/// Frame rates of the clips that are looked at.
const RATES: [u32; 3] = [8, 24, 30];
/// How fast their picture moves, in pixels per second: whole pixels per frame at each rate.
const PAN: usize = 240;

/// Times of embedding and detection.
#[derive(clap::Args)]
pub(crate) struct Speed {
    /// Results file to write (lines of JSON).
    results: PathBuf,
    /// A clip of 720p, whose first picture is panned for the detector.
    #[arg(long)]
    clip: Option<PathBuf>,
    /// Embedder runs per size.
    #[arg(long, default_value_t = 300)]
    frames: usize,
}

/// Processor time of this thread so far, in ms: other programs share the machine.
fn processor_ms() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().context("a first field")?.parse::<f64>()? / 1e6)
}

/// Processor time of all threads so far, in seconds.
fn processor_seconds() -> Result<f64> {
    let mut total = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        total += text.split(' ').next().context("a first field")?.parse::<f64>()? / 1e9;
    }
    Ok(total)
}

/// A format of frames to mark.
#[derive(Clone, Copy)]
enum Format {
    Luma(SampleFormat),
    Rgb,
}

const FORMATS: [(&str, Format); 4] = [
    ("I420", Format::Luma(SampleFormat::U8)),
    ("I420_10LE", Format::Luma(SampleFormat::U10Low)),
    ("P010_10LE", Format::Luma(SampleFormat::U10High)),
    ("RGB", Format::Rgb),
];

/// What is marked over and over.
struct Work {
    format: Format,
    size: (usize, usize),
    embedder: Embedder,
    frame: Vec<u8>,
    frames: usize,
    ms: f64,
}

impl Work {
    fn new(format: Format, size: (usize, usize)) -> Result<Self> {
        let (width, height) = size;
        let value = |i: usize| (i * 7919 % 200 + 20) as u16;
        let frame = match format {
            Format::Luma(SampleFormat::U8) => (0..width * height).map(|i| value(i) as u8).collect(),
            Format::Luma(ten) => {
                let shift = if ten == SampleFormat::U10High { 8 } else { 2 };
                (0..width * height).flat_map(|i| (value(i) << shift).to_le_bytes()).collect()
            }
            Format::Rgb => (0..3 * width * height).map(|i| value(i / 3) as u8).collect(),
        };
        let embedder = Embedder::new(&key(), Payload::from_id([1; 11]), width, height, Strength::Standard)?;
        Ok(Self { format, size, embedder, frame, frames: 0, ms: 0.0 })
    }

    /// Marks so many frames. One clock over all: the kernel counts in ticks of milliseconds.
    fn run(&mut self, frames: usize) -> Result<()> {
        let (width, height) = self.size;
        let started = processor_ms()?;
        for n in self.frames..self.frames + frames {
            let time = Duration::from_millis(33 * n as u64);
            match self.format {
                Format::Luma(format) => {
                    let stride = self.frame.len() / height;
                    let (data, range) = (&mut self.frame, LumaRange::Limited);
                    let mut plane = LumaPlaneMut::new(data, format, width, height, stride, range)?;
                    self.embedder.embed(&mut plane, time)?;
                }
                Format::Rgb => {
                    let layout = PixelLayout::new(3, 0, 1, 2)?;
                    let mut frame = RgbFrameMut::new(&mut self.frame, layout, width, height, 3 * width)?;
                    self.embedder.embed_rgb(&mut frame, time)?;
                }
            }
        }
        self.ms += processor_ms()? - started;
        self.frames += frames;
        Ok(())
    }

    fn mean_ms(&self) -> f64 {
        self.ms / self.frames as f64
    }
}

/// Four seconds of the clip's first picture, which moves to the left and comes in again on the right.
fn panned(clip: &Clip, rate: u32) -> Clip {
    let size = clip.width * clip.height;
    let frame = |n: u32| {
        let mut frame = clip.frames[0].clone();
        let shift = n as usize * PAN / rate as usize % clip.width;
        frame[..size].chunks_exact_mut(clip.width).for_each(|row| row.rotate_left(shift));
        frame
    };
    Clip::new(clip.width, clip.height, (rate, 1), (0..4 * rate).map(frame).collect())
}

impl Speed {
    pub(crate) fn run(&self) -> Result<()> {
        let mut lines = Vec::new();
        let mut tell = |line: Value| {
            println!("{line}");
            lines.push(line.to_string());
        };
        for size in SIZES {
            let mut work = Work::new(Format::Luma(SampleFormat::U8), size)?;
            work.run(self.frames)?;
            let name = format!("{}x{}", size.0, size.1);
            tell(json!({ "embed": name, "mean_ms": work.mean_ms(), "frames": work.frames }));
        }
        for size in COMPARED {
            let works: Result<Vec<Work>> =
                FORMATS.iter().map(|(_, format)| Work::new(*format, size)).collect();
            let mut works = works?;
            for _ in 0..self.frames.div_ceil(TURN) {
                works.iter_mut().try_for_each(|work| work.run(TURN))?;
            }
            let name = format!("{}x{}", size.0, size.1);
            for ((format, _), work) in FORMATS.iter().zip(&works) {
                let ratio = work.mean_ms() / works[0].mean_ms();
                tell(json!({ "compared": name, "format": format, "ratio": ratio, "frames": work.frames }));
            }
        }
        if let Some(path) = &self.clip {
            let clip = Clip::read(path)?;
            for rate in RATES {
                let clip = panned(&clip, rate);
                let marked = clip.marked(&key(), Payload::from_id([1; 11]), Strength::Standard)?;
                for (name, clip) in [("untouched", &marked), ("unmarked, full search", &clip)] {
                    let (started, used) = (Instant::now(), processor_seconds()?);
                    let verdict = clip.detect(vec![key()], None, Options::default())?;
                    tell(json!({
                        "detect": name, "rate": rate, "threads": rayon::current_num_threads(),
                        "seconds": started.elapsed().as_secs_f64(), "processor": processor_seconds()? - used,
                        "frames": verdict.frames, "marks": verdict.marks.len(),
                    }));
                }
            }
        }
        std::fs::write(&self.results, lines.join("\n") + "\n")?;
        Ok(())
    }
}
