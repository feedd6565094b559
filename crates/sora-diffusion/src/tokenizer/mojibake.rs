//! Text that was UTF-8 and was decoded as something else: "cafÃ©" for "café".
//!
//! The method is that of ftfy 6.3 (`ftfy.fix_encoding`, Robyn Speer): where a text looks wrong
//! ([`is_bad`]), it is encoded again in each of the single-byte encodings that could have made it, and
//! the first of which the bytes are UTF-8 is believed.

use std::sync::LazyLock;

use encoding_rs::{
    Encoding, ISO_8859_2, MACINTOSH, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253, WINDOWS_1254,
    WINDOWS_1257,
};

use super::badness::is_bad;

/// The upper half of the code page of the first PCs.
const CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A single-byte encoding whose lower half is ASCII.
struct Charmap {
    /// What 0x80 to 0xFF stand for; bytes without a character stand for the one of their own number.
    upper: Vec<char>,
    /// Whether 0x1A stands for U+FFFD, so that text with lost characters can be encoded.
    lossy: bool,
    /// Whether a space may be a no-break space that some program took for one.
    spaces: bool,
}

impl Charmap {
    fn new(encoding: &'static Encoding, lossy: bool) -> Self {
        let upper = (0x80..=0xff).map(|byte| {
            let byte_alone = [byte];
            let (text, _) = encoding.decode_without_bom_handling(&byte_alone);
            let c = text.chars().next().filter(|&c| c != '\u{fffd}');
            c.unwrap_or(char::from(byte))
        });
        Self { upper: upper.collect(), lossy, spaces: true }
    }

    /// The bytes of `text`, if this encoding has them all.
    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.byte(c)).collect()
    }

    fn byte(&self, c: char) -> Option<u8> {
        match c {
            '\u{1a}' if self.lossy => None,
            '\u{fffd}' if self.lossy => Some(0x1a),
            '\0'..='\x7f' => Some(c as u8),
            _ => {
                let at = self.upper.iter().position(|&upper| upper == c)?;
                Some(0x80 + at as u8)
            }
        }
    }
}

/// The encodings in the order in which they are tried; the first two are the usual ones.
static CHARMAPS: LazyLock<Vec<Charmap>> = LazyLock::new(|| {
    let latin_1 = Charmap { upper: ('\u{80}'..='\u{ff}').collect(), lossy: false, spaces: true };
    let windows = [WINDOWS_1252, WINDOWS_1251, WINDOWS_1250, WINDOWS_1253, WINDOWS_1254, WINDOWS_1257];
    let mut charmaps = vec![latin_1];
    charmaps.extend(windows.map(|encoding| Charmap::new(encoding, true)));
    charmaps.push(Charmap::new(ISO_8859_2, false));
    // There, an en dash before a space would be taken for such a pair.
    charmaps.push(Charmap { spaces: false, ..Charmap::new(MACINTOSH, false) });
    charmaps.push(Charmap { upper: CP437.chars().collect(), lossy: false, spaces: true });
    charmaps
});

/// Repairs `text` as long as that changes it.
pub(super) fn fix_encoding(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(fixed) = fix_once(&text) {
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

fn fix_once(text: &str) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    // 1. The whole text is UTF-8 in one of the encodings.
    for charmap in CHARMAPS.iter() {
        let Some(mut bytes) = charmap.encode(text) else { continue };
        if charmap.spaces {
            bytes = restore_no_break_spaces(&bytes);
        }
        if charmap.lossy {
            bytes = replace(&bytes, LOST, |_| "\u{fffd}".as_bytes().to_vec());
        }
        if let Some(fixed) = decode_utf8(bytes) {
            return Some(fixed);
        }
    }
    // 2. Parts of it are.
    let fixed = fix_parts(text);
    if fixed != text {
        return Some(fixed);
    }
    // 3. Windows-1252 was taken for Latin-1: what is left of it are control characters.
    Some(fix_c1_controls(text))
}

/// The C1 controls become what Windows-1252 has in their places, as browsers do it.
pub(super) fn fix_c1_controls(text: &str) -> String {
    let fix = |c: char| match c {
        '\u{80}'..='\u{9f}' => super::html::WINDOWS_1252[(c as u32 - 0x80) as usize],
        _ => c,
    };
    text.chars().map(fix).collect()
}

/// Decodes UTF-8, and with it the variants that some programs write: CESU-8, which has a character
/// beyond U+FFFF in two halves, and Java's two bytes for U+0000.
fn decode_utf8(mut bytes: Vec<u8>) -> Option<String> {
    if bytes.contains(&0xc0) {
        bytes = replace(&bytes, &[&[&[(0xc0, 0xc0)], CONTINUATION_80]], |_| vec![0]);
    }
    if bytes.contains(&0xed) {
        bytes = replace(&bytes, CESU_8, |pair| {
            let bits = |at: usize, mask: u8| u32::from(pair[at] & mask);
            let code = (bits(1, 0x0f) << 16) + (bits(2, 0x3f) << 10) + (bits(4, 0x0f) << 6) + bits(5, 0x3f);
            // At most 0x10FFFF by the masks.
            char::from_u32(code + 0x1_0000).map_or(pair.to_vec(), |c| c.to_string().into_bytes())
        });
    }
    String::from_utf8(bytes).ok()
}

/// One place of a byte pattern: the ranges that may stand there.
type Place = &'static [(u8, u8)];
/// Byte patterns, the first that matches at a place is taken.
type Patterns<'a> = &'a [&'a [Place]];

const SPACE: Place = &[(b' ', b' ')];
const CONTINUATION: Place = &[(0x80, 0xbf)];
const CONTINUATION_80: Place = &[(0x80, 0x80)];
/// A continuation byte, but not the two that are often white space or an ellipsis.
const CLEAR: Place = &[(0x80, 0x84), (0x86, 0x9f), (0xa1, 0xbf)];
/// A lost character in the encodings that are `lossy`, or the question mark that some programs write.
const GONE: Place = &[(0x1a, 0x1a), (b'?', b'?')];
const KEPT_OR_GONE: Place = &[(0x1a, 0x1a), (0x80, 0xbf)];
const ANY_OR_GONE: Place = &[(0x1a, 0x1a), (b'?', b'?'), (0x80, 0xbf)];
const HIGH_HALF: Place = &[(0xa0, 0xaf)];
const LOW_HALF: Place = &[(0xb0, 0xbf)];
const ED: Place = &[(0xed, 0xed)];
const LEAD_3: Place = &[(0xe0, 0xef)];
const LEAD_4: Place = &[(0xf0, 0xf4)];
const F0: Place = &[(0xf0, 0xf0)];

const CESU_8: Patterns = &[&[ED, HIGH_HALF, CONTINUATION, ED, LOW_HALF, CONTINUATION]];

/// UTF-8 but for a space where a no-break space (0xA0) belongs, where that makes a likely character.
const SPACED: Patterns = &[
    &[&[(0xc2, 0xc3), (0xc5, 0xc5), (0xce, 0xce), (0xd0, 0xd0), (0xd9, 0xd9)], SPACE],
    &[&[(0xe2, 0xe3)], SPACE, CLEAR],
    &[&[(0xe0, 0xe3)], CLEAR, SPACE],
    &[F0, SPACE, CONTINUATION, CONTINUATION],
    &[F0, CONTINUATION, SPACE, CONTINUATION],
    &[F0, CONTINUATION, CONTINUATION, SPACE],
];

/// UTF-8 of which a continuation byte is lost.
const LOST: Patterns = &[
    &[&[(0xc2, 0xdf)], &[(0x1a, 0x1a)]],
    &[&[(0xc2, 0xc3)], &[(b'?', b'?')]],
    &[ED, HIGH_HALF, GONE, ED, LOW_HALF, ANY_OR_GONE],
    &[ED, HIGH_HALF, ANY_OR_GONE, ED, LOW_HALF, GONE],
    &[LEAD_3, GONE, KEPT_OR_GONE],
    &[LEAD_3, KEPT_OR_GONE, GONE],
    &[LEAD_4, GONE, KEPT_OR_GONE, KEPT_OR_GONE],
    &[LEAD_4, KEPT_OR_GONE, GONE, KEPT_OR_GONE],
    &[LEAD_4, KEPT_OR_GONE, KEPT_OR_GONE, GONE],
    &[&[(0x1a, 0x1a)]],
];

/// Replaces every match of `patterns`, from the left, without overlap.
fn replace(bytes: &[u8], patterns: Patterns, with: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let matches = |pattern: &&&[Place], at: usize| {
        let places = pattern.iter().enumerate();
        places.into_iter().all(|(i, place)| {
            let byte = bytes.get(at + i);
            byte.is_some_and(|byte| place.iter().any(|&(from, to)| (from..=to).contains(byte)))
        })
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match patterns.iter().find(|pattern| matches(pattern, at)) {
            Some(pattern) => {
                out.extend(with(&bytes[at..at + pattern.len()]));
                at += pattern.len();
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// Puts no-break spaces back where they make UTF-8 of a sequence.
fn restore_no_break_spaces(bytes: &[u8]) -> Vec<u8> {
    // "Ã la mode" was "à la mode": the space is lost and kept at once, but for the Portuguese words
    // that begin with the same letter.
    const SAME_WORD: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    if replace(bytes, SPACED, |_| Vec::new()).len() == bytes.len() {
        return bytes.to_vec();
    }
    let mut spaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let word = after.strip_prefix(b" ").filter(|_| byte == 0xc3);
        match word {
            Some(word) if !SAME_WORD.iter().any(|same| word.starts_with(same)) => {
                spaced.extend(b"\xc3\xa0 ");
                rest = word;
            }
            _ => {
                spaced.push(byte);
                rest = after;
            }
        }
    }
    replace(&spaced, SPACED, |found| {
        found.iter().map(|&byte| if byte == b' ' { 0xa0 } else { byte }).collect()
    })
}

/// Where the text as a whole is in no encoding, repairs the parts that look like UTF-8 in one.
fn fix_parts(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        // Not in the middle of a longer tangle, of which a few characters would be made worse.
        let tangled = at > 0 && is_strict_continuation(chars[at - 1]);
        let length = if tangled { 0 } else { utf8_like(&chars[at..]) };
        if length == 0 {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        let part: String = chars[at..at + length].iter().collect();
        // The text as a whole has just been tried.
        let fixed = if length < chars.len() && is_bad(&part) { fix_encoding(&part) } else { part };
        out.push_str(&fixed);
        at += length;
    }
    out
}

/// How many characters at the start of `chars` look like UTF-8 sequences.
fn utf8_like(chars: &[char]) -> usize {
    let mut length = 0;
    'sequences: loop {
        let rest = &chars[length..];
        for (first, continuations) in
            [((0xc2, 0xdf), 1), ((0xe0, 0xef), 2), ((0xf0, 0xf0), 3), ((0xf3, 0xf3), 3)]
        {
            let Some((&lead, after)) = rest.split_first() else { break };
            if could_be(lead, first) && after.len() >= continuations {
                let is_continuation = |&c: &char| c == ' ' || could_be(c, (0x80, 0xbf));
                if after[..continuations].iter().all(is_continuation) {
                    length += 1 + continuations;
                    continue 'sequences;
                }
            }
        }
        return length;
    }
}

/// A continuation byte in some encoding, and not punctuation that belongs where it stands.
fn is_strict_continuation(c: char) -> bool {
    const PUNCTUATION: [char; 11] = ['–', '—', '―', '‘', '’', '‚', '“', '”', '„', '•', '…'];
    could_be(c, (0x80, 0xbf)) && !PUNCTUATION.contains(&c)
}

/// Whether `c` stands for a byte of this range in Latin-1 or one of the Windows encodings.
fn could_be(c: char, (from, to): (u8, u8)) -> bool {
    let places = usize::from(from - 0x80)..=usize::from(to - 0x80);
    !c.is_ascii() && CHARMAPS[..7].iter().any(|charmap| charmap.upper[places.clone()].contains(&c))
}
