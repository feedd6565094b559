//! Layers that are brought to the device each time compute what layers that stay there do.
#![allow(missing_docs)]

use std::ops::ControlFlow;
use std::path::Path;

use sora_diffusion::device::DtypeChoice;
use sora_diffusion::pipelines::{
    BlockRequest, BlockSource, GenerationRequest, LoadOptions, PromptCacheChoice, StreamOptions,
    TextToVideoPipeline,
};

const SIDE: i64 = 64;

/// The embedded model, whose weights are stored in bf16.
fn load(dtype: DtypeChoice, low_memory: bool) -> TextToVideoPipeline {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/sora-tiny");
    let options =
        LoadOptions { dtype, low_memory, prompt_cache: PromptCacheChoice::Off, ..LoadOptions::default() };
    TextToVideoPipeline::load(&dir, &options, &mut |_| ControlFlow::Continue(())).expect("it loads")
}

fn clip(pipeline: &TextToVideoPipeline) -> Vec<u8> {
    let request = GenerationRequest {
        prompt: "a red ball bounces on the grass".into(),
        negative_prompt: "rain".into(),
        width: SIDE,
        height: SIDE,
        num_frames: 5,
        num_inference_steps: 2,
        guidance_scale: 2.0,
        seed: 7,
        scheduler: None,
    };
    let mut frames = Vec::new();
    let made = pipeline.generate(&request, &mut |_| ControlFlow::Continue(()), &mut |batch| {
        frames.extend_from_slice(batch.data);
        ControlFlow::Continue(())
    });
    made.expect("a clip");
    frames
}

/// Two blocks that are shown their source: with the adapter's factors in the weights.
fn restyled(pipeline: &TextToVideoPipeline) -> Vec<u8> {
    let options = StreamOptions { width: SIDE, height: SIDE, seed: 5, memory: None };
    let mut stream = pipeline.open_stream(&options).expect("a stream");
    let mut frames = Vec::new();
    for _ in 0..2 {
        let bytes = stream.block_frames() * SIDE * SIDE * 3;
        let pixels: Vec<u8> = (0..bytes).map(|at| (at * 7 % 251) as u8).collect();
        let source = BlockSource {
            pixels: &pixels,
            strength: 1.0,
            fresh_noise: false,
            motion_adaptive: false,
            source_prompt: None,
            shown: true,
            cut: false,
        };
        let request = BlockRequest {
            prompt: "a pencil sketch",
            keep_past: true,
            fade: None,
            negative_prompt: "",
            guidance_scale: 1.0,
            num_inference_steps: 2,
            source: Some(source),
        };
        let made =
            pipeline.next_block(&mut stream, &request, &mut |_| ControlFlow::Continue(()), &mut |batch| {
                frames.extend_from_slice(batch.data);
                ControlFlow::Continue(())
            });
        made.expect("a block");
    }
    frames
}

#[test]
fn frames_are_the_same_to_the_byte_in_every_format() {
    for dtype in [DtypeChoice::F32, DtypeChoice::Bf16, DtypeChoice::Fp8] {
        let (stays, streams) = (load(dtype, false), load(dtype, true));
        assert!(clip(&stays) == clip(&streams), "a clip in {dtype:?}");
        assert!(restyled(&stays) == restyled(&streams), "restyled blocks in {dtype:?}");
    }
}
