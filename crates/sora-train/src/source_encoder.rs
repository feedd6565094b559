//! A source encoder learns from pairs to guess, from the latents of what is shown, those of what the prompt asks for.
//!
//! It learns by itself, frame by frame, which takes a hundredth of what the transformer's steps do. `distil
//! --source-encoder` lets the transformer see its guesses beside the sources. The prompts come from a text encoder that has
//! been trained and stays as it is.

use std::path::PathBuf;

use anyhow::Context;
use sora_diffusion::models::transformer_wan::SourceEncoder;
use sora_diffusion::tokenizer::Tokenizer;
use sora_diffusion::weights::Weights;
use sora_model::config::SourceEncoderConfig;
use tch::{Kind, Tensor};

use crate::latents::trained_vae;
use crate::optimizer::{AdamW, learning_rate};
use crate::pairs::Pairs;
use crate::parameters::{Leaves, Parameters};
use crate::run::{Compute, Run, Sharing};
use crate::seeds::Seeds;
use crate::transformer::{Configs, TextToLatents, in_parallel};
use crate::{checkpoint, presets, progress, sheet};

/// Options of `sora-train source-encoder`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folder; a checkpoint in it is continued.
    #[arg(long, default_value = "runs/source-encoder")]
    run: PathBuf,
    /// Run folder of the student that will see its guesses; its text encoder reads the prompts.
    #[arg(long, default_value = "runs/judged")]
    student: PathBuf,
    /// Folder of `sora-train latents --pairs`.
    #[arg(long, default_value = "runs/pairs")]
    pairs: PathBuf,
    /// Run folder of the VAE, for sample sheets.
    #[arg(long, default_value = "runs/vae")]
    vae: PathBuf,
    /// Folder of `sora-train tokenizer`.
    #[arg(long, default_value = "runs/tokenizer")]
    tokenizer: PathBuf,
    /// Channels of its convolutions, a multiple of 8.
    #[arg(long, default_value_t = SourceEncoderConfig::default().channels)]
    channels: i64,
    /// Residual blocks.
    #[arg(long, default_value_t = SourceEncoderConfig::default().num_layers, value_parser = clap::value_parser!(i64).range(1..=64))]
    layers: i64,
    /// Steps in all.
    #[arg(long, default_value_t = 4000)]
    steps: u64,
    /// Latent frames per step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 4e-3, value_parser = crate::run::rate)]
    learning_rate: f64,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sharing: Sharing,
    /// Steps between checkpoints and sample sheets.
    #[arg(long, default_value_t = 500, value_parser = crate::run::at_least_one::<u64>)]
    every: u64,
}

/// The config of a run: its own sizes, and those of what it reads.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Sizes {
    encoder: SourceEncoderConfig,
    latent_channels: i64,
    text_dim: i64,
}

impl Sizes {
    fn build(&self, weights: &Weights) -> sora_diffusion::Result<SourceEncoder> {
        let weights = weights.pp("source_encoder");
        SourceEncoder::new(&weights, &self.encoder, self.latent_channels, self.text_dim)
    }
}

/// Names and averaged values of what a run has learned, in the names of [`TextToLatents`], and its config.
pub(crate) fn learned(run: &std::path::Path) -> anyhow::Result<(SourceEncoderConfig, Vec<(String, Tensor)>)> {
    let sizes: Sizes = presets::read(run)?;
    let (parameters, _) = Parameters::build(tch::Device::Cpu, 0, |weights| sizes.build(weights))?;
    let average = checkpoint::average_of(run, parameters.len())?;
    let values = parameters.named(&average).map(|(name, value)| (name.to_owned(), value.copy())).collect();
    Ok((sizes.encoder, values))
}

/// Frames that a replica learns from.
struct Part {
    source: Tensor,
    target: Tensor,
    embeds: Tensor,
}

/// Mean absolute difference of the guesses to the targets, as the latents are normalised.
fn difference(encoder: &SourceEncoder, Part { source, target, embeds }: &Part) -> Tensor {
    let style = encoder.read(embeds);
    (encoder.forward(source, &style) - target).abs().mean(Kind::Float)
}

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    use sora_model::config::Config;
    args.sharing.check(args.batch)?;
    let run = Run::create(&args.run, Some(args.compute.seed))?;
    let device = args.compute.begin()?;
    let configs: Configs = presets::read(&args.student)?;
    let encoder = SourceEncoderConfig { channels: args.channels, num_layers: args.layers };
    encoder.check()?;
    let sizes = Sizes {
        encoder,
        latent_channels: configs.transformer.in_channels,
        text_dim: configs.transformer.text_dim,
    };
    let sizes = presets::settle(&args.run, sizes)?;
    let tokenizer = Tokenizer::open(&args.tokenizer)?;
    let pairs = Pairs::open(&args.pairs, &configs.statistics, &tokenizer)?;
    let (mut students, student) = TextToLatents::build(device, args.compute.seed, &configs)?;
    let average = checkpoint::average_of(&args.student, students.len())?;
    tch::no_grad(|| students.flat.copy_(&average));

    let (mut parameters, model) =
        Parameters::build(device, args.compute.seed, |weights| sizes.build(weights))?;
    let mut adam = AdamW::new(&parameters.flat, 1e-3, 0.998).with_muon(parameters.hidden_matrices());
    let done = checkpoint::resume(&run.checkpoint(), &mut parameters, &mut adam)?;
    run.drop_rows_after(done)?;
    let mut replicas = (0..args.sharing.replicas)
        .map(|_| parameters.replica_in(|name| args.sharing.dtype.kind(name), |weights| sizes.build(weights)))
        .collect::<anyhow::Result<Vec<(Leaves, SourceEncoder)>>>()?;
    let vae = trained_vae(&args.vae, device)?;
    eprintln!("source encoder: {} parameters, {done} of {} steps done", parameters.len(), args.steps);

    let bar = progress::bar(args.steps, done);
    let mut recent = 0.0;
    for step in done..args.steps {
        let mut seeds = Seeds::new(args.compute.seed, step, 12);
        let (source, target, tokens) = pairs.draw_frames(&mut seeds, args.batch, device);
        let embeds = tch::no_grad(|| student.embeds(&tokens, device).0);
        let share = (args.batch / args.sharing.replicas) as i64;
        let parts = (0..args.sharing.replicas as i64)
            .map(|i| {
                let [source, target, embeds] =
                    [&source, &target, &embeds].map(|t| t.narrow(0, i * share, share));
                Part { source, target, embeds }
            })
            .collect();
        for (leaves, _) in &mut replicas {
            leaves.refresh(&parameters);
        }
        let learn = |(leaves, encoder): &mut (Leaves, SourceEncoder), part: Part| {
            tch::set_num_threads(args.compute.threads);
            let loss = difference(encoder, &part);
            loss.backward();
            (loss.double_value(&[]), leaves.take_gradients())
        };
        let (loss, gradient) =
            in_parallel(&mut replicas, parts, learn).with_context(|| format!("step {}", step + 1))?;
        let rate = learning_rate(args.learning_rate, step, 50, args.steps);
        let norm = adam.step(&mut parameters.flat, &gradient, rate)?;
        recent = if step == done { loss } else { recent * 0.98 + loss * 0.02 };
        run.log("step,loss,gradient_norm,rate", &[(step + 1) as f64, loss, norm, rate])?;
        bar.set_message(format!("loss {recent:.4}"));
        bar.inc(1);
        if (step + 1) % args.every == 0 || step + 1 == args.steps {
            bar.suspend(|| eprintln!("step {}: loss {recent:.4}", step + 1));
            let rows = parameters.with_values(&adam.average, || {
                pairs.sheet((&vae, &configs.statistics), device, |prompts, source, _| {
                    let _no_grad = tch::no_grad_guard();
                    let tokens: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
                    model.forward(source, &model.read(&student.embeds(&tokens, device).0))
                })
            });
            sheet::write(&run.file(&format!("pairs-{:06}.png", step + 1)), &rows)?;
            // Last: a run that is killed before takes the steps again, and writes again what belongs to them.
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
        }
    }
    bar.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn an_encoder_begins_at_the_source_and_learns_what_each_prompt_makes_of_it() {
        tch::set_num_threads(1);
        let encoder = SourceEncoderConfig { channels: 16, num_layers: 2 };
        let sizes = Sizes { encoder, latent_channels: 2, text_dim: 8 };
        let (mut parameters, encoder) =
            Parameters::build(Device::Cpu, 3, |weights| sizes.build(weights)).expect("a network");
        let mut seeds = Seeds::new(5, 0, 0);
        let source = seeds.normal(&[4, 2, 1, 6, 6]);
        // The first prompt asks for the negative, the second for the picture above.
        let one = seeds.normal(&[1, 3, 8]);
        let embeds = Tensor::cat(&[&one, &one, &-&one, &-&one], 0);
        let target = Tensor::cat(&[-source.narrow(0, 0, 2), source.narrow(0, 2, 2).roll([1], [3])], 0);
        let part = Part { source, target, embeds };
        let guess = || encoder.forward(&part.source, &encoder.read(&part.embeds));
        assert_eq!(tch::no_grad(guess), part.source);

        let mut adam = AdamW::new(&parameters.flat, 0.0, 0.9).with_muon(parameters.hidden_matrices());
        let first = tch::no_grad(|| difference(&encoder, &part)).double_value(&[]);
        for _ in 0..150 {
            difference(&encoder, &part).backward();
            let gradient = parameters.take_gradients();
            adam.step(&mut parameters.flat, &gradient, 1e-2).expect("finite");
        }
        let last = tch::no_grad(|| difference(&encoder, &part)).double_value(&[]);
        assert!(last < 0.3 * first, "the difference went from {first} to {last}");
    }
}
