//! Marks clips, attacks them and writes what the detector says, one line of JSON per clip and attack.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sora_watermark::{Key, Options, Payload, Search, Strength};

use crate::clip::{self, Clip};
use crate::ffmpeg;
use crate::jobs;
use crate::table::{ATTACKS, Attack, Cut};
use crate::visibility;

/// Marks one clip as `run` does: to look at it, or to send it through something that is not in the table.
#[derive(clap::Args)]
pub(crate) struct Mark {
    /// The clip, y4m.
    clip: PathBuf,
    /// The marked clip.
    out: PathBuf,
    /// Strength of the mark.
    #[arg(long, default_value = "standard")]
    strength: Strength,
}

impl Mark {
    pub(crate) fn run(&self) -> Result<()> {
        let name = clip::name(&self.clip)?;
        let marked = Clip::read(&self.clip)?.marked(&key(), payload(name), self.strength)?;
        Ok(fs::write(&self.out, marked.y4m())?)
    }
}

/// Runs attacks on every y4m clip of a folder.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// Folder of y4m clips.
    clips: PathBuf,
    /// Folder of results: one file per clip; what it holds is not measured again.
    results: PathBuf,
    /// Only attacks whose name is in this list, separated by commas.
    #[arg(long)]
    only: Option<String>,
    /// Without attacks whose name is in this list.
    #[arg(long, default_value = "")]
    without: String,
    /// Strength of the mark.
    #[arg(long, default_value = "standard")]
    strength: Strength,
    /// Clips worked on at a time, one thread each.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// An ffmpeg with libvmaf.
    #[arg(long, default_value = "ffmpeg")]
    vmaf: String,
    /// Only look for untouched frames: for a quick look at strengths.
    #[arg(long)]
    untouched: bool,
    /// Whether to measure quality and bitrate.
    #[arg(long)]
    quality: bool,
}

/// Standard deviation of the noise that a clip is also encoded with, in code values: cameras have some, renders have none.
const NOISE: f64 = 2.0;

/// The key of all runs: a private one.
pub(crate) fn key() -> Key {
    Key::from_bytes([0x5a; 32])
}

/// The payload of a clip, from its name.
pub(crate) fn payload(name: &str) -> Payload {
    let mut id = [0u8; 11];
    for (i, byte) in name.bytes().enumerate() {
        id[i % 11] = id[i % 11].wrapping_mul(31).wrapping_add(byte);
    }
    Payload::from_id(id)
}

impl Run {
    pub(crate) fn all(&self) -> Result<()> {
        fs::create_dir_all(&self.results)?;
        let entries = fs::read_dir(&self.clips).with_context(|| format!("{}", self.clips.display()))?;
        let mut clips: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        clips.retain(|path| path.extension().is_some_and(|extension| extension == "y4m"));
        clips.sort();
        let scratch = tempfile::tempdir()?;
        let name = |path: &PathBuf| path.display().to_string();
        jobs::all(self.jobs, &clips, name, |path| self.clip(path, scratch.path()))
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        if self.untouched {
            options.search = Search::Untouched;
        }
        options
    }

    fn wanted(&self, name: &str) -> bool {
        let listed = |list: &str| list.split(',').any(|entry| entry == name);
        self.only.as_deref().is_none_or(listed) && !listed(&self.without)
    }

    fn clip(&self, path: &Path, scratch: &Path) -> Result<()> {
        let name = clip::name(path)?;
        let results = self.results.join(format!("{name}.jsonl"));
        let done = done(&results)?;
        let missing: Vec<&Attack> =
            ATTACKS.iter().filter(|attack| self.wanted(attack.name) && !done.contains(attack.name)).collect();
        let quality = self.quality && !done.contains("quality");
        if missing.is_empty() && !quality {
            return Ok(());
        }
        let clip = Clip::read(path)?;
        let payload = payload(name);
        let marked = clip.marked(&key(), payload, self.strength)?;
        let scratch = scratch.join(format!("{name}.mkv"));
        let mut file = OpenOptions::new().create(true).append(true).open(&results)?;
        if quality {
            write(&mut file, &self.quality_of(&clip, &marked, payload, &scratch)?)?;
        }
        for attack in missing {
            let attacked = attacked(&marked, attack, &scratch);
            let line = match attacked {
                Ok((clip, bytes)) => {
                    let started = Instant::now();
                    let verdict = clip.detect(vec![key()], Some(payload), self.options())?;
                    let mark = verdict.marks.first();
                    let expected = verdict.expected.context("a payload was expected")?;
                    json!({
                        "attack": attack.name, "ok": verdict.payload() == Some(payload),
                        "wrong": verdict.marks.iter().any(|mark| mark.payload != payload),
                        "z": mark.map_or(verdict.best_z, |mark| mark.z),
                        "log10_p": mark.map_or(verdict.log10_p, |mark| mark.log10_p),
                        "known": expected.accepted, "known_z": expected.z, "known_log10_p": expected.log10_p,
                        "hypotheses": verdict.hypotheses, "bytes": bytes, "frames": clip.frames.len(),
                        "seconds": started.elapsed().as_secs_f64(),
                    })
                }
                Err(error) => json!({ "attack": attack.name, "error": format!("{error:#}") }),
            };
            write(&mut file, &line)?;
        }
        println!("{name}");
        Ok(())
    }

    /// PSNR, SSIM, VMAF, JOD, and bytes at equal CRF with and without the mark, of the clip as it is and with noise.
    fn quality_of(&self, clip: &Clip, marked: &Clip, payload: Payload, scratch: &Path) -> Result<Value> {
        let (ssim, vmaf) = ffmpeg::quality(&self.vmaf, clip, marked, scratch)?;
        let bytes = |clip: &Clip| -> Result<f64> {
            let encoder = ["-c:v", "libx264", "-preset", "medium", "-crf", "23"];
            Ok(ffmpeg::encode(clip, None, &encoder, scratch)?.1 as f64)
        };
        let (before, after) = (bytes(clip)?, bytes(marked)?);
        let noisy = clip.noisy(NOISE);
        let (noisy_before, noisy_after) =
            (bytes(&noisy)?, bytes(&noisy.marked(&key(), payload, self.strength)?)?);
        Ok(json!({
            "attack": "quality", "psnr": clip.psnr(marked), "ssim": ssim, "vmaf": vmaf,
            "jod": visibility::jod(clip, marked)?,
            "bitrate": after / before - 1.0, "kbps": after * 8.0 / 4000.0,
            "noisy_bitrate": noisy_after / noisy_before - 1.0, "noisy_kbps": noisy_after * 8.0 / 4000.0,
        }))
    }
}

fn write(file: &mut File, line: &Value) -> Result<()> {
    Ok(writeln!(file, "{line}")?)
}

/// Names of the attacks that a results file holds.
fn done(results: &Path) -> Result<BTreeSet<String>> {
    if !results.exists() {
        return Ok(BTreeSet::new());
    }
    let text = fs::read_to_string(results)?;
    // A line cut off by a kill is measured again.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter_map(|line| line["attack"].as_str().map(str::to_owned)).collect())
}

/// What the detector gets to see, and the bytes of the encoded file.
fn attacked(marked: &Clip, attack: &Attack, scratch: &Path) -> Result<(Clip, u64)> {
    let time = |n: usize| marked.times[n].as_secs_f64();
    let mut clip = match attack.cut {
        Cut::Second => marked.filtered(|n| (0.9..1.9).contains(&time(n))),
        Cut::Half => marked.filtered(|n| (n as u32 + 1).wrapping_mul(2_654_435_761) >> 16 & 1 == 0),
        _ => marked.clone(),
    };
    let mut bytes = 0;
    let times = clip.times.clone();
    let mut filter = attack.filter;
    match attack.encoder {
        None => {
            if let Some(chain) = filter {
                clip = ffmpeg::filter(&clip, chain)?;
            }
        }
        Some(encoder) => {
            for _ in 0..attack.times {
                (clip, bytes) = ffmpeg::encode(&clip, filter.take(), encoder, scratch)?;
            }
        }
    }
    match attack.cut {
        // The encoder saw a constant rate; the frames keep the times they had.
        Cut::Half => clip.times = times.into_iter().take(clip.frames.len()).collect(),
        Cut::Screenshot => clip = clip.filtered(|n| n == 10),
        Cut::Speed(speed) => {
            clip.times.iter_mut().for_each(|time| *time = Duration::from_secs_f64(time.as_secs_f64() / speed))
        }
        Cut::None | Cut::Second => {}
    }
    Ok((clip, bytes))
}
