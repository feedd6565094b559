//! What soratransform tells those behind it of how the stream was made.

use gst_video::VideoInfo;
use sora_gst::Provenance;
use sora_record::{GenerationRecord, Input, Mode, Model, Prompt, PromptPolicy};

use super::settings::Style;
use crate::record::told;

/// What the stream is, as the provenance of it: footage edited by a model. The prompt is in it in the clear: it
/// stays within the pipeline, and whoever publishes the record follows its policy.
pub(super) fn of_stream(
    model: Model,
    style: &Style,
    seed: u64,
    info: &VideoInfo,
    policy: PromptPolicy,
    source: Option<&Provenance>,
) -> Provenance {
    let mut record = GenerationRecord::new("soratransform", env!("CARGO_PKG_VERSION"), Mode::Restyle);
    record.model = Some(model);
    record.prompt = Some(Prompt::Text(style.prompt.clone()));
    record.prompt_policy = policy;
    record.seed = Some(seed);
    record.width = Some(info.width());
    record.height = Some(info.height());
    record.num_inference_steps = Some(style.num_inference_steps);
    record.guidance_scale = Some(style.guidance_scale);
    let mark = source.and_then(|source| source.watermark_id.as_ref());
    record.inputs =
        mark.map(|id| Input { id: format!("watermark {id}"), sha256: None }).into_iter().collect();
    told(record, info.fps())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_that_footage_was_edited_and_which() {
        gst::init().expect("GStreamer starts");
        let style = Style {
            prompt: "pencil sketch".into(),
            negative_prompt: String::new(),
            source_prompt: None,
            shown: false,
            strength: 0.5,
            fresh_noise: false,
            motion_adaptive: false,
            num_inference_steps: 4,
            guidance_scale: 1.0,
        };
        let info = VideoInfo::builder(gst_video::VideoFormat::I420, 640, 480).build().expect("valid");
        let mut source = Provenance::default();
        source.watermark_id = Some("00112233445566778899aabb".into());
        let told = of_stream(
            Model { id: "sora-tiny".into(), weights_sha256: None },
            &style,
            9,
            &info,
            PromptPolicy::SaltedHash,
            Some(&source),
        );
        let record = GenerationRecord::from_json(&told.record.expect("a record")).expect("a valid one");
        assert!(record.mode.has_source());
        assert_eq!((record.seed, record.width, record.height), (Some(9), Some(640), Some(480)));
        assert_eq!(record.inputs[0].id, "watermark 00112233445566778899aabb");
        assert_eq!(told.watermark_id, None, "the mark of the source does not survive");
    }
}
