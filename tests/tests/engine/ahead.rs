//! Streams whose blocks are decoded while the next one is denoised.

use std::ops::ControlFlow;
use std::sync::Arc;

use sora_engine_api::abi::{Device, Dtype, Level};
use sora_engine_api::{
    Block, Engine, EngineError, FrameBatch, Model, ModelOptions, Observer, Progress, Stream, StreamOptions,
};

/// Keeps what it is given; may want no more than so many frames.
#[derive(Default)]
struct Kept {
    pixels: Vec<u8>,
    frames: usize,
    enough: Option<usize>,
}

impl Observer for Kept {
    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn frames(&mut self, frames: FrameBatch<'_>) -> ControlFlow<()> {
        if self.enough.is_some_and(|enough| self.frames >= enough) {
            return ControlFlow::Break(());
        }
        self.pixels.extend_from_slice(frames.pixels);
        self.frames += frames.num_frames;
        ControlFlow::Continue(())
    }

    fn log(&mut self, _: Level, _: &str, _: &str) {}
}

fn model() -> Arc<Model> {
    sora_tests::init();
    let engine = Engine::open().expect("the engine is built with the tests");
    let options = ModelOptions {
        model_path: sora_tests::root().join("models/sora-tiny"),
        transformer_file: None,
        tiny_vae_file: None,
        device: Device::Cpu,
        dtype: Dtype::F32,
        low_memory: false,
        sources: false,
    };
    Arc::new(engine.open_model(&options, &mut Kept::default()).expect("the embedded model"))
}

fn open(model: &Arc<Model>, ahead: bool) -> Stream {
    Stream::open(model, StreamOptions { width: 64, height: 64, seed: 5, ahead }).expect("a stream")
}

fn block(prompt: &str) -> Block<'_> {
    Block {
        prompt,
        keep_past: true,
        fade: None,
        negative_prompt: "",
        num_inference_steps: 2,
        guidance_scale: 1.0,
        source: None,
    }
}

const PROMPTS: [&str; 4] = [
    "a red ball rolls on the grass",
    "a red ball rolls on the grass",
    "a blue ball rolls on the sand",
    "a blue ball",
];

#[test]
fn blocks_decoded_ahead_are_the_same_frames_one_block_later() {
    let model = model();
    let (mut plain, mut ahead) = (open(&model, false), open(&model, true));
    let (mut at_once, mut later) = (Kept::default(), Kept::default());
    let mut before = 0;
    for (number, prompt) in PROMPTS.into_iter().enumerate() {
        plain.next_block(&block(prompt), &mut at_once).expect("a block");
        ahead.next_block(&block(prompt), &mut later).expect("a block");
        if number > 0 && std::thread::available_parallelism().map_or(1, usize::from) > 1 {
            // At least those of the block before; where decoding is quick, those of this one.
            assert!(
                later.frames >= before,
                "{} frames after block {number}, {before} before it",
                later.frames
            );
        } else {
            assert_eq!(later.frames, at_once.frames, "the first frames come at once");
        }
        before = at_once.frames;
    }
    plain.finish(&mut at_once).expect("nothing is left");
    ahead.finish(&mut later).expect("the last block");
    assert_eq!(later.frames, at_once.frames);
    assert!(later.pixels == at_once.pixels, "other frames");
}

#[test]
fn a_caller_that_has_enough_is_believed_and_a_bad_request_leaves_the_stream_as_it_was() {
    let model = model();
    let (mut plain, mut ahead) = (open(&model, false), open(&model, true));
    let (mut at_once, mut later) = (Kept::default(), Kept::default());
    ahead.next_block(&block(PROMPTS[0]), &mut later).expect("a block");
    let refused = Block { num_inference_steps: 0, ..block(PROMPTS[1]) };
    let error = ahead.next_block(&refused, &mut later).expect_err("no steps");
    assert!(matches!(error, EngineError::Request(_)), "{error}");
    ahead.next_block(&block(PROMPTS[1]), &mut later).expect("another block");
    ahead.finish(&mut later).expect("the last block");
    for prompt in &PROMPTS[..2] {
        plain.next_block(&block(prompt), &mut at_once).expect("a block");
    }
    assert!(later.pixels == at_once.pixels, "other frames");

    let mut enough = Kept { enough: Some(0), ..Kept::default() };
    let made = ahead.next_block(&block(PROMPTS[2]), &mut enough);
    let error = made.and_then(|()| ahead.finish(&mut enough)).expect_err("no frames are wanted");
    assert!(matches!(error, EngineError::Cancelled), "{error}");
    assert_eq!(enough.frames, 0);
}
