//! Where the samples of a file lie. C2PA's hash leaves out some boxes (`free`, `skip` and others): a sample
//! that lies there could be exchanged unseen.

use std::io::{Read, Seek};
use std::ops::Range;

use super::boxes::{Fields, TopBox, bad, child, children, read_at};
use super::offsets;
use crate::ProvenanceError;

/// Largest index (`moov`, `moof`) that is read, in bytes. A day at 60 frames a second takes a third.
pub(crate) const INDEX_BYTES: u64 = 256 << 20;

/// Problems with the places of samples, for people; none: every sample lies in an `mdat` of this file.
pub(crate) fn problems(
    file: &mut (impl Read + Seek),
    boxes: &[TopBox],
) -> Result<Vec<String>, ProvenanceError> {
    // Sorted by place, as they were scanned.
    let media: Vec<Range<u64>> =
        boxes.iter().filter(|found| &found.kind == b"mdat").map(TopBox::payload).collect();
    let mut problems = Vec::new();
    let mut defaults = Vec::new();
    for found in boxes {
        if !matches!(&found.kind, b"moov" | b"moof") {
            continue;
        }
        if found.size > INDEX_BYTES {
            let kind = super::boxes::name(found.kind);
            return Err(bad(format!("a {kind} of {} bytes; at most {INDEX_BYTES} are read", found.size)));
        }
        let content = read_at(file, found.at + found.header, found.size - found.header)?;
        if &found.kind == b"moov" {
            defaults = of_movie(&content, &media, &mut problems)?;
        } else {
            of_fragment(&content, found.at, &defaults, &media, &mut problems)?;
        }
    }
    Ok(problems)
}

/// Looks at the chunks of every track; returns the default sample sizes of fragments by track.
fn of_movie(
    moov: &[u8],
    media: &[Range<u64>],
    problems: &mut Vec<String>,
) -> Result<Vec<(u32, u32)>, ProvenanceError> {
    let mut defaults = Vec::new();
    for inner in children(moov)? {
        match &inner.kind {
            b"trak" => of_track(inner.content, media, problems)?,
            b"mvex" => {
                for trex in children(inner.content)?.iter().filter(|inner| &inner.kind == b"trex") {
                    let mut fields = Fields(trex.content);
                    fields.u32()?;
                    let track = fields.u32()?;
                    // Default sample description and duration.
                    fields.take(8)?;
                    defaults.push((track, fields.u32()?));
                }
            }
            _ => {}
        }
    }
    Ok(defaults)
}

fn of_track(trak: &[u8], media: &[Range<u64>], problems: &mut Vec<String>) -> Result<(), ProvenanceError> {
    let Some(mdia) = child(trak, b"mdia")? else { return Ok(()) };
    let Some(minf) = child(mdia.content, b"minf")? else { return Ok(()) };
    if let Some(dinf) = child(minf.content, b"dinf")?
        && let Some(dref) = child(dinf.content, b"dref")?
    {
        let entries = dref.content.get(8..).unwrap_or_default();
        for entry in children(entries)? {
            // Flag 1: the media data is in this file.
            if Fields(entry.content).u32()? & 1 == 0 {
                problems.push("a track takes its samples from another file".into());
            }
        }
    }
    let Some(stbl) = child(minf.content, b"stbl")? else { return Ok(()) };
    let mut chunks = Vec::new();
    let mut per_chunk = Vec::new();
    let mut sizes = Sizes::None;
    for table in children(stbl.content)? {
        match &table.kind {
            b"stco" | b"co64" => chunks = offsets::read(table)?,
            b"stsc" => {
                let mut fields = Fields(table.content);
                fields.u32()?;
                for _ in 0..fields.count(12)? {
                    per_chunk.push((fields.u32()?, fields.u32()?));
                    fields.u32()?;
                }
            }
            b"stsz" => sizes = Sizes::read(table.content)?,
            b"stz2" => return Err(bad("compact sample sizes (stz2), which are not read")),
            _ => {}
        }
    }
    let mut sample = 0;
    let mut runs = per_chunk.iter().peekable();
    let mut samples = 0;
    for (at, start) in chunks.iter().enumerate() {
        while let Some((_, count)) = runs.next_if(|(first, _)| u64::from(*first) <= at as u64 + 1) {
            samples = *count;
        }
        let length = sizes.sum(sample, samples)?;
        sample += samples as usize;
        check(*start, length, media, problems);
        if problems.len() > 8 {
            break;
        }
    }
    Ok(())
}

/// Problems with the places of samples in a fragment that is in memory, of the file that begins with the index
/// `moov`; offsets count within the fragment.
pub(crate) fn problems_of_fragment(moov: &[u8], fragment: &[u8]) -> Result<Vec<String>, ProvenanceError> {
    let mut problems = Vec::new();
    let defaults = of_movie(moov, &[], &mut Vec::new())?;
    let mut at = 0;
    let mut found = Vec::new();
    for inner in children(fragment)? {
        found.push((at, inner));
        at += inner.whole.len() as u64;
    }
    let media: Vec<Range<u64>> = found
        .iter()
        .filter(|(_, inner)| &inner.kind == b"mdat")
        .map(|(at, inner)| {
            let end = at + inner.whole.len() as u64;
            end - inner.content.len() as u64..end
        })
        .collect();
    for (at, inner) in found.iter().filter(|(_, inner)| &inner.kind == b"moof") {
        of_fragment(inner.content, *at, &defaults, &media, &mut problems)?;
    }
    Ok(problems)
}

enum Sizes<'a> {
    None,
    Same(u32),
    Each(&'a [u8]),
}

impl<'a> Sizes<'a> {
    fn read(content: &'a [u8]) -> Result<Self, ProvenanceError> {
        let mut fields = Fields(content);
        fields.u32()?;
        match fields.u32()? {
            0 => {
                let count = fields.count(4)?;
                Ok(Self::Each(&fields.0[..count * 4]))
            }
            same => Ok(Self::Same(same)),
        }
    }

    fn sum(&self, first: usize, count: u32) -> Result<u64, ProvenanceError> {
        match self {
            Self::None => Ok(0),
            Self::Same(size) => Ok(u64::from(*size) * u64::from(count)),
            Self::Each(sizes) => {
                let end = first.saturating_add(count as usize).saturating_mul(4);
                let sizes =
                    sizes.get(first * 4..end).ok_or_else(|| bad("a chunk of samples without sizes"))?;
                let mut fields = Fields(sizes);
                (0..count).map(|_| fields.u32().map(u64::from)).sum()
            }
        }
    }
}

/// Looks at the runs of a fragment (`moof` at `at`).
fn of_fragment(
    moof: &[u8],
    at: u64,
    defaults: &[(u32, u32)],
    media: &[Range<u64>],
    problems: &mut Vec<String>,
) -> Result<(), ProvenanceError> {
    let mut end = None;
    for traf in children(moof)?.iter().filter(|inner| &inner.kind == b"traf") {
        let tfhd = child(traf.content, b"tfhd")?.ok_or_else(|| bad("a track fragment without a header"))?;
        let mut fields = Fields(tfhd.content);
        let flags = fields.u32()?;
        let track = fields.u32()?;
        let mut optional = |flag: u32, bytes: usize| -> Result<Option<u64>, ProvenanceError> {
            if flags & flag == 0 {
                return Ok(None);
            }
            if bytes == 8 { fields.u64().map(Some) } else { fields.u32().map(|value| Some(value.into())) }
        };
        let base = optional(0x1, 8)?;
        optional(0x2, 4)?;
        optional(0x8, 4)?;
        let size = optional(0x10, 4)?;
        let of_track = defaults.iter().find(|(of, _)| *of == track).map(|(_, size)| u64::from(*size));
        let size = size.or(of_track).unwrap_or(0);
        // ISO/IEC 14496-12 §8.8.7: this fragment, or where the previous track's data ended.
        let base = base.unwrap_or(if flags & 0x2_0000 != 0 { at } else { end.unwrap_or(at) });
        let mut next = base;
        for trun in children(traf.content)?.iter().filter(|inner| &inner.kind == b"trun") {
            let (start, length) = run(trun.content, base, next, size)?;
            check(start, length, media, problems);
            next = start.saturating_add(length);
        }
        end = Some(next);
    }
    Ok(())
}

/// Where a run of samples starts and how long it is.
fn run(trun: &[u8], base: u64, next: u64, size: u64) -> Result<(u64, u64), ProvenanceError> {
    let mut fields = Fields(trun);
    let flags = fields.u32()?;
    let count = fields.u32()?;
    let start = match flags & 0x1 {
        0 => next,
        _ => {
            let offset = i64::from(fields.u32()? as i32);
            base.checked_add_signed(offset).ok_or_else(|| bad(format!("a run at {base} {offset:+}")))?
        }
    };
    if flags & 0x4 != 0 {
        fields.u32()?;
    }
    if flags & 0x200 == 0 {
        return Ok((start, size.saturating_mul(count.into())));
    }
    let before = if flags & 0x100 != 0 { 4 } else { 0 };
    let after = [0x400, 0x800].iter().filter(|flag| flags & **flag != 0).count() * 4;
    let mut length = 0u64;
    for _ in 0..count {
        fields.take(before)?;
        length = length.saturating_add(fields.u32()?.into());
        fields.take(after)?;
    }
    Ok((start, length))
}

fn check(start: u64, length: u64, media: &[Range<u64>], problems: &mut Vec<String>) {
    if length == 0 || problems.len() > 8 {
        return;
    }
    let at = media.partition_point(|range| range.end <= start);
    let inside = media.get(at).is_some_and(|range| {
        range.start <= start && start.checked_add(length).is_some_and(|end| end <= range.end)
    });
    if !inside {
        problems.push(format!("samples at {start}, {length} bytes, lie outside the media data"));
    }
}
