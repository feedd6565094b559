//! False alarms: the statistic under random keys on fixed videos, and the whole blind detector on unmarked ones.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use sora_watermark::{Key, Options, Payload, Strength};

use crate::clip::{self, Clip, random_byte};
use crate::jobs;

/// Frames of the small clips: 1.5 s at 8 frames/s is the shortest that every stage of the search of one window works on. Nothing
/// is added up from window to window here.
const FRAMES: usize = 12;
const SIDE: usize = 64;

/// Unmarked clips of every kind through the whole blind detector, under many keys.
#[derive(clap::Args)]
pub(crate) struct Unmarked {
    /// File of results, one line per clip and block of keys; what it holds is not run again.
    results: PathBuf,
    /// Keys per clip, in blocks of 64. With the 24 clips of scripts/bench-watermark there are 37, so these are 101 824 pairs.
    #[arg(long, default_value_t = 2752)]
    keys: usize,
    /// Folder of y4m clips whose corner is used as well.
    #[arg(long)]
    clips: Option<PathBuf>,
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Luma by formula of place and time; chroma grey.
fn synthetic(pixel: impl Fn(usize, usize, usize) -> u8) -> Clip {
    let frame = |n: usize| {
        let luma = (0..SIDE * SIDE).map(|i| pixel(i % SIDE, i / SIDE, n));
        luma.chain(std::iter::repeat_n(128, SIDE * SIDE / 2)).collect()
    };
    Clip::new(SIDE, SIDE, (8, 1), (0..FRAMES).map(frame).collect())
}

/// The hostile kinds by name.
fn kinds() -> Vec<(String, Clip)> {
    let wave = |phase: f64| (128.0 + 90.0 * phase.sin()) as u8;
    let mut kinds: Vec<(&str, Clip)> = vec![
        ("noise", synthetic(|x, y, n| random_byte(n * 4096 + y * 64 + x, 1))),
        ("still-noise", synthetic(|x, y, _| random_byte(y * 64 + x, 2))),
        ("stripes", synthetic(|x, _, n| if (x + n) / 2 % 2 == 0 { 60 } else { 190 })),
        ("diagonal-stripes", synthetic(move |x, y, n| wave((x * 7 + y * 4 + n * 5) as f64 / 9.0))),
        ("blinking-stripes", synthetic(|x, y, n| if (x / 3 + y / 5 + n / 3) % 2 == 0 { 50 } else { 200 })),
        (
            "halftone",
            synthetic(|x, y, n| {
                let tone = (x + n) * 255 / (SIDE + FRAMES);
                let cell = random_byte(y % 4 * 4 + x % 4, 3);
                if usize::from(cell) < tone { 235 } else { 16 }
            }),
        ),
        (
            "screen-text",
            synthetic(|x, y, n| {
                let (column, line) = (x / 5, (y + n) / 8);
                let glyph = random_byte(column * 31 + line * 7 + (y + n) % 8 * 5 + x % 5, 4);
                if (y + n) % 8 < 6 && x % 5 < 4 && glyph > 128 { 30 } else { 230 }
            }),
        ),
        ("zone-plate", synthetic(move |x, y, n| wave(((x * x + y * y) as f64 + n as f64 * 40.0) / 60.0))),
        ("gradient", synthetic(|x, y, n| (16 + x * 2 + y + n) as u8)),
        ("flicker", synthetic(|_, _, n| if n / 3 % 2 == 0 { 60 } else { 180 })),
        ("black", synthetic(|_, _, _| 16)),
    ];
    // Marked clips under keys that are not asked for: the mark of another is the most mark-like noise there is.
    for (name, strength) in
        [("marked-elsewhere", Strength::Standard), ("marked-elsewhere-robust", Strength::Robust)]
    {
        let base = synthetic(move |x, y, n| {
            (128.0 + 60.0 * ((x + 2 * n) as f64 / 11.0).sin() * (y as f64 / 7.0).cos()) as u8
        });
        let key = Key::from_bytes([0xee; 32]);
        if let Ok(clip) = base.marked(&key, Payload::from_id([4; 11]), strength) {
            kinds.push((name, clip));
        }
    }
    kinds.into_iter().map(|(name, clip)| (name.to_owned(), clip)).collect()
}

/// The middle of a clip's frames, small and short.
fn corner(clip: &Clip) -> Clip {
    let (left, top) = ((clip.width - SIDE) / 2, (clip.height - SIDE) / 2);
    let frame = |frame: &Vec<u8>| {
        let rows = (top..top + SIDE).flat_map(|y| frame[y * clip.width + left..][..SIDE].to_vec());
        rows.chain(std::iter::repeat_n(128, SIDE * SIDE / 2)).collect()
    };
    Clip::new(SIDE, SIDE, clip.rate, clip.frames.iter().take(FRAMES).map(frame).collect())
}

impl Unmarked {
    pub(crate) fn run(&self) -> Result<()> {
        let mut clips = kinds();
        if let Some(folder) = &self.clips {
            let mut paths: Vec<PathBuf> =
                fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.sort();
            for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "y4m")) {
                let name = clip::name(path)?;
                clips.push((name.to_owned(), corner(&Clip::read(path)?)));
            }
        }
        let done = lines(&self.results)?;
        let file = std::sync::Mutex::new(OpenOptions::new().create(true).append(true).open(&self.results)?);
        let blocks: Vec<(usize, usize)> = (0..self.keys.div_ceil(64))
            .flat_map(|block| (0..clips.len()).map(move |clip| (clip, block)))
            .collect();
        let missing = |(clip, block): &(usize, usize)| {
            !done.iter().any(|line| line["clip"] == clips[*clip].0 && line["block"] == *block)
        };
        let todo: Vec<(usize, usize)> = blocks.into_iter().filter(missing).collect();
        let name = |(clip, block): &(usize, usize)| format!("{}, block {block}", clips[*clip].0);
        jobs::all(self.jobs, &todo, name, |(clip, block)| {
            let (name, clip) = &clips[*clip];
            let line = block_of(name, clip, *block)?;
            let mut file = file.lock().map_err(|_| anyhow!("another block's results were cut off"))?;
            Ok(writeln!(file, "{line}")?)
        })
    }
}

/// One clip under 64 random keys: the front end's work is shared, the search and the decodes are each key's own.
fn block_of(name: &str, clip: &Clip, block: usize) -> Result<Value> {
    let key = |i: usize| {
        let mut bytes = [0x11u8; 32];
        bytes[..8].copy_from_slice(&((block * 64 + i) as u64).to_le_bytes());
        Key::from_bytes(bytes)
    };
    let started = Instant::now();
    let verdict = clip.detect((0..64).map(key).collect(), None, Options::default())?;
    Ok(json!({
        "clip": name, "block": block, "keys": 64, "accepted": verdict.marks.len(), "best_z": verdict.best_z,
        "hypotheses": verdict.hypotheses, "log10_p": verdict.log10_p, "seconds": started.elapsed().as_secs_f64(),
    }))
}

/// The whole lines of a results file.
fn lines(path: &Path) -> Result<Vec<Value>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    Ok(fs::read_to_string(path)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
