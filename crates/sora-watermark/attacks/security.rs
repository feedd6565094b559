//! What it costs to copy, forge and remove a mark, on clips of one size.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::json;
use sora_watermark::{Key, Options, Payload, Search, Strength};

use crate::clip::{self, Clip};
use crate::ffmpeg;
use crate::measure::{key, payload};

/// Forging, copying and removing marks.
#[derive(clap::Args)]
pub(crate) struct Security {
    /// Results file to write (lines of JSON).
    results: PathBuf,
    /// Unmarked clips of one size: the last is the victim, the others are what the attacker has.
    clips: Vec<PathBuf>,
    /// What became of a marked clip elsewhere: a name, the clip before it was marked (which gives its payload), and what
    /// came back.
    #[arg(long, num_args = 3, value_names = ["NAME", "CLIP", "RETURNED"])]
    returned: Vec<String>,
}

/// Luma of a clip as numbers, frame by frame.
type Luma = Vec<Vec<f32>>;

fn luma(clip: &Clip) -> Luma {
    let size = clip.width * clip.height;
    clip.frames.iter().map(|frame| frame[..size].iter().map(|value| f32::from(*value)).collect()).collect()
}

/// What a denoiser takes away: the attacker's estimate of mark and noise. Averaged over each third of a second.
fn residual(clip: &Clip) -> Result<Luma> {
    let smooth = luma(&ffmpeg::filter(clip, "bilateral=sigmaS=3:sigmaR=0.05")?);
    let rough = luma(clip);
    let raw: Luma =
        rough.iter().zip(&smooth).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect()).collect();
    let pattern = |n: usize| (clip.times[n].as_nanos() + 1000) * 3 / 1_000_000_000;
    let mean = |n: usize| {
        let same: Vec<&Vec<f32>> =
            (0..raw.len()).filter(|m| pattern(*m) == pattern(n)).map(|m| &raw[m]).collect();
        (0..raw[n].len())
            .map(|i| same.iter().map(|frame| frame[i]).sum::<f32>() / same.len() as f32)
            .collect()
    };
    Ok((0..raw.len()).map(mean).collect())
}

/// The mean of several estimates, brought to a deviation of 1.
fn mean(estimates: &[Luma]) -> Luma {
    let frames = estimates.iter().map(Vec::len).min().unwrap_or_default();
    let frame = |n: usize| -> Vec<f32> {
        let size = estimates[0][n].len();
        let sum: Vec<f32> =
            (0..size).map(|i| estimates.iter().map(|e| e[n][i].clamp(-6.0, 6.0)).sum::<f32>()).collect();
        let power = sum.iter().map(|value| value * value).sum::<f32>() / size as f32;
        sum.iter().map(|value| value / power.sqrt().max(1e-6)).collect()
    };
    (0..frames).map(frame).collect()
}

fn plus(clip: &Clip, estimate: &Luma, gain: f32) -> Clip {
    let mut out = clip.clone();
    for (frame, estimate) in out.frames.iter_mut().zip(estimate) {
        for (value, estimate) in frame.iter_mut().zip(estimate) {
            *value = (f32::from(*value) + gain * estimate).round().clamp(0.0, 255.0) as u8;
        }
    }
    out
}

impl Security {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.clips.len() >= 5, "at least five clips");
        let clips: Vec<Clip> = self.clips.iter().map(|path| Clip::read(path)).collect::<Result<_>>()?;
        let Some((victim, others)) = clips.split_last() else { return Ok(()) };
        let (id, other_id) = (Payload::from_id([1; 11]), Payload::from_id([2; 11]));
        let mut lines = Vec::new();
        let mut row = |name: String, clip: &Clip, reference: &Clip, ids: &[Payload]| -> Result<()> {
            let mut options = Options::default();
            options.search = Search::Untouched;
            let verdict = clip.detect(vec![key()], ids.first().copied(), options)?;
            let found: Vec<String> =
                verdict.marks.iter().map(|mark| format!("{} z {:.0}", mark.payload, mark.z)).collect();
            let accepted =
                ids.iter().filter(|id| verdict.marks.iter().any(|mark| mark.payload == **id)).count();
            let line = json!({
                "row": name, "psnr": reference.psnr(clip), "accepted": accepted, "conflict": verdict.conflict(),
                "z": verdict.marks.first().map_or(verdict.best_z, |mark| mark.z),
                "known": verdict.expected.as_ref().is_some_and(|expected| expected.accepted),
                "known_z": verdict.expected.map(|expected| expected.z),
            });
            println!("{line} {}", found.join(", "));
            lines.push(line.to_string());
            Ok(())
        };
        let marked: Vec<Clip> =
            others.iter().map(|clip| clip.marked(&key(), id, Strength::Standard)).collect::<Result<_>>()?;
        let estimates: Vec<Luma> = marked.iter().map(residual).collect::<Result<_>>()?;
        let target = victim.marked(&key(), id, Strength::Standard)?;

        row("marked victim".into(), &target, victim, &[id])?;
        for gain in [1.0, 2.0] {
            let copied = plus(victim, &estimates[0], gain);
            row(format!("copy: residual of one marked clip, times {gain}"), &copied, victim, &[id])?;
        }
        for count in [1, others.len().div_ceil(2), others.len()] {
            let forged = plus(victim, &mean(&estimates[..count]), 1.5);
            row(format!("forge: mean residual of {count} clips of one key and id"), &forged, victim, &[id])?;
        }
        for gain in [1.0, 2.0] {
            let removed = plus(&target, &mean(&estimates), -gain);
            row(
                format!("remove: subtract {gain} times the mean residual of {} clips", others.len()),
                &removed,
                victim,
                &[id],
            )?;
        }
        // Ids of their own per clip: what averaging finds is the pilot.
        let own: Vec<Luma> = others
            .iter()
            .enumerate()
            .map(|(i, clip)| {
                residual(&clip.marked(&key(), Payload::from_id([40 + i as u8; 11]), Strength::Standard)?)
            })
            .collect::<Result<_>>()?;
        let forged = plus(victim, &mean(&own), 1.5);
        row(
            format!("forge: mean residual of {} clips of one key, an id each", others.len()),
            &forged,
            victim,
            &[id],
        )?;
        for gain in [1.0, 2.0] {
            let removed = plus(&target, &mean(&own), -gain);
            row(format!("remove: subtract {gain} times that mean"), &removed, victim, &[id])?;
        }
        for chain in [
            "gblur=sigma=2",
            "gblur=sigma=4",
            "gblur=sigma=8",
            "scale=iw/4:ih/4,scale=iw*4:ih*4",
            "scale=iw/8:ih/8,scale=iw*8:ih*8",
            "noise=c0s=40:c0f=t:all_seed=3,nlmeans=s=12:p=5:r=9",
            "tmix=frames=9",
        ] {
            row(format!("remove: {chain}"), &ffmpeg::filter(&target, chain)?, victim, &[id])?;
        }
        let second_key = target.marked(&Key::from_bytes([9; 32]), other_id, Strength::Standard)?;
        row("another key's mark on top".into(), &second_key, victim, &[id])?;
        let twice = target.marked(&key(), other_id, Strength::Standard)?;
        row("the same key's mark with another id on top".into(), &twice, victim, &[id, other_id])?;
        for returned in self.returned.chunks_exact(3) {
            let path = PathBuf::from(&returned[1]);
            let name = clip::name(&path)?;
            let (before, after) = (Clip::read(&path)?, Clip::read(&PathBuf::from(&returned[2]))?);
            row(returned[0].clone(), &after, &before, &[payload(name)])?;
        }
        std::fs::write(&self.results, lines.join("\n") + "\n")?;
        Ok(())
    }
}
