//! Prompts that were embedded before are found on disk.
#![allow(missing_docs)]

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::fixtures;
use sora_diffusion::DiffusionError;
use sora_diffusion::device::DtypeChoice;
use sora_diffusion::pipelines::{
    GenerationRequest, LoadOptions, Progress, PromptCacheChoice, TextToVideoPipeline,
};
use sora_model::weights::WeightFiles;

/// A pipeline, and the bytes that it said it would load.
fn load(prompt_cache: PromptCacheChoice) -> (TextToVideoPipeline, u64) {
    let options = LoadOptions { dtype: DtypeChoice::F32, prompt_cache, ..LoadOptions::default() };
    let mut total = 0;
    let mut on_progress = |progress| {
        if let Progress::Loading { done_bytes, total_bytes } = progress {
            assert!(done_bytes <= total_bytes);
            total = total_bytes;
        }
        ControlFlow::Continue(())
    };
    let dir = fixtures().join("tiny-wan21");
    let pipeline = TextToVideoPipeline::load(&dir, &options, &mut on_progress).expect("a fixture loads");
    (pipeline, total)
}

fn request(prompt: &str) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.into(),
        negative_prompt: "rain".into(),
        width: 48,
        height: 32,
        num_frames: 5,
        num_inference_steps: 1,
        guidance_scale: 3.0,
        seed: 4,
        scheduler: None,
    }
}

/// Frames, and the bytes of text encoder that were loaded for them.
fn make(pipeline: &TextToVideoPipeline, prompt: &str) -> (Vec<u8>, u64) {
    let (mut frames, mut loaded) = (Vec::new(), 0);
    let mut on_progress = |progress| {
        if let Progress::Loading { done_bytes, .. } = progress {
            loaded = done_bytes;
        }
        ControlFlow::Continue(())
    };
    let mut on_frames = |batch: sora_diffusion::pipelines::FrameBatch<'_>| {
        frames.extend_from_slice(batch.data);
        ControlFlow::Continue(())
    };
    pipeline.generate(&request(prompt), &mut on_progress, &mut on_frames).expect("frames");
    (frames, loaded)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("it is there");
    entries.map(|entry| entry.expect("it can be read").path()).collect()
}

#[test]
fn a_known_prompt_needs_no_text_encoder_and_makes_the_same_frames() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = || PromptCacheChoice::At(folder.path().into());
    let encoder =
        WeightFiles::open(&fixtures().join("tiny-wan21/text_encoder")).expect("a fixture").total_bytes();
    let (without, all) = load(PromptCacheChoice::Off);
    let (wanted, none) = make(&without, "a red ball");
    assert_eq!(none, 0, "it was loaded with the rest");

    let (first, rest) = load(kept());
    assert_eq!(rest, all - encoder, "it waits");
    assert_eq!(make(&first, "a red ball"), (wanted.clone(), encoder), "it is loaded for the first prompt");
    assert_eq!(files(folder.path()).len(), 2, "the prompt and what to steer away from");
    let (other, again) = make(&first, "a blue cube");
    assert_eq!(again, 0, "it is there already");
    assert_ne!(other, wanted);
    assert_eq!(files(folder.path()).len(), 3);

    let (second, _) = load(kept());
    assert_eq!(make(&second, "a red ball"), (wanted.clone(), 0));
    assert_eq!(make(&second, "a blue cube"), (other, 0));
    assert_eq!(make(&second, "snow").1, encoder, "a new prompt needs it");
    assert_eq!(files(folder.path()).len(), 4);

    for file in files(folder.path()) {
        std::fs::write(file, b"nonsense").expect("it can be written");
    }
    let (third, _) = load(kept());
    assert_eq!(make(&third, "a red ball"), (wanted.clone(), encoder), "damaged files are no help");
    let (fourth, _) = load(kept());
    assert_eq!(make(&fourth, "a red ball"), (wanted, 0), "and are written again");
}

#[test]
fn a_caller_that_gives_up_while_the_encoder_loads_leaves_it_to_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pipeline, _) = load(PromptCacheChoice::At(folder.path().into()));
    let mut no_loading = |progress| match progress {
        Progress::Loading { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let result =
        pipeline.generate(&request("a red ball"), &mut no_loading, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(DiffusionError::Cancelled)), "{result:?}");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    assert!(make(&pipeline, "a red ball").1 > 0);
}
