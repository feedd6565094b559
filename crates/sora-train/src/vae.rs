//! Stage 2: the video VAE, on crops of rendered worlds and of textures.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use sora_diffusion::models::AutoencoderKlWan;
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
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Weight of the Kullback-Leibler term, per latent value.
    #[arg(long, default_value_t = 5e-4)]
    kl_weight: f64,
    /// Train the decoder alone, on latents of the encoder as it is: what the transformer has learned from
    /// stays valid.
    #[arg(long)]
    decoder_only: bool,
    /// Weight of changes from frame to frame, beside those from pixel to pixel.
    #[arg(long, default_value_t = 1.0, value_parser = crate::transformer::weight)]
    temporal_weight: f64,
    /// Number format of the arithmetic.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    #[command(flatten)]
    compute: Compute,
    /// Steps between checkpoints and sample sheets.
    #[arg(long, default_value_t = 200)]
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
fn initial_value(entry: &Entry) -> Tensor {
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
            let weight = parameters::initial_value(entry) * 0.5;
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
            let weight = parameters::initial_value(entry) * 0.3;
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
            let weight = parameters::initial_value(entry) * 0.3;
            let _ = weight.narrow(0, 0, 8).zero_();
            for colour in 0..3 {
                tap(&weight, colour, colour, 1.0);
                tap(&weight, 3 + colour, colour, -1.0);
            }
            weight
        }
        "decoder.conv_out.weight" => {
            let weight = parameters::initial_value(entry) * 0.1;
            for colour in 0..3 {
                for patch in 0..4 {
                    tap(&weight, 4 * colour + patch, colour, 0.5);
                    tap(&weight, 4 * colour + patch, 3 + colour, -0.5);
                }
            }
            weight
        }
        _ => parameters::initial_value(entry),
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

/// Renders batches on another thread, in order, a few ahead.
fn batches(args: &Args, from_step: u64) -> Receiver<Tensor> {
    let (sender, receiver) = sync_channel(3);
    let (domain, seed, batch, crop, frames, steps) =
        (args.domain, args.compute.seed, args.batch as u64, args.crop, args.frames, args.steps);
    std::thread::spawn(move || {
        for step in from_step..steps {
            let clips: Vec<Tensor> =
                (0..batch).map(|i| sample(domain, seed, step * batch + i, crop, frames)).collect();
            if sender.send(Tensor::cat(&clips, 0)).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Differences between neighbouring pixels, what blur loses, and between neighbouring frames, what flickers where the
/// frames of one latent frame meet those of the next.
fn gradients_l1(difference: &Tensor, temporal_weight: f64) -> Tensor {
    let along = |dim: i64| {
        let n = difference.size()[dim as usize];
        (difference.narrow(dim, 1, n - 1) - difference.narrow(dim, 0, n - 1)).abs().mean(Kind::Float)
    };
    along(3) + along(4) + along(2) * temporal_weight
}

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let run = Run::create(&args.run)?;
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
    let batches = batches(args, done);
    let bar = progress::bar(args.steps, done);
    for step in done..args.steps {
        let video = batches.recv()?.to_device(device);
        tch::manual_seed(Seeds::new(args.compute.seed, step, 2).next_u64() as i64);
        leaves.refresh(&parameters);
        let encode = || learning.encode(&video.to_kind(args.dtype.large()));
        let posterior = if args.decoder_only { tch::no_grad(encode) } else { encode() };
        let difference = learning.decode_unclamped(&posterior.sample()).to_kind(Kind::Float) - &video;
        let reconstruction = difference.abs().mean(Kind::Float) + difference.square().mean(Kind::Float);
        let detail = gradients_l1(&difference, args.temporal_weight);
        let kl = (posterior.mean.square() + posterior.logvar.exp() - &posterior.logvar - 1.0)
            .mean(Kind::Float)
            * 0.5;
        let loss = &reconstruction + &detail * 0.5 + &kl * args.kl_weight;
        loss.backward();
        let gradient = leaves.take_gradients();
        let rate = learning_rate(args.learning_rate, step, 50, args.steps);
        let norm = adam.step(&mut parameters.flat, &gradient, rate)?;
        put_encoder_back(&mut parameters.flat);
        put_encoder_back(&mut adam.average);
        let figures = [&reconstruction, &detail, &kl].map(|t| t.double_value(&[]));
        run.log(
            "step,reconstruction,detail,kl,gradient_norm,rate",
            &[(step + 1) as f64, figures[0], figures[1], figures[2], norm, rate],
        )?;
        bar.set_message(format!("reconstruction {:.4} kl {:.2}", figures[0], figures[2]));
        bar.inc(1);
        if step == 0 || (step + 1) % args.every == 0 || step + 1 == args.steps {
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
            let rows = held_out_sheet(&vae, &held_out, device);
            let db: Vec<f64> = rows.chunks(2).map(|pair| psnr(&pair[0], &pair[1])).collect();
            let mean = db.iter().sum::<f64>() / db.len() as f64;
            bar.suspend(|| eprintln!("step {}: held-out PSNR {db:.1?}, mean {mean:.2} dB", step + 1));
            sheet::write(&run.file(&format!("sheet-{:06}.png", step + 1)), &rows)?;
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
