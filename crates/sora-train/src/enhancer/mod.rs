//! The prompt enhancer: a small `UMT5ForConditionalGeneration` that makes short prompts detailed captions,
//! for `soragen prompt-enhance=local`. It needs the tokenizer and nothing else.

mod evaluate;
mod lexicon;
mod pairs;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sora_diffusion::models::Umt5ForConditionalGeneration;
use sora_diffusion::pipelines::prompt_enhancer::{Decoding, Enhancement, Writer};
use sora_diffusion::tokenizer::Tokenizer;
use sora_model::PromptEnhancerDir;
use sora_model::config::{TextDecoderConfig, TextEncoderConfig};
use sora_world::Domain;
use tch::{Device, Kind, Tensor};

use self::pairs::Tokens;
use crate::checkpoint::write_whole;
use crate::optimizer::{AdamW, learning_rate};
use crate::parameters::{Entry, Parameters, initial_value};
use crate::run::Run;
use crate::seeds::Seeds;
use crate::tokenizer::vocabulary_size;
use crate::{checkpoint, json, presets, progress};

/// Options of `sora-train enhancer`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folder; a checkpoint in it is continued. The finished enhancer is written to `prompt_enhancer` in it.
    #[arg(long, default_value = "runs/enhancer")]
    run: PathBuf,
    /// Folder of `sora-train tokenizer`.
    #[arg(long, default_value = "runs/tokenizer")]
    tokenizer: PathBuf,
    /// Steps in all.
    #[arg(long, default_value_t = 600)]
    steps: u64,
    /// Pairs per step.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 2e-3, value_parser = crate::run::rate)]
    learning_rate: f64,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of one operation.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1024))]
    threads: i32,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 250, value_parser = crate::run::at_least_one::<u64>)]
    every: u64,
    /// Prompts of each set that is evaluated at the end.
    #[arg(long, default_value_t = 500)]
    evaluate: u64,
}

/// The configs of a run, `config.json` of its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Configs {
    encoder: TextEncoderConfig,
    decoder: TextDecoderConfig,
}

impl Configs {
    /// 0.9 M parameters over a vocabulary of 512.
    fn new(vocab_size: i64) -> Self {
        Self {
            encoder: TextEncoderConfig {
                vocab_size,
                d_model: 128,
                d_kv: 32,
                d_ff: 256,
                num_layers: 2,
                num_heads: 4,
                dropout_rate: 0.0,
                ..TextEncoderConfig::default()
            },
            decoder: TextDecoderConfig { num_decoder_layers: Some(2), ..TextDecoderConfig::default() },
        }
    }

    fn build(&self, seed: u64) -> anyhow::Result<(Parameters, Umt5ForConditionalGeneration)> {
        // Attention does not scale its scores: what does it is how the queries begin, as in T5.
        let d_kv = self.encoder.d_kv as f64;
        let begin = |entry: &Entry, seeds: &mut Seeds| {
            let value = initial_value(entry, seeds);
            if entry.name.ends_with(".q.weight") { value / d_kv.sqrt() } else { value }
        };
        Parameters::build_with(Device::Cpu, seed, begin, |weights| {
            Umt5ForConditionalGeneration::new(weights, &self.encoder, &self.decoder)
        })
    }
}

/// Prompts whose expansions are shown while training.
const SAMPLES: [&str; 6] = [
    "a red ball bounces on the grass",
    "A blue cube on the snow.",
    "a yellow pyramid at night",
    "boat",
    "a pencil sketch of a green car driving left on the sand",
    "a white ball passes behind a black cube",
];

/// Trains until `steps`, then evaluates and writes the enhancer.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.batch > 0, "batch is 0, it must be at least 1");
    let run = Run::create(&args.run, Some(args.seed))?;
    tch::set_num_threads(args.threads);
    let tokenizer = Tokenizer::open(&args.tokenizer)?;
    let configs = presets::settle(&args.run, Configs::new(vocabulary_size(&args.tokenizer)?))?;
    let domain = Domain::core();
    let (mut parameters, model) = configs.build(args.seed)?;
    let start = configs.decoder.decoder_start_token_id;
    let writer = Writer::new(model, (start, configs.decoder.eos_token_id), &lexicon::lexicon());
    let mut adam = AdamW::new(&parameters.flat, 0.01, 0.998).with_muon(parameters.hidden_matrices());
    let done = checkpoint::resume(&run.checkpoint(), &mut parameters, &mut adam)?;
    run.drop_rows_after(done)?;
    eprintln!("prompt enhancer: {} parameters, {done} of {} steps done", parameters.len(), args.steps);

    let bar = progress::bar(args.steps, done);
    let mut recent = 0.0;
    for step in done..args.steps {
        let pairs = pairs::draw(args.seed, step, args.batch, &domain);
        let batch = Tokens::new(&pairs, &tokenizer, start)?;
        let states = writer.model().encode(&batch.input_ids, &batch.mask);
        let logits = writer.model().decode(&batch.decoder_input_ids, &states, &batch.mask);
        let loss = batch.loss(&logits);
        loss.backward();
        let loss = loss.double_value(&[]);
        let (hits, tokens) = batch.hits(&logits);
        let rate = learning_rate(args.learning_rate, step, 100, args.steps);
        let gradient = parameters.take_gradients();
        let norm = adam.step(&mut parameters.flat, &gradient, rate)?;
        recent = if step == done { loss } else { recent * 0.98 + loss * 0.02 };
        run.log(
            "step,loss,gradient_norm,rate,token_accuracy",
            &[(step + 1) as f64, loss, norm, rate, hits as f64 / tokens as f64],
        )?;
        bar.set_message(format!("loss {recent:.4}"));
        bar.inc(1);
        if (step + 1) % args.every == 0 || step + 1 == args.steps {
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
            bar.suspend(|| eprintln!("step {}: loss {recent:.4}", step + 1));
            let shown = parameters.with_values(&adam.average, || show(&writer, &tokenizer));
            bar.suspend(|| eprintln!("{}", shown.unwrap_or_else(|error| error.to_string())));
        }
    }
    bar.finish();

    // What is exported is measured: the average of the parameters, rounded as it is stored.
    let average = checkpoint::average_of(&args.run, parameters.len())?;
    tch::no_grad(|| parameters.flat.copy_(&average.to_kind(Kind::BFloat16).to_kind(Kind::Float)));
    let out = run.file("prompt_enhancer");
    fs::create_dir_all(out.join("tokenizer"))?;
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(args.tokenizer.join(file), out.join("tokenizer").join(file))?;
    }
    export(&out, &parameters, &configs)?;
    let figures = evaluate::evaluate(&writer, &tokenizer, start, args.evaluate, &domain)?;
    for figures in &figures {
        println!("{figures}");
    }
    json::write(&run.file("evaluation.json"), &figures)?;
    println!("{}", show(&writer, &tokenizer)?);
    println!("{} written", out.display());
    Ok(())
}

/// Copies the enhancer of a run into the model directory `out`, whose tokenizer is the one in `tokenizer`.
pub(crate) fn copy(run: &Path, tokenizer: &Path, out: &Path) -> anyhow::Result<()> {
    let (from, to) = (run.join("prompt_enhancer"), out.join("prompt_enhancer"));
    let trained_on =
        fs::read(from.join(TOKENIZER)).with_context(|| format!("enhancer {}", from.display()))?;
    anyhow::ensure!(
        trained_on == fs::read(tokenizer.join("tokenizer.json"))?,
        "the enhancer in {} was trained on another tokenizer than {}",
        run.display(),
        tokenizer.display()
    );
    fs::create_dir_all(&to)?;
    for file in FILES {
        fs::copy(from.join(file), to.join(file)).with_context(|| format!("enhancer {}", from.display()))?;
    }
    PromptEnhancerDir::open(out)?;
    Ok(())
}

/// What an enhancer consists of, beside the tokenizer, which it shares with the model it is for.
const FILES: [&str; 3] = ["model.safetensors", "lexicon.json", "config.json"];
const TOKENIZER: &str = "tokenizer/tokenizer.json";

/// A few prompts with what becomes of them.
fn show(writer: &Writer, tokenizer: &Tokenizer) -> anyhow::Result<String> {
    let lines = SAMPLES.map(|prompt| {
        let enhancement = writer.enhance(tokenizer, prompt, Decoding::Greedy)?;
        anyhow::Ok(match enhancement {
            Enhancement::Expanded(text) => format!("  {prompt}\n    {text}"),
            Enhancement::Unchanged(reason) => format!("  {prompt}\n    left as it is: {reason}"),
        })
    });
    Ok(lines.into_iter().collect::<anyhow::Result<Vec<_>>>()?.join("\n"))
}

/// Writes a folder `prompt_enhancer`, as transformers and `soragen` read it; `config.json` last, so that a
/// folder that was left half written is not taken for an enhancer.
fn export(out: &Path, parameters: &Parameters, configs: &Configs) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("folder {}", out.display()))?;
    let tensors: Vec<(String, Tensor)> = parameters
        .named(&parameters.flat)
        .map(|(name, tensor)| (name.to_owned(), tensor.detach().to_kind(Kind::BFloat16).contiguous()))
        .collect();
    write_whole(&out.join("model.safetensors"), |path| Ok(Tensor::write_safetensors(&tensors, path)?))?;
    json::write(&out.join("lexicon.json"), &lexicon::lexicon())?;
    let mut config = serde_json::to_value(&configs.encoder)?;
    let decoder = serde_json::to_value(&configs.decoder)?;
    if let (Some(config), Some(decoder)) = (config.as_object_mut(), decoder.as_object()) {
        config.extend(decoder.clone());
        for (key, value) in [
            ("model_type", json!("umt5")),
            ("dtype", json!("bfloat16")),
            ("pad_token_id", json!(0)),
            ("is_encoder_decoder", json!(true)),
        ] {
            config.insert(key.into(), value);
        }
    }
    json::write(&out.join("config.json"), &config)?;
    PromptEnhancerDir::open_folder(out)?;
    Ok(())
}
