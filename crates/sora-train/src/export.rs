//! Stage 5: a diffusers directory, as `WanPipeline.from_pretrained` and `soragen` read it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use sora_diffusion::models::AutoencoderKlWan;
use sora_model::config::{SchedulerConfig, TransformerConfig, VaeConfig};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::write_whole;
use crate::parameters::Parameters;
use crate::presets;
use crate::run::Run;
use crate::transformer::{Configs, MAX_SEQUENCE_LENGTH, TextToLatents};
use crate::{checkpoint, distil};

/// Options of `sora-train export`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory to write; replaced as a whole.
    #[arg(long, default_value = "models/sora-tiny")]
    out: PathBuf,
    /// Run folder of the VAE.
    #[arg(long, default_value = "runs/vae")]
    vae: PathBuf,
    /// Run folder of the transformer.
    #[arg(long, default_value = "runs/transformer")]
    transformer: PathBuf,
    /// Folder of the tokenizer.
    #[arg(long, default_value = "runs/tokenizer")]
    tokenizer: PathBuf,
    /// Run folder of the prompt enhancer; without it, the model has none.
    #[arg(long)]
    enhancer: Option<PathBuf>,
    /// Native width, pixels.
    #[arg(long, default_value_t = 128)]
    width: u32,
    /// Native height, pixels.
    #[arg(long, default_value_t = 128)]
    height: u32,
    /// Native length, frames.
    #[arg(long, default_value_t = 17)]
    frames: u32,
    /// Default denoising steps.
    #[arg(long, default_value_t = 4)]
    steps: u32,
    /// Default guidance scale.
    #[arg(long, default_value_t = 1.0)]
    guidance_scale: f64,
    /// The transformer is one that `distil` taught to take so few steps; without it, the scheduler is UniPC of
    /// the second order.
    #[arg(long)]
    student: bool,
    /// Shift of the noise schedule.
    #[arg(long, default_value_t = 3.0)]
    flow_shift: f64,
}

/// What Python writes into every config, so that its loaders know how to read ours.
const DIFFUSERS_VERSION: &str = "0.42.1";

/// Writes beside the old directory, then replaces it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut name = args.out.clone().into_os_string();
    name.push(".part");
    let part = PathBuf::from(name);
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    write_all(args, &part).with_context(|| format!("writing {}", part.display()))?;
    // The card is written by people; it stays.
    let card = args.out.join("CARD.md");
    if card.exists() {
        fs::copy(&card, part.join("CARD.md"))?;
    }
    if args.out.exists() {
        fs::remove_dir_all(&args.out)?;
    }
    fs::rename(&part, &args.out)?;
    sora_model::ModelDir::open(&args.out)?;
    // Beside the command that the transformer was trained with.
    Run::note(&args.transformer)?;
    println!("{} written", args.out.display());
    Ok(())
}

fn write_all(args: &Args, out: &Path) -> anyhow::Result<()> {
    let device = Device::Cpu;
    // VAE
    let configs: Configs = presets::read(&args.transformer)?;
    let mut vae_config: VaeConfig = presets::read(&args.vae)?;
    vae_config.latents_mean.clone_from(&configs.statistics.mean);
    vae_config.latents_std.clone_from(&configs.statistics.std);
    let (parameters, _) = Parameters::build(device, 0, |w| AutoencoderKlWan::new(w, &vae_config))?;
    let average = checkpoint::average_of(&args.vae, parameters.len())?;
    let tensors = parameters.named(&average).map(|(n, t)| (n.to_owned(), t.to_kind(Kind::BFloat16)));
    component(out, "vae", "diffusion_pytorch_model", tensors, |config| {
        merge(config, "AutoencoderKLWan", serde_json::to_value(&vae_config)?)
    })?;
    // Transformer and text encoder
    let (parameters, _) = TextToLatents::build(device, 0, &configs)?;
    let average = checkpoint::average_of(&args.transformer, parameters.len())?;
    let part = |prefix, kind| part(&parameters, &average, prefix, kind);
    component(
        out,
        "transformer",
        "diffusion_pytorch_model",
        part("transformer.", Kind::BFloat16),
        |config| merge(config, "WanTransformer3DModel", serde_json::to_value(&configs.transformer)?),
    )?;
    sources(out, &configs, (&parameters, &average))?;
    // Small, and transformers loads it in the format it is stored in: full precision.
    component(out, "text_encoder", "model", part("text_encoder.", Kind::Float), |config| {
        merge(config, "UMT5EncoderModel", serde_json::to_value(&configs.text_encoder)?)?;
        let Some(map) = config.as_object_mut() else { return Ok(()) };
        for (key, value) in [
            ("architectures", json!(["UMT5EncoderModel"])),
            ("model_type", json!("umt5")),
            ("dtype", json!("float32")),
            ("pad_token_id", json!(0)),
            ("eos_token_id", json!(1)),
            ("decoder_start_token_id", json!(0)),
            ("is_encoder_decoder", json!(true)),
        ] {
            map.insert(key.into(), value);
        }
        Ok(())
    })?;
    // Tokenizer, scheduler, index, native settings
    fs::create_dir_all(out.join("tokenizer"))?;
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(args.tokenizer.join(file), out.join("tokenizer").join(file))?;
    }
    if let Some(run) = &args.enhancer {
        crate::enhancer::copy(run, &args.tokenizer, out)?;
    }
    fs::create_dir_all(out.join("scheduler"))?;
    let scheduler = if args.student {
        distil::student_scheduler(args.flow_shift, args.steps)
    } else {
        SchedulerConfig::unipc(args.flow_shift)
    };
    let mut config = json!({});
    merge(&mut config, scheduler.class.name(), serde_json::to_value(scheduler)?)?;
    if let Some(map) = config.as_object_mut() {
        // Our struct serves two classes; Python warns of keys that its own does not have.
        for other in ["shift", "invert_sigmas", "stochastic_sampling"] {
            map.remove(other);
        }
    }
    write_json(&out.join("scheduler/scheduler_config.json"), &config)?;
    write_json(
        &out.join("model_index.json"),
        &json!({
            "_class_name": "WanPipeline",
            "_diffusers_version": DIFFUSERS_VERSION,
            "boundary_ratio": null,
            "expand_timesteps": false,
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
            "text_encoder": ["transformers", "UMT5EncoderModel"],
            "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
            "transformer": ["diffusers", "WanTransformer3DModel"],
            "transformer_2": [null, null],
            "vae": ["diffusers", "AutoencoderKLWan"],
        }),
    )?;
    write_json(
        &out.join("sora.json"),
        &json!({
            "width": args.width,
            "height": args.height,
            "num_frames": args.frames,
            "frame_rate": [sora_world::FRAMES_PER_SECOND, 1],
            "num_inference_steps": args.steps,
            "guidance_scale": args.guidance_scale,
            "max_sequence_length": MAX_SEQUENCE_LENGTH,
        }),
    )
}

/// Those of the values of `parameters` whose names begin with a prefix, which is left out, in a number format.
fn part<'a>(
    parameters: &'a Parameters,
    values: &'a Tensor,
    prefix: &'static str,
    kind: Kind,
) -> impl Iterator<Item = (String, Tensor)> + 'a {
    parameters
        .named(values)
        .filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.to_kind(kind))))
}

/// Writes what the transformer sees sources by, as far as the network has it.
pub(crate) fn sources(
    out: &Path,
    configs: &Configs,
    (parameters, values): (&Parameters, &Tensor),
) -> anyhow::Result<()> {
    let write = |folder: &str, prefix, class, sizes| {
        let tensors = part(parameters, values, prefix, Kind::BFloat16);
        component(out, folder, "diffusion_pytorch_model", tensors, |config| merge(config, class, sizes))
    };
    if let Some(encoder) = &configs.source_encoder {
        let sizes = serde_json::to_value(encoder)?;
        write("source_encoder", "source_encoder.", "SoraSourceEncoder", sizes)?;
    }
    if configs.sources {
        let TransformerConfig { in_channels, patch_size, .. } = &configs.transformer;
        let seen = if configs.source_encoder.is_some() { 2 * in_channels } else { *in_channels };
        let sizes = json!({ "in_channels": seen, "patch_size": patch_size });
        write("source_embedding", "source_embedding.", "SoraSourceEmbedding", sizes)?;
    }
    Ok(())
}

fn component(
    out: &Path,
    name: &str,
    stem: &str,
    tensors: impl Iterator<Item = (String, Tensor)>,
    fill: impl FnOnce(&mut serde_json::Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let dir = out.join(name);
    fs::create_dir_all(&dir)?;
    let tensors: Vec<(String, Tensor)> = tensors.map(|(n, t)| (n, t.contiguous())).collect();
    let file = dir.join(format!("{stem}.safetensors"));
    write_whole(&file, |path| Ok(Tensor::write_safetensors(&tensors, path)?))?;
    let mut config = json!({});
    fill(&mut config)?;
    write_json(&dir.join("config.json"), &config)
}

fn merge(config: &mut serde_json::Value, class: &str, values: serde_json::Value) -> anyhow::Result<()> {
    let (Some(map), serde_json::Value::Object(values)) = (config.as_object_mut(), values) else {
        anyhow::bail!("a config is an object");
    };
    map.extend(values);
    map.insert("_class_name".into(), json!(class));
    map.insert("_diffusers_version".into(), json!(DIFFUSERS_VERSION));
    Ok(())
}

fn write_json(path: &Path, value: &serde_json::Value) -> anyhow::Result<()> {
    fs::write(path, serde_json::to_string_pretty(value)? + "\n")?;
    Ok(())
}
