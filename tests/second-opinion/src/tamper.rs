//! The boxes of a file, and what somebody may do to them.

use std::error::Error;
use std::ops::Range;

/// A beginning and its fragments.
pub type Session<'a> = (&'a [u8], Vec<&'a [u8]>);

/// Whether the beginning names session keys, and so fragments are signed one by one.
pub fn is_live(bytes: &[u8]) -> bool {
    const LABEL: &[u8] = b"c2pa.session-keys";
    bytes.windows(LABEL.len()).any(|found| found == LABEL)
}

/// Cuts a stream at its boxes. Each further beginning begins a session.
pub fn sessions(bytes: &[u8]) -> Result<Vec<Session<'_>>, Box<dyn Error>> {
    let mut sessions: Vec<Session<'_>> = Vec::new();
    let mut start = 0;
    for (kind, place) in boxes(bytes)? {
        match &kind {
            b"moov" => sessions.push((&bytes[start..place.end], Vec::new())),
            b"mdat" => match sessions.last_mut() {
                Some((_, fragments)) => fragments.push(&bytes[start..place.end]),
                None => return Err("media data before a beginning".into()),
            },
            _ => continue,
        }
        start = place.end;
    }
    Ok(sessions)
}

/// The file as others may have left it, by name.
pub fn variants(bytes: &[u8]) -> Result<Vec<(&'static str, Vec<u8>)>, Box<dyn Error>> {
    let media = boxes(bytes)?.into_iter().filter(|(kind, _)| kind == b"mdat").map(|(_, place)| place);
    // Of the fragments one in the middle: the first and the last may be special.
    let all: Vec<Range<usize>> = media.collect();
    let place = all.get(all.len() / 2).ok_or("there is no media data")?;
    let mut flipped = bytes.to_vec();
    flipped[place.start.midpoint(place.end)] ^= 1;
    let mut variants = vec![("flipped", flipped)];
    if is_live(bytes) {
        let sessions = sessions(bytes)?;
        let (mut dropped, mut swapped) = (Vec::new(), Vec::new());
        for (init, mut fragments) in sessions {
            let middle = fragments.len() / 2;
            if middle == 0 {
                return Err("a session of fewer than two fragments cannot be rearranged".into());
            }
            fragments.swap(middle - 1, middle);
            swapped.extend([init].into_iter().chain(fragments.iter().copied()).flatten());
            fragments.swap(middle - 1, middle);
            fragments.remove(middle - 1);
            dropped.extend([init].into_iter().chain(fragments).flatten());
        }
        variants.extend([("dropped", dropped), ("swapped", swapped)]);
    }
    Ok(variants)
}

fn boxes(bytes: &[u8]) -> Result<Vec<([u8; 4], Range<usize>)>, Box<dyn Error>> {
    let mut boxes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let kind = bytes.get(at + 4..at + 8).and_then(|kind| kind.try_into().ok()).ok_or("it ends in a header")?;
        let size = match number(at).ok_or("it ends in a header")? {
            0 => bytes.len() - at,
            1 => (number(at + 8).zip(number(at + 12)))
                .map(|(high, low)| (high as usize) << 32 | low as usize)
                .ok_or("it ends in a header")?,
            size => size as usize,
        };
        let end = at.checked_add(size.max(8)).filter(|&end| end <= bytes.len()).ok_or("it ends in a box")?;
        boxes.push((kind, at..end));
        at = end;
    }
    Ok(boxes)
}
