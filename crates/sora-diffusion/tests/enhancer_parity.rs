//! The prompt enhancer's network computes and writes what `UMT5ForConditionalGeneration` of transformers does.
#![allow(missing_docs)]

mod common;

use common::{assert_close, build, cases, fixtures, tensors};
use sora_diffusion::models::Umt5ForConditionalGeneration;
use sora_diffusion::models::umt5::TOLERATED_KEYS_OF_BOTH;
use sora_diffusion::pipelines::prompt_enhancer::{Decoding, Writer};
use sora_model::config::{Config, LexiconConfig, TextDecoderConfig, TextEncoderConfig};
use sora_model::weights::WeightFiles;
use tch::Tensor;

fn model(name: &str) -> Umt5ForConditionalGeneration {
    let dir = fixtures().join("prompt_enhancer").join(name);
    let encoder = TextEncoderConfig::open(&dir.join("config.json")).expect("config");
    let decoder = TextDecoderConfig::open(&dir.join("config.json")).expect("config");
    let files = WeightFiles::open(&dir).expect("weights");
    // Views of the mapped file must outlive the model; a test process can keep the map for ever.
    std::mem::forget(files.clone());
    build(&files, TOLERATED_KEYS_OF_BOTH, |w| Umt5ForConditionalGeneration::new(w, &encoder, &decoder))
}

/// The cases, if `scripts/reference/make_fixtures.py --only enhancer` has made them.
fn made() -> Vec<serde_json::Value> {
    const CASES: &str = "prompt_enhancer/cases.json";
    if !fixtures().join(CASES).exists() {
        println!(
            "skipped: there is no tests/fixtures/{CASES}; run scripts/reference/make_fixtures.py --only enhancer"
        );
        return Vec::new();
    }
    cases(CASES, "cases")
}

#[test]
fn logits_are_those_of_transformers() {
    let _no_grad = tch::no_grad_guard();
    for case in made() {
        let t = tensors(case["file"].as_str().expect("file"));
        let model = model(case["model"].as_str().expect("model"));
        let states = model.encode(&t["input_ids"], &t["attention_mask"]);
        let logits = model.decode(&t["decoder_input_ids"], &states, &t["attention_mask"]);
        assert_close(case["name"].as_str().expect("name"), &logits, &t["logits"]);
    }
}

#[test]
fn greedy_decoding_writes_the_same_tokens() {
    let mut written = 0;
    let made = made();
    for case in &made {
        let t = tensors(case["file"].as_str().expect("file"));
        let ids = |t: &Tensor| Vec::<i64>::try_from(t.view([-1])).expect("integers");
        let expected = ids(&t["greedy"]);
        assert_eq!(expected[0], 0, "it begins with the start token");
        let real = case["prompt_tokens"][0].as_u64().expect("a length") as usize;
        let prompt = &ids(&t["input_ids"].get(0))[..real];
        let lexicon =
            LexiconConfig { max_prompt_tokens: 512, max_new_tokens: 40, ..LexiconConfig::default() };
        let writer = Writer::new(model(case["model"].as_str().expect("model")), (0, 1), &lexicon);
        assert_eq!(writer.write(prompt, Decoding::Greedy), expected[1..], "{}", case["name"]);
        written += expected.len() - 1;
    }
    assert!(made.is_empty() || written > 100, "only {written} tokens were compared");
}
