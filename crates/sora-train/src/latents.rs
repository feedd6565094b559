//! Stage 3: clips become latents once, instead of at every step of the transformer's training.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sora_diffusion::models::AutoencoderKlWan;
use sora_model::config::VaeConfig;
use sora_world::Size;
use tch::{Kind, Tensor};

use crate::checkpoint::{self, write_whole};
use crate::data::{self, DomainChoice, NATIVE_SIZES, Purpose};
use crate::parameters::Parameters;
use crate::run::{Compute, Dtype, Run};
use crate::video::{clip_to_tensor, to_tensor};
use crate::{json, origin, pairs, presets, progress};

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
    /// Scenes to render; held-out combinations are left out.
    #[arg(long, value_enum, default_value = "core")]
    domain: DomainChoice,
    /// One size for all clips, WIDTHxHEIGHTxFRAMES; without it, the mixture of native sizes and lengths.
    #[arg(long, value_parser = parse_shape)]
    size: Option<Shape>,
    /// Cut the middle square out of every picture before encoding it, as models trained on one size do.
    #[arg(long)]
    square_crop: bool,
    /// Clips to validate on instead of clips to learn from: other scenes, of the same combinations.
    #[arg(long)]
    validation: bool,
    /// Pairs of clips of one scene in two styles, to learn restyling from (see `pairs.rs`), instead of single clips.
    #[arg(long, conflicts_with_all = ["square_crop", "domain"])]
    pairs: bool,
    /// Number format of the arithmetic.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    #[command(flatten)]
    compute: Compute,
}

/// Clips per shard.
const SHARD: u64 = 100;

/// What decides what the shards of a folder hold, `origin.json`.
#[derive(PartialEq, Serialize, Deserialize)]
struct Origin {
    /// Digest of the VAE's weights.
    vae: String,
    seed: u64,
    domain: String,
    size: Option<String>,
    square_crop: bool,
    validation: bool,
    pairs: bool,
}

/// What is known of a clip besides its latents.
#[derive(Serialize, Deserialize)]
struct Captions {
    short: String,
    detailed: String,
}

/// Size and length of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) size: Size,
    pub(crate) frames: usize,
}

/// Shards take these shapes in turn.
const MIXTURE: [Shape; 8] = [
    Shape { size: NATIVE_SIZES[0], frames: 17 },
    Shape { size: NATIVE_SIZES[1], frames: 17 },
    Shape { size: NATIVE_SIZES[0], frames: 17 },
    Shape { size: NATIVE_SIZES[0], frames: 33 },
    Shape { size: NATIVE_SIZES[0], frames: 17 },
    Shape { size: NATIVE_SIZES[2], frames: 17 },
    Shape { size: NATIVE_SIZES[0], frames: 17 },
    Shape { size: NATIVE_SIZES[1], frames: 17 },
];

pub(crate) fn parse_shape(text: &str) -> Result<Shape, String> {
    let numbers: Result<Vec<u32>, _> = text.split('x').map(str::parse).collect();
    let ok = |n: &[u32]| n[..2].iter().all(|side| (32..=1024).contains(side) && side.is_multiple_of(8));
    match numbers.as_deref() {
        Ok(n @ &[width, height, frames]) if ok(n) && (1..=257).contains(&frames) && frames % 4 == 1 => {
            Ok(Shape { size: Size { width, height }, frames: frames as usize })
        }
        _ => Err(format!(
            "{text} is not WIDTHxHEIGHTxFRAMES with sides of 32 to 1024, multiples of 8, and 1 + a multiple of 4 frames, 257 at most"
        )),
    }
}

/// Renders and encodes what is not there yet.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.clips > 0 && args.clips.is_multiple_of(SHARD),
        "clips is {}, it must be a multiple of {SHARD}",
        args.clips
    );
    ensure!(args.from.is_multiple_of(SHARD), "from is {}, it must be a multiple of {SHARD}", args.from);
    let run = Run::create(&args.run, Some(args.compute.seed))?;
    let device = args.compute.begin()?;
    let config: VaeConfig = presets::read(&args.vae)?;
    presets::settle(&args.run, config)?;
    let origin = Origin {
        vae: origin::digest(&args.vae)?,
        seed: args.compute.seed,
        domain: args.domain.name(),
        size: args.size.map(|Shape { size, frames }| format!("{}x{}x{frames}", size.width, size.height)),
        square_crop: args.square_crop,
        validation: args.validation,
        pairs: args.pairs,
    };
    origin::settle(&run.file("origin.json"), origin, "latents")?;
    let vae = trained_vae_in(&args.vae, device, args.dtype)?;
    let _no_grad = tch::no_grad_guard();
    let domain = args.domain.domain();
    let purpose = if args.validation { Purpose::Validation } else { Purpose::Latents };
    let bar = progress::bar(args.clips, args.from);
    for shard in args.from / SHARD..args.clips / SHARD {
        let path = run.file(&format!("latents-{shard:05}.safetensors"));
        if path.exists() {
            bar.inc(SHARD);
            continue;
        }
        let shape = args.size.unwrap_or(MIXTURE[(shard % MIXTURE.len() as u64) as usize]);
        let mut latents = Vec::new();
        let mut sources = Vec::new();
        let mut captions = Vec::new();
        let encode = |video: &Tensor| {
            let z = vae.encode(&video.to_device(device).to_kind(args.dtype.large())).mode();
            z.to_device(tch::Device::Cpu).to_kind(Kind::Half).contiguous()
        };
        for i in 0..SHARD {
            if args.pairs {
                let (size, frames) = (shape.size, shape.frames);
                let pair = pairs::pair(args.compute.seed, purpose, shard * SHARD + i, size, frames);
                let video = |pixels: &[u8]| {
                    to_tensor(pixels, frames as i64, i64::from(size.height), i64::from(size.width))
                };
                latents.push(encode(&video(&pair.target)));
                sources.push(encode(&video(&pair.source)));
                let [short, detailed] = pair.prompts;
                captions.push(Captions { short, detailed });
                bar.inc(1);
                continue;
            }
            let scene = data::scene_of_split(args.compute.seed, purpose, shard * SHARD + i, &domain, false);
            let mut video = clip_to_tensor(&scene.render(shape.size, shape.frames));
            if args.square_crop {
                video = middle_square(&video);
            }
            latents.push(encode(&video));
            captions.push(Captions { short: scene.caption(), detailed: scene.detailed_caption() });
            bar.inc(1);
        }
        // The captions first: a shard counts as done once its latents are there.
        let json = serde_json::to_string(&captions)?;
        write_whole(&path.with_extension("json"), |p| Ok(fs::write(p, json)?))?;
        let latents = Tensor::cat(&latents, 0).contiguous();
        let mut tensors = vec![("latents", latents)];
        if args.pairs {
            tensors.push(("sources", Tensor::cat(&sources, 0).contiguous()));
        }
        write_whole(&path, |p| Ok(Tensor::write_safetensors(&tensors, p)?))?;
    }
    bar.finish();
    Ok(())
}

/// `[1, 3, T, H, W]` → `[1, 3, T, s, s]` with s the shorter side.
fn middle_square(video: &Tensor) -> Tensor {
    let (_, _, _, h, w) = video.size5().expect("B C T H W");
    let side = h.min(w);
    video.narrow(3, (h - side) / 2, side).narrow(4, (w - side) / 2, side).contiguous()
}

/// The VAE of a finished stage, with its averaged parameters, in f32.
pub(crate) fn trained_vae(run: &Path, device: tch::Device) -> anyhow::Result<AutoencoderKlWan> {
    trained_vae_in(run, device, Dtype::F32)
}

/// [`trained_vae`] in a number format, in which it expects its inputs.
fn trained_vae_in(run: &Path, device: tch::Device, dtype: Dtype) -> anyhow::Result<AutoencoderKlWan> {
    let config: VaeConfig = presets::read(run)?;
    let (mut parameters, _) = Parameters::build(device, 0, |w| AutoencoderKlWan::new(w, &config))?;
    let average = checkpoint::average_of(run, parameters.len())?;
    tch::no_grad(|| parameters.flat.copy_(&average));
    let (_, vae) = parameters.replica_in(|_| dtype.large(), |w| AutoencoderKlWan::new(w, &config))?;
    Ok(vae)
}

/// Encoded clips of one size and length.
pub(crate) struct Bucket {
    /// `[N, z_dim, T, H, W]` in half precision, as the VAE gives them.
    pub(crate) latents: Tensor,
    /// The same of what is shown while they are made, in a folder of pairs.
    pub(crate) sources: Option<Tensor>,
    /// (short, detailed) per clip.
    pub(crate) captions: Vec<(String, String)>,
    /// Which scene of the folder's seed and purpose each clip shows.
    pub(crate) scenes: Vec<u64>,
}

/// All encoded clips, in memory.
pub(crate) struct Dataset {
    /// Clips of equal shape together.
    pub(crate) buckets: Vec<Bucket>,
}

impl Dataset {
    /// Reads every shard of a folder.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        type Shards = (Vec<Tensor>, Vec<Tensor>, Vec<(String, String)>, Vec<u64>);
        let mut shards: BTreeMap<Vec<i64>, Shards> = BTreeMap::new();
        for (shard, path) in shard_paths(dir)? {
            let tensors = Tensor::read_safetensors(&path).with_context(|| format!("{}", path.display()))?;
            let mut tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
            let latents =
                tensors.remove("latents").with_context(|| format!("{} has no latents", path.display()))?;
            let list: Vec<Captions> = json::read(&path.with_extension("json"))?;
            let (clips, sources, captions, scenes) = shards.entry(latents.size()[1..].to_vec()).or_default();
            clips.push(latents);
            sources.extend(tensors.remove("sources"));
            ensure!(
                sources.is_empty() || sources.len() == clips.len(),
                "{} holds pairs and single clips: they go into folders of their own",
                dir.display()
            );
            scenes.extend((shard * SHARD..).take(list.len()));
            captions.extend(list.into_iter().map(|c| (c.short, c.detailed)));
        }
        ensure!(
            !shards.is_empty(),
            "there are no latents in {}: run `sora-train latents` first",
            dir.display()
        );
        let buckets = shards
            .into_values()
            .map(|(latents, sources, captions, scenes)| Bucket {
                latents: Tensor::cat(&latents, 0),
                sources: (!sources.is_empty()).then(|| Tensor::cat(&sources, 0)),
                captions,
                scenes,
            })
            .collect();
        Ok(Self { buckets })
    }

    /// Clips in all.
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.captions.len()).sum()
    }

    /// Mean and standard deviation of every latent channel.
    pub(crate) fn statistics(&self) -> Statistics {
        let values: Vec<Tensor> = self
            .buckets
            .iter()
            .map(|bucket| bucket.latents.to_kind(Kind::Float).transpose(0, 1).flatten(1, -1)) // [C, …]
            .collect();
        let values = Tensor::cat(&values, 1);
        let list = |t: Tensor| Vec::<f64>::try_from(t.to_kind(Kind::Double)).expect("one number per channel");
        Statistics {
            mean: list(values.mean_dim([1i64].as_slice(), false, Kind::Float)),
            std: list(values.std_dim([1i64].as_slice(), true, false)),
        }
    }
}

/// What latents are normalised by; a transformer keeps those it was begun with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Statistics {
    /// One per latent channel.
    pub(crate) mean: Vec<f64>,
    /// One per latent channel.
    pub(crate) std: Vec<f64>,
}

/// Number and path of every shard, in their order.
fn shard_paths(dir: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let entries = fs::read_dir(dir).with_context(|| format!("latents folder {}", dir.display()))?;
    let numbered = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let number = name.strip_prefix("latents-")?.strip_suffix(".safetensors")?.parse().ok()?;
        Some((number, path))
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| numbered(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_and_bad_ones_named() {
        let shape = parse_shape("160x96x33").expect("good");
        assert_eq!((shape.size.width, shape.size.height, shape.frames), (160, 96, 33));
        for bad in ["160x96", "160x96x16", "161x96x17", "8x96x17", "160x96x17x2", "axbxc", "160x96x261"] {
            assert!(parse_shape(bad).expect_err("bad").starts_with(bad), "{bad}");
        }
    }

    #[test]
    fn the_middle_square_is_the_middle() {
        let video = Tensor::arange(10, (Kind::Float, tch::Device::Cpu)).view([1, 1, 1, 1, 10]);
        let video = video.expand([1, 3, 2, 4, 10], false);
        let square = middle_square(&video);
        assert_eq!(square.size(), [1, 3, 2, 4, 4]);
        assert_eq!(
            Vec::<f32>::try_from(square.get(0).get(0).get(0).get(0)).expect("row"),
            [3.0, 4.0, 5.0, 6.0]
        );
    }
}
