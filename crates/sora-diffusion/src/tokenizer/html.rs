//! HTML character references, by the rules of Python's `html.unescape`.
//!
//! They are those of HTML 5 but for two: a reference to a control character or to a noncharacter gives
//! nothing, and a name is looked for in at most 32 characters.

use htmlize::ENTITIES;

/// The longest name is looked for in this many characters after `&`.
const MAX_NAME_CHARS: usize = 32;
/// What Windows-1252 has at 0x80 to 0x9F; the five gaps stay the control characters they are.
pub(super) const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', //
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The character or characters of an entity, `name` with its `&` and, where it has one, its `;`.
pub(super) fn entity(name: &str) -> Option<&'static str> {
    let bytes = ENTITIES.get(name.as_bytes())?;
    std::str::from_utf8(bytes).ok()
}

/// Decodes every character reference once.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = reference_length(rest);
        let (reference, after) = rest.split_at(length);
        decode(reference, &mut out);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// How much of `text`, which begins with `&`, may be a reference; 1 when nothing follows the `&`.
fn reference_length(text: &str) -> usize {
    let with_semicolon = |end: usize| end + usize::from(text[end..].starts_with(';'));
    let run = |start: usize, is_digit: fn(&u8) -> bool| {
        start + text.as_bytes()[start..].iter().take_while(|byte| is_digit(byte)).count()
    };
    if text.starts_with("&#x") || text.starts_with("&#X") {
        let end = run(3, u8::is_ascii_hexdigit);
        return if end > 3 { with_semicolon(end) } else { 1 };
    }
    if text.starts_with("&#") {
        let end = run(2, u8::is_ascii_digit);
        return if end > 2 { with_semicolon(end) } else { 1 };
    }
    let stops = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let name = text[1..].char_indices().take(MAX_NAME_CHARS).take_while(|&(_, c)| !stops(c));
    match name.last() {
        Some((at, c)) => with_semicolon(1 + at + c.len_utf8()),
        None => 1,
    }
}

/// Decodes one reference, `&` first, to the end of `out`; what is none stays as it is.
fn decode(reference: &str, out: &mut String) {
    if let Some(number) = reference.strip_prefix("&#") {
        let number = number.trim_end_matches(';');
        let digits = number.trim_start_matches(['x', 'X']);
        let radix = if digits.len() < number.len() { 16 } else { 10 };
        // A number too large for u32 is too large for Unicode.
        let number = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
        out.extend(numbered(number));
        return;
    }
    if let Some(characters) = entity(reference) {
        out.push_str(characters);
        return;
    }
    // The longest name that is one without its semicolon, of two letters at least.
    let ends: Vec<usize> = reference.char_indices().map(|(at, _)| at).skip(3).collect();
    let found = ends.iter().rev().find_map(|&end| Some((entity(&reference[..end])?, end)));
    match found {
        Some((characters, end)) => {
            out.push_str(characters);
            out.push_str(&reference[end..]);
        }
        None => out.push_str(reference),
    }
}

/// The character of a number; `None` for one that gives nothing.
fn numbered(number: u32) -> Option<char> {
    match number {
        0 => Some('\u{fffd}'),
        0x0d => Some('\r'),
        0x80..=0x9f => Some(WINDOWS_1252[(number - 0x80) as usize]),
        1..=8 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        0xd800..=0xdfff | 0x11_0000.. => Some('\u{fffd}'),
        // The last two of each plane; those above were taken out of range.
        _ if number & 0xfffe == 0xfffe => None,
        _ => char::from_u32(number),
    }
}
