//! Prompt-following, Fréchet distance and flicker of clips made from captions of unseen scenes.

use std::collections::BTreeMap;

use anyhow::Context;
use sora_world::Scene;
use tch::Tensor;

use super::Bench;
use super::measures::{contrast, flicker, frechet};
use super::reader::{Read, Reader};
use super::report::{Report, mean, percent};
use crate::data::{self, Purpose};
use crate::probe::accuracy::Tally;
use crate::probe::questions::Question;
use crate::{progress, sheet};

/// First scene of the captions; those below are the probe's own held-out renders.
const FIRST: u64 = 100_000;
/// First scene of the renders that only the Fréchet distance sees.
const REFERENCE: u64 = 200_000;
/// One caption in three names a combination of subject, colour and ground that was kept out of training.
const HELD_OUT_EVERY: u64 = 3;
/// Prompts on the contact sheet.
const SHEET: usize = 24;

/// What one clip shows, beside what it should.
struct Answered {
    scene: Scene,
    caption: String,
    held_out: bool,
    generated: Read,
    rendered: Read,
}

/// Tallies per question of what captions name.
pub(crate) fn tally<'a>(
    clips: impl Iterator<Item = (&'a Scene, &'a str, &'a Read)>,
) -> BTreeMap<Question, Tally> {
    let mut tallies: BTreeMap<Question, Tally> = BTreeMap::new();
    for (scene, caption, read) in clips {
        let attributes = scene.attributes();
        for question in Question::ALL {
            if let Some(truth) =
                question.answer(attributes).filter(|_| question.is_named(attributes, caption))
            {
                tallies.entry(question).or_default().count(read.answer(question) == truth);
            }
        }
    }
    tallies
}

/// Shares of right answers, one number for each question that was asked.
fn shares(tallies: &BTreeMap<Question, Tally>) -> Vec<f64> {
    tallies.values().map(|tally| tally.share()).collect()
}

/// Makes the clips and measures them.
pub(crate) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let Bench { reader, generator, args, domain, .. } = bench;
    let (size, frames) = (generator.size(), generator.native.num_frames as usize);
    let bar = progress::bar(args.clips, 0);
    bar.set_message("clips");
    let mut answered = Vec::new();
    let mut figures: [Vec<f64>; 4] = Default::default();
    let (mut rows, mut csv) = (Vec::new(), Vec::new());
    for index in 0..args.clips {
        let held_out = index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1;
        let scene =
            data::scene_of_split(args.compute.seed, Purpose::Evaluation, FIRST + index, domain, held_out);
        let caption = scene.caption();
        let video = generator.clip(&bench.prompt(&scene)?, args.compute.seed.wrapping_add(index))?;
        let render = crate::video::clip_to_tensor(&scene.render(size, frames)).squeeze_dim(0);
        let (generated, rendered) = (reader.read(&video)?, reader.read(&render)?);
        for (list, value) in
            figures.iter_mut().zip([flicker(&video), flicker(&render), contrast(&video), contrast(&render)])
        {
            list.push(value);
        }
        csv.push(line(&scene, &caption, held_out, &generated));
        if rows.len() < SHEET {
            rows.push(video.slice(1, None, None, 4));
        }
        answered.push(Answered { scene, caption, held_out, generated, rendered });
        bar.inc(1);
    }
    bar.finish_and_clear();
    sheet::write(&report.file("following-sheet.png"), &rows)?;
    report.csv("following-clips", &["caption", "held out", "wrong"], &csv)?;
    write_following(bench, report, &answered)?;
    write_frechet(bench, report, &answered)?;

    report.say(
        "Flicker and contrast",
        "Flicker is how far a pixel of the calmer half of the picture departs from the line between its neighbours \
         in time, in levels of 255 (0 for a still clip). Contrast is the standard deviation over the pixels of a \
         frame. Scenes with a moving camera are among both columns.",
    );
    let names = ["flicker", "contrast"];
    let cell = |v: &[f64]| format!("{:.2}", mean(v));
    let table: Vec<Vec<String>> = names
        .iter()
        .zip(figures.chunks(2))
        .map(|(name, pair)| vec![(*name).to_owned(), cell(&pair[0]), cell(&pair[1])])
        .collect();
    report.table("flicker", &["", "generated", "renders"], &table)?;
    for (name, pair) in names.iter().zip(figures.chunks(2)) {
        report.figure(&format!("{name} generated"), mean(&pair[0]));
        report.figure(&format!("{name} renders"), mean(&pair[1]));
    }
    let (spent, count) = generator.spent.get();
    let real = f64::from(count) * frames as f64 / generator.frame_rate();
    report.say(
        "Time",
        &format!(
            "{count} clips took {:.2} times their playing time, on {} thread of whatever else this machine was \
             doing; see the benchmarks of the running element for figures of an idle one.",
            spent.as_secs_f64() / real,
            args.compute.threads
        ),
    );
    report.figure("time per playing time", spent.as_secs_f64() / real);
    Ok(())
}

fn line(scene: &Scene, caption: &str, held_out: bool, read: &Read) -> Vec<String> {
    let a = scene.attributes();
    let wrong = |q: &Question| {
        let truth = q.answer(a).filter(|_| q.is_named(a, caption))?;
        let found = read.answer(*q);
        (found != truth).then(|| format!("{}: {}", q.name(), q.word(found)))
    };
    let wrong: Vec<String> = Question::ALL.iter().filter_map(wrong).collect();
    vec![caption.to_owned(), u8::from(held_out).to_string(), wrong.join("; ")]
}

fn write_following(bench: &Bench<'_>, report: &mut Report, answered: &[Answered]) -> anyhow::Result<()> {
    let of = |held_out: Option<bool>, pick: fn(&Answered) -> &Read| {
        let chosen = answered.iter().filter(move |c| held_out.is_none_or(|wanted| c.held_out == wanted));
        tally(chosen.map(move |c| (&c.scene, c.caption.as_str(), pick(c))))
    };
    let generated = |c: Option<bool>| of(c, |c| &c.generated);
    let (all, ordinary, held_out) = (generated(None), generated(Some(false)), generated(Some(true)));
    let renders = of(None, |c| &c.rendered);
    report.say(
        "Prompt-following",
        &format!(
            "Clips from captions of {} scenes that no training has seen, one in three with a combination of \
             subject, colour and ground that training left out. Asked is only what the short caption names. \"Renders\" \
             is what the probe says of renders of the same scenes: what a perfect model would be given; \"probe\" \
             is its accuracy on all its held-out renders, named or not.",
            answered.len()
        ),
    );
    let share = |tallies: &BTreeMap<Question, Tally>, q: &Question| {
        tallies.get(q).map_or(f64::NAN, |tally| tally.share())
    };
    let rows: Vec<Vec<String>> = Question::ALL
        .iter()
        .map(|q| {
            let card = bench.reader.card.renders.get(q.name()).map_or(f64::NAN, |tally| tally.share());
            vec![
                q.name().to_owned(),
                all.get(q).map_or(0, |tally| tally.of).to_string(),
                percent(share(&all, q)),
                percent(share(&ordinary, q)),
                percent(share(&held_out, q)),
                percent(share(&renders, q)),
                percent(card),
            ]
        })
        .collect();
    let header = ["attribute", "asked", "generated", "ordinary", "held out", "renders", "probe"];
    report.table("following", &header, &rows)?;
    let means = [&all, &ordinary, &held_out, &renders].map(|t| mean(&shares(t)));
    report.say(
        "",
        &format!(
            "Mean over the attributes: {} generated ({} ordinary, {} held out), {} renders. The first {SHEET} \
             prompts are on `following-sheet.png`, every fourth frame; `following-clips.csv` has all captions and \
             what the probe missed.",
            percent(means[0]),
            percent(means[1]),
            percent(means[2]),
            percent(means[3])
        ),
    );
    for (name, tallies) in [("generated", &all), ("held out", &held_out), ("renders", &renders)] {
        for (question, tally) in tallies {
            report.figure(&format!("following {name} {}", question.name()), tally.share());
        }
    }
    report.figure("following mean", means[0]);
    report.figure("following mean held out", means[2]);
    Ok(())
}

/// Features as rows, `[N, D]`.
pub(crate) fn stack<'a>(reads: impl Iterator<Item = &'a Read>) -> Tensor {
    Tensor::stack(&reads.map(|read| &read.feature).collect::<Vec<_>>(), 0)
}

fn write_frechet(bench: &Bench<'_>, report: &mut Report, answered: &[Answered]) -> anyhow::Result<()> {
    let Bench { reader, generator, args, domain, .. } = bench;
    let n = args.clips;
    let reference: anyhow::Result<Vec<Read>> = (0..n)
        .map(|i| {
            render(
                reader,
                &data::scene(args.compute.seed, Purpose::Evaluation, REFERENCE + i, domain),
                generator,
            )
        })
        .collect();
    let reference = reference.context("reference renders")?;
    let reference = stack(reference.iter());
    let distance = frechet(&stack(answered.iter().map(|c| &c.generated)), &reference);
    let floor = frechet(&stack(answered.iter().map(|c| &c.rendered)), &reference);
    report.say(
        "Fréchet distance",
        &format!(
            "In the probe's feature space of {} dimensions, {n} generated clips against {n} renders of other scenes: \
             {distance:.2}. {n} renders against the same: {floor:.2}, the floor at this number of clips.",
            reader.card.config.feature
        ),
    );
    report.figure("frechet generated", distance);
    report.figure("frechet renders", floor);
    Ok(())
}

fn render(reader: &Reader, scene: &Scene, generator: &super::generator::Generator) -> anyhow::Result<Read> {
    let clip = scene.render(generator.size(), generator.native.num_frames as usize);
    reader.read(&crate::video::clip_to_tensor(&clip).squeeze_dim(0))
}
