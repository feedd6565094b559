//! Prompts are cleaned and tokenized as diffusers and transformers do it.
#![allow(missing_docs)]

mod common;

use common::{cases, fixtures};
use sora_diffusion::tokenizer::{Tokenizer, clean_prompt};

const LIMIT: usize = 512;

#[test]
fn prompts_are_cleaned_as_diffusers_cleans_them() {
    for case in cases("prompts.json", "cases") {
        let cleaned = clean_prompt(case["prompt"].as_str().expect("prompt"));
        assert_eq!(cleaned, case["cleaned"].as_str().expect("cleaned"), "{}", case["name"]);
    }
}

/// Text to repair, and what diffusers 0.42.1 with ftfy 6.3.1 makes of it.
const REPAIRS: [(&str, &str, &str); 31] = [
    ("latin-1", "cafÃ© â\u{80}\u{94} Ã\u{a0} la mode", "café — à la mode"),
    ("windows-1252", "Itâ€™s a â€œseÃ±orâ€\u{9d} â€¦ cafÃ©", "It's a \"señor\" … café"),
    ("windows-1251", "РєСЂР°СЃРЅС‹Р№ РјСЏС‡", "красный мяч"),
    ("windows-1250", "ĹĽĂłĹ‚Ä‡ gÄ™Ĺ›lÄ…", "żółć gęślą"),
    ("windows-1253", "ΞΊΟ\u{8c}ΞΊΞΊΞΉΞ½Ξ· ΞΌΟ€Ξ¬Ξ»Ξ±", "κόκκινη μπάλα"),
    ("windows-1254", "Ä°stanbul ÄŸÃ¼ÅŸÃ¶Ã§", "İstanbul ğüşöç"),
    ("windows-1257", "Ä…Ä¨Ä™Ä—ÄÆÅ¡Å³Å«Å¾", "ąčęėįšųūž"),
    ("iso-8859-2", "PĹ\u{99}Ă\u{ad}liĹĄ ĹžluĹĽouÄ\u{8d}kĂ˝", "Příliš žluťoučký"),
    ("macroman", "It‚Äôs na√Øve ‚Äî ‚Äúyes‚Äù", "It's naïve — \"yes\""),
    ("cp437", "se├▒or ni├▒o caf├⌐", "señor niño café"),
    ("three times over", "dÃƒÆ’Ã‚Â©jÃƒÆ’Ã‚Â\u{a0}", "déjà"),
    ("a part of the text", "красный мяч and â€œfastâ€\u{9d} cafÃ©", "красный мяч and \"fast\" café"),
    ("a part in Greek text", "κόκκινη naÃ¯ve", "κόκκινη naïve"),
    ("a lost byte", "â€œlike this â€\u{fffd}", "\"like this \u{fffd}"),
    ("a question mark for a lost byte", "voilÃ? dÃ©jÃ?", "voil\u{fffd} déj\u{fffd}"),
    (
        "no-break space lost",
        "voilÃ  le travail, Ã la mode, Ã s vezes",
        "voilà le travail, à la mode, às vezes",
    ),
    ("CESU-8", "cat í\u{a0}½í°±", "cat 🐱"),
    ("Java's null", "aÀ\u{80}b Ã©", "ab é"),
    ("an emoji", "ðŸ\u{90}± ðŸ‘©â€\u{8d}ðŸš€", "🐱 👩\u{200d}🚀"),
    ("Arabic", "ÙƒØ±Ø© Ø\u{ad}Ù…Ø±Ø§Ø¡", "كرة حمراء"),
    ("capitals before quotes are meant", "«CAFÉ» “LÀ”", "«CAFÉ» \"LÀ\""),
    ("a capital circumflex is meant", "Â Ê Î words like PÂTÉ, IÂ", "Â Ê Î words like PÂTÉ, IÂ"),
    ("a degree after a capital", "It is 30° here, N°5, À°", "It is 30° here, N°5, À°"),
    ("boxes", "│ ò │ ═══ █ ┌─┐", "│ ò │ ═══ █ ┌─┐"),
    ("a C1 control among other scripts", "мяч \u{85} 猫\u{93}x\u{94}", "мяч … 猫\"x\""),
    ("an escape without an end", "a \u{1b}[31 b \u{1b}[;;0Kc", "a [31 b c"),
    (
        "entities in HTML stay until the pipeline",
        "<b>&EACUTE; &eacute;</b>\n&EACUTE;",
        "<b>&EACUTE; é</b> &EACUTE;",
    ),
    (
        "entities with two meanings",
        "&LT; &Lt; &lt; &AMPx; &SZLIG; &notin; &notit; &amp;#38;",
        "< ≪ < &x; SS ∉ ¬it; &",
    ),
    (
        "references to nothing",
        "a&#1;b&#xfdd0;c&#xffff;d&#1114112;e&#xd800;f&#;g&#x;h&;i& j",
        "abcd\u{fffd}e\u{fffd}f&#;g&#x;h&;i& j",
    ),
    ("half-width voiced letters", "ｶﾞｷﾞ Ａ　Ｂ", "ガギ A B"),
    ("œ between letters", "cœur, Œuvre, œ!, Œ", "cœur, Œuvre, œ!, Œ"),
];

#[test]
fn broken_text_is_repaired_as_ftfy_repairs_it() {
    for (name, broken, repaired) in REPAIRS {
        assert_eq!(clean_prompt(broken), repaired, "{name}");
    }
}

#[test]
fn ids_match_transformers() {
    for model in ["tiny-wan21", "tiny-wan22", "tiny-moe"] {
        let tokenizer = Tokenizer::open(&fixtures().join(model).join("tokenizer")).expect("a tokenizer");
        for case in cases("prompts.json", "cases") {
            let name = format!("{model}: {}", case["name"]);
            let tokens = tokenizer.encode(case["prompt"].as_str().expect("prompt"), LIMIT).expect("ids");
            let ids = case["ids"][model].as_array().expect("ids");
            let want: Vec<i64> = ids.iter().map(|id| id.as_i64().expect("a number")).collect();
            assert_eq!(tokens.ids, want, "{name}");
            assert!(!tokens.truncated || tokens.ids.len() == LIMIT, "{name}");
            assert!(tokens.ids.iter().all(|&id| id < tokenizer.vocab_size() as i64), "{name}");
        }
    }
}

#[test]
fn a_prompt_beyond_the_limit_is_cut_and_keeps_its_end_marker() {
    let tokenizer = Tokenizer::open(&fixtures().join("tiny-wan21/tokenizer")).expect("a tokenizer");
    let whole = tokenizer.encode("a red ball", LIMIT).expect("ids");
    let eos = whole.ids[whole.ids.len() - 1];
    assert!(!whole.truncated);
    for limit in 1..whole.ids.len() {
        let cut = tokenizer.encode("a red ball", limit).expect("ids");
        assert!(cut.truncated);
        assert_eq!(cut.ids.len(), limit);
        assert_eq!(cut.ids[..limit - 1], whole.ids[..limit - 1]);
        assert_eq!(cut.ids[limit - 1], eos);
    }
    let exact = tokenizer.encode("a red ball", whole.ids.len()).expect("ids");
    assert_eq!(exact, whole);
}

#[test]
fn a_hundred_thousand_characters_are_cut() {
    let tokenizer = Tokenizer::open(&fixtures().join("tiny-moe/tokenizer")).expect("a tokenizer");
    for prompt in ["x".repeat(100_000), "a red ball. ".repeat(10_000), "é\u{301}&amp;Ã©猫".repeat(10_000)]
    {
        let tokens = tokenizer.encode(&prompt, LIMIT).expect("ids");
        assert!(tokens.truncated);
        assert_eq!(tokens.ids.len(), LIMIT);
    }
}

#[test]
fn the_class_decides_how_an_unknown_character_is_cut() {
    // `T5Tokenizer` knows no bytes; the file of this directory does.
    let dir = fixtures().join("tiny-moe/tokenizer");
    let t5 =
        Tokenizer::open_as(&dir, "T5TokenizerFast").expect("a tokenizer").encode("🐱", LIMIT).expect("ids");
    let as_it_is = Tokenizer::open_as(&dir, "PreTrainedTokenizerFast").expect("a tokenizer");
    let bytes = as_it_is.encode("🐱", LIMIT).expect("ids");
    assert!(t5.ids.contains(&2), "{:?}", t5.ids);
    assert_eq!(bytes.ids.len(), t5.ids.len() + 3, "{:?}", bytes.ids);
}

#[test]
fn broken_tokenizers_are_refused_by_name() {
    let dir = std::env::temp_dir().join(format!("sora-tokenizer-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let missing = Tokenizer::open(&dir).err().expect("no file").to_string();
    for (text, config) in [
        ("", "{}"),
        ("{}", "{}"),
        ("not json", "{}"),
        (
            r#"{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}"#,
            r#"{"tokenizer_class": "T5Tokenizer"}"#,
        ),
        (
            r#"{"version": "1.0", "model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}}"#,
            r#"{"tokenizer_class": "T5Tokenizer"}"#,
        ),
        (r#"{"version": "1.0", "model": {"type": "Unigram", "unk_id": 0, "vocab": []}}"#, "{}"),
        (r#"{"version": "1.0", "model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}}"#, "["),
    ] {
        std::fs::write(dir.join("tokenizer.json"), text).expect("written");
        std::fs::write(dir.join("tokenizer_config.json"), config).expect("written");
        let message = Tokenizer::open(&dir).err().unwrap_or_else(|| panic!("{text} opens")).to_string();
        assert!(message.contains("tokenizer"), "{message}");
    }
    std::fs::remove_dir_all(&dir).expect("removed");
    assert!(missing.contains("tokenizer.json"), "{missing}");
}
