//! What the captions and prompts of the core domain are made of, and what it means.

use std::collections::BTreeMap;

use sora_model::config::LexiconConfig;
use sora_world::Domain;

/// Words that say nothing by themselves.
const FILLERS: &[&str] =
    &["a", "an", "the", "is", "on", "in", "at", "of", "to", "and", "with", "under", "it"];

/// Kind, value, phrases.
const FACTS: &[(&str, &str, &[&str])] = &[
    ("size", "large", &["large"]),
    ("size", "small", &["small"]),
    ("motion", "bounces", &["bounces", "bouncing"]),
    ("motion", "rolls", &["rolls", "rolling"]),
    ("motion", "spins", &["spins in place", "spinning in place", "spins", "spinning"]),
    (
        "motion",
        "falls",
        &[
            "falls from above and comes to rest",
            "falling from above and coming to rest",
            "falls from above",
            "falling from above",
            "falls",
            "falling",
        ],
    ),
    ("motion", "slides", &["slides", "sliding"]),
    ("motion", "drives", &["drives", "driving"]),
    ("motion", "sails", &["sails", "sailing"]),
    ("motion", "floats", &["floats", "floating"]),
    ("motion", "passes behind", &["passes behind", "passing behind"]),
    ("motion", "stands", &["stands", "standing"]),
    ("trail", "left behind", &["leaves a trail", "leaving a trail"]),
    ("height", "high", &["high"]),
    ("height", "low", &["low"]),
    ("pace", "quick", &["quickly"]),
    ("pace", "slow", &["slowly"]),
    ("heading", "left", &["left", "to the left"]),
    ("heading", "right", &["right", "to the right"]),
    // Where a thing is, which no caption says: such a prompt is left alone.
    ("position", "left", &["on the left", "at the left"]),
    ("position", "right", &["on the right", "at the right"]),
    ("position", "above", &["above"]),
    ("ground", "grass", &["grass", "grass of a wide green meadow"]),
    ("ground", "sand", &["sand", "sand of a wide desert"]),
    ("ground", "snow", &["snow", "snow of a white plain"]),
    ("ground", "sea", &["sea", "sea with gentle waves", "gentle waves of the sea"]),
    ("ground", "checker floor", &["checker floor", "checker floor of light and dark tiles"]),
    ("sky", "clear", &["clear day", "clear blue sky", "clear sky", "bright sunlight"]),
    ("sky", "sunset", &["sunset", "orange sunset sky", "sunset sky", "warm low light"]),
    ("sky", "night", &["night", "night sky with stars", "night sky", "pale moonlight"]),
    ("light", "left", &["comes from the left"]),
    ("light", "right", &["comes from the right"]),
    ("camera", "still", &["camera stays still"]),
    ("camera", "orbit", &["camera circles around"]),
    ("style", "shaded", &["clean 3d rendering", "3d rendering"]),
    ("style", "pencil", &["pencil sketch with hatched shading", "pencil sketch"]),
    ("style", "neon", &["glowing neon lines in the dark", "neon drawing", "neon"]),
    ("style", "sepia", &["old sepia photograph", "sepia photograph", "sepia picture", "sepia"]),
];

/// Detailed captions have up to 60 tokens or so, short ones up to 40.
const MAX_PROMPT_TOKENS: usize = 80;
const MAX_NEW_TOKENS: usize = 96;

/// The lexicon of [`Domain::core`].
pub(crate) fn lexicon() -> LexiconConfig {
    let mut facts: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let domain = Domain::core();
    let mut state = |kind: &str, value: &str, phrases: &[&str]| {
        let phrases = phrases.iter().map(|phrase| (*phrase).to_owned()).collect();
        facts.entry(kind.into()).or_default().insert(value.into(), phrases);
    };
    for (kind, value, phrases) in FACTS {
        state(kind, value, phrases);
    }
    for subject in domain.subjects {
        state("subject", subject.name(), &[subject.name()]);
    }
    for colour in domain.colours {
        state("colour", colour.name(), &[colour.name()]);
    }
    LexiconConfig {
        noun: "subject".into(),
        attached: vec!["size".into(), "colour".into()],
        fillers: FILLERS.iter().map(|word| (*word).to_owned()).collect(),
        facts,
        max_prompt_tokens: MAX_PROMPT_TOKENS,
        max_new_tokens: MAX_NEW_TOKENS,
    }
}

#[cfg(test)]
mod tests {
    use sora_diffusion::pipelines::prompt_enhancer::Lexicon;
    use sora_model::config::Config;
    use sora_world::Scene;

    use super::*;

    #[test]
    fn every_caption_is_in_its_words_and_the_detailed_one_keeps_to_the_others() {
        let config = lexicon();
        config.check().expect("it is well formed");
        let lexicon = Lexicon::new(&config);
        for seed in 0..5000 {
            let scene = Scene::sample(seed, &Domain::core());
            let detailed = scene.detailed_caption();
            let said = lexicon.facts(&detailed);
            assert_eq!(said.unknown, Vec::<String>::new(), "{detailed}");
            for text in [scene.caption(), scene.prompt(1), scene.prompt(2), detailed.clone()] {
                let facts = lexicon.facts(&text);
                assert_eq!(facts.unknown, Vec::<String>::new(), "{text}");
                assert_eq!(facts.nouns.len(), said.nouns.len(), "{text}");
                assert_eq!(facts.lost_in(&said), None, "{text} -> {detailed}");
            }
        }
    }

    #[test]
    fn the_caption_of_a_scene_that_differs_does_not_keep_to_it() {
        let lexicon = Lexicon::new(&lexicon());
        let scenes: Vec<Scene> = (0..600).map(|seed| Scene::sample(seed, &Domain::core())).collect();
        let mut compared = 0;
        for pair in scenes.windows(2) {
            let (a, b) = (pair[0].attributes(), pair[1].attributes());
            let shown = a.style.shows_colour() && b.style.shows_colour();
            let same = a.subject == b.subject && a.ground == b.ground && a.motion == b.motion;
            if same && (a.colour == b.colour || !shown) {
                continue;
            }
            let facts = lexicon.facts(&pair[0].caption());
            let other = lexicon.facts(&pair[1].detailed_caption());
            // A car that leaves a trail drives, as one that slides does.
            if facts.lost_in(&other).is_none() {
                assert_eq!(a.subject, b.subject, "{} -> {}", pair[0].caption(), pair[1].detailed_caption());
                assert!(a.colour == b.colour || !shown);
                assert_eq!(a.ground, b.ground);
            }
            compared += 1;
        }
        assert!(compared > 500, "{compared}");
    }
}
