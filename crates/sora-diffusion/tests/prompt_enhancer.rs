//! The prompt enhancer that comes with sora-tiny, by its rules.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sora_diffusion::DiffusionError;
use sora_diffusion::pipelines::prompt_enhancer::{Decoding, Enhancement, Lexicon, PromptEnhancer, Reason};
use sora_model::PromptEnhancerDir;

fn sora_tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/sora-tiny")
}

fn enhancer() -> PromptEnhancer {
    let dir = PromptEnhancerDir::open(&sora_tiny()).expect("sora-tiny has an enhancer");
    PromptEnhancer::load(dir, (&sora_tiny().join("tokenizer"), "PreTrainedTokenizerFast")).expect("it loads")
}

fn expanded(enhancer: &PromptEnhancer, prompt: &str, decoding: Decoding) -> String {
    match enhancer.enhance(prompt, decoding).expect("no error") {
        Enhancement::Expanded(text) => text,
        Enhancement::Unchanged(reason) => panic!("{prompt} is left as it is: {reason}"),
    }
}

const PROMPTS: [&str; 8] = [
    "a red ball bounces on the grass",
    "a blue cube spins on the snow",
    "a yellow pyramid spins on the snow",
    "a green ball rolls on the sand",
    "A purple boat at sunset.",
    "a neon drawing of a white car driving to the left on a checker floor",
    "a black ball passes behind a yellow cube",
    "an orange tree stands on the sand at night, the camera circles around",
];

#[test]
fn what_people_type_becomes_longer_and_keeps_its_facts() {
    let enhancer = enhancer();
    let lexicon = Lexicon::new(enhancer.dir().lexicon());
    for prompt in PROMPTS {
        let text = expanded(&enhancer, prompt, Decoding::Greedy);
        println!("{prompt} -> {text}");
        assert!(text.split(' ').count() >= prompt.split(' ').count() + 8, "{text}");
        assert_eq!(lexicon.facts(prompt).lost_in(&lexicon.facts(&text)), None, "{prompt} -> {text}");
        assert_eq!(expanded(&enhancer, prompt, Decoding::Greedy), text, "greedy is always the same");
    }
}

#[test]
fn sampling_follows_its_seed_and_the_facts() {
    let enhancer = enhancer();
    let sample = |seed| Decoding::Sample { seed, temperature: 1.0 };
    let mut texts = BTreeSet::new();
    for seed in 0..12 {
        let once = enhancer.enhance("a red ball on the grass", sample(seed)).expect("no error");
        assert_eq!(once, enhancer.enhance("a red ball on the grass", sample(seed)).expect("no error"));
        if let Enhancement::Expanded(text) = once {
            assert!(text.contains("red ball") && text.contains("grass"), "{text}");
            texts.insert(text);
        }
    }
    assert!(texts.len() > 5, "{texts:#?}");
    let frozen = Decoding::Sample { seed: 1, temperature: 0.01 };
    let greedy = expanded(&enhancer, PROMPTS[0], Decoding::Greedy);
    assert_eq!(expanded(&enhancer, PROMPTS[0], frozen), greedy, "without temperature it is greedy");
    for temperature in [0.0, -1.0, f64::NAN] {
        let wrong = Decoding::Sample { seed: 1, temperature };
        let error = enhancer.enhance("a ball", wrong).expect_err("out of bounds");
        assert!(matches!(error, DiffusionError::Request { what: "temperature", .. }), "{error}");
    }
}

#[test]
fn what_it_cannot_expand_stays_as_it_is() {
    let enhancer = enhancer();
    let reason = |prompt: &str| match enhancer.enhance(prompt, Decoding::Greedy).expect("no error") {
        Enhancement::Unchanged(reason) => reason,
        Enhancement::Expanded(text) => panic!("{prompt} became {text}"),
    };
    for empty in ["", "  \n "] {
        assert_eq!(reason(empty), Reason::Empty);
    }
    assert_eq!(reason("a red dragon 🐉"), Reason::UnknownWords(vec!["dragon".into(), "🐉".into()]));
    assert!(matches!(reason(&"red ball ".repeat(100)), Reason::Long { tokens: 201, .. }));
    let many = reason(&"dragon ".repeat(500)).to_string();
    assert!(many.len() < 100 && many.contains("497 more"), "{many}");
    // No caption says where a thing stands.
    assert!(matches!(reason("a red ball on the left"), Reason::Lost { .. }));
}

#[test]
fn a_detailed_caption_is_not_made_another() {
    let enhancer = enhancer();
    for prompt in PROMPTS {
        let once = expanded(&enhancer, prompt, Decoding::Greedy);
        assert_eq!(expanded(&enhancer, &once, Decoding::Greedy), once);
    }
}
