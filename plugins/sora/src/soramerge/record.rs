//! What soramerge tells those behind it of how the stream was made.

use gst_video::VideoInfo;
use sora_gst::Provenance;
use sora_record::{GenerationRecord, Input, Mode, Model, Prompt};

use super::inputs::Side;
use super::settings::Plan;
use crate::record::told;

/// The inputs that a provenance names; none where nothing is told yet.
pub(super) fn inputs(told: &Provenance) -> Vec<String> {
    let record = told.record.as_deref().and_then(|json| GenerationRecord::from_json(json).ok());
    record.map(|record| record.inputs.into_iter().map(|input| input.id).collect()).unwrap_or_default()
}

/// What the stream is, as the provenance of it: two clips, made one. The prompt is in it in the clear: it stays within
/// the pipeline, and whoever publishes the record follows its policy.
pub(super) fn of_stream(
    model: Model,
    plan: &Plan,
    info: &VideoInfo,
    sources: [(Side, Option<Provenance>); 2],
) -> Provenance {
    let mut record = GenerationRecord::new("soramerge", env!("CARGO_PKG_VERSION"), Mode::Merge);
    record.model = Some(model);
    record.prompt = Some(Prompt::Text(match plan.prompt == plan.to_prompt {
        true => plan.prompt.clone(),
        false => format!("{}\n{}", plan.prompt, plan.to_prompt),
    }));
    record.prompt_policy = plan.prompt_policy;
    record.seed = Some(plan.seed);
    record.width = Some(info.width());
    record.height = Some(info.height());
    record.num_inference_steps = Some(plan.num_inference_steps);
    record.guidance_scale = Some(plan.guidance_scale);
    record.inputs = sources
        .map(|(side, source)| {
            let mark = source.and_then(|source| source.watermark_id);
            let id = mark.map_or_else(|| side.name().to_owned(), |mark| format!("watermark {mark}"));
            Input { id, sha256: None }
        })
        .into();
    told(record, info.fps())
}
