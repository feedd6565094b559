//! `prompt-enhance`: a short prompt becomes a detailed one, or stays as it is with a word why.

use gst::prelude::*;
use sora_tests::{Model, Report, play, root};

/// A tiny model with the prompt enhancer of the embedded one.
fn model() -> Model {
    let model = Model::new();
    let tiny = root().join("models/sora-tiny");
    let folder = model.file("prompt_enhancer");
    std::fs::create_dir_all(folder.join("tokenizer")).expect("the temporary folder can be written");
    for file in ["config.json", "lexicon.json", "model.safetensors"] {
        std::fs::copy(tiny.join("prompt_enhancer").join(file), folder.join(file)).expect("it is there");
    }
    let own = tiny.join("prompt_enhancer/tokenizer");
    let tokenizer = if own.is_dir() { own } else { tiny.join("tokenizer") };
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tokenizer.join(file), folder.join("tokenizer").join(file)).expect("it is there");
    }
    model
}

/// What one clip of a prompt came to.
struct Clip {
    report: Report,
    prompt_used: String,
    /// Prompt, prompt used, whether they differ.
    told: Vec<(String, String, bool)>,
    description: Option<String>,
}

fn clip(model: &Model, prompt: &str, enhance: &str) -> Clip {
    let line = model.soragen(&format!("seed=5 prompt-policy=text prompt-enhance={enhance}"));
    let mut playing = play(&format!("{line} ! video/x-raw,format=RGB ! appsink name=sink sync=false"));
    playing.src().set_property("prompt", prompt);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let pad = playing.src().static_pad("src").expect("a source has a pad");
    let tags = pad.sticky_event::<gst::event::Tag>(0).expect("a clip has tags").tag_owned();
    assert_eq!(playing.src().property::<String>("prompt"), prompt, "the setting stays");
    let title = tags.get::<gst::tags::Title>().map(|title| title.get().to_owned());
    assert_eq!(title.as_deref(), (!prompt.is_empty()).then_some(prompt));
    let description = tags.get::<gst::tags::Description>().map(|text| text.get().to_owned());
    let prompt_used = playing.src().property::<String>("prompt-used");
    let report = playing.stop();
    report.assert_clean();
    let told = report
        .messages
        .iter()
        .filter_map(|message| message.structure().filter(|s| s.name() == "soragen-prompt"))
        .map(|s| {
            let text = |field| s.get::<String>(field).expect("a text");
            (text("prompt"), text("prompt-used"), s.get("enhanced").expect("a boolean"))
        })
        .collect();
    Clip { report, prompt_used, told, description }
}

#[test]
fn a_short_prompt_is_expanded_and_keeps_what_it_says() {
    let model = model();
    let prompt = "a red ball bounces on the grass";
    let enhanced = clip(&model, prompt, "local");
    let used = enhanced.prompt_used.clone();
    assert!(used.split(' ').count() > 2 * prompt.split(' ').count(), "{used}");
    for part in ["red ball bounces", "grass"] {
        assert!(used.contains(part), "{part}: {used}");
    }
    assert_eq!(enhanced.told, [(prompt.to_owned(), used.clone(), true)]);
    assert_eq!(enhanced.description.as_ref(), Some(&used));
    assert_eq!(enhanced.report.warnings(), Vec::<String>::new());
    // The model has seen just that prompt.
    let typed = clip(&model, &used, "off");
    assert_eq!(enhanced.report.frames(), typed.report.frames());
    assert_ne!(enhanced.report.frames(), clip(&model, prompt, "off").report.frames());
}

#[test]
fn without_enhancement_nothing_changes() {
    let prompt = "a red ball bounces on the grass";
    let off = clip(&model(), prompt, "off");
    assert_eq!(off.prompt_used, prompt);
    assert_eq!((off.told.len(), off.description), (0, None));
    assert_eq!(off.report.frames(), clip(&Model::new(), prompt, "off").report.frames());
}

#[test]
fn a_prompt_with_other_words_is_used_as_it_is_and_that_is_said() {
    let model = model();
    let prompt = "a red dragon bounces on the grass";
    let left = clip(&model, prompt, "local");
    assert_eq!(left.prompt_used, prompt);
    assert_eq!(left.told, [(prompt.to_owned(), prompt.to_owned(), false)]);
    let warnings = left.report.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("\"dragon\""), "{warnings:?}");
    assert_eq!(left.report.frames(), clip(&model, prompt, "off").report.frames());
}

#[test]
fn an_empty_prompt_stays_empty() {
    let empty = clip(&model(), "", "local");
    assert_eq!(empty.prompt_used, "");
    assert_eq!(empty.report.warnings(), Vec::<String>::new());
}

#[test]
fn an_endless_prompt_is_left_alone() {
    let model = model();
    let prompt = "red ball ".repeat(2000);
    let line = model.soragen("prompt-enhance=local") + " ! appsink name=sink sync=false";
    let mut playing = play(&line);
    playing.src().set_property("prompt", &prompt);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let report = playing.stop();
    let warnings = report.assert_clean().warnings();
    assert!(warnings.iter().any(|text| text.contains("4001 tokens")), "{warnings:?}");
}

/// One error at the start, that contains `parts`.
fn assert_refused(model: &Model, parts: &[&str]) {
    let line = model.soragen("prompt=ball prompt-enhance=local") + " ! appsink name=sink sync=false";
    let mut playing = play(&line);
    assert!(playing.pipeline.set_state(gst::State::Playing).is_err(), "it does not start");
    playing.wait_for_end();
    let report = playing.stop();
    let error = report.one_error();
    for part in parts {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(report.progress().is_empty(), "refused before anything is loaded");
}

#[test]
fn a_model_without_an_enhancer_is_refused_by_name() {
    let model = Model::new();
    let folder = model.file("prompt_enhancer");
    assert_refused(&model, &["prompt-enhance", folder.to_str().expect("a path"), "off"]);
}

#[test]
fn a_broken_enhancer_is_refused_by_file_and_harms_nobody_who_does_not_use_it() {
    let model = model();
    model.write("prompt_enhancer/model.safetensors", "no weights");
    assert_refused(&model, &["model.safetensors"]);
    clip(&model, "a ball", "off").report.assert_clean();
    model.remove("prompt_enhancer/lexicon.json");
    assert_refused(&model, &["lexicon.json"]);
}
