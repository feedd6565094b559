//! Repairs of broken text, as `ftfy.fix_text` of Python does them by default (ftfy 6.3, Robyn Speer).
//!
//! Line by line, until nothing changes: HTML entities, text decoded in the wrong encoding
//! ([`mojibake`](super::mojibake)), ligatures, character widths, curly quotes, line breaks, terminal
//! escapes, control characters, and normalization form C. Surrogates, which ftfy repairs too, cannot
//! stand in a Rust string.

use unicode_normalization::UnicodeNormalization;

use super::html;
use super::mojibake::{fix_c1_controls, fix_encoding};

/// More rounds than any text needs; each repairs what the one before brought to light.
const MAX_ROUNDS: usize = 64;

/// Repairs `text`.
pub(super) fn fix_text(text: &str) -> String {
    // A literal `<` says that this is real HTML, whose entities are meant; from there on, as in ftfy,
    // entities are left to the pipeline.
    let mut entities = true;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        entities = entities && !line.contains('<');
        out.push_str(&fix_line(line, entities));
    }
    out
}

fn fix_line(line: &str, entities: bool) -> String {
    let mut text = line.to_owned();
    for _ in 0..MAX_ROUNDS {
        let before = text.clone();
        if entities {
            text = unescape_entities(&text);
        }
        text = fix_encoding(&text);
        text = fix_c1_controls(&text);
        text = text.chars().flat_map(simple_forms).collect();
        text = fix_line_breaks(&text);
        text = remove_terminal_escapes(&text);
        text = text.chars().filter(|&c| !is_control(c)).nfc().collect();
        if text == before {
            break;
        }
    }
    text
}

/// Decodes the references that are beyond doubt: those with a semicolon, and names in capitals as well
/// (`&EACUTE;`) where HTML has no other meaning for them.
fn unescape_entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = 1 + usize::from(rest[1..].starts_with('#'));
        let word = rest[name..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        let end = name + word + 1;
        let whole = (1..=24).contains(&word) && rest[name + word..].starts_with(';');
        let reference = if whole { &rest[..end] } else { "&" };
        out.push_str(&decoded(reference).unwrap_or_else(|| reference.to_owned()));
        rest = &rest[reference.len()..];
    }
    out.push_str(rest);
    out
}

fn decoded(reference: &str) -> Option<String> {
    if let Some(characters) = html::entity(reference) {
        return reference.ends_with(';').then(|| characters.to_owned());
    }
    let plain = html::unescape(reference);
    if reference.starts_with("&#") {
        return (!plain.contains(';')).then_some(plain);
    }
    let lower = reference.to_ascii_lowercase();
    let capitals = lower.to_ascii_uppercase() == reference && plain == reference;
    let characters = capitals.then(|| html::entity(&lower)).flatten()?;
    Some(characters.to_uppercase())
}

/// A ligature's letters, a character of unusual width in its usual one, a curly quote straightened;
/// every other character as it is.
fn simple_forms(c: char) -> Vec<char> {
    let letters = match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        '\u{3000}' => " ",
        '“'..='‟' => "\"",
        '‘'..='‛' | 'ʼ' => "'",
        '\u{ff01}'..='\u{ffef}' => return c.nfkc().collect(),
        _ => return vec![c],
    };
    letters.chars().collect()
}

fn fix_line_breaks(text: &str) -> String {
    text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n")
}

/// Takes out sequences like `ESC [ 1 ; 31 m`, which colour text on a terminal.
fn remove_terminal_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match after.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(after) => out.push_str(after),
            None => {
                out.push_str("\u{1b}[");
                out.push_str(part);
            }
        }
    }
    out
}

/// Control characters without a displayed effect.
fn is_control(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}'
        | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}
