//! What becomes of a stream in minutes: prompt-following and contrast, window after window.

use sora_world::{Attributes, Motion, Scene};
use tch::Tensor;

use super::Bench;
use super::measures::{BorderChange, contrast};
use super::reader::Read;
use super::report::{Report, mean, percent};
use crate::data::{self, Purpose};
use crate::figure::{Labels, Series, lines};
use crate::probe::accuracy::Tally;
use crate::probe::network::WINDOW;
use crate::probe::questions::Question;
use crate::progress;
use crate::sheet;

/// First scene.
const FIRST: u64 = 500_000;
/// A picture of every so many windows goes to the sheet.
const SHEET_EVERY: usize = 4;
/// Below this share of its first contrast a window counts as collapsed.
const COLLAPSED: f64 = 0.25;
/// Following at both ends is a mean of so many windows, about ten seconds.
const ENDS: usize = 5;

/// Whether the caption stays true for ever: what falls lies still after a second.
fn lasts(a: &Attributes) -> bool {
    a.motion != Motion::Falls
}

/// One window of one stream.
struct Window {
    second: f64,
    tally: Tally,
    contrast: f64,
}

fn judge(scene: &Scene, caption: &str, read: &Read) -> Tally {
    let mut tally = Tally::default();
    let a = scene.attributes();
    for question in Question::ALL {
        // What passes behind another comes back: its heading is that of the beginning alone.
        let over = question == Question::Heading && a.motion == Motion::PassesBehind;
        if let Some(truth) = question.answer(a).filter(|_| !over && question.is_named(a, caption)) {
            tally.count(read.answer(question) == truth);
        }
    }
    tally
}

/// Streams some prompts for so many minutes each.
pub(crate) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    report.say(
        "Drift",
        "Streams over the key-value cache, read in windows of 17 frames: the share of attributes named in the \
         short caption that the probe finds, and the standard deviation over the pixels of a frame. Flicker at \
         the borders of blocks is the mean change there in terms of the mean change from frame to frame.",
    );
    for &minutes in &bench.args.minutes {
        streams(bench, report, minutes)?;
    }
    Ok(())
}

fn streams(bench: &Bench<'_>, report: &mut Report, minutes: f64) -> anyhow::Result<()> {
    let Bench { reader, generator, args, domain, .. } = bench;
    let rate = generator.frame_rate();
    let num_frames = (minutes * 60.0 * rate).round() as usize;
    let windows = num_frames / WINDOW;
    let bar = progress::bar(args.streams * windows as u64, 0);
    bar.set_message(format!("streams of {minutes} min"));
    let scenes = (0..)
        .map(|i| data::scene_of_split(args.compute.seed, Purpose::Evaluation, FIRST + i, domain, false))
        .filter(|scene| lasts(scene.attributes()));
    let (mut all, mut csv, mut rows): (Vec<Vec<Window>>, Vec<Vec<String>>, Vec<Tensor>) = Default::default();
    let mut borders = Vec::new();
    for (index, scene) in scenes.take(args.streams as usize).enumerate() {
        let caption = scene.caption();
        let (mut list, mut stills) = (Vec::new(), Vec::new());
        let mut border = BorderChange::new(generator.latent_frame());
        let seed = args.compute.seed.wrapping_add(index as u64);
        generator.stream(&bench.prompt(&scene)?, seed, (num_frames, WINDOW), &mut |at, video| {
            let tally = judge(&scene, &caption, &reader.read(&video)?);
            let window = Window { second: at as f64 / rate, tally, contrast: contrast(&video) };
            border.follow(&video);
            csv.push(vec![
                caption.clone(),
                format!("{:.2}", window.second),
                window.tally.right.to_string(),
                window.tally.of.to_string(),
                format!("{:.2}", window.contrast),
            ]);
            if list.len() % SHEET_EVERY.max(windows / 12) == 0 {
                stills.push(video.narrow(1, 0, 1));
            }
            list.push(window);
            bar.inc(1);
            Ok(())
        })?;
        anyhow::ensure!(!list.is_empty(), "{minutes} minutes are less than one window of {WINDOW} frames");
        rows.push(Tensor::cat(&stills, 1));
        all.push(list);
        borders.push(border.ratio());
    }
    bar.finish_and_clear();
    let name = format!("drift-{minutes}min");
    report.csv(&name, &["caption", "second", "right", "asked", "contrast"], &csv)?;
    say(report, minutes, &all);
    report.say(
        "",
        &format!(
            "At the borders of blocks the picture changes {:.3} times as much as from frame to frame (from {:.3} to \
             {:.3}).",
            mean(&borders),
            borders.iter().copied().fold(f64::INFINITY, f64::min),
            borders.iter().copied().fold(0.0, f64::max)
        ),
    );
    report.figure(&format!("drift {minutes} min border change"), mean(&borders));
    // Pictures last: what is said before is saved also where there is no font to draw with.
    sheet::write(&report.file(&format!("{name}-sheet.png")), &rows)?;
    draw(report, &name, minutes, &all)
}

fn share<'a>(windows: impl Iterator<Item = &'a Window>) -> f64 {
    let mut sum = Tally::default();
    for window in windows {
        sum.right += window.tally.right;
        sum.of += window.tally.of;
    }
    sum.share()
}

fn say(report: &mut Report, minutes: f64, all: &[Vec<Window>]) {
    let first = share(all.iter().flat_map(|list| list.iter().take(ENDS)));
    let last = share(all.iter().flat_map(|list| list.iter().rev().take(ENDS)));
    let lowest = all
        .iter()
        .map(|list| {
            list.iter().map(|w| w.contrast / list[0].contrast.max(1e-3)).fold(f64::INFINITY, f64::min)
        })
        .collect::<Vec<f64>>();
    let collapsed = lowest.iter().filter(|&&share| share < COLLAPSED).count();
    let worst = lowest.iter().copied().fold(f64::INFINITY, f64::min);
    report.say(
        "",
        &format!(
            "{} streams of {minutes} min: {} of what the captions name in the first {ENDS} windows, {} in the last \
             {ENDS}. The lowest contrast of a window was {} of that of its stream's first; {collapsed} streams fell \
             below {} (a flat field has 0). `drift-{minutes}min-sheet.png` has stills along the way.",
            all.len(),
            percent(first),
            percent(last),
            percent(worst),
            percent(COLLAPSED)
        ),
    );
    report.figure(&format!("drift {minutes} min first"), first);
    report.figure(&format!("drift {minutes} min last"), last);
    report.figure(&format!("drift {minutes} min lowest contrast"), worst);
    report.figure(&format!("drift {minutes} min collapsed"), collapsed);
}

fn draw(report: &Report, name: &str, minutes: f64, all: &[Vec<Window>]) -> anyhow::Result<()> {
    let windows = all.iter().map(Vec::len).min().unwrap_or(0);
    let at = |i: usize| all.iter().map(move |list| &list[i]);
    let following = (0..windows).map(|i| (all[0][i].second, 100.0 * share(at(i)))).collect();
    let contrast = (0..windows)
        .map(|i| {
            let ratio: f64 = all.iter().map(|list| list[i].contrast / list[0].contrast.max(1e-3)).sum();
            (all[0][i].second, 100.0 * ratio / all.len() as f64)
        })
        .collect();
    let series = [
        Series { name: "named attributes found, %".into(), points: following },
        Series { name: "contrast, % of the first window".into(), points: contrast },
    ];
    let title = format!("{} streams of {minutes} min", all.len());
    let labels = Labels { title: &title, x: "seconds", y: "%" };
    lines(&report.file(&format!("{name}.png")), &labels, &series, false)
}
