//! Streams: block after block, from noise or from frames, with what they remember.
#![allow(missing_docs)]

mod common;

use std::ops::ControlFlow;

use common::fixtures;
use sora_diffusion::DiffusionError;
use sora_diffusion::device::DtypeChoice;
use sora_diffusion::models::AutoencoderKlWan;
use sora_diffusion::models::autoencoder_kl_wan::FeatureCache;
use sora_diffusion::models::transformer_wan::CacheLimits;
use sora_diffusion::pipelines::{
    BlockDecoder, BlockRequest, BlockSource, BlockStream, Fade, FrameBatch, LoadOptions, StreamOptions,
    TextToVideoPipeline,
};
use sora_model::config::{Config, VaeConfig};
use sora_model::weights::WeightFiles;
use tch::{Kind, Tensor};

const WIDTH: i64 = 48;
const HEIGHT: i64 = 32;

fn load() -> TextToVideoPipeline {
    let dir = fixtures().join("tiny-wan21");
    let options = LoadOptions { dtype: DtypeChoice::F32, ..LoadOptions::default() };
    TextToVideoPipeline::load(&dir, &options, &mut |_| ControlFlow::Continue(())).expect("a fixture loads")
}

fn options(frames: i64) -> StreamOptions {
    let memory = Some(CacheLimits { sink: 1, frames });
    StreamOptions { width: WIDTH, height: HEIGHT, seed: 5, memory }
}

fn block(prompt: &str) -> BlockRequest<'_> {
    BlockRequest {
        prompt,
        keep_past: true,
        fade: None,
        negative_prompt: "",
        guidance_scale: 1.0,
        num_inference_steps: 2,
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

fn blocks(pipeline: &TextToVideoPipeline, requests: &[BlockRequest<'_>]) -> Vec<Vec<u8>> {
    let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
    requests.iter().map(|request| make(pipeline, &mut stream, request).expect("a block")).collect()
}

fn picture(frames: i64, start: i64) -> Vec<u8> {
    (0..frames)
        .flat_map(|t| (0..WIDTH * HEIGHT * 3).map(move |i| ((i * 7 + (start + t) * 31) % 251) as u8))
        .collect()
}

fn source(pixels: &[u8], strength: f64) -> Option<BlockSource<'_>> {
    let (fresh_noise, motion_adaptive) = (false, false);
    Some(BlockSource {
        pixels,
        strength,
        fresh_noise,
        motion_adaptive,
        source_prompt: None,
        shown: false,
        cut: false,
    })
}

/// The autoencoder of the fixture by itself.
fn vae() -> AutoencoderKlWan {
    let dir = fixtures().join("tiny-wan21/vae");
    let config = VaeConfig::open(&dir.join("config.json")).expect("config");
    let files = WeightFiles::open(&dir).expect("weights");
    std::mem::forget(files.clone());
    common::build(&files, &[], |weights| AutoencoderKlWan::new(weights, &config))
}

/// Bytes of frames as the autoencoder takes them, `[1, 3, T, H, W]` in −1…1.
fn video(pixels: &[u8]) -> Tensor {
    let frames = pixels.len() as i64 / (WIDTH * HEIGHT * 3);
    let clip = Tensor::from_data_size(pixels, &[frames, HEIGHT, WIDTH, 3], Kind::Uint8);
    (clip.to_kind(Kind::Float) / 127.5 - 1.0).permute([3, 0, 1, 2]).unsqueeze(0)
}

/// What the autoencoder gives, as levels of bytes that are not rounded, in the order of the bytes.
fn levels(video: &Tensor) -> Tensor {
    let video = (video.squeeze_dim(0).permute([1, 2, 3, 0]) + 1.0) * 127.5;
    video.clamp(0.0, 255.0).contiguous().view([-1])
}

#[test]
fn a_stream_goes_on_and_remembers_no_more_than_it_may() {
    let pipeline = load();
    let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
    let frame = (WIDTH * HEIGHT * 3) as usize;
    let mut last = Vec::new();
    for i in 0..40 {
        assert_eq!(stream.block_frames(), if i == 0 { 1 } else { 4 });
        let expected = stream.block_frames() as usize * frame;
        let data = make(&pipeline, &mut stream, &block("a ball")).expect("a block");
        assert_eq!(data.len(), expected);
        assert_ne!(data, last, "block {i} has noise of its own");
        assert!(stream.remembered() <= 4);
        last = data;
    }
}

#[test]
fn blocks_that_are_decoded_on_another_thread_meanwhile_have_the_same_frames() {
    let pipeline = load();
    let requests = [block("a ball"), block("a ball"), block("snow"), block("snow")];
    let expected = blocks(&pipeline, &requests);
    let (latents, given) = std::sync::mpsc::channel();
    let made = std::thread::scope(|scope| {
        let decoding = scope.spawn(|| {
            let (mut decoder, mut made) = (BlockDecoder::default(), Vec::new());
            for block in given {
                let mut keep = |frames: FrameBatch<'_>| {
                    made.push(frames.data.to_vec());
                    ControlFlow::Continue(())
                };
                pipeline.decode_block(&mut decoder, &block, &mut keep).expect("frames");
            }
            made
        });
        let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
        for request in &requests {
            let mut give = |block| {
                latents.send(block).expect("it is decoded");
                Ok(())
            };
            pipeline
                .next_latents(&mut stream, request, &mut |_| ControlFlow::Continue(()), &mut give)
                .expect("a block");
        }
        drop(latents);
        decoding.join().expect("no panic")
    });
    assert_eq!(made, expected);
}

#[test]
fn a_model_that_was_not_taught_to_look_at_a_source_is_shown_none() {
    let pipeline = load();
    let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
    let pixels = picture(1, 0);
    let shown = BlockRequest {
        source: source(&pixels, 0.5).map(|source| BlockSource { shown: true, ..source }),
        ..block("a ball")
    };
    let refused = pipeline
        .next_block(&mut stream, &shown, &mut |_| ControlFlow::Continue(()), &mut |_| {
            ControlFlow::Continue(())
        })
        .expect_err("refused");
    assert!(refused.to_string().contains("source_embedding"), "{refused}");
    make(&pipeline, &mut stream, &block("a ball")).expect("the stream can go on");
}

#[test]
fn another_prompt_changes_the_next_block_and_none_before() {
    let pipeline = load();
    let same = blocks(&pipeline, &[block("a ball"), block("a ball"), block("a ball")]);
    assert_eq!(same, blocks(&pipeline, &[block("a ball"), block("a ball"), block("a ball")]));
    let other = blocks(&pipeline, &[block("a ball"), block("a ball"), block("snow")]);
    assert_eq!(same[..2], other[..2]);
    assert_ne!(same[2], other[2]);
    let cut = BlockRequest { keep_past: false, ..block("snow") };
    let cut = blocks(&pipeline, &[block("a ball"), block("a ball"), cut]);
    assert_eq!(same[..2], cut[..2]);
    assert_ne!(other[2], cut[2], "the past makes a difference");
    let guided = BlockRequest { guidance_scale: 4.0, negative_prompt: "rain", ..block("a ball") };
    let guided = blocks(&pipeline, &[block("a ball"), block("a ball"), guided]);
    assert_eq!(same[..2], guided[..2]);
    assert_ne!(same[2], guided[2]);
}

#[test]
fn a_fade_begins_at_the_one_prompt_and_goes_on_from_the_past_to_the_other() {
    let pipeline = load();
    let ball = || [block("a ball"), block("a ball"), block("a ball"), block("a ball")];
    let faded = |share| {
        let mut requests = ball();
        // Even where another prompt would forget the past.
        requests[3] =
            BlockRequest { fade: Some(Fade { to: "snow", share }), keep_past: false, ..block("a ball") };
        blocks(&pipeline, &requests)
    };
    let same = blocks(&pipeline, &ball());
    assert_eq!(faded(0.0), same, "a fade that has not begun changes nothing");
    let (third, half, all) = (faded(0.3), faded(0.5), faded(1.0));
    for made in [&third, &half, &all] {
        assert_eq!(made[..3], same[..3]);
    }
    assert!(third[3] != same[3] && third[3] != half[3] && half[3] != all[3]);
    let cut = BlockRequest { keep_past: false, ..block("snow") };
    let cut = blocks(&pipeline, &[block("a ball"), block("a ball"), block("a ball"), cut]);
    assert_ne!(all[3], cut[3], "the past makes a difference");
    // What follows a fade under its second prompt is no change of prompt any more.
    let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
    for request in ball() {
        make(&pipeline, &mut stream, &request).expect("a block");
    }
    let end = BlockRequest { fade: Some(Fade { to: "snow", share: 1.0 }), ..block("a ball") };
    make(&pipeline, &mut stream, &end).expect("a block");
    let before = stream.remembered();
    make(&pipeline, &mut stream, &BlockRequest { keep_past: false, ..block("snow") }).expect("a block");
    assert!(stream.remembered() >= before, "nothing was forgotten");
}

#[test]
fn after_a_cut_the_encoder_sees_its_frames_as_if_the_first_had_stood_still() {
    let pipeline = load();
    let (before, after) = (picture(1, 0), picture(4, 50));
    let made = |cut| {
        let first = BlockRequest { source: source(&before, 0.0), ..block("a ball") };
        let second = source(&after, 0.0).map(|source| BlockSource { cut, ..source });
        let second = BlockRequest { source: second, ..block("a ball") };
        blocks(&pipeline, &[first, second]).remove(1)
    };
    let (cut, uncut) = (made(true), made(false));
    assert_ne!(cut, uncut);

    let vae = vae();
    let _no_grad = tch::no_grad_guard();
    let still = after[..after.len() / 4].repeat(4);
    let (mut encoder, mut decoder) = (FeatureCache::new(), FeatureCache::new());
    let first = vae.encode_chunk(&video(&before), &mut encoder).mode();
    let _ = vae.decode_chunk(&first, &mut decoder);
    let mut encoder = FeatureCache::new();
    let _ = vae.encode_chunk(&video(&still[..still.len() / 4]), &mut encoder);
    let _ = vae.encode_chunk(&video(&still), &mut encoder);
    let second = vae.encode_chunk(&video(&after), &mut encoder).mode();
    let expected = levels(&vae.decode_chunk(&second, &mut decoder));
    let worst = |made: &[u8]| {
        (Tensor::from_slice(made).to_kind(Kind::Float) - &expected).abs().max().double_value(&[])
    };
    // Half a level is the rounding to bytes.
    assert!(worst(&cut) < 0.51 && worst(&uncut) > 1.0, "{} and {}", worst(&cut), worst(&uncut));
}

#[test]
fn a_prompt_that_comes_back_leaves_no_trace() {
    let pipeline = load();
    // What is remembered is seen again under each prompt: only the latents carry the past.
    let straight = {
        let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
        for _ in 0..2 {
            make(&pipeline, &mut stream, &block("a ball")).expect("a block");
        }
        make(&pipeline, &mut stream, &block("a ball")).expect("a block")
    };
    let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
    for _ in 0..2 {
        make(&pipeline, &mut stream, &block("a ball")).expect("a block");
    }
    // A request that is refused changes nothing.
    let wrong = BlockRequest { num_inference_steps: 0, ..block("snow") };
    assert!(matches!(make(&pipeline, &mut stream, &wrong), Err(DiffusionError::Request { .. })));
    assert_eq!(make(&pipeline, &mut stream, &block("a ball")).expect("a block"), straight);
}

#[test]
fn strength_nought_is_the_vae_alone() {
    let pipeline = load();
    let (first, second) = (picture(1, 0), picture(4, 1));
    let request = |pixels| BlockRequest { source: source(pixels, 0.0), ..block("a ball") };
    let made = blocks(&pipeline, &[request(&first), request(&second)]).concat();

    let vae = vae();
    let _no_grad = tch::no_grad_guard();
    let whole = levels(&vae.decode(&vae.encode(&video(&[first, second].concat())).mode()));
    let made = Tensor::from_slice(&made).to_kind(Kind::Float);
    // Half a level is the rounding to bytes.
    assert!((made - whole).abs().max().double_value(&[]) < 0.51);
}

#[test]
fn more_strength_is_farther_from_the_source() {
    let pipeline = load();
    let first = picture(1, 0);
    let distance = |strength| {
        let request = BlockRequest { source: source(&first, strength), ..block("a ball") };
        let kept = BlockRequest { source: source(&first, 0.0), ..block("a ball") };
        let (made, kept) = (blocks(&pipeline, &[request]), blocks(&pipeline, &[kept]));
        made[0].iter().zip(&kept[0]).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
    };
    let distances = [0.0, 0.05, 0.2].map(distance);
    assert!(distances[0] == 0 && distances.is_sorted() && distances[1] > 0, "{distances:?}");
}

#[test]
fn the_difference_of_a_prompt_to_itself_changes_nothing() {
    let pipeline = load();
    let (first, second) = (picture(1, 0), picture(4, 1));
    let made = |prompt, source_prompt, strength| {
        let request = |pixels| {
            let source = source(pixels, strength).map(|source| BlockSource { source_prompt, ..source });
            BlockRequest { source, ..block(prompt) }
        };
        blocks(&pipeline, &[request(&first), request(&second)])
    };
    let kept = made("a ball", None, 0.0);
    // Levels of bytes: the sums are not made in the same order.
    let distance = |a: &[Vec<u8>]| {
        a.concat().iter().zip(kept.concat()).map(|(a, b)| a.abs_diff(b)).max().expect("pixels")
    };
    assert!(distance(&made("a ball", Some("a ball"), 0.8)) <= 1);
    assert!(distance(&made("snow", Some("a ball"), 0.8)) > 1);
}

#[test]
fn what_is_out_of_bounds_is_refused_with_the_bound() {
    let pipeline = load();
    let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
    let first = picture(1, 0);
    for (request, part) in [
        (BlockRequest { source: source(&first[1..], 0.5), ..block("") }, "4608: 1 frames of 48x32"),
        (BlockRequest { source: source(&first, 1.5), ..block("") }, "strength is 1.5, it must be 0 to 1"),
        (BlockRequest { source: source(&first, f64::NAN), ..block("") }, "strength is NaN"),
        (BlockRequest { guidance_scale: f64::NAN, ..block("") }, "guidance_scale is NaN"),
        (
            BlockRequest { fade: Some(Fade { to: "snow", share: f64::NAN }), ..block("") },
            "share of a fade is NaN, it must be 0 to 1",
        ),
    ] {
        let error = make(&pipeline, &mut stream, &request).expect_err("out of bounds").to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(stream.blocks(), 0);
    let memory = Some(CacheLimits { sink: 5, frames: 4 });
    let refused = pipeline.open_stream(&StreamOptions { memory, ..options(4) }).err().expect("refused");
    assert!(refused.to_string().contains("a sink of 5 in 4 frames"), "{refused}");
}

#[test]
fn a_stream_that_was_broken_off_makes_no_more_blocks() {
    let pipeline = load();
    let mut stream = pipeline.open_stream(&options(4)).expect("a valid stream");
    let broken =
        pipeline.next_block(&mut stream, &block("a ball"), &mut |_| ControlFlow::Break(()), &mut |_| {
            ControlFlow::Continue(())
        });
    assert!(matches!(broken, Err(DiffusionError::Cancelled)));
    let error = make(&pipeline, &mut stream, &block("a ball")).expect_err("broken").to_string();
    assert!(error.contains("open another"), "{error}");
}
