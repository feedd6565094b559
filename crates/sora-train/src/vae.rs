//! Stage 2: the video VAE, on crops of rendered worlds and of textures.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use sora_diffusion::models::AutoencoderKlWan;
use sora_model::config::VaeConfig;
use sora_world::Size;
use tch::{Kind, Tensor};

use crate::data::{self, DomainChoice, NATIVE_SIZES, Purpose};
use crate::optimizer::{AdamW, learning_rate};
use crate::parameters::{self, Entry, Parameters};
use crate::presets::{self, VaePreset};
use crate::run::{Compute, Dtype, Run};
use crate::seeds::Seeds;
use crate::video::{clip_to_tensor, psnr, to_tensor};
use crate::{checkpoint, progress, sheet, textures};

mod made;
use made::Made;

/// Options of `sora-train vae`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folder; a checkpoint in it is continued.
    #[arg(long, default_value = "runs/vae")]
    run: PathBuf,
    /// Size of the network.
    #[arg(long, value_enum, default_value = "tiny")]
    preset: VaePreset,
    /// Begin at the weights of a trained VAE (the `vae` folder of a diffusers directory) instead of from
    /// nothing.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Scenes to learn from.
    #[arg(long, value_enum, default_value = "core")]
    domain: DomainChoice,
    /// Steps in all.
    #[arg(long, default_value_t = 2000)]
    steps: u64,
    /// Clips per step.
    #[arg(long, default_value_t = 6)]
    batch: usize,
    /// Side of the square crops, pixels; a multiple of 8.
    #[arg(long, default_value_t = 64)]
    crop: u32,
    /// Frames per clip, 1 + a multiple of 4.
    #[arg(long, default_value_t = 9)]
    frames: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 1e-3, value_parser = crate::run::rate)]
    learning_rate: f64,
    /// Weight of the Kullback-Leibler term, per latent value.
    #[arg(long, default_value_t = 5e-4)]
    kl_weight: f64,
    /// Train the decoder alone, on latents of the encoder as it is: what the transformer has learned from
    /// stays valid.
    #[arg(long)]
    decoder_only: bool,
    /// Weight of the mean square of wrong changes from frame to frame, which spreads what is new in a latent frame over
    /// its frames: without it, much stands at the first of these and flickers.
    #[arg(long, default_value_t = 0.0, value_parser = crate::transformer::weight)]
    temporal_weight: f64,
    /// Weight of how changes are shared out among the frames of a latent frame, against how they are in the video: 0 leaves
    /// the borders between latent frames as the rest makes them.
    #[arg(long, default_value_t = 0.0, value_parser = crate::transformer::weight)]
    border_weight: f64,
    /// Noise on latents before they are decoded, from none to so many of their standard deviations, another for each
    /// frame: what a transformer makes is never quite what the encoder would have made.
    #[arg(long, default_value_t = 0.0, value_parser = crate::transformer::weight)]
    latent_noise: f64,
    #[command(flatten)]
    made: made::Args,
    /// Number format of the arithmetic.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    #[command(flatten)]
    compute: Compute,
    /// Steps between checkpoints and sample sheets.
    #[arg(long, default_value_t = 200, value_parser = crate::run::at_least_one::<u64>)]
    every: u64,
    /// Clips of the sample sheets and the PSNR beside them.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    held_out: u64,
}

/// Where the VAE begins: at a block average, not at noise.
///
/// The averaging shortcuts of the residual layout already carry a small picture through the network, if
/// the branches beside them begin at zero and the first and last layers only pass colours on. Both heads
/// end in a norm and a SiLU; a colour survives these as a pair of channels of opposite sign
/// (silu(x) − silu(−x) = x) next to constant channels that steady the norm. Training then starts at about
/// 18 dB and learns details, instead of spending its first hours on finding this path.
fn initial_value(entry: &Entry, seeds: &mut Seeds) -> Tensor {
    let Entry { name, shape } = entry;
    let options = (Kind::Float, tch::Device::Cpu);
    let zeros = || Tensor::zeros(shape.as_slice(), options);
    // Adds to the centre tap of a causal kernel: the newest frame, the middle pixel.
    let tap = |weight: &Tensor, o: i64, i: i64, value: f64| {
        let mut at = weight.narrow(0, o, 1).narrow(1, i, 1).narrow(2, 2, 1).narrow(3, 1, 1).narrow(4, 1, 1);
        let _ = at.g_add_scalar_(value);
    };
    let is_residual_branch = name.ends_with("conv2.weight")
        || name.ends_with("resample.1.weight")
        || name.ends_with("attentions.0.proj.weight");
    match name.as_str() {
        _ if is_residual_branch => zeros(),
        "quant_conv.weight" | "post_quant_conv.weight" => {
            Tensor::eye(shape[0], options).view(shape.as_slice())
        }
        _ if name.ends_with("conv_shortcut.weight") => {
            Tensor::eye_m(shape[0], shape[1], options).view(shape.as_slice())
        }
        "encoder.conv_in.weight" => {
            let weight = parameters::initial_value(entry, seeds) * 0.5;
            let _ = weight.narrow(0, 0, 8).zero_();
            for colour in 0..3 {
                for patch in 0..4 {
                    tap(&weight, colour, 4 * colour + patch, 0.25);
                    tap(&weight, 3 + colour, 4 * colour + patch, -0.25);
                }
            }
            weight
        }
        "encoder.conv_in.bias" | "decoder.conv_in.bias" => {
            let bias = zeros();
            let _ = bias.narrow(0, 6, 2).fill_(if name.starts_with("encoder") { 1.0 } else { 4.0 });
            bias
        }
        "encoder.conv_out.weight" => {
            let weight = parameters::initial_value(entry, seeds) * 0.3;
            let _ = weight.narrow(0, 0, 3).zero_();
            for colour in 0..3 {
                // Four time offsets of every channel of conv_in lie side by side here.
                for offset in 0..4 {
                    tap(&weight, colour, 4 * colour + offset, 0.25);
                    tap(&weight, colour, 4 * (3 + colour) + offset, -0.25);
                }
            }
            let _ = weight.narrow(0, shape[0] / 2, shape[0] / 2).zero_();
            weight
        }
        "encoder.conv_out.bias" => {
            let bias = zeros();
            // A standard deviation of 0.08 to begin with.
            let _ = bias.narrow(0, shape[0] / 2, shape[0] / 2).fill_(-5.0);
            bias
        }
        "decoder.conv_in.weight" => {
            let weight = parameters::initial_value(entry, seeds) * 0.3;
            let _ = weight.narrow(0, 0, 8).zero_();
            for colour in 0..3 {
                tap(&weight, colour, colour, 1.0);
                tap(&weight, 3 + colour, colour, -1.0);
            }
            weight
        }
        "decoder.conv_out.weight" => {
            let weight = parameters::initial_value(entry, seeds) * 0.1;
            for colour in 0..3 {
                for patch in 0..4 {
                    tap(&weight, 4 * colour + patch, colour, 0.5);
                    tap(&weight, 4 * colour + patch, 3 + colour, -0.5);
                }
            }
            weight
        }
        _ => parameters::initial_value(entry, seeds),
    }
}

/// One in so many crops is a texture.
const TEXTURE_EVERY: u64 = 4;

/// Crop `index` of a run, in −1…1, `[1, 3, T, crop, crop]`.
fn sample(domain: DomainChoice, run_seed: u64, index: u64, crop: u32, frames: usize) -> Tensor {
    let mut seeds = Seeds::new(run_seed, Purpose::Vae as u64, index);
    if seeds.below(TEXTURE_EVERY) == 0 {
        let (side, sides) = (i64::from(crop), (crop as usize, crop as usize));
        return to_tensor(&textures::render(&mut seeds, frames, sides), frames as i64, side, side);
    }
    let native = NATIVE_SIZES[seeds.below(NATIVE_SIZES.len() as u64) as usize];
    let size = Size { width: native.width.max(crop), height: native.height.max(crop) };
    let scene = data::scene(seeds.next_u64(), Purpose::Vae, 0, &domain.domain());
    let clip = clip_to_tensor(&scene.render(size, frames));
    let offset = |seeds: &mut Seeds, side: u32| seeds.below(u64::from(side - crop) + 1) as i64;
    let (y, x) = (offset(&mut seeds, size.height), offset(&mut seeds, size.width));
    clip.narrow(3, y, i64::from(crop)).narrow(4, x, i64::from(crop)).contiguous()
}

/// Crops of a step.
struct Batch {
    /// Videos to encode and decode, `[B, 3, T, crop, crop]` in −1…1.
    videos: Tensor,
    /// Latents that a model made, and the videos that they were to show.
    made: Option<(Tensor, Tensor)>,
}

/// Renders batches on another thread, in order, a few ahead.
fn batches(args: &Args, made: Option<Made>, from_step: u64) -> Receiver<Batch> {
    let (sender, receiver) = sync_channel(3);
    let (domain, seed, batch, crop, frames, steps) =
        (args.domain, args.compute.seed, args.batch as u64, args.crop, args.frames, args.steps);
    std::thread::spawn(move || {
        for step in from_step..steps {
            let clips: Vec<Tensor> =
                (0..batch).map(|i| sample(domain, seed, step * batch + i, crop, frames)).collect();
            let made = made.as_ref().map(|made| made.crops(step, crop));
            if sender.send(Batch { videos: Tensor::cat(&clips, 0), made }).is_err() {
                break;
            }
        }
    });
    receiver
}

/// `[B, C, F, h, w]` with white noise of up to `most` standard deviations of its channels, each clip its own share of it.
fn with_noise(latents: &Tensor, most: f64) -> Tensor {
    if most == 0.0 {
        return latents.shallow_clone();
    }
    let std = latents.detach().std_dim([0i64, 2, 3, 4].as_slice(), true, true);
    let level = Tensor::rand([latents.size()[0], 1, 1, 1, 1], (latents.kind(), latents.device())) * most;
    latents + latents.randn_like() * std * level
}

/// From each pixel to the next along a dimension.
fn changes(video: &Tensor, dim: i64) -> Tensor {
    let n = video.size()[dim as usize];
    video.narrow(dim, 1, n - 1) - video.narrow(dim, 0, n - 1)
}

/// What is wrong with decoded videos.
struct Errors {
    /// Of pixels: mean absolute and mean square.
    pixels: Tensor,
    /// Of differences between neighbouring pixels, what blur loses, and between neighbouring frames: mean absolute.
    detail: Tensor,
    /// Of differences between neighbouring frames: mean square. Their absolute values would not do: of a change that comes
    /// in one frame or little by little in four the sum of these is the same.
    temporal: Tensor,
    /// Of the shares of [`change_shares`]: mean absolute.
    borders: Tensor,
}

/// Which share of a clip's changes falls to each frame of a latent frame of `factor`, that at the border first: `[B,
/// factor]`. Of a clip in which hardly anything changes, equal ones.
fn change_shares(video: &Tensor, factor: i64) -> Tensor {
    /// Of −1…1: half a level of 255, below which there is nothing to see.
    const STILL: f64 = 0.004;
    let change = changes(video, 2).abs().mean_dim([1i64, 3, 4].as_slice(), false, Kind::Float);
    let by_frame = change.view([change.size()[0], -1, factor]).mean_dim(1, false, Kind::Float) + STILL;
    &by_frame / by_frame.sum_dim_intlist(1, true, Kind::Float)
}

impl Errors {
    /// Of what was decoded, whose latent frames are of `factor` frames, to what the videos were.
    fn of(decoded: &Tensor, video: &Tensor, factor: i64) -> Self {
        let difference = &(decoded - video);
        let shares = change_shares(decoded, factor) - change_shares(video, factor);
        let along = |dim: i64| changes(difference, dim).abs().mean(Kind::Float);
        Self {
            pixels: difference.abs().mean(Kind::Float) + difference.square().mean(Kind::Float),
            detail: along(3) + along(4) + along(2),
            temporal: changes(difference, 2).square().mean(Kind::Float),
            borders: shares.abs().mean(Kind::Float),
        }
    }
}

impl std::ops::Add for Errors {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pixels: self.pixels + other.pixels,
            detail: self.detail + other.detail,
            temporal: self.temporal + other.temporal,
            borders: self.borders + other.borders,
        }
    }
}

/// Fails if crops or clips are not of whole latent positions.
fn check(args: &Args, config: &VaeConfig) -> anyhow::Result<()> {
    anyhow::ensure!(args.batch > 0, "batch is 0, it must be at least 1");
    let side = config.scale_factor_spatial as u32;
    let crop = args.crop;
    anyhow::ensure!(
        crop > 0 && crop.is_multiple_of(side),
        "crop is {crop}, it must be a multiple of {side}, and at least {side}"
    );
    // Of one latent frame alone nothing changes.
    let (frames, factor) = (args.frames, config.temporal_scale_factor() as usize);
    anyhow::ensure!(
        frames > factor && (frames - 1).is_multiple_of(factor),
        "frames is {frames}, it must be 1 + a multiple of {factor}, and at least {}",
        1 + factor
    );
    Ok(())
}

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    check(args, &args.preset.config())?;
    let run = Run::create(&args.run, Some(args.compute.seed))?;
    let device = args.compute.begin()?;
    let config = presets::settle(&args.run, args.preset.config())?;
    let (mut parameters, vae) = Parameters::build_with(device, args.compute.seed, initial_value, |w| {
        AutoencoderKlWan::new(w, &config)
    })?;
    let mut adam = AdamW::new(&parameters.flat, 1e-4, 0.998).with_muon(parameters.hidden_matrices());
    if let Some(init) = &args.init {
        parameters.begin_at(&init.join("diffusion_pytorch_model.safetensors"), "", &[])?;
        adam.average.copy_(&parameters.flat);
    }
    let done = checkpoint::resume(&run.checkpoint(), &mut parameters, &mut adam)?;
    run.drop_rows_after(done)?;
    eprintln!("VAE: {} parameters, {done} of {} steps done", parameters.len(), args.steps);

    // In `decoder_only` runs the encoder's part of the parameters is put back after every step. It is the average,
    // which is what the latents were made with.
    let frozen = args.decoder_only.then(|| {
        let encoder = |name: &str| name.starts_with("encoder.") || name.starts_with("quant_conv.");
        (parameters.mask(encoder), adam.average.copy())
    });
    let put_encoder_back = |flat: &mut Tensor| {
        if let Some((mask, average)) = &frozen {
            tch::no_grad(|| flat.copy_(&average.where_self(mask, flat)));
        }
    };
    put_encoder_back(&mut parameters.flat);

    let held_out: Vec<Tensor> = (0..args.held_out)
        .map(|i| {
            clip_to_tensor(
                &data::scene(1, Purpose::Evaluation, i, &args.domain.domain()).render(NATIVE_SIZES[0], 9),
            )
        })
        .collect();
    let (mut leaves, learning) =
        parameters.replica_in(|_| args.dtype.large(), |w| AutoencoderKlWan::new(w, &config))?;
    let made = Made::open(&args.made, &run.file("made.safetensors"), args.compute.seed, args.domain)?;
    let batches = batches(args, made, done);
    let factor = config.temporal_scale_factor();
    let bar = progress::bar(args.steps, done);
    for step in done..args.steps {
        let Batch { videos, made } = batches.recv()?;
        let video = videos.to_device(device);
        tch::manual_seed(Seeds::new(args.compute.seed, step, 2).next_u64() as i64);
        leaves.refresh(&parameters);
        let encode = || learning.encode(&video.to_kind(args.dtype.large()));
        let posterior = if args.decoder_only { tch::no_grad(encode) } else { encode() };
        let latents = with_noise(&posterior.sample(), args.latent_noise);
        let decode = |latents: &Tensor| learning.decode_unclamped(latents).to_kind(Kind::Float);
        let mut errors = Errors::of(&decode(&latents), &video, factor);
        if let Some((latents, video)) = made {
            let latents = latents.to_device(device).to_kind(args.dtype.large());
            errors = errors + Errors::of(&decode(&latents), &video.to_device(device), factor);
        }
        let Errors { pixels: reconstruction, detail, temporal, borders } = errors;
        let kl = (posterior.mean.square() + posterior.logvar.exp() - &posterior.logvar - 1.0)
            .mean(Kind::Float)
            * 0.5;
        let loss = &reconstruction
            + &detail * 0.5
            + &temporal * args.temporal_weight
            + &borders * args.border_weight
            + &kl * args.kl_weight;
        loss.backward();
        let gradient = leaves.take_gradients();
        let rate = learning_rate(args.learning_rate, step, 50, args.steps);
        let norm = adam.step(&mut parameters.flat, &gradient, rate)?;
        put_encoder_back(&mut parameters.flat);
        put_encoder_back(&mut adam.average);
        let figures = [&reconstruction, &detail, &temporal, &borders, &kl].map(|t| t.double_value(&[]));
        run.log(
            "step,reconstruction,detail,temporal,borders,kl,gradient_norm,rate",
            &[(step + 1) as f64, figures[0], figures[1], figures[2], figures[3], figures[4], norm, rate],
        )?;
        bar.set_message(format!("reconstruction {:.4} kl {:.2}", figures[0], figures[4]));
        bar.inc(1);
        if step == 0 || (step + 1) % args.every == 0 || step + 1 == args.steps {
            let rows = held_out_sheet(&vae, &held_out, device);
            let db: Vec<f64> = rows.chunks(2).map(|pair| psnr(&pair[0], &pair[1])).collect();
            let mean = db.iter().sum::<f64>() / db.len() as f64;
            bar.suspend(|| eprintln!("step {}: held-out PSNR {db:.1?}, mean {mean:.2} dB", step + 1));
            sheet::write(&run.file(&format!("sheet-{:06}.png", step + 1)), &rows)?;
            // Last: a run that is killed before takes the steps again, and writes again what belongs to them.
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
        }
    }
    bar.finish();
    Ok(())
}

/// Originals and reconstructions, in turn.
fn held_out_sheet(vae: &AutoencoderKlWan, clips: &[Tensor], device: tch::Device) -> Vec<Tensor> {
    let _no_grad = tch::no_grad_guard();
    clips
        .iter()
        .flat_map(|clip| {
            let decoded = vae.decode(&vae.encode(&clip.to_device(device)).mode()).to_device(tch::Device::Cpu);
            [clip.squeeze_dim(0), decoded.squeeze_dim(0)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[1, 3, 9, 2, 2]`, brighter by each of these from frame to frame.
    fn steps(by: [f32; 8]) -> Tensor {
        let mut level = -0.5;
        let mut levels = vec![level];
        levels.extend(by.map(|step| {
            level += step;
            level
        }));
        Tensor::from_slice(&levels).view([1, 1, 9, 1, 1]).expand([1, 3, 9, 2, 2], false)
    }

    #[test]
    fn what_stands_at_borders_has_another_share_of_the_changes() {
        let even = steps([0.1; 8]);
        let jumps = steps([0.4, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0, 0.0]);
        let shares =
            |video: &Tensor| Vec::<f64>::try_from(change_shares(video, 4).view(4)).expect("four shares");
        for share in shares(&even) {
            assert!((share - 0.25).abs() < 1e-6, "{share}");
        }
        assert!(shares(&jumps)[0] > 0.95, "{:?}", shares(&jumps));
        // What cannot be seen is no flicker, and a still clip has no shares to speak of.
        let hardly = shares(&steps([0.0004, 0.0, 0.0, 0.0, 0.0004, 0.0, 0.0, 0.0]));
        assert!(hardly[0] < 0.28, "{hardly:?}");

        // The sum of absolute changes does not tell them apart, the other two do.
        let of = |decoded: &Tensor| {
            let errors = Errors::of(decoded, &steps([0.0; 8]), 4);
            [errors.detail, errors.temporal, errors.borders].map(|error| error.double_value(&[]))
        };
        let ([sum, square, border], [sum_of_jumps, square_of_jumps, border_of_jumps]) =
            (of(&even), of(&jumps));
        assert!((sum - sum_of_jumps).abs() < 1e-6, "{sum} and {sum_of_jumps}");
        assert!(square_of_jumps > 3.9 * square && border < 1e-6 && border_of_jumps > 0.3);
    }

    #[test]
    fn noise_is_of_the_size_of_the_channels() {
        let scale = Tensor::from_slice(&[0.1f32, 10.0]).view([1, 2, 1, 1, 1]);
        let latents = Seeds::new(1, 1, 1).normal(&[4, 2, 3, 8, 8]) * &scale;
        assert_eq!(with_noise(&latents, 0.0), latents);
        let added = (with_noise(&latents, 0.3) - &latents) / scale;
        let by_channel = added.square().mean_dim([0i64, 2, 3, 4].as_slice(), false, Kind::Float).sqrt();
        for channel in Vec::<f64>::try_from(by_channel).expect("two channels") {
            assert!((0.01..0.35).contains(&channel), "{channel}");
        }
    }
}
