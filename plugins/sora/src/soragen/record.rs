//! What soragen tells those behind it of how a clip was made.

use sora_engine_api::Generation;
use sora_gst::Provenance;
use sora_record::{GenerationRecord, Input, Mode, Model, Prompt, PromptPolicy};

use super::settings::Opening;
use crate::record::told;

/// The record of a clip, as the provenance of its stream. The prompt is in it in the clear: it stays within the
/// pipeline, and whoever publishes the record follows its policy.
pub(super) fn of_clip(
    model: Model,
    generation: &Generation,
    frame_rate: gst::Fraction,
    policy: PromptPolicy,
    opening: &Opening,
) -> Provenance {
    let mut record = GenerationRecord::new(
        "soragen",
        env!("CARGO_PKG_VERSION"),
        match opening {
            Opening { video: Some(_), .. } => Mode::Extend,
            Opening { image: Some(_), .. } => Mode::ImageToVideo,
            _ => Mode::TextToVideo,
        },
    );
    record.model = Some(model);
    record.prompt = Some(Prompt::Text(generation.prompt.clone()));
    record.prompt_policy = policy;
    record.seed = Some(generation.seed);
    record.width = Some(generation.width);
    record.height = Some(generation.height);
    // Of a stream without an end the number is not known.
    let known = generation.num_frames > 0 && !opening.shows_clip();
    record.frames = known.then_some(generation.num_frames.into());
    record.num_inference_steps = Some(generation.num_inference_steps);
    record.guidance_scale = Some(generation.guidance_scale);
    // Not their paths: the record is published.
    let inputs = [("image", opening.image.is_some()), ("video", opening.video.is_some())];
    record.inputs = inputs
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(id, _)| Input { id: id.into(), sha256: None })
        .collect();
    told(record, frame_rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soragen::VideoMode;

    fn generation(prompt: String) -> Generation {
        Generation {
            prompt,
            prompt_enhance: sora_engine_api::PromptEnhance::Off,
            negative_prompt: String::new(),
            width: 128,
            height: 96,
            num_frames: 17,
            num_inference_steps: 4,
            guidance_scale: 1.0,
            seed: 9,
            scheduler: sora_engine_api::Scheduler::Model,
        }
    }

    fn opening() -> Opening {
        Opening::default()
    }

    fn sora_tiny() -> Model {
        Model { id: "sora-tiny".into(), weights_sha256: None }
    }

    #[test]
    fn a_record_says_how_the_clip_was_made() {
        let rate = gst::Fraction::new(8, 1);
        let told = of_clip(
            sora_tiny(),
            &generation("a red ball".into()),
            rate,
            PromptPolicy::SaltedHash,
            &opening(),
        );
        let record = GenerationRecord::from_json(&told.record.expect("a record")).expect("a valid one");
        assert_eq!((record.seed, record.frames, record.width), (Some(9), Some(17), Some(128)));
        assert_eq!(record.prompt, Some(Prompt::Text("a red ball".into())));
        assert_eq!(record.prompt_policy, PromptPolicy::SaltedHash);
        assert!(record.created_at_ms.is_some_and(|time| time > 1_700_000_000_000));
    }

    #[test]
    fn what_a_clip_begins_with_is_an_input() {
        let rate = gst::Fraction::new(8, 1);
        for (opening, mode, frames) in [
            (Opening { image: Some("a".into()), ..opening() }, Mode::ImageToVideo, Some(17)),
            (Opening { video: Some(("a".into(), VideoMode::Continue)), ..opening() }, Mode::Extend, Some(17)),
            (Opening { video: Some(("a".into(), VideoMode::Extend)), ..opening() }, Mode::Extend, None),
        ] {
            let told = of_clip(sora_tiny(), &generation("a ball".into()), rate, PromptPolicy::Omit, &opening);
            let record = GenerationRecord::from_json(&told.record.expect("a record")).expect("a valid one");
            assert_eq!((record.mode, record.inputs.len(), record.frames), (mode, 1, frames));
        }
    }

    #[test]
    fn a_prompt_that_no_record_holds_is_left_out() {
        let long = generation("long ".repeat(10_000));
        let told =
            of_clip(sora_tiny(), &long, gst::Fraction::new(8, 1), PromptPolicy::SaltedHash, &opening());
        let record = GenerationRecord::from_json(&told.record.expect("a record")).expect("a valid one");
        assert_eq!((record.prompt, record.seed), (None, Some(9)));
    }
}
