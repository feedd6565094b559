//! Where in the picture a model puts its subject.
//!
//! Models trained on square crops of wide and tall pictures are said to show subjects that are cut off, models
//! trained at native sizes not to (Sora's technical report, "Improved framing and composition"). The subject is
//! found by its colour, so only strong colours before grounds and skies of other hues are asked for; what this
//! way of finding it is worth is measured on renders, where the truth is known.

use std::path::PathBuf;

use anyhow::Context;
use sora_diffusion::device::DeviceChoice;
use sora_world::{Camera, Clip, Colour, Domain, Ground, Motion, Scene, Size, Sky, Style, Subject};

use crate::checkpoint::write_whole;
use crate::data::{NATIVE_SIZES, Purpose, scene_of_split};
use crate::evaluate::generator::Generator;
use crate::progress;
use crate::run::Run;

/// Options of `sora-train framing`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model directories to measure, each as NAME=DIRECTORY.
    #[arg(long = "model", value_parser = super::plot::parse_named)]
    models: Vec<(String, PathBuf)>,
    /// Folder for `framing.csv`.
    #[arg(long, default_value = "runs/framing")]
    out: PathBuf,
    /// Clips for each model and picture size.
    #[arg(long, default_value_t = 24)]
    clips: u64,
    /// Seed of scenes and noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Hue in degrees of the colours that are asked for, as they look when lit.
const HUES: [(Colour, f32); 5] = [
    (Colour::Red, 0.0),
    (Colour::Orange, 28.0),
    (Colour::Yellow, 52.0),
    (Colour::Green, 145.0),
    (Colour::Purple, 277.0),
];
/// How far a pixel's hue may be from its colour's, degrees.
const HUE_WIDTH: f32 = 20.0;
/// The least saturation of a pixel of the subject, 0 to 1.
const SATURATION: f32 = 0.4;
/// A subject of a smaller share of the picture is not there.
const SMALLEST: f64 = 0.004;
/// A subject with a larger share of its pixels on the picture's border is cut off.
const ON_BORDER: f64 = 0.02;

fn domain() -> Domain {
    let mut domain = Domain::core();
    domain.subjects.retain(|&subject| subject != Subject::Boat && subject != Subject::Tree);
    domain.colours = HUES.iter().map(|&(colour, _)| colour).collect();
    domain.grounds = vec![Ground::Snow, Ground::Checker];
    domain.skies = vec![Sky::Clear];
    domain.styles = vec![Style::Shaded];
    domain.cameras = vec![Camera::Still];
    // Things that stay in the picture: what leaves it would be cut off in any framing.
    domain.motions = vec![Motion::Bounces, Motion::Spins, Motion::Stands, Motion::Floats];
    domain
}

/// Which pixels of a frame, RGB bytes `[H, W, 3]`, have the hue of `colour`.
fn mask(frame: &[u8], colour: Colour) -> Vec<bool> {
    let hue = HUES.iter().find(|(known, _)| *known == colour).map_or(0.0, |&(_, hue)| hue);
    frame
        .chunks_exact(3)
        .map(|pixel| {
            let [r, g, b] = [0, 1, 2].map(|i| f32::from(pixel[i]) / 255.0);
            let (high, low) = (r.max(g).max(b), r.min(g).min(b));
            let chroma = high - low;
            if high < 0.08 || chroma < SATURATION * high {
                return false;
            }
            let sixth = if high == r {
                ((g - b) / chroma).rem_euclid(6.0)
            } else if high == g {
                (b - r) / chroma + 2.0
            } else {
                (r - g) / chroma + 4.0
            };
            let distance = (sixth * 60.0 - hue).rem_euclid(360.0);
            distance.min(360.0 - distance) <= HUE_WIDTH
        })
        .collect()
}

/// Where the subject of a frame is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    /// Share of the picture's pixels.
    share: f64,
    /// Share of its pixels that lie on the picture's outermost rows and columns.
    on_border: f64,
    /// Column of its centre, 0 at the left edge to 1 at the right one.
    centre: f64,
}

impl Place {
    fn of(mask: &[bool], size: Size) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        let (mut count, mut border, mut columns) = (0usize, 0usize, 0usize);
        for (i, _) in mask.iter().enumerate().filter(|(_, set)| **set) {
            let (x, y) = (i % width, i / width);
            count += 1;
            columns += x;
            border += usize::from(x == 0 || y == 0 || x + 1 == width || y + 1 == height);
        }
        let n = count.max(1) as f64;
        Self {
            share: count as f64 / mask.len() as f64,
            on_border: border as f64 / n,
            centre: (columns as f64 / n + 0.5) / width as f64,
        }
    }

    fn is_there(&self) -> bool {
        self.share >= SMALLEST
    }

    fn is_cut(&self) -> bool {
        self.is_there() && self.on_border > ON_BORDER
    }
}

/// Counts over the frames of many clips.
#[derive(Default)]
struct Tally {
    frames: usize,
    absent: usize,
    cut: usize,
    centres: Vec<f64>,
}

impl Tally {
    fn add(&mut self, place: Place) {
        self.frames += 1;
        self.absent += usize::from(!place.is_there());
        self.cut += usize::from(place.is_cut());
        if place.is_there() {
            self.centres.push(place.centre);
        }
    }

    fn row(&self, source: &str, size: Size) -> String {
        let n = self.frames.max(1) as f64;
        let mean = self.centres.iter().sum::<f64>() / self.centres.len().max(1) as f64;
        let variance = self.centres.iter().map(|c| (c - mean).powi(2)).sum::<f64>();
        let spread = (variance / self.centres.len().max(1) as f64).sqrt();
        let (absent, cut) = (self.absent as f64 / n, self.cut as f64 / n);
        format!(
            "{source},{}x{},{},{:.4},{cut:.4},{absent:.4},{mean:.4},{spread:.4}\n",
            size.width,
            size.height,
            self.frames,
            1.0 - absent - cut,
        )
    }
}

const HEADER: &str = "source,size,frames,whole,cut,absent,centre_mean,centre_spread\n";
/// Frames of a clip that is measured, and how many of them are skipped between two that are looked at.
const FRAMES: usize = 17;
const EVERY: usize = 4;

fn scene(seed: u64, index: u64) -> Scene {
    scene_of_split(seed, Purpose::Evaluation, 500_000 + index, &domain(), false)
}

fn measure(tally: &mut Tally, frames: &[u8], size: Size, colour: Colour) {
    for frame in frames.chunks_exact(size.area() * 3).step_by(EVERY) {
        tally.add(Place::of(&mask(frame, colour), size));
    }
}

/// How well the colour finds what the render's mask says: mean intersection over union.
fn agreement(clip: &Clip, colour: Colour) -> f64 {
    let frames = clip.frames.chunks_exact(clip.size.area() * 3).zip(&clip.truth).step_by(EVERY);
    let ious = frames.map(|(frame, truth)| {
        let found = mask(frame, colour);
        let (mut both, mut either) = (0usize, 0usize);
        for (found, truth) in found.iter().zip(&truth.mask) {
            let truth = *truth == 1;
            both += usize::from(*found && truth);
            either += usize::from(*found || truth);
        }
        both as f64 / either.max(1) as f64
    });
    let ious: Vec<f64> = ious.collect();
    ious.iter().sum::<f64>() / ious.len().max(1) as f64
}

/// Measures renders and models.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    Run::create(&args.out, Some(args.seed))?;
    let mut table = HEADER.to_owned();
    let mut found = Vec::new();
    for size in NATIVE_SIZES {
        let mut tally = Tally::default();
        for index in 0..args.clips {
            let scene = scene(args.seed, index);
            let clip = scene.render(size, FRAMES);
            measure(&mut tally, &clip.frames, size, scene.attributes().colour);
            found.push(agreement(&clip, scene.attributes().colour));
        }
        table += &tally.row("renders", size);
    }
    let mean = found.iter().sum::<f64>() / found.len().max(1) as f64;
    eprintln!("on renders, the colour finds the subject with a mean intersection over union of {mean:.3}");
    for (name, dir) in &args.models {
        let generator = Generator::open(dir, None, None, DeviceChoice::Cpu)
            .with_context(|| format!("model {}", dir.display()))?;
        for size in NATIVE_SIZES {
            let bar = progress::bar(args.clips, 0);
            let mut tally = Tally::default();
            for index in 0..args.clips {
                let scene = scene(args.seed, index);
                let frames = generator.frames(&scene.caption(), args.seed + index, size, FRAMES as u32)?;
                measure(&mut tally, &frames, size, scene.attributes().colour);
                bar.inc(1);
            }
            bar.finish();
            table += &tally.row(name, size);
        }
    }
    let path = args.out.join("framing.csv");
    write_whole(&path, |p| Ok(std::fs::write(p, &table)?))?;
    print!("{table}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_find_the_subjects_of_renders() {
        let ious = (0..12).map(|index| {
            let scene = scene(3, index);
            agreement(&scene.render(NATIVE_SIZES[0], 5), scene.attributes().colour)
        });
        let mean = ious.sum::<f64>() / 12.0;
        assert!(mean > 0.75, "mean intersection over union {mean:.3}");
    }

    #[test]
    fn a_subject_at_the_border_is_cut() {
        let size = Size { width: 20, height: 10 };
        let block = |columns: std::ops::Range<usize>| -> Vec<bool> {
            (0..200).map(|i| columns.contains(&(i % 20)) && (3..7).contains(&(i / 20))).collect()
        };
        let inside = Place::of(&block(8..12), size);
        assert!(inside.is_there() && !inside.is_cut());
        assert!((inside.centre - 0.5).abs() < 1e-9);
        assert!(Place::of(&block(16..20), size).is_cut());
        assert!(!Place::of(&[false; 200], size).is_there());
    }
}
