//! A model whose transformer has an adapter for blocks that are shown their source.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::fixtures;
use sora_diffusion::device::DtypeChoice;
use sora_diffusion::models::transformer_wan::CacheLimits;
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

/// The fixture as it is; with an adapter of this size beside it; or with the same adapter in its transformer.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    Beside(f64),
    Inside(f64),
}

fn load(form: Form) -> TextToVideoPipeline {
    let dir = tempfile::tempdir().expect("a folder");
    copy(&fixtures().join("tiny-wan21"), dir.path());
    let file = dir.path().join(TRANSFORMER);
    let mut weights: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(&file).expect("weights").into_iter().collect();
    tch::manual_seed(3);
    let options = (Kind::Float, Device::Cpu);
    let embedding = &weights["patch_embedding.weight"];
    let embedding = [
        ("weight", Tensor::randn(embedding.size(), options) * 0.2),
        ("bias", Tensor::randn([embedding.size()[0]], options) * 0.2),
    ];
    fs::create_dir(dir.path().join("source_embedding")).expect("a folder");
    let path = dir.path().join("source_embedding/diffusion_pytorch_model.safetensors");
    Tensor::write_safetensors(&embedding, path).expect("a file");

    let mut factors = Vec::new();
    for module in ADAPTED {
        let name = format!("{module}.weight");
        let (outputs, inputs) = weights[&name].size2().expect("a matrix");
        let size = match form {
            Form::Plain => 0.0,
            Form::Beside(size) | Form::Inside(size) => size,
        };
        let down = Tensor::randn([2, inputs], options) * 0.2;
        let up = Tensor::randn([outputs, 2], options) * size;
        if let Form::Inside(_) = form {
            let sum = &weights[&name] + up.matmul(&down);
            weights.insert(name, sum);
        }
        factors.push((format!("transformer.{module}.lora_A.weight"), down));
        factors.push((format!("transformer.{module}.lora_B.weight"), up));
    }
    match form {
        Form::Plain => {}
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

/// Whether the block is shown its source, and how strongly it is guided.
type Block = (bool, f64);

/// Frames of such blocks, in one stream.
fn blocks(form: Form, requests: &[Block]) -> Vec<Vec<u8>> {
    let pipeline = load(form);
    let memory = Some(CacheLimits { sink: 1, frames: 4 });
    let options = StreamOptions { width: WIDTH, height: HEIGHT, seed: 5, memory };
    let mut stream = pipeline.open_stream(&options).expect("a valid stream");
    let mut made = Vec::new();
    for (i, &(shown, guidance_scale)) in requests.iter().enumerate() {
        let bytes = stream.block_frames() * WIDTH * HEIGHT * 3;
        let pixels: Vec<u8> = (0..bytes).map(|at| ((at * 7 + i as i64 * 31) % 251) as u8).collect();
        let source = BlockSource {
            pixels: &pixels,
            strength: 0.75,
            fresh_noise: false,
            motion_adaptive: false,
            source_prompt: None,
            shown,
            cut: false,
        };
        let request = BlockRequest {
            prompt: "a ball",
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

const SHOWN: Block = (true, 1.0);
const HIDDEN: Block = (false, 1.0);

#[test]
fn blocks_that_are_shown_their_source_are_made_with_the_adapter() {
    for requests in [[SHOWN; 3], [(true, 3.0); 3], [SHOWN, (true, 3.0), SHOWN]] {
        let beside = blocks(Form::Beside(0.2), &requests);
        assert!(beside == blocks(Form::Inside(0.2), &requests), "{requests:?}");
        assert!(
            beside[0] != blocks(Form::Plain, &requests)[0],
            "{requests:?}: the adapter makes a difference"
        );
    }
}

#[test]
fn blocks_that_are_not_are_made_without_it() {
    for requests in [[HIDDEN; 3], [(false, 3.0); 3]] {
        assert!(blocks(Form::Beside(0.2), &requests) == blocks(Form::Plain, &requests), "{requests:?}");
    }
}

#[test]
fn what_one_network_remembered_is_seen_again_by_the_other() {
    // An adapter that adds nothing: the networks are the same, and so is what they remember.
    for requests in [[HIDDEN, SHOWN, HIDDEN, SHOWN], [SHOWN, (true, 3.0), (false, 3.0), SHOWN]] {
        assert!(blocks(Form::Beside(0.0), &requests) == blocks(Form::Plain, &requests), "{requests:?}");
    }
    // One that adds something sees another past.
    let plain = blocks(Form::Plain, &[HIDDEN, SHOWN]);
    let adapted = blocks(Form::Beside(0.2), &[HIDDEN, SHOWN]);
    assert!(plain[0] == adapted[0] && plain[1] != adapted[1]);
}
