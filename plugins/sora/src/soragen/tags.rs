//! How a clip tells where it came from.

use sora_engine_api::{Generation, Scheduler};
use sora_record::PromptPolicy;

/// A title is shown in lists: a longer prompt is cut.
const TITLE_CHARACTERS: usize = 256;

/// Comment, application and encoder of a clip. Where the prompt may be published as it is, also a title, and where it
/// was enhanced a description: the prompt that the model saw. Muxers write tags into the file, in the clear.
pub(super) fn of_clip(
    model: &str,
    generation: &Generation,
    enhanced: Option<&str>,
    policy: PromptPolicy,
) -> gst::TagList {
    let mut tags = gst::TagList::new();
    let list = tags.make_mut();
    let version = env!("CARGO_PKG_VERSION");
    let public = policy == PromptPolicy::Text;
    let title = title(&generation.prompt);
    if public && !title.is_empty() {
        list.add::<gst::tags::Title>(&title.as_str(), gst::TagMergeMode::Replace);
    }
    if let Some(enhanced) = enhanced.filter(|text| public && !text.is_empty()) {
        list.add::<gst::tags::Description>(&enhanced, gst::TagMergeMode::Replace);
    }
    let scheduler = match generation.scheduler {
        Scheduler::Model => "auto",
        Scheduler::UniPc => "unipc",
        Scheduler::FlowMatchEuler => "flow-match-euler",
    };
    let comment = format!(
        "Generated video. model={model} seed={} num-inference-steps={} guidance-scale={} \
         scheduler={scheduler} num-frames={} width={} height={}",
        generation.seed,
        generation.num_inference_steps,
        generation.guidance_scale,
        generation.num_frames,
        generation.width,
        generation.height,
    );
    list.add::<gst::tags::Comment>(&comment.as_str(), gst::TagMergeMode::Replace);
    let application = format!("soragen {version}");
    list.add::<gst::tags::ApplicationName>(&application.as_str(), gst::TagMergeMode::Replace);
    let encoder = format!("soragen {version} model={model} seed={}", generation.seed);
    list.add::<gst::tags::Encoder>(&encoder.as_str(), gst::TagMergeMode::Replace);
    tags
}

fn title(prompt: &str) -> String {
    let words = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(TITLE_CHARACTERS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_short_line_of_whole_characters() {
        assert_eq!(title(" a red\n ball  "), "a red ball");
        let long = title(&"ä".repeat(100_000));
        assert_eq!(long.chars().count(), TITLE_CHARACTERS + 1);
        assert!(long.ends_with('…'));
    }
}
