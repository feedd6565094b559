//! Whether a text holds characters side by side that only a wrong encoding puts there.
//!
//! Classes and rules are those of ftfy 6.3 (`ftfy/badness.py`, Robyn Speer).

use std::ops::RangeInclusive;

type Class = u32;

const COMMON: Class = 1;
const C1: Class = 1 << 1;
const BAD: Class = 1 << 2;
const LAW: Class = 1 << 3;
const CURRENCY: Class = 1 << 4;
const START: Class = 1 << 5;
const END: Class = 1 << 6;
const NUMERIC: Class = 1 << 7;
const KAOMOJI: Class = 1 << 8;
const UPPER_ACCENTED: Class = 1 << 9;
const LOWER_ACCENTED: Class = 1 << 10;
const UPPER_COMMON: Class = 1 << 11;
const LOWER_COMMON: Class = 1 << 12;
const BOX: Class = 1 << 13;
const ASCII_LOWER: Class = 1 << 14;
const ASCII_LETTER: Class = 1 << 15;
const SPACE: Class = 1 << 16;
const WORD: Class = 1 << 17;
const ACCENTED: Class = UPPER_ACCENTED | LOWER_ACCENTED;

/// Single characters of the classes that are lists.
const LISTS: [(Class, &str); 11] = [
    (COMMON, "\u{a0}\u{ad}´·–—―’…"),
    (BAD, "¤¦¨ª¬¯¸ºƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}"),
    (LAW, "§¶"),
    (CURRENCY, "¢£¥₧€"),
    (START, "¡©«¿΄΅‘‚“„•‹\u{f8ff}"),
    (END, "®»˝”›™"),
    (NUMERIC, "±²³µ¹¼½¾×÷⁄№∂∆∏∑√∞∩∫≈≠≡≤≥"),
    (KAOMOJI, "°ŌŐŪŲ"),
    (UPPER_ACCENTED, "ØÜÝĀĂĄĆČĎĐĒĖĘĚĞĢĪİĶĹĻĽŁŃŅŇŒŘŚŞŠŢŤŮŰŸŹŻŽҐ"),
    (LOWER_ACCENTED, "üāăąćčďđēėęěğģīįķĺļľłœŕśşšťźżžґﬁﬂ"),
    (BOX, "│┌┐┘├┤┬┼▀▄█▌▐░▒▓"),
];

/// Ranges of the others.
const RANGES: [(Class, RangeInclusive<char>); 15] = [
    (C1, '\u{80}'..='\u{9f}'),
    (KAOMOJI, 'Ò'..='Ö'),
    (KAOMOJI, 'Ù'..='Ü'),
    (KAOMOJI, 'ò'..='ö'),
    (KAOMOJI, 'ø'..='ü'),
    (UPPER_ACCENTED, 'À'..='Ñ'),
    (LOWER_ACCENTED, 'ß'..='ñ'),
    (UPPER_COMMON, 'Þ'..='Þ'),
    (UPPER_COMMON, 'Ά'..='Ά'),
    (UPPER_COMMON, 'Έ'..='Ώ'),
    (UPPER_COMMON, 'Α'..='Ϋ'),
    (UPPER_COMMON, 'Ё'..='Я'),
    (LOWER_COMMON, 'ά'..='ω'),
    (LOWER_COMMON, 'а'..='џ'),
    (BOX, '═'..='╬'),
];

/// Classes of two characters that do not stand side by side.
const PAIRS: [(Class, Class); 10] = [
    (BAD | ACCENTED | BOX | START | END | CURRENCY | NUMERIC | LAW, BAD),
    (BAD, ACCENTED | BOX | START | END | CURRENCY | NUMERIC | LAW),
    (LOWER_ACCENTED | LOWER_COMMON | BOX | END | CURRENCY | NUMERIC, UPPER_ACCENTED),
    (BOX | END | CURRENCY | NUMERIC, LOWER_ACCENTED),
    (LOWER_ACCENTED | BOX | END, CURRENCY),
    (UPPER_ACCENTED | BOX, NUMERIC | LAW),
    (CURRENCY | NUMERIC | BOX, START),
    (BOX, KAOMOJI | END),
    (ACCENTED | CURRENCY | NUMERIC | START | END | LAW, BOX),
    (C1, Class::MAX),
];

/// Classes of three characters in a row that do not follow each other.
const TRIPLES: [(Class, Class, Class); 6] = [
    (ASCII_LETTER, LOWER_COMMON | UPPER_COMMON, BAD),
    (SPACE, UPPER_ACCENTED, CURRENCY),
    (ACCENTED | BOX | CURRENCY | END, START, NUMERIC),
    (ACCENTED | CURRENCY | NUMERIC | BOX | LAW, END, START),
    (ASCII_LOWER, UPPER_ACCENTED, START | CURRENCY),
    (ACCENTED, START | END, WORD),
];

fn class(c: char) -> Class {
    let mut class = 0;
    if c.is_ascii_lowercase() {
        class |= ASCII_LOWER;
    }
    if c.is_ascii_alphabetic() {
        class |= ASCII_LETTER;
    }
    if c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}') {
        class |= SPACE;
    }
    if c.is_alphanumeric() || c == '_' {
        class |= WORD;
    }
    if c.is_ascii() {
        return class;
    }
    class |= LISTS.iter().filter(|(_, list)| list.contains(c)).fold(0, |all, (class, _)| all | class);
    class | RANGES.iter().filter(|(_, range)| range.contains(&c)).fold(0, |all, (class, _)| all | class)
}

/// Whether some of `text` is likely to have been decoded in the wrong encoding.
pub(super) fn is_bad(text: &str) -> bool {
    let chars: Vec<(char, Class)> = text.chars().map(|c| (c, class(c))).collect();
    (0..chars.len()).any(|at| is_bad_at(&chars[at..], at == 0))
}

fn is_bad_at(text: &[(char, Class)], first: bool) -> bool {
    let class = |at: usize| text.get(at).map_or(0, |&(_, class)| class);
    if class(0) & C1 != 0
        || PAIRS.iter().any(|&(a, b)| class(0) & a != 0 && class(1) & b != 0)
        || TRIPLES.iter().any(|&(a, b, c)| class(0) & a != 0 && class(1) & b != 0 && class(2) & c != 0)
    {
        return true;
    }
    is_known_sequence(text, first)
}

/// The sequences of single characters: what common letters and punctuation become in each encoding.
fn is_known_sequence(text: &[(char, Class)], first: bool) -> bool {
    let at = |at: usize| text.get(at).map_or(('\0', 0), |&pair| pair);
    let ((a, class_a), (b, class_b), (c, class_c)) = (at(0), at(1), at(2));
    let is = |class: Class, wanted: Class| class & wanted != 0;
    let has_b = text.len() > 1;
    match a {
        'Œ' | 'œ' if has_b && !b.is_ascii_alphabetic() => return true,
        '×' if "²³".contains(b) => return true,
        'à' if "²µ¹¼½¾".contains(b) => return true,
        // MacRoman
        '√' if "±∂†≠®™´≤≥¥µø".contains(b) => return true,
        '≈' if "°¢".contains(b) => return true,
        '‚' if b == 'Ä' && "ìîïòôúùû†°¢π".contains(c) => return true,
        '‚' if "âó".contains(b) && "àä°ê".contains(c) => return true,
        // Windows-1251
        'в' if b == 'Ђ' => return true,
        'В' | 'Г' | 'Р' | 'С'
            if (is(class_b, C1 | BAD | START | END | CURRENCY) || "°µ".contains(b)) && "ВГРС".contains(c) =>
        {
            return true;
        }
        'Г' => {
            let letters: String = text.iter().take(5).map(|&(c, _)| c).collect();
            let (any, next) = (at(5).0, at(6).0);
            if letters == "ГўВЂВ" && any != '\n' && (next.is_ascii_alphabetic() || next == ' ') {
                return true;
            }
        }
        // Windows-1253
        'β' if b == '€' && "™\u{a0}Ά\u{ad}®°".contains(c) => return true,
        // Windows-1257
        'ā' if b == '€' => return true,
        _ => {}
    }
    // Windows-1253, between two of its own capitals
    if "ΒΓΞΟ".contains(a)
        && (is(class_b, C1 | BAD | START | END | CURRENCY) || b == '°')
        && "ΒΓΞΟ".contains(c)
    {
        return true;
    }
    // A degree sign after a capital
    if is(class_a, UPPER_ACCENTED) && b == '°' {
        return true;
    }
    // Windows-1252: the four capitals that begin most sequences of two
    if "ÂÃÎÐ".contains(a) && (is(class_b, START | END) || "€œŠš¢£Ÿž\u{a0}\u{ad}®°©·»–—´".contains(b))
    {
        return true;
    }
    if a == 'Ã' && "\u{a0}¡".contains(b) {
        return true;
    }
    // Windows-1252 of Arabic, two sequences in a row
    let arabic = |lead: char, (c, class): (char, Class)| {
        "ØÙ".contains(lead) && (is(class, COMMON | CURRENCY | BAD | NUMERIC | START) || "ŸŠ®°µ»".contains(c))
    };
    if text.len() > 3 && arabic(a, at(1)) && arabic(c, at(3)) {
        return true;
    }
    // A no-break space that became a space, after a capital that begins a sequence
    let spaced = |c: char, next: char| "ÃÂ".contains(c) && next == ' ';
    if first && spaced(a, b) {
        return true;
    }
    if a.is_ascii_lowercase() && (spaced(b, c) || is(class_b, SPACE) && spaced(c, at(3).0)) {
        return true;
    }
    (a.is_ascii_lowercase() || ".,?!".contains(a) || is(class_a, END))
        && b == 'Â'
        && (c == ' ' || is(class_c, START | END))
}
