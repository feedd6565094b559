//! A model whose transformer has an adapter for blocks that are shown their source, or sees these through an encoder.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::fixtures;
use sora_diffusion::device::DtypeChoice;
use sora_diffusion::models::transformer_wan::CacheLimits;
use sora_diffusion::noise::seeded_noise;
use sora_diffusion::pipelines::{BlockRequest, BlockSource, LoadOptions, StreamOptions, TextToVideoPipeline};
use tch::{Device, Kind, Tensor};

const WIDTH: i64 = 48;
const HEIGHT: i64 = 32;
const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
/// Matrices that get an adapter: in blocks, and around them.
const ADAPTED: [&str; 5] = [
    "blocks.0.attn1.to_q",
    "blocks.0.attn2.to_k",
    "blocks.1.ffn.net.2",
    "condition_embedder.text_embedder.linear_1",
    "proj_out",
];

/// The fixture as it is; with an adapter of this size beside it; with the same adapter in its transformer; or with an encoder
/// whose guess differs from the source by something of this size.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    Beside(f64),
    Inside(f64),
    Encoded(f64),
}

/// Numbers that are the same in every run: a seed for each tensor.
struct Random(u64);

impl Random {
    fn tensor(&mut self, shape: &[i64]) -> Tensor {
        self.0 += 1;
        seeded_noise(self.0, shape)
    }
}

/// Sizes of the encoder.
const CHANNELS: i64 = 16;
const LAYERS: i64 = 2;

/// An encoder for the fixture's latents and prompts, whose last layer is of this size: at 0 it guesses the source itself.
fn write_encoder(dir: &Path, weights: &BTreeMap<String, Tensor>, (size, random): (f64, &mut Random)) {
    let latents = weights["patch_embedding.weight"].size()[1];
    let text = weights["condition_embedder.text_embedder.linear_1.weight"].size()[1];
    let conv = |random: &mut Random, inputs: i64, outputs: i64| random.tensor(&[outputs, inputs, 3, 3]) * 0.1;
    let mut tensors = vec![
        ("query".to_owned(), random.tensor(&[text])),
        ("style.weight".to_owned(), random.tensor(&[CHANNELS, text])),
        ("style.bias".to_owned(), random.tensor(&[CHANNELS])),
        ("modulation.weight".to_owned(), random.tensor(&[2 * CHANNELS * (LAYERS + 1), CHANNELS]) * 0.3),
        ("modulation.bias".to_owned(), random.tensor(&[2 * CHANNELS * (LAYERS + 1)]) * 0.3),
        ("conv_in.weight".to_owned(), conv(random, latents, CHANNELS)),
        ("conv_in.bias".to_owned(), random.tensor(&[CHANNELS])),
        ("conv_out.weight".to_owned(), conv(random, CHANNELS, latents) * size),
        ("conv_out.bias".to_owned(), Tensor::zeros([latents], (Kind::Float, Device::Cpu))),
    ];
    for layer in 0..LAYERS {
        for part in ["conv1", "conv2"] {
            let name = format!("blocks.{layer}.{part}");
            tensors.push((format!("{name}.weight"), conv(random, CHANNELS, CHANNELS)));
            tensors.push((format!("{name}.bias"), random.tensor(&[CHANNELS]) * 0.1));
        }
    }
    fs::create_dir(dir.join("source_encoder")).expect("a folder");
    let config = format!("{{\"channels\": {CHANNELS}, \"num_layers\": {LAYERS}}}");
    fs::write(dir.join("source_encoder/config.json"), config).expect("a file");
    let file = dir.join("source_encoder/diffusion_pytorch_model.safetensors");
    Tensor::write_safetensors(&tensors, file).expect("a file");
}

fn load(form: Form) -> TextToVideoPipeline {
    let dir = tempfile::tempdir().expect("a folder");
    copy(&fixtures().join("tiny-wan21"), dir.path());
    let file = dir.path().join(TRANSFORMER);
    let mut weights: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(&file).expect("weights").into_iter().collect();
    // Not the generator that all tests of this program share.
    let mut random = Random(3);
    let embedding = &weights["patch_embedding.weight"];
    let mut embedding = vec![
        ("weight", random.tensor(&embedding.size()) * 0.2),
        ("bias", random.tensor(&[embedding.size()[0]]) * 0.2),
    ];
    if let Form::Encoded(size) = form {
        // Three parts of what is seen of a source are of its own latents, one is of the guess.
        let whole = &embedding[0].1;
        let latents = whole.size()[1];
        embedding[0].1 = Tensor::cat(&[whole * 0.75, whole * 0.25], 1);
        let share = if size == 0.0 { 0.0 } else { 0.3 };
        embedding.push(("guess_share", Tensor::full([latents], share, (Kind::Float, Device::Cpu))));
        write_encoder(dir.path(), &weights, (size, &mut random));
    }
    fs::create_dir(dir.path().join("source_embedding")).expect("a folder");
    let path = dir.path().join("source_embedding/diffusion_pytorch_model.safetensors");
    Tensor::write_safetensors(&embedding, path).expect("a file");

    let mut factors = Vec::new();
    for module in ADAPTED {
        let name = format!("{module}.weight");
        let (outputs, inputs) = weights[&name].size2().expect("a matrix");
        let size = match form {
            Form::Plain | Form::Encoded(_) => 0.0,
            Form::Beside(size) | Form::Inside(size) => size,
        };
        let down = random.tensor(&[2, inputs]) * 0.2;
        let up = random.tensor(&[outputs, 2]) * size;
        if let Form::Inside(_) = form {
            let sum = &weights[&name] + up.matmul(&down);
            weights.insert(name, sum);
        }
        factors.push((format!("transformer.{module}.lora_A.weight"), down));
        factors.push((format!("transformer.{module}.lora_B.weight"), up));
    }
    match form {
        Form::Plain | Form::Encoded(_) => {}
        Form::Beside(_) => {
            fs::create_dir(dir.path().join("source_lora")).expect("a folder");
            let path = dir.path().join("source_lora/pytorch_lora_weights.safetensors");
            Tensor::write_safetensors(&factors, path).expect("a file");
        }
        Form::Inside(_) => {
            let weights: Vec<_> = weights.into_iter().collect();
            Tensor::write_safetensors(&weights, &file).expect("a file");
        }
    }
    let options = LoadOptions { dtype: DtypeChoice::F32, ..LoadOptions::default() };
    TextToVideoPipeline::load(dir.path(), &options, &mut |_| ControlFlow::Continue(())).expect("it loads")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let copied = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            fs::create_dir(&copied).expect("a folder");
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).expect("a copy");
        }
    }
}

/// How a block is asked for.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Whether the network is shown its source.
    shown: bool,
    guidance_scale: f64,
    prompt: &'static str,
    strength: f64,
}

/// Frames of such blocks, in one stream.
fn blocks(form: Form, requests: &[Block]) -> Vec<Vec<u8>> {
    let pipeline = load(form);
    let memory = Some(CacheLimits { sink: 1, frames: 4 });
    let options = StreamOptions { width: WIDTH, height: HEIGHT, seed: 5, memory };
    let mut stream = pipeline.open_stream(&options).expect("a valid stream");
    let mut made = Vec::new();
    for (i, &Block { shown, guidance_scale, prompt, strength }) in requests.iter().enumerate() {
        let bytes = stream.block_frames() * WIDTH * HEIGHT * 3;
        let pixels: Vec<u8> = (0..bytes).map(|at| ((at * 7 + i as i64 * 31) % 251) as u8).collect();
        let source = BlockSource {
            pixels: &pixels,
            strength,
            fresh_noise: false,
            motion_adaptive: false,
            source_prompt: None,
            shown,
            cut: false,
        };
        let request = BlockRequest {
            prompt,
            keep_past: true,
            fade: None,
            negative_prompt: "rain",
            guidance_scale,
            num_inference_steps: 2,
            source: Some(source),
        };
        let mut frames = Vec::new();
        let mut keep = |batch: sora_diffusion::pipelines::FrameBatch<'_>| {
            frames.extend_from_slice(batch.data);
            ControlFlow::Continue(())
        };
        pipeline
            .next_block(&mut stream, &request, &mut |_| ControlFlow::Continue(()), &mut keep)
            .expect("a block");
        made.push(frames);
    }
    made
}

const SHOWN: Block = Block { shown: true, guidance_scale: 1.0, prompt: "a ball", strength: 0.75 };
const HIDDEN: Block = Block { shown: false, ..SHOWN };
const GUIDED: Block = Block { guidance_scale: 3.0, ..SHOWN };
const GUIDED_HIDDEN: Block = Block { shown: false, ..GUIDED };
const OTHERWISE: Block = Block { prompt: "snow falls on a red cube", ..SHOWN };

/// Whether two lots of samples are the same but for one in a thousand, which may have been rounded otherwise.
fn rounded_otherwise(a: &[u8], b: &[u8]) -> bool {
    let apart: Vec<u8> = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).filter(|apart| *apart > 0).collect();
    a.len() == b.len() && apart.len() * 1000 <= a.len() && apart.iter().all(|apart| *apart == 1)
}

#[test]
fn blocks_that_are_shown_their_source_are_made_with_the_adapter() {
    for requests in [[SHOWN; 3], [GUIDED; 3], [SHOWN, GUIDED, SHOWN]] {
        let beside = blocks(Form::Beside(0.2), &requests);
        // Weights that the loader adds up and those that were stored added up are the same but for the last bit of some, by
        // the processor that multiplied the factors.
        for (beside, inside) in beside.iter().zip(blocks(Form::Inside(0.2), &requests)) {
            assert!(rounded_otherwise(beside, &inside), "{requests:?}");
        }
        assert!(
            beside[0] != blocks(Form::Plain, &requests)[0],
            "{requests:?}: the adapter makes a difference"
        );
    }
}

#[test]
fn blocks_that_are_not_are_made_without_it() {
    for requests in [[HIDDEN; 3], [GUIDED_HIDDEN; 3]] {
        assert!(blocks(Form::Beside(0.2), &requests) == blocks(Form::Plain, &requests), "{requests:?}");
    }
}

#[test]
fn what_one_network_remembered_is_seen_again_by_the_other() {
    // An adapter that adds nothing: the networks are the same, and so is what they remember.
    for requests in [[HIDDEN, SHOWN, HIDDEN, SHOWN], [SHOWN, GUIDED, GUIDED_HIDDEN, SHOWN]] {
        assert!(blocks(Form::Beside(0.0), &requests) == blocks(Form::Plain, &requests), "{requests:?}");
    }
    // One that adds something sees another past.
    let plain = blocks(Form::Plain, &[HIDDEN, SHOWN]);
    let adapted = blocks(Form::Beside(0.2), &[HIDDEN, SHOWN]);
    assert!(plain[0] == adapted[0] && plain[1] != adapted[1]);
}

/// The most that a sample of one differs from that of the other.
fn difference(a: &[Vec<u8>], b: &[Vec<u8>]) -> u8 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().expect("frames")
}

#[test]
fn what_an_encoder_guesses_is_seen_beside_the_source() {
    let requests = [SHOWN, GUIDED, OTHERWISE, HIDDEN, SHOWN];
    let plain = blocks(Form::Plain, &requests);
    // A guess that is the source itself is seen like the source. The sums are of other parts: a level of rounding.
    assert!(difference(&plain, &blocks(Form::Encoded(0.0), &requests)) <= 1);
    let guessed = blocks(Form::Encoded(1.0), &requests);
    assert!(difference(&plain[..1], &guessed[..1]) > 2, "another guess makes a difference");
    let hidden = [HIDDEN; 3];
    assert!(
        blocks(Form::Encoded(1.0), &hidden) == blocks(Form::Plain, &hidden),
        "but where a source is shown"
    );
}

#[test]
fn what_is_remembered_of_a_source_is_guessed_anew_under_another_prompt() {
    // At strength 0 a block is its source whatever the prompt, so that both streams have the same past.
    let same = Block { strength: 0.0, ..SHOWN };
    let other = Block { strength: 0.0, ..OTHERWISE };
    let form = Form::Encoded(1.0);
    let (straight, there_and_back) =
        (blocks(form, &[same, same, SHOWN]), blocks(form, &[same, other, SHOWN]));
    assert!(straight[..2] == there_and_back[..2]);
    assert_eq!(difference(&straight[2..], &there_and_back[2..]), 0);
    // It would show if it were not.
    let otherwise = blocks(form, &[same, other, OTHERWISE]);
    assert!(difference(&straight[2..], &otherwise[2..]) > 2);
}
