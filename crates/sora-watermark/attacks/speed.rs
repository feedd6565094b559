//! Times of embedding and detection.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use sora_watermark::{Embedder, LumaPlaneMut, LumaRange, Options, Payload, SampleFormat, Strength};

use crate::clip::Clip;
use crate::measure::key;

/// Times of embedding and detection.
#[derive(clap::Args)]
pub(crate) struct Speed {
    /// Results file to write (lines of JSON).
    results: PathBuf,
    /// A 4 s clip of 720p for the detector.
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

impl Speed {
    pub(crate) fn run(&self) -> Result<()> {
        let mut lines = Vec::new();
        for (width, height) in [(256, 256), (640, 360), (1280, 720), (1920, 1080)] {
            let mut embedder =
                Embedder::new(&key(), Payload::from_id([1; 11]), width, height, Strength::Standard)?;
            let mut frame: Vec<u8> = (0..width * height).map(|i| (i * 7919 % 200 + 20) as u8).collect();
            let started = processor_ms()?;
            for n in 0..self.frames {
                let mut plane = LumaPlaneMut::new(
                    &mut frame,
                    SampleFormat::U8,
                    width,
                    height,
                    width,
                    LumaRange::Limited,
                )?;
                embedder.embed(&mut plane, Duration::from_millis(33 * n as u64))?;
            }
            // One clock over all frames: the kernel counts in ticks of milliseconds.
            let mean = (processor_ms()? - started) / self.frames as f64;
            let line =
                json!({ "embed": format!("{width}x{height}"), "mean_ms": mean, "frames": self.frames });
            println!("{line}");
            lines.push(line.to_string());
        }
        if let Some(path) = &self.clip {
            let clip = Clip::read(path)?;
            let marked = clip.marked(&key(), Payload::from_id([1; 11]), Strength::Standard)?;
            for (name, clip) in [("untouched", &marked), ("unmarked, full search", &clip)] {
                let started = Instant::now();
                let verdict = clip.detect(vec![key()], None, Options::default())?;
                let seconds = started.elapsed().as_secs_f64();
                let line = json!({ "detect": name, "seconds": seconds, "frames": verdict.frames, "marks": verdict.marks.len() });
                println!("{line}");
                lines.push(line.to_string());
            }
        }
        std::fs::write(&self.results, lines.join("\n") + "\n")?;
        Ok(())
    }
}
