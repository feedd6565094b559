//! What soratransform tells those behind it of how the stream was made.

use std::time::SystemTime;

use gst_video::VideoInfo;
use sora_gst::Provenance;
use sora_record::{FrameRate, GenerationRecord, Input, Mode, Model, Prompt, PromptPolicy};

use super::settings::Style;

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
    record.frame_rate = match (u32::try_from(info.fps().numer()), u32::try_from(info.fps().denom())) {
        (Ok(numerator), Ok(denominator)) if numerator > 0 => Some(FrameRate { numerator, denominator }),
        _ => None,
    };
    let mark = source.and_then(|source| source.watermark_id.as_ref());
    record.inputs =
        mark.map(|id| Input { id: format!("watermark {id}"), sha256: None }).into_iter().collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 tells no time.
    record.created_at_ms = now.ok().and_then(|now| u64::try_from(now.as_millis()).ok());
    let json = record.to_json().or_else(|_| {
        // A prompt or a rate beyond what a record holds: better a record without it than none.
        (record.prompt, record.frame_rate) = (None, None);
        record.to_json()
    });
    let mut provenance = Provenance::default();
    provenance.record = json.ok();
    provenance
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
