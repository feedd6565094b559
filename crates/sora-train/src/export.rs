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
    /// Directory to write; a model in it is replaced as a whole, anything else is left alone.
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
    let out = args.out.as_path();
    let (part, old) = (beside(out, ".part")?, beside(out, ".old")?);
    if old.exists() {
        anyhow::ensure!(
            !out.exists() && old.join(INDEX).is_file(),
            "{} is in the way: a former export has left it, the model that it replaced; remove it",
            old.display()
        );
        // A former export was killed when it had put the model aside.
        fs::rename(&old, out).with_context(|| format!("putting {} back", old.display()))?;
    }
    check(args)?;
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    write_all(args, &part).with_context(|| format!("writing {}", part.display()))?;
    // The card is written by people; it stays.
    let card = out.join("CARD.md");
    if card.exists() {
        fs::copy(&card, part.join("CARD.md"))?;
    }
    sora_model::ModelDir::open(&part)?;
    replace(out, &part, &old)?;
    // Beside the command that the transformer was trained with.
    Run::note(&args.transformer)?;
    println!("{} written", out.display());
    Ok(())
}

/// What makes a directory a model directory.
const INDEX: &str = "model_index.json";

/// The folder of this name with something behind it.
fn beside(folder: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let name = folder.file_name();
    let name = name.with_context(|| format!("out is \"{}\", it must name a folder", folder.display()))?;
    let mut name = name.to_owned();
    name.push(ending);
    Ok(folder.with_file_name(name))
}

/// Fails if something would be lost that is no model, or that this export reads.
fn check(args: &Args) -> anyhow::Result<()> {
    let out = args.out.as_path();
    if !out.exists() {
        return Ok(());
    }
    anyhow::ensure!(out.is_dir(), "out is {}, which is there and no folder", out.display());
    let files = fs::read_dir(out).with_context(|| format!("out is {}", out.display()))?.count();
    anyhow::ensure!(
        files == 0 || out.join(INDEX).is_file(),
        "out is {}, which is not empty and no model directory, it has no {INDEX}: it is not replaced, name \
         another folder",
        out.display()
    );
    let whole = out.canonicalize().with_context(|| format!("out is {}", out.display()))?;
    let inputs = [("vae", Some(&args.vae)), ("transformer", Some(&args.transformer))];
    let inputs = inputs
        .into_iter()
        .chain([("tokenizer", Some(&args.tokenizer)), ("enhancer", args.enhancer.as_ref())]);
    for (name, input) in inputs.filter_map(|(name, input)| Some((name, input?))) {
        // What is not there is named when it is read.
        let Ok(input) = input.canonicalize() else { continue };
        // A model that is continued keeps its tokenizer, which is copied before the old one goes.
        let is_kept = name == "tokenizer" && input == whole.join("tokenizer");
        anyhow::ensure!(
            is_kept || !input.starts_with(&whole),
            "out is {}, which holds the {name} that is read, {}: it is not replaced, name another folder",
            out.display(),
            input.display()
        );
    }
    Ok(())
}

/// Puts `part` in the place of `out`, which is at `old` meanwhile, and comes back if it fails.
fn replace(out: &Path, part: &Path, old: &Path) -> anyhow::Result<()> {
    let is_there = out.symlink_metadata().is_ok();
    if is_there {
        fs::rename(out, old).with_context(|| format!("renaming {} to {}", out.display(), old.display()))?;
    }
    if let Err(error) = fs::rename(part, out) {
        if is_there {
            fs::rename(old, out)
                .with_context(|| format!("renaming {} back to {}", old.display(), out.display()))?;
        }
        return Err(error).with_context(|| format!("renaming {} to {}", part.display(), out.display()));
    }
    if is_there {
        fs::remove_dir_all(old).with_context(|| format!("removing {}", old.display()))?;
    }
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
        &out.join(INDEX),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_cannot_be_replaced_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let [out, part, old] = ["model", "model.part", "model.old"].map(|name| dir.path().join(name));
        fs::create_dir(&out).expect("a folder");
        fs::write(out.join(INDEX), "old").expect("written");
        let error = replace(&out, &part, &old).expect_err("there is no new one");
        assert!(error.to_string().contains("model.part"), "{error}");
        assert_eq!(fs::read_to_string(out.join(INDEX)).expect("still there"), "old");
        fs::create_dir(&part).expect("a folder");
        fs::write(part.join(INDEX), "new").expect("written");
        replace(&out, &part, &old).expect("replaced");
        assert_eq!(fs::read_to_string(out.join(INDEX)).expect("there"), "new");
        assert!(!old.exists() && !part.exists());
    }

    #[test]
    fn what_is_beside_a_folder_is_not_in_it() {
        for out in ["models/a", "models/a/"] {
            assert_eq!(beside(Path::new(out), ".part").expect("a name"), Path::new("models/a.part"));
        }
        for out in ["", ".", "..", "/"] {
            let error = beside(Path::new(out), ".part").expect_err(out);
            assert!(error.to_string().contains("it must name a folder"), "{error}");
        }
    }
}
