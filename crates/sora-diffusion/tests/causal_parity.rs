//! Streams are those of the public Self-Forcing code, on the same weights and the same noise.
#![allow(missing_docs)]

mod common;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;

use common::{build, cases, fixtures, tensors};
use sora_diffusion::DiffusionError;
use sora_diffusion::device::DtypeChoice;
use sora_diffusion::models::transformer_wan::{self, CacheLimits, KvCache, TextContext};
use sora_diffusion::models::{AutoencoderKlWan, Umt5EncoderModel, WanTransformer3DModel, umt5};
use sora_diffusion::noise::seeded_noise;
use sora_diffusion::pipelines::{
    BlockRequest, BlockSource, BlockStream, GenerationRequest, LoadOptions, Progress, PromptEmbeds,
    StreamOptions, TextToVideoPipeline,
};
use sora_diffusion::schedulers::FewStepSchedule;
use sora_diffusion::schedulers::few_step::{add_noise, predict_clean};
use sora_diffusion::tokenizer::Tokenizer;
use sora_diffusion::weights::{FileWeights, Layout, Weights};
use sora_model::ModelDir;
use sora_model::config::{
    CAUSAL_METADATA_KEY, CausalConfig, Config, Numerics, SchedulerClass, TransformerConfig, VaeConfig,
};
use sora_model::keys::original_to_diffusers;
use sora_model::weights::WeightFiles;
use tch::{Device, Kind, Tensor};

/// Largest difference to the reference in latents, which are of the size of 1.
const TOLERANCE: f64 = 2e-5;

const BLOCK_SEED_STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const NOISE_SEED_STEP: u64 = 0xD1B5_4A32_D192_ED03;

fn model() -> WanTransformer3DModel {
    model_in(Kind::Float, Numerics::Diffusers)
}

fn model_in(kind: Kind, numerics: Numerics) -> WanTransformer3DModel {
    let config = TransformerConfig::open(&fixtures().join("tiny-wan21/transformer/config.json"));
    let files = WeightFiles::open_file(&fixtures().join("tiny-original/other.safetensors"))
        .and_then(|files| files.renamed(original_to_diffusers))
        .expect("original keys");
    std::mem::forget(files.clone());
    let config = config.expect("config");
    let mut on_bytes = |_| ControlFlow::Continue(());
    let layout = Layout {
        device: Device::Cpu,
        kind,
        keep_in_f32: transformer_wan::keep_in_f32(numerics),
        streamed: false,
    };
    let source = Rc::new(FileWeights::new("test", &files, layout, &mut on_bytes));
    WanTransformer3DModel::with_numerics(&Weights::new(source), &config, numerics)
        .expect("all keys are there")
}

/// The latents `[1, T, C, H, W]` of a stream, by the parts that streams are made of.
fn stream(
    model: &WanTransformer3DModel,
    context: &TextContext,
    config: &CausalConfig,
    (blocks, seed): (u64, u64),
    [c, h, w]: [i64; 3],
) -> Tensor {
    let sigmas = FewStepSchedule::new(config.timestep_shift.expect("the fixture has one"));
    let levels = sigmas.levels(&config.denoising_step_list, config.warp_denoising_step);
    let limits = CacheLimits { sink: config.sink_size, frames: config.context(21) };
    let mut cache = KvCache::new(model, limits).with_rotation(config.rotation, 0);
    let timestep = |value: f64| Tensor::from_slice(&[value as f32]);
    // Latents are in f32, or have the values of the model's format.
    let kind = if config.numerics == Numerics::SelfForcing { model.kind() } else { Kind::Float };
    let rounded = |x: Tensor| x.to_kind(kind).to_kind(Kind::Float);
    let mut made = Vec::new();
    for block in 0..blocks {
        let start = seed.wrapping_add(block.wrapping_mul(BLOCK_SEED_STEP));
        let size = config.block_size(block);
        // B T C H W → B C T H W
        let noise = |step: u64| {
            let seed = start.wrapping_add(step.wrapping_mul(NOISE_SEED_STEP));
            rounded(seeded_noise(seed, &[1, size, c, h, w]).transpose(1, 2).contiguous())
        };
        let mut latents = noise(0);
        for (step, pair) in levels.windows(2).enumerate() {
            let velocity = model.forward_block(&latents, &timestep(pair[0] * 1000.0), context, &cache);
            let clean = rounded(predict_clean(&latents, &velocity, pair[0]));
            let again = || rounded(add_noise(&clean, &noise(step as u64 + 1), pair[1]));
            latents = if pair[1] > 0.0 { again() } else { clean };
        }
        model.remember_block(&latents, &timestep(config.context_noise), context, &mut cache);
        made.push(latents.transpose(1, 2));
    }
    Tensor::cat(&made, 1)
}

#[test]
fn streams_are_those_of_self_forcing() {
    let _no_grad = tch::no_grad_guard();
    let wanted = tensors("causal/streams.safetensors");
    let embeds = PromptEmbeds::new(&wanted["text"], 512);
    let models = [Numerics::Diffusers, Numerics::SelfForcing].map(|numerics| model_in(Kind::Float, numerics));
    let contexts = models.each_ref().map(|model| model.encode_context(embeds.embeds(), embeds.weights()));
    for case in cases("causal/cases.json", "cases") {
        let name = case["name"].as_str().expect("name");
        if name.ends_with("bf16") {
            continue;
        }
        let (model, context) = (&models[0], &contexts[0]);
        let config = CausalConfig::from_json(&case["causal"].to_string()).expect("a valid config");
        let number = |key: &str| case[key].as_u64().expect("a number");
        let want = &wanted[name];
        let (_, frames, c, h, w) = want.size5().expect("1 T C H W");
        let got = stream(model, context, &config, (number("blocks"), number("seed")), [c, h, w]);
        assert_eq!(got.size()[1], frames, "{name}");
        let past = if config.local_attn_size < 0 { 21 } else { config.local_attn_size };
        assert!(config.local_attn_size < 0 || frames > past, "{name}: the window is left");
        let difference = (&got - want).abs().max().double_value(&[]);
        assert!(difference < TOLERANCE, "{name}: {difference:e} away from the reference");
        let exact = CausalConfig { numerics: Numerics::SelfForcing, ..config.clone() };
        let exact = stream(&models[1], &contexts[1], &exact, (number("blocks"), number("seed")), [c, h, w]);
        let nearer = (&exact - want).abs().max().double_value(&[]);
        println!("{name}: {difference:.1e}, with its numerics {nearer:.1e}");
        assert!(nearer < TOLERANCE, "{name}: {nearer:e} away from the reference");
        // What the window has forgotten matters, so the bound means something.
        let whole = CausalConfig { local_attn_size: -1, sink_size: 0, ..config.clone() };
        if config != whole {
            let whole = stream(model, context, &whole, (number("blocks"), number("seed")), [c, h, w]);
            assert!((whole - want).abs().max().double_value(&[]) > 1e-2, "{name}");
        }
    }
}

#[test]
fn in_bf16_the_roundings_are_those_of_self_forcing() {
    let _no_grad = tch::no_grad_guard();
    let wanted = tensors("causal/streams.safetensors");
    let embeds = PromptEmbeds::new(&wanted["text"].to_kind(Kind::BFloat16), 512);
    let case = cases("causal/cases.json", "cases").into_iter().find(|case| case["name"] == "frames-bf16");
    let case = case.expect("it is there");
    let want = &wanted["frames-bf16"];
    let distance = |numerics| {
        let model = model_in(Kind::BFloat16, numerics);
        let context = model.encode_context(embeds.embeds(), embeds.weights());
        let config = CausalConfig::from_json(&case["causal"].to_string()).expect("a valid config");
        let config = CausalConfig { numerics, ..config };
        let got = stream(&model, &context, &config, (6, 11), [16, 4, 6]);
        (got - want).abs().max().double_value(&[])
    };
    let (other, exact) = (distance(Numerics::Diffusers), distance(Numerics::SelfForcing));
    println!("largest difference: numerics of diffusers {other:.1e}, of Self-Forcing {exact:.1e}");
    assert!(other < 0.1, "{other:e} away with the numerics of diffusers");
    // On a CPU that adds products of bf16 in the order of the one that made the fixture, every bit is the same.
    let bf16 = |seed, shape: &[i64]| seeded_noise(seed, shape).to_kind(Kind::BFloat16);
    let sums = bf16(31, &[64, 42]).linear(&bf16(32, &[42, 42]), None::<&Tensor>);
    if sums.to_kind(Kind::Float) == wanted["sums-bf16"] {
        assert_eq!(exact, 0.0);
    } else {
        println!("skipped: this CPU makes sums of bf16 in another order");
        assert!(exact < 0.1, "{exact:e} away with the numerics of Self-Forcing");
    }
}

#[test]
fn the_table_of_steps_is_that_of_self_forcing() {
    let wanted = tensors("causal/streams.safetensors");
    let schedule = FewStepSchedule::new(5.0);
    assert_eq!(Tensor::from_slice(schedule.sigmas()), wanted["sigmas"]);
    let list = [1000, 750, 500, 250];
    let levels = schedule.levels(&list, true);
    for (level, step) in levels.iter().zip(list) {
        let timestep = wanted["timesteps"].double_value(&[1000 - step]);
        assert_eq!(f64::from((level * 1000.0) as f32), timestep);
    }
}

/// The transformer of the fixtures as a file that says how it makes video.
fn causal_file(name: &str, causal: &serde_json::Value) -> PathBuf {
    let files = WeightFiles::open_file(&fixtures().join("tiny-original/other.safetensors")).expect("weights");
    let views = files.names().map(|name| {
        let view = files.get(name).expect("listed");
        let view = safetensors::tensor::TensorView::new(view.dtype, view.shape.to_vec(), view.data);
        (name.to_owned(), view.expect("a checked view"))
    });
    let metadata = [(CAUSAL_METADATA_KEY.to_owned(), causal.to_string())].into();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.safetensors"));
    std::fs::write(&path, safetensors::serialize(views, Some(metadata)).expect("a file"))
        .expect("it is written");
    path
}

fn load(name: &str, causal: &serde_json::Value) -> Result<TextToVideoPipeline, DiffusionError> {
    let options = LoadOptions {
        transformer_file: Some(causal_file(name, causal)),
        dtype: DtypeChoice::F32,
        ..LoadOptions::default()
    };
    TextToVideoPipeline::load(&fixtures().join("tiny-wan21"), &options, &mut |_| ControlFlow::Continue(()))
}

const SIZE: StreamOptions = StreamOptions { width: 48, height: 32, seed: 11, memory: None };

fn block(prompt: &str) -> BlockRequest<'_> {
    BlockRequest {
        prompt,
        keep_past: true,
        fade: None,
        negative_prompt: "",
        guidance_scale: 1.0,
        num_inference_steps: 4,
        source: None,
    }
}

fn make(
    pipeline: &TextToVideoPipeline,
    stream: &mut BlockStream,
    request: &BlockRequest<'_>,
) -> Result<Vec<u8>, DiffusionError> {
    let mut data = Vec::new();
    pipeline.next_block(stream, request, &mut |_| ControlFlow::Continue(()), &mut |batch| {
        data.extend_from_slice(batch.data);
        ControlFlow::Continue(())
    })?;
    Ok(data)
}

/// The prompt as the fixture's text encoder embeds it.
fn embeds(prompt: &str) -> PromptEmbeds {
    let dir = ModelDir::open(&fixtures().join("tiny-wan21")).expect("a fixture");
    let tokenizer = Tokenizer::open_as(&dir.tokenizer_path(), dir.tokenizer_class()).expect("a tokenizer");
    let files = dir.text_encoder_weights();
    std::mem::forget(files.clone());
    let encoder = build(files, umt5::TOLERATED_KEYS, |w| Umt5EncoderModel::new(w, dir.text_encoder()));
    let ids = Tensor::from_slice(&tokenizer.encode(prompt, 512).expect("tokens").ids).unsqueeze(0);
    PromptEmbeds::new(&encoder.forward(&ids, &ids.ones_like()), 512)
}

#[test]
fn blocks_of_three_latent_frames_are_nine_and_then_twelve_frames_of_that_stream() {
    let _no_grad = tch::no_grad_guard();
    let json = serde_json::json!({
        "num_frame_per_block": 3, "denoising_step_list": [1000, 750, 500, 250], "timestep_shift": 5.0,
        "local_attn_size": 9, "sink_size": 3, "rotation": "absolute",
    });
    let pipeline = load("threes", &json).expect("it loads");
    assert_eq!(
        (pipeline.dir().native().num_inference_steps, pipeline.dir().native().guidance_scale),
        (4, 1.0)
    );
    let mut stream_of_blocks = pipeline.open_stream(&SIZE).expect("a valid stream");
    let mut frames = Vec::new();
    for number in 0..5 {
        assert_eq!(stream_of_blocks.block_frames(), if number == 0 { 9 } else { 12 });
        frames.extend(make(&pipeline, &mut stream_of_blocks, &block("a ball")).expect("a block"));
    }

    let (model, embeds) = (model(), embeds("a ball"));
    let context = model.encode_context(embeds.embeds(), embeds.weights());
    let config = CausalConfig::from_json(&json.to_string()).expect("a valid config");
    let latents = stream(&model, &context, &config, (5, 11), [16, 4, 6]).transpose(1, 2);
    let dir = fixtures().join("tiny-wan21/vae");
    let files = WeightFiles::open(&dir).expect("weights");
    std::mem::forget(files.clone());
    let vae_config = VaeConfig::open(&dir.join("config.json")).expect("config");
    let vae = build(&files, &[], |weights| AutoencoderKlWan::new(weights, &vae_config));
    let whole = vae.decode(&vae.denormalize_latents(&latents));
    let whole = ((whole.squeeze_dim(0).permute([1, 2, 3, 0]) + 1.0) * 127.5).contiguous().view([-1]);
    let made = Tensor::from_slice(&frames).to_kind(Kind::Float);
    // Half a level is the rounding to bytes.
    assert!((made - whole).abs().max().double_value(&[]) < 0.52);

    // A clip of such a model is the beginning of the stream, cut where it ends.
    let request = GenerationRequest {
        prompt: "a ball".into(),
        negative_prompt: String::new(),
        width: 48,
        height: 32,
        num_frames: 13,
        num_inference_steps: 4,
        guidance_scale: 1.0,
        seed: 11,
        scheduler: None,
    };
    let (mut clip, mut steps) = (Vec::new(), Vec::new());
    let mut told = |progress| {
        if let Progress::Step { step, of } = progress {
            assert_eq!(of, 8);
            steps.push(step);
        }
        ControlFlow::Continue(())
    };
    pipeline
        .generate(&request, &mut told, &mut |batch| {
            clip.extend_from_slice(batch.data);
            ControlFlow::Continue(())
        })
        .expect("a clip");
    assert_eq!(clip.len(), 13 * 48 * 32 * 3);
    assert_eq!(clip, frames[..clip.len()]);
    assert_eq!((steps.first(), steps.last()), (Some(&0), Some(&8)));
    assert!(steps.is_sorted());
    let other = GenerationRequest { scheduler: Some(SchedulerClass::UniPcMultistep), ..request };
    let error =
        pipeline.generate(&other, &mut |_| ControlFlow::Continue(()), &mut |_| ControlFlow::Continue(()));
    assert!(error.expect_err("it has steps of its own").to_string().contains("leave the scheduler to it"));
}

#[test]
fn a_stream_with_absolute_positions_ends_where_the_table_does_and_a_relative_one_goes_on() {
    for (rotation, ends) in [("absolute", true), ("relative", false)] {
        let json = serde_json::json!({
            "num_frame_per_block": 3, "denoising_step_list": [1000], "timestep_shift": 5.0,
            "local_attn_size": 6, "sink_size": 1, "rotation": rotation,
        });
        let pipeline = load(rotation, &json).expect("it loads");
        let mut stream = pipeline.open_stream(&SIZE).expect("a valid stream");
        let request = BlockRequest { num_inference_steps: 1, ..block("a ball") };
        // The tiny model has 64 positions.
        for _ in 0..21 {
            make(&pipeline, &mut stream, &request).expect("a block");
        }
        let last = make(&pipeline, &mut stream, &request);
        assert_eq!(last.is_err(), ends);
        if let Err(error) = last {
            assert!(error.to_string().contains("66 latent frames"), "{error}");
            // A stream that forgets its past begins at the first position.
            let cut = BlockRequest { keep_past: false, prompt: "snow", ..request };
            assert!(make(&pipeline, &mut stream, &cut).is_ok());
        }
    }
}

#[test]
fn a_block_from_frames_has_as_many_latent_frames_as_they_make() {
    let json = serde_json::json!({
        "num_frame_per_block": 3, "denoising_step_list": [1000, 500], "local_attn_size": 9, "sink_size": 3,
    });
    let pipeline = load("sources", &json).expect("it loads");
    let pixels = |frames: usize| vec![90u8; frames * 48 * 32 * 3];
    let from = |pixels: &[u8], stream: &mut BlockStream| {
        let source = BlockSource {
            pixels,
            strength: 0.6,
            fresh_noise: true,
            motion_adaptive: false,
            source_prompt: None,
            shown: false,
            cut: false,
        };
        make(
            &pipeline,
            stream,
            &BlockRequest { source: Some(source), num_inference_steps: 2, ..block("a ball") },
        )
    };
    for first in [1, 5, 9] {
        let mut stream = pipeline.open_stream(&SIZE).expect("a valid stream");
        for frames in [first, 4, 12, 8] {
            let given = pixels(frames);
            assert_eq!(from(&given, &mut stream).expect("whole latent frames").len(), given.len());
        }
        let error = from(&pixels(3), &mut stream).expect_err("no whole latent frame").to_string();
        assert!(error.contains("12 frames of 48x32, or 4 and so on in steps of 4"), "{error}");
    }
}

#[test]
fn a_block_without_a_past_has_the_steps_of_the_first_chunk() {
    let json = serde_json::json!({
        "denoising_step_list": [1000, 500], "denoising_step_list_first_chunk": [1000, 750, 500, 250],
        "local_attn_size": 5,
    });
    let pipeline = load("first-chunk", &json).expect("it loads");
    let mut stream = pipeline.open_stream(&SIZE).expect("a valid stream");
    let cut = BlockRequest { keep_past: false, ..block("snow") };
    for (request, num_inference_steps, own) in [
        (block("a ball"), 2, 4),
        (block("a ball"), 2, 2),
        (cut, 2, 4),
        (cut, 2, 2),
        // Another number than the model's own is meant for every block.
        (BlockRequest { prompt: "rain", ..cut }, 3, 3),
    ] {
        let request = BlockRequest { num_inference_steps, ..request };
        let mut steps = 0;
        let mut told = |progress| {
            if let Progress::Step { of, .. } = progress {
                steps = of;
            }
            ControlFlow::Continue(())
        };
        pipeline
            .next_block(&mut stream, &request, &mut told, &mut |_| ControlFlow::Continue(()))
            .expect("a block");
        assert_eq!(steps, own);
    }
}

#[test]
fn a_file_that_says_nonsense_of_itself_is_refused_by_the_key() {
    let error = load("nonsense", &serde_json::json!({"num_frame_per_block": -3})).err().expect("refused");
    assert!(error.to_string().contains("sora.causal") && error.to_string().contains("-3"), "{error}");
}
