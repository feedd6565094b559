//! Stage 5: a student that needs few steps and no guidance.
//!
//! The way from noise to data is cut into as many segments as the student will take steps, at the very noise
//! levels of the exported scheduler. In each segment a student learns to do in one step what the teacher does
//! in several, with guidance: progressive distillation (Salimans and Ho, arXiv 2202.00512) of a guided model
//! (Meng et al., arXiv 2210.03142), a segment at a time. The target is exact for the noise it begins at, so
//! nothing is averaged and nothing is bootstrapped. Half of the steps teach single frames behind a clean
//! beginning under block-causal attention: what streaming asks for.
//!
//! With `--restyled` it also restyles the sources of pairs itself, and learns from the difference to the targets (see
//! `restyled.rs`).
//!
//! With a judge (`sora-train judge`) some steps ask the student for clips and streams instead, and teach it what the
//! judge, and a critic that learns beside it, miss in them (see `assignment.rs`). What streams remember, and the critic, are in the
//! checkpoint: a run that is resumed goes on as if it had not been stopped.

mod assignment;
mod critic;
mod judged;
mod kept;
mod restyled;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Context;
use sora_diffusion::schedulers;
use sora_diffusion::tokenizer::Tokenizer;
use sora_diffusion::weights::Weights;
use sora_model::config::SchedulerConfig;
use tch::{Kind, Tensor};

use self::assignment::{Assignment, Plans};
use self::critic::Frames;
use self::judged::{Judging, Readers};
use self::restyled::{Commission, Restyling};
use crate::adapter;
use crate::checkpoint;
use crate::clips::{Batch, CaptionChoice, Clips, Draw, encode, per_frame};
use crate::latents::{Dataset, Statistics, trained_vae};
use crate::optimizer::{AdamW, learning_rate};
use crate::pairs::PairsArgs;
use crate::parameters::Leaves;
use crate::presets;
use crate::run::{Compute, Run, Sharing};
use crate::seeds::Seeds;
use crate::transformer::{Configs, END_ONLY, SAMPLE_PROMPTS, TextToLatents, begin, decode_rows, in_parallel};
use crate::{progress, sheet, source_encoder};

/// Options of `sora-train distil`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folder; a checkpoint in it is continued.
    #[arg(long, default_value = "runs/student")]
    run: PathBuf,
    /// Run folder of the transformer that teaches; the student begins at its averaged weights.
    #[arg(long, default_value = "runs/transformer")]
    teacher: PathBuf,
    /// Run folder of a student to begin at, instead of the teacher's own weights.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Folder of `sora-train latents`.
    #[arg(long, default_value = "runs/latents")]
    latents: PathBuf,
    #[command(flatten)]
    pairs: PairsArgs,
    #[command(flatten)]
    restyling: Restyling,
    #[command(flatten)]
    judging: Judging,
    /// Run folder of the VAE, for sample sheets.
    #[arg(long, default_value = "runs/vae")]
    vae: PathBuf,
    /// Folder of `sora-train tokenizer`.
    #[arg(long, default_value = "runs/tokenizer")]
    tokenizer: PathBuf,
    /// Steps that the student will take from noise to data.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    segments: u32,
    /// Steps of the teacher in each of them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    substeps: u32,
    /// Guidance of the teacher.
    #[arg(long, default_value_t = 3.0)]
    guidance_scale: f64,
    /// Shift of the noise schedule; `export` must be given the same.
    #[arg(long, default_value_t = 3.0)]
    flow_shift: f64,
    /// Share of the steps that are block-causal, 0 to 1.
    #[arg(long, default_value_t = 0.5, value_parser = crate::transformer::share)]
    causal: f64,
    /// Steps in all.
    #[arg(long, default_value_t = 1500)]
    steps: u64,
    /// Clips per step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 2e-4, value_parser = crate::run::rate)]
    learning_rate: f64,
    /// Use Muon for the weight matrices (see `optimizer.rs`).
    #[arg(long)]
    muon: bool,
    /// Only what an adapter of this rank holds learns: of the transformer's matrices the first singular directions of what
    /// changes, and the source embedding (see `adapter.rs`).
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=4096))]
    adapter: Option<i64>,
    /// Run folder of the student that the adapter is added to, where `--init` is one that an adapter has changed already.
    #[arg(long, requires = "adapter")]
    adapted: Option<PathBuf>,
    /// Run folder of `sora-train source-encoder`, whose guesses the student sees beside sources from now on. It stays as it
    /// is.
    #[arg(long)]
    source_encoder: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sharing: Sharing,
    /// Steps between checkpoints and sample sheets.
    #[arg(long, default_value_t = 250, value_parser = crate::run::at_least_one::<u64>)]
    every: u64,
}

/// The scheduler that a student is exported with: each step goes straight along the predicted velocity, so
/// UniPC of the first order and without its corrector.
pub(crate) fn student_scheduler(flow_shift: f64, segments: u32) -> SchedulerConfig {
    SchedulerConfig {
        solver_order: 1,
        disable_corrector: (0..i64::from(segments)).collect(),
        ..SchedulerConfig::unipc(flow_shift)
    }
}

/// The noise levels between which the student steps: `segments` + 1 values from 1 to 0.
fn levels(flow_shift: f64, segments: u32) -> anyhow::Result<Vec<f64>> {
    let mut scheduler = schedulers::from_config(&student_scheduler(flow_shift, segments))?;
    scheduler.set_timesteps(segments as usize)?;
    Ok(scheduler.sigmas().iter().map(|&sigma| f64::from(sigma)).collect())
}

/// What one step learns from.
struct Lesson {
    /// Clean latents, noise and levels; a frame that does not count is clean or nearly so.
    batch: Batch,
    /// The level where the teacher stops, for frames that count; the others keep theirs. `[B, F]`
    goal: Tensor,
}

impl Lesson {
    /// Chooses segments and, for causal steps, the frame to be made.
    fn new(mut batch: Batch, levels: &[f64], seeds: &mut Seeds) -> Self {
        let (b, mut frames) = batch.sigma.size2().expect("B F");
        if batch.causal {
            // Frames after the one to be made cannot be seen.
            frames = 1 + seeds.below(frames as u64) as i64;
            batch.truncate(frames);
        }
        let segments = levels.len() - 1;
        let mut from = Vec::new();
        let mut to = Vec::new();
        let mut weight = Vec::new();
        for _ in 0..b {
            let segment = seeds.below(segments as u64) as usize;
            // Beginnings are mostly clean; a little noise stands for the student's own small errors.
            let context = if seeds.below(3) == 0 { f64::from(seeds.range(0.0, 0.2)) } else { 0.0 };
            for frame in 0..frames {
                let counts = !batch.causal || frame == frames - 1;
                from.push(if counts { levels[segment] } else { context });
                to.push(if counts { levels[segment + 1] } else { context });
                weight.push(f64::from(u8::from(counts)));
            }
        }
        let device = batch.clips.device();
        let tensor = |values: &[f64]| {
            Tensor::from_slice(values).to_kind(Kind::Float).view([b, frames]).to_device(device)
        };
        batch.sigma = tensor(&from);
        batch.weight = tensor(&weight);
        Self { batch, goal: tensor(&to) }
    }

    fn part(&self, start: i64, len: i64) -> Self {
        Self { batch: self.batch.part(start, len), goal: self.goal.narrow(0, start, len) }
    }

    /// The mean velocity of the guided teacher from `sigma` to the goal.
    fn target(
        &self,
        teacher: &TextToLatents,
        tokens: &[&[i64]],
        substeps: u32,
        guidance_scale: f64,
    ) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let device = self.batch.clips.device();
        let mask = self.batch.mask(&teacher.transformer);
        let with = teacher.context(tokens, device);
        let without = teacher.context(&vec![END_ONLY; tokens.len()], device);
        let begin = self.batch.noisy();
        let step = (&self.goal - &self.batch.sigma) / f64::from(substeps);
        let mut x = begin.copy();
        for i in 0..substeps {
            let sigma = &self.batch.sigma + &step * f64::from(i);
            let velocity = |context| {
                let seen = teacher.beside(&x, self.batch.source.as_ref(), context);
                teacher.velocity(&seen, &sigma, context, mask.as_ref())
            };
            let unconditional = velocity(&without);
            let conditional = velocity(&with);
            let velocity = &unconditional + (conditional - &unconditional) * guidance_scale;
            x += velocity * per_frame(&step);
        }
        // Frames that stay where they are have no velocity; their weight is zero.
        let way = per_frame(&(&self.goal - &self.batch.sigma));
        (x - begin) / way.where_self(&way.not_equal(0.0), &way.ones_like())
    }
}

/// A student over the shared parameters, the gradients it collects, and those who teach it.
struct Pupil {
    leaves: Leaves,
    student: TextToLatents,
    teacher: TextToLatents,
    readers: Option<Readers>,
}

/// A share of a step.
enum Task {
    Lesson(Lesson),
    Assignment(Assignment),
    Commission(Commission),
}

impl Task {
    /// Its number in the log: 0 for a lesson, 1 for an assignment, 2 for sources to restyle.
    fn kind(&self) -> f64 {
        match self {
            Self::Lesson(_) => 0.0,
            Self::Assignment(_) => 1.0,
            Self::Commission(_) => 2.0,
        }
    }

    fn part(&self, start: i64, len: i64) -> Self {
        match self {
            Self::Lesson(lesson) => Self::Lesson(lesson.part(start, len)),
            Self::Assignment(assignment) => Self::Assignment(assignment.part(start, len)),
            Self::Commission(commission) => Self::Commission(commission.part(start, len)),
        }
    }
}

impl Pupil {
    /// Loss and gradient of an assignment: the student's, then the critic's where there is one.
    fn draw(
        &mut self,
        assignment: &Assignment,
        tokens: &[&[i64]],
        (args, levels, statistics, credit): (&Args, &[f64], &Statistics, f64),
    ) -> (f64, Tensor) {
        let readers = self.readers.as_mut().expect("there are readers where there are assignments");
        let of = (&args.judging, levels, statistics, credit);
        readers.read(assignment, (&self.student, &mut self.leaves), tokens, of)
    }

    /// Loss and gradient of sources restyled: the student's, then the critic's where there is one.
    fn restyle(
        &mut self,
        commission: &Commission,
        tokens: &[&[i64]],
        (args, credit): (&Args, f64),
    ) -> (f64, Tensor) {
        let (made, shown) = commission.restyle(&self.student, tokens, (args.segments, args.flow_shift));
        let loss = commission.difference(&made) * args.restyling.likeness_weight;
        match &mut self.readers {
            Some(readers) => {
                let seen = ((&commission.target, &made), Some(&shown), Frames::All);
                let of = (args.judging.critic_weight * credit, commission.seed);
                readers.criticise((loss, 0.0), &mut self.leaves, seen, of)
            }
            None => {
                loss.backward();
                (loss.double_value(&[]), self.leaves.take_gradients())
            }
        }
    }

    /// Loss and gradient of a lesson.
    fn learn(&mut self, lesson: &Lesson, tokens: &[&[i64]], args: &Args) -> (f64, Tensor) {
        let batch = &lesson.batch;
        let target = lesson.target(&self.teacher, tokens, args.substeps, args.guidance_scale);
        let context = self.student.context(tokens, batch.clips.device());
        let mask = batch.mask(&self.student.transformer);
        let seen = self.student.beside(&batch.noisy(), batch.source.as_ref(), &context);
        let velocity = self.student.velocity(&seen, &batch.sigma, &context, mask.as_ref());
        let loss = batch.mean_square(&(velocity - target));
        loss.backward();
        (loss.double_value(&[]), self.leaves.take_gradients())
    }
}

/// What an adapter asks of its training.
struct Adapted {
    rank: i64,
    /// 1 where a parameter learns, 0 where it does not.
    learns: Tensor,
    /// The parameters that the adapter is added to.
    before: Tensor,
}

/// Steps between two projections to the rank of an adapter. One takes as long as a step or less.
const FREE_STEPS: u64 = 40;

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.sharing.check(args.batch)?;
    let run = Run::create(&args.run, Some(args.compute.seed))?;
    let device = args.compute.begin()?;
    let teacher_configs: Configs = presets::read(&args.teacher)?;
    let init = args.init.as_ref().unwrap_or(&args.teacher);
    let mut configs: Configs = presets::read(init)?;
    let source_encoder = args.source_encoder.as_deref().map(source_encoder::learned).transpose()?;
    if let Some((config, _)) = &source_encoder {
        anyhow::ensure!(configs.sources, "{} sees no sources", init.display());
        configs.source_encoder = Some(*config);
    }
    let configs = presets::settle(&args.run, configs)?;
    let tokenizer = Tokenizer::open(&args.tokenizer)?;
    let data = Dataset::open(&args.latents)?;
    let named = args.judging.named(&data)?;
    let clips = Clips::new(data, &configs.statistics, &tokenizer)?;
    let pairs = args.pairs.open(&configs, &tokenizer)?;
    let samples: Vec<Vec<i64>> =
        SAMPLE_PROMPTS.iter().map(|p| encode(&tokenizer, p)).collect::<anyhow::Result<_>>()?;
    let levels = levels(args.flow_shift, args.segments)?;

    let (mut parameters, model) = TextToLatents::build(device, args.compute.seed, &configs)?;
    let before = match &args.adapted {
        Some(dir) => {
            begin::at_run(&mut parameters, dir)?;
            Some(parameters.flat.copy())
        }
        None => None,
    };
    begin::at_run(&mut parameters, init)?;
    if let Some((_, values)) = source_encoder {
        begin::at_sources(&mut parameters, &values.into_iter().collect())?;
    }
    let (mut teachers, _) = TextToLatents::build(device, args.compute.seed, &teacher_configs)?;
    begin::at_run(&mut teachers, &args.teacher)?;
    let mut adam = AdamW::new(&parameters.flat, 0.0, 0.995);
    if args.muon {
        adam = adam.with_muon(parameters.hidden_matrices());
    }
    let adapted = args.adapter.map(|rank| Adapted {
        rank,
        learns: parameters.mask(adapter::learns).to_kind(Kind::Float),
        before: before.unwrap_or_else(|| parameters.flat.copy()),
    });
    let path = run.checkpoint();
    let (done, mut beside) = checkpoint::resume_with(&path, &mut parameters, &mut adam)?;
    run.drop_rows_after(done)?;
    let channels = configs.transformer.in_channels;
    // Of a source the student is shown its latents, and what an encoder guesses of them.
    let of_source = match (&pairs, configs.source_encoder) {
        (None, _) => 0,
        (Some(_), None) => channels,
        (Some(_), Some(_)) => 2 * channels,
    };
    let mut critic =
        args.judging.critic((&path, &mut beside), (channels, of_source), device, args.compute.seed)?;
    let mut pupils = (0..args.sharing.replicas)
        .map(|_| {
            let kind = |name: &str| args.sharing.dtype.kind(name);
            let build = |configs| move |weights: &Weights| TextToLatents::new(weights, configs);
            let (leaves, student) = parameters.replica_in(kind, build(&configs))?;
            let (_, teacher) = teachers.replica_in(kind, build(&teacher_configs))?;
            let readers = args.judging.readers(critic.as_ref(), channels, device)?;
            Ok(Pupil { leaves, student, teacher, readers })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let vae = trained_vae(&args.vae, device)?;
    if let Some(judge) = pupils.iter().find_map(|pupil| pupil.readers.as_ref()?.judge.as_ref()) {
        eprintln!("judged by {}", judge.trusted().iter().map(|q| q.name()).collect::<Vec<_>>().join(", "));
    }
    eprintln!(
        "student: {} parameters, {done} of {} steps done, levels {levels:.3?}",
        parameters.len(),
        args.steps
    );

    let mut plans = Plans::new();
    if !named.is_empty() {
        let mut streams: Vec<_> = pupils
            .iter_mut()
            .filter_map(|pupil| Some((&pupil.student.transformer, &mut pupil.readers.as_mut()?.streams)))
            .collect();
        kept::go_on((&beside, device), (&clips, &named), args.batch, &mut plans, &mut streams);
    }
    drop(beside);
    let count = parameters.len();
    // The levels of a lesson are those of the schedule.
    let draw = Draw { batch: args.batch, causal: args.causal, captions: CaptionChoice::Both, shift: 1.0 };
    let bar = progress::bar(args.steps, done);
    let mut recent = 0.0;
    for step in done..args.steps {
        let mut seeds = Seeds::new(args.compute.seed, step, 8);
        let judged = !named.is_empty()
            && f64::from(Seeds::new(args.compute.seed, step, 9).unit()) < args.judging.judged;
        let (task, tokens) = if judged {
            let of = (args.batch, args.judging.streams);
            let (assignment, tokens) = plans.next((&clips, &named), &mut seeds, of, device);
            (Task::Assignment(assignment), tokens)
        } else {
            match args.pairs.of_step(pairs.as_ref(), args.compute.seed, step) {
                Some(pairs) if args.restyling.is_due(args.compute.seed, step) => {
                    let of = (args.batch, args.restyling.single_steps);
                    let (commission, tokens) = Commission::draw(pairs, &mut seeds, of, device);
                    (Task::Commission(commission), tokens)
                }
                of_step => {
                    let (batch, tokens) = of_step.unwrap_or(&clips).draw(&mut seeds, &draw, device);
                    (Task::Lesson(Lesson::new(batch, &levels, &mut seeds)), tokens)
                }
            }
        };
        let drawn = !matches!(task, Task::Lesson(_));
        let kind = task.kind();
        let share = tokens.len() / args.sharing.replicas;
        for pupil in &mut pupils {
            pupil.leaves.refresh(&parameters);
        }
        let parts = tokens
            .chunks(share)
            .enumerate()
            .map(|(i, tokens)| (task.part((i * share) as i64, share as i64), tokens))
            .collect();
        let credit = critic.as_ref().map_or(0.0, |critic| critic.credit());
        let learn = |pupil: &mut Pupil, (task, tokens): (Task, &[&[i64]])| {
            tch::set_num_threads(args.compute.threads);
            match task {
                Task::Lesson(lesson) => pupil.learn(&lesson, tokens, args),
                Task::Assignment(assignment) => {
                    pupil.draw(&assignment, tokens, (args, &levels, &configs.statistics, credit))
                }
                Task::Commission(commission) => pupil.restyle(&commission, tokens, (args, credit)),
            }
        };
        let (loss, gradient) =
            in_parallel(&mut pupils, parts, learn).with_context(|| format!("step {}", step + 1))?;
        let rate = learning_rate(args.learning_rate, step, 50, args.steps);
        // The replicas' threads are idle.
        tch::set_num_threads(args.compute.threads * args.sharing.replicas as i32);
        let mut students = gradient.narrow(0, 0, count);
        if let Some(adapted) = &adapted {
            // What never has a gradient stays as it is.
            students *= &adapted.learns;
        }
        let norm = adam.step(&mut parameters.flat, &students, rate)?;
        let ends = (step + 1) % FREE_STEPS == 0 || step + 1 == args.steps;
        if let Some(Adapted { rank, before, .. }) = adapted.as_ref().filter(|_| ends) {
            adapter::project(&parameters, before, *rank);
        }
        if let Some(critic) = critic.as_mut().filter(|_| drawn) {
            critic.step(&gradient.narrow(0, count, critic.len()), step + 1)?;
        }
        tch::set_num_threads(args.compute.threads);
        recent = if step == done { loss } else { recent * 0.98 + loss * 0.02 };
        let figures = [(step + 1) as f64, loss, norm, rate, kind];
        run.log("step,loss,gradient_norm,rate,task", &figures)?;
        let complaints = pupils.iter().find_map(|pupil| Some(pupil.readers.as_ref()?.complaints));
        if let Some([judge, critic, wrong]) = complaints.filter(|_| drawn) {
            run.log_to("judged.csv", "step,judge,critic,critic_wrong", &[figures[0], judge, critic, wrong])?;
        }
        bar.set_message(format!("loss {recent:.4}"));
        bar.inc(1);
        if (step + 1) % args.every == 0 || step + 1 == args.steps {
            bar.suspend(|| eprintln!("step {}: loss {recent:.4}", step + 1));
            let shape = clips.shape()?;
            let latents = parameters
                .with_values(&adam.average, || model.sample(&samples, shape, None, (&levels, 1.0), device));
            let rows = decode_rows(&vae, &latents, &configs.statistics);
            sheet::write(&run.file(&format!("sheet-{:06}.png", step + 1)), &rows)?;
            if let Some(pairs) = &pairs {
                let rows = parameters.with_values(&adam.average, || {
                    pairs.sheet((&vae, &configs.statistics), device, |prompts, source, target| {
                        let tokens: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
                        let commission = Commission::to_look_at(source, target);
                        tch::no_grad(|| {
                            commission.restyle(&model, &tokens, (args.segments, args.flow_shift)).0
                        })
                    })
                });
                sheet::write(&run.file(&format!("pairs-{:06}.png", step + 1)), &rows)?;
            }
            // Last: a run that is killed before takes the steps again, and writes again what belongs to them.
            let streams: Vec<_> =
                pupils.iter().filter_map(|pupil| Some(&pupil.readers.as_ref()?.streams)).collect();
            let mut beside = kept::of_streams(&plans, &streams);
            beside.extend(critic.as_ref().map(|critic| critic.kept()).unwrap_or_default());
            checkpoint::save_with(&path, &parameters, &adam, &beside)?;
        }
    }
    bar.finish();
    Ok(())
}
