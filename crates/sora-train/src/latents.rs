//! Stage 3: clips become latents once, instead of at every step of the transformer's training.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sora_diffusion::models::AutoencoderKlWan;
use sora_world::{Domain, Scene, Size};
use tch::{Kind, Tensor};

use crate::checkpoint::{self, write_whole};
use crate::parameters::Parameters;
use crate::progress;
use crate::run::{Run, device};
use crate::seeds::Seeds;
use crate::video::clip_to_tensor;

/// Options of `sora-train latents`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder for the shards; shards that are there are kept.
    #[arg(long, default_value = "runs/latents")]
    run: PathBuf,
    /// Run folder of the trained VAE.
    #[arg(long, default_value = "runs/vae")]
    vae: PathBuf,
    /// Clips in all, a multiple of 100.
    #[arg(long, default_value_t = 4000)]
    clips: u64,
    /// First clip of this process, a multiple of 100: several may share the work.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Pixels.
    #[arg(long, default_value_t = 128)]
    width: u32,
    /// Pixels.
    #[arg(long, default_value_t = 128)]
    height: u32,
    /// Frames per clip, 1 + a multiple of 4.
    #[arg(long, default_value_t = 17)]
    frames: usize,
    /// Seed of the scenes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of one operation.
    #[arg(long, default_value_t = 1)]
    threads: i32,
}

/// Clips per shard.
const SHARD: u64 = 100;

/// What is known of a clip besides its latents.
#[derive(Serialize, Deserialize)]
struct Captions {
    short: String,
    detailed: String,
}

/// Renders and encodes what is not there yet.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.clips > 0 && args.clips.is_multiple_of(SHARD),
        "clips is {}, it must be a multiple of {SHARD}",
        args.clips
    );
    ensure!(args.from.is_multiple_of(SHARD), "from is {}, it must be a multiple of {SHARD}", args.from);
    let run = Run::create(&args.run)?;
    let device = device(&args.device)?;
    tch::set_num_threads(args.threads);
    let vae = trained_vae(&args.vae, device)?;
    let _no_grad = tch::no_grad_guard();
    let size = Size { width: args.width, height: args.height };
    let bar = progress::bar(args.clips, args.from);
    for shard in args.from / SHARD..args.clips / SHARD {
        let path = run.file(&format!("latents-{shard:05}.safetensors"));
        if !path.exists() {
            let mut latents = Vec::new();
            let mut captions = Vec::new();
            for i in 0..SHARD {
                let seed = Seeds::new(args.seed, 4, shard * SHARD + i).next_u64();
                let scene = Scene::sample(seed, &Domain::starter());
                let video = clip_to_tensor(&scene.render(size, args.frames)).to_device(device);
                latents.push(
                    vae.encode(&video).mode().to_device(tch::Device::Cpu).to_kind(Kind::Half).contiguous(),
                );
                captions.push(Captions { short: scene.caption(), detailed: scene.detailed_caption() });
                bar.inc(1);
            }
            // The captions first: a shard counts as done once its latents are there.
            let json = serde_json::to_string(&captions)?;
            write_whole(&path.with_extension("json"), |p| Ok(fs::write(p, json)?))?;
            let latents = Tensor::cat(&latents, 0).contiguous();
            write_whole(&path, |p| Ok(Tensor::write_safetensors(&[("latents", &latents)], p)?))?;
        } else {
            bar.inc(SHARD);
        }
    }
    bar.finish();
    Ok(())
}

/// The VAE of a finished stage, with its averaged parameters.
pub(crate) fn trained_vae(run: &Path, device: tch::Device) -> anyhow::Result<AutoencoderKlWan> {
    let config = crate::vae::config();
    let (mut parameters, vae) = Parameters::build(device, 0, |w| AutoencoderKlWan::new(w, &config))?;
    let average = checkpoint::average(&run.join("checkpoint.safetensors"))?;
    ensure!(
        average.numel() as i64 == parameters.len(),
        "the VAE in {} has {} parameters, this configuration {}",
        run.display(),
        average.numel(),
        parameters.len()
    );
    tch::no_grad(|| parameters.flat.copy_(&average));
    Ok(vae)
}

/// All encoded clips, in memory.
pub(crate) struct Dataset {
    /// `[N, z_dim, T, H, W]` in half precision, as the VAE gives them.
    pub(crate) latents: Tensor,
    /// (short, detailed) per clip.
    pub(crate) captions: Vec<(String, String)>,
}

impl Dataset {
    /// Reads every shard of a folder.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let mut latents = Vec::new();
        let mut captions = Vec::new();
        for shard in 0.. {
            let path = dir.join(format!("latents-{shard:05}.safetensors"));
            if !path.exists() {
                break;
            }
            let mut tensors =
                Tensor::read_safetensors(&path).with_context(|| format!("{}", path.display()))?;
            latents.push(tensors.pop().with_context(|| format!("{} is empty", path.display()))?.1);
            let json = fs::read_to_string(path.with_extension("json"))?;
            let list: Vec<Captions> = serde_json::from_str(&json)?;
            captions.extend(list.into_iter().map(|c| (c.short, c.detailed)));
        }
        ensure!(
            !latents.is_empty(),
            "there are no latents in {}: run `sora-train latents` first",
            dir.display()
        );
        Ok(Self { latents: Tensor::cat(&latents, 0), captions })
    }

    /// Mean and standard deviation of every latent channel.
    pub(crate) fn statistics(&self) -> (Vec<f64>, Vec<f64>) {
        let values = self.latents.to_kind(Kind::Float).transpose(0, 1).flatten(1, -1); // [C, …]
        let list = |t: Tensor| Vec::<f64>::try_from(t.to_kind(Kind::Double)).expect("one number per channel");
        let mean = values.mean_dim([1i64].as_slice(), false, Kind::Float);
        (list(mean), list(values.std_dim([1i64].as_slice(), true, false)))
    }
}
