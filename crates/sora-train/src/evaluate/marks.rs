//! Marks that stay: does a trail that was left remain?
//!
//! Scenes in which the subject leaves a trail before a still camera. The probe draws the marks on the ground, cell
//! by cell of a grid, frame by frame. A mark is lasting if a cell that shows it in one frame still shows
//! it some frames later, where the subject is not in the way. The same is measured on renders, and there also from
//! the true marks, and on clips and renders of something that slides and leaves nothing: these tell what the measure
//! is worth.

use sora_world::{Camera, Ground, Motion, Scene};
use tch::{Kind, Tensor};

use super::Bench;
use super::permanence::restricted;
use super::reader::Reader;
use super::report::{Report, mean, percent};
use crate::data::{self, Purpose};
use crate::figure::{Labels, Series, lines};
use crate::probe::clips::true_maps;
use crate::probe::network::MAP_SIDE;
use crate::video::clip_to_tensor;
use crate::{progress, sheet};

/// First scene.
const FIRST: u64 = 700_000;
/// Share of a cell from which on it counts as marked, and as still marked. Trails are thin: few cells are half full.
const MARKED: f64 = 0.2;
const STILL_MARKED: f64 = 0.1;
/// From this share on the subject is in the way.
const IN_THE_WAY: f64 = 0.2;
/// Below this agreement with the truth on renders, what the probe draws is worth nothing.
const TRUSTED: f64 = 0.3;
/// Fewer marked cells are no trail.
const LEAST: f64 = 3.0;

/// What is measured, in the order of the tables.
const NAMES: [&str; 5] = [
    "generated",
    "generated, no trail asked for",
    "renders",
    "renders without a trail",
    "renders, true marks",
];

/// Per lag the share of cells that stay marked, and the marked cells at the end.
type Lasting = (Vec<Option<f64>>, f64);

/// Lasting of the marks of one clip from maps `[T, MAPS, H, W]` in 0…1: for every lag from 1 to T − 1 the share
/// of cells that stay marked (nothing where no frame shows a trail so early), and the marked cells of the last
/// frame.
pub(crate) fn lasting(maps: &Tensor) -> Lasting {
    let t = maps.size()[0];
    let (subject, marks) = (maps.select(1, 0), maps.select(1, 2));
    let count = |t: &Tensor| t.sum(Kind::Double).double_value(&[]);
    let shares = (1..t)
        .map(|lag| {
            let marked = marks.narrow(0, 0, t - lag).gt(MARKED);
            // Only what can be seen later counts.
            let free = subject.narrow(0, lag, t - lag).lt(IN_THE_WAY);
            let marked = marked.logical_and(&free);
            let still = marked.logical_and(&marks.narrow(0, lag, t - lag).gt(STILL_MARKED));
            (count(&marked) >= LEAST).then(|| count(&still) / count(&marked))
        })
        .collect();
    (shares, count(&marks.get(t - 1).gt(MARKED)))
}

/// Mean over clips, lag by lag.
fn curve(clips: &[Lasting], rate: f64) -> Vec<(f64, f64)> {
    let lags = clips.iter().map(|(shares, _)| shares.len()).max().unwrap_or(0);
    (0..lags)
        .filter_map(|lag| {
            let values: Vec<f64> = clips.iter().filter_map(|(shares, _)| *shares.get(lag)?).collect();
            // Few clips have a trail at once: the ends of the curve would be those of single clips.
            (values.len() * 4 >= clips.len()).then(|| ((lag + 1) as f64 / rate, 100.0 * mean(&values)))
        })
        .collect()
}

/// Agreement of drawn and true marks: intersection over union of marked cells.
fn agreement(drawn: &Tensor, truth: &Tensor) -> f64 {
    let [a, b] = [drawn, truth].map(|maps| maps.select(1, 2).gt(MARKED));
    let count = |t: Tensor| t.sum(Kind::Double).double_value(&[]);
    count(a.logical_and(&b)) / count(a.logical_or(&b)).max(1.0)
}

/// The probe's maps `[T, MAPS, H, W]` of a clip as shares of the cells.
fn draw(reader: &Reader, video: &Tensor) -> anyhow::Result<Tensor> {
    let logits = reader.reading(video)?.maps.get(0);
    // A probe that was taught with marked cells weighing more than others has as much more in its logits.
    let _ = logits.select(1, 2).g_sub_scalar_(reader.card.marked_weight.ln());
    Ok(logits.sigmoid())
}

/// Makes clips with trails and looks whether they stay.
pub(crate) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let Bench { reader, generator, args, domain, .. } = bench;
    let domains = [Motion::LeavesTrail, Motion::Slides].map(|motion| {
        let mut domain = restricted(domain, Camera::Still, motion);
        // Nothing leaves a trail on the sea.
        domain.grounds.retain(|ground| *ground != Ground::Sea);
        domain
    });
    let rate = generator.frame_rate();
    let bar = progress::bar(args.claim_clips, 0);
    bar.set_message("marks that stay");
    let mut clips: [Vec<Lasting>; NAMES.len()] = Default::default();
    let (mut rows, mut csv, mut agreements) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..args.claim_clips {
        let [trail, nothing] = domains.each_ref().map(|domain| {
            data::scene_of_split(args.compute.seed, Purpose::Evaluation, FIRST + i, domain, false)
        });
        let make = |scene: &Scene| generator.clip(&bench.prompt(scene)?, args.compute.seed.wrapping_add(i));
        let render = |scene: &Scene| scene.render(generator.size(), generator.native.num_frames as usize);
        let video = make(&trail)?;
        let clip = render(&trail);
        let truth = true_maps(&clip.truth, clip.size, [MAP_SIDE, MAP_SIDE]);
        let drawn = draw(reader, &clip_to_tensor(&clip).squeeze_dim(0))?;
        let plain = draw(reader, &clip_to_tensor(&render(&nothing)).squeeze_dim(0))?;
        agreements.push(agreement(&drawn, &truth));
        let maps = [
            (&trail, draw(reader, &video)?),
            (&nothing, draw(reader, &make(&nothing)?)?),
            (&trail, drawn),
            (&nothing, plain),
            (&trail, truth),
        ];
        for ((what, list), (scene, maps)) in NAMES.iter().zip(&mut clips).zip(&maps) {
            let (shares, cells) = lasting(maps);
            let one_second = shares.get(rate as usize - 1).copied().flatten();
            let cell = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.3}"));
            csv.push(vec![scene.caption(), (*what).to_owned(), format!("{cells}"), cell(one_second)]);
            list.push((shares, cells));
        }
        if rows.len() < 12 {
            rows.push(video.slice(1, None, None, 2));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    sheet::write(&report.file("marks-sheet.png"), &rows)?;
    report.csv("marks", &["caption", "what", "marked cells at the end", "still there after 1 s"], &csv)?;
    write(report, &clips, &agreements, rate)
}

fn write(
    report: &mut Report,
    clips: &[Vec<Lasting>; NAMES.len()],
    agreements: &[f64],
    rate: f64,
) -> anyhow::Result<()> {
    let curves: Vec<Vec<(f64, f64)>> = clips.iter().map(|list| curve(list, rate)).collect();
    report.say(
        "Marks that stay (claim f)",
        &format!(
            "Clips of something that leaves a trail before a still camera. The probe draws the marks on a grid of {MAP_SIDE}×{MAP_SIDE}; \
             on renders its marked cells and the true ones have an intersection over union of {}. A trail is there if \
             three cells or more are marked at the end. Still there: of the cells marked in a frame and free of the \
             subject later, the share that is still marked so many seconds later. Something that slides and leaves \
             nothing shows what the probe draws where there is no trail.",
            percent(mean(agreements))
        ),
    );
    if mean(agreements) < TRUSTED {
        report.say(
            "",
            &format!(
                "This probe draws marks too badly (below {}) for its rows to say anything; the sheet can be looked at.",
                percent(TRUSTED)
            ),
        );
    }
    let at = |curve: &[(f64, f64)], second: f64| {
        let point = curve.iter().find(|(x, _)| (x - second).abs() < 1e-6);
        point.map_or(f64::NAN, |(_, y)| y / 100.0)
    };
    let rows: Vec<Vec<String>> = NAMES
        .iter()
        .zip(clips.iter().zip(&curves))
        .map(|(name, (list, curve))| {
            let there = list.iter().filter(|(_, cells)| *cells >= LEAST).count() as f64 / list.len() as f64;
            let figures = [there, at(curve, 0.5), at(curve, 1.0), at(curve, 1.5)];
            for (what, value) in ["there", "after 0.5 s", "after 1 s", "after 1.5 s"].iter().zip(figures) {
                report.figure(&format!("marks {what} {name}"), value);
            }
            std::iter::once((*name).to_owned()).chain(figures.map(percent)).collect()
        })
        .collect();
    report.figure("marks agreement", mean(agreements));
    let header = ["", "a trail is there", "still there after 0.5 s", "after 1 s", "after 1.5 s"];
    report.table("marks-summary", &header, &rows)?;
    let series: Vec<Series> = NAMES
        .iter()
        .zip(curves)
        .filter(|(_, points)| !points.is_empty())
        .map(|(name, points)| Series { name: (*name).to_owned(), points })
        .collect();
    if series.is_empty() {
        report.say("", "No clip shows a trail for long enough to draw a curve.");
        return Ok(());
    }
    let labels = Labels { title: "Cells of a trail that are still marked", x: "seconds later", y: "%" };
    lines(&report.file("marks.png"), &labels, &series, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sora_world::{Domain, Size};

    fn trail() -> Tensor {
        let domain = restricted(&Domain::core(), Camera::Still, Motion::LeavesTrail);
        let size = Size { width: 64, height: 64 };
        true_maps(&Scene::sample(3, &domain).render(size, 17).truth, size, [MAP_SIDE, MAP_SIDE])
    }

    #[test]
    fn true_trails_stay() {
        let (shares, cells) = lasting(&trail());
        assert!(cells >= LEAST, "{cells} cells");
        let known: Vec<f64> = shares.into_iter().flatten().collect();
        assert!(!known.is_empty() && known.iter().all(|&share| share > 0.97), "{known:?}");
    }

    #[test]
    fn a_trail_that_is_wiped_away_does_not() {
        let maps = trail();
        let _ = maps.select(1, 2).narrow(0, 12, 5).zero_();
        let (shares, cells) = lasting(&maps);
        assert_eq!(cells, 0.0);
        assert!(shares[7].expect("a trail early on") < 0.7, "{shares:?}");
    }
}
