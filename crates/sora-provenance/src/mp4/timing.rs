//! How long a fragment plays, by the index of its beginning and its own headers.

use super::boxes::{Fields, bad, child, children};
use crate::ProvenanceError;

/// Ticks of a second in which durations are given: what MPEG has always counted in.
pub(crate) const TIMESCALE: u32 = 90_000;

/// What the index of a fragmented file says of its tracks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timing {
    tracks: Vec<Track>,
}

#[derive(Debug, Clone, Copy)]
struct Track {
    id: u32,
    /// Ticks of a second, at least 1.
    timescale: u32,
    /// Where its media is placed, by its edit list: ticks added to a time of its media.
    shift: i128,
    /// Duration of a sample where a fragment does not say it.
    duration: u32,
}

impl Timing {
    /// Reads the content of a `moov`.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] where it is broken.
    pub(crate) fn of_movie(moov: &[u8]) -> Result<Self, ProvenanceError> {
        let mut movie = 1;
        let mut tracks = Vec::new();
        for inner in children(moov)? {
            match &inner.kind {
                b"mvhd" => movie = header_timescale(inner.content)?,
                b"trak" => tracks.extend(track(inner.content, movie)?),
                _ => {}
            }
        }
        if let Some(mvex) = child(moov, b"mvex")? {
            for trex in children(mvex.content)?.iter().filter(|inner| &inner.kind == b"trex") {
                let mut fields = Fields(trex.content);
                fields.u32()?;
                let id = fields.u32()?;
                fields.u32()?;
                let duration = fields.u32()?;
                for track in tracks.iter_mut().filter(|track| track.id == id) {
                    track.duration = duration;
                }
            }
        }
        Ok(Self { tracks })
    }

    /// Time from the first moment that a fragment shows to its last, in ticks of [`TIMESCALE`], rounded up.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] where its headers are broken, of a track that is not in the index, or where it
    /// plays for more than 13 hours.
    pub(crate) fn span(&self, fragment: &[u8]) -> Result<u32, ProvenanceError> {
        let mut span: Option<(i128, i128)> = None;
        for moof in children(fragment)?.iter().filter(|inner| &inner.kind == b"moof") {
            for traf in children(moof.content)?.iter().filter(|inner| &inner.kind == b"traf") {
                let Some((start, end)) = self.of_traf(traf.content)? else { continue };
                span = Some(span.map_or((start, end), |(first, last)| (first.min(start), last.max(end))));
            }
        }
        let (start, end) = span.unwrap_or_default();
        let ticks = (end - start).max(1);
        // The largest number means "unknown".
        u32::try_from(ticks).ok().filter(|ticks| *ticks < u32::MAX).ok_or_else(|| {
            bad(format!("a fragment that plays for {} s; at most 47721 s", ticks / i128::from(TIMESCALE)))
        })
    }

    /// First and last moment of a track's part, in ticks of [`TIMESCALE`].
    fn of_traf(&self, traf: &[u8]) -> Result<Option<(i128, i128)>, ProvenanceError> {
        let tfhd = child(traf, b"tfhd")?.ok_or_else(|| bad("a track fragment without a header"))?;
        let mut fields = Fields(tfhd.content);
        let flags = fields.u32()?;
        let id = fields.u32()?;
        let track = self.tracks.iter().find(|track| track.id == id);
        let track =
            track.ok_or_else(|| bad(format!("a fragment of track {id}, which the index does not have")))?;
        if flags & 0x1 != 0 {
            fields.u64()?;
        }
        if flags & 0x2 != 0 {
            fields.u32()?;
        }
        let default = if flags & 0x8 != 0 { fields.u32()? } else { track.duration };
        let mut at = match child(traf, b"tfdt")? {
            Some(tfdt) => {
                let mut fields = Fields(tfdt.content);
                let version = fields.u32()? >> 24;
                i128::from(if version == 0 { fields.u32()?.into() } else { fields.u64()? })
            }
            None => 0,
        };
        let mut span: Option<(i128, i128)> = None;
        for trun in children(traf)?.iter().filter(|inner| &inner.kind == b"trun") {
            run(trun.content, default, &mut at, &mut span)?;
        }
        let scale = |ticks: i128, up: i128| {
            let timescale = i128::from(track.timescale);
            ((ticks + track.shift) * i128::from(TIMESCALE) + up * (timescale - 1)).div_euclid(timescale)
        };
        Ok(span.map(|(start, end)| (scale(start, 0), scale(end, 1))))
    }
}

/// Goes through a run of samples.
fn run(
    trun: &[u8],
    default: u32,
    at: &mut i128,
    span: &mut Option<(i128, i128)>,
) -> Result<(), ProvenanceError> {
    let mut fields = Fields(trun);
    let flags = fields.u32()?;
    let count = fields.u32()?;
    for flag in [0x1, 0x4] {
        if flags & flag != 0 {
            fields.u32()?;
        }
    }
    let per_sample = [0x100, 0x200, 0x400, 0x800].iter().filter(|flag| flags & **flag != 0).count() * 4;
    if per_sample == 0 {
        if count > 0 {
            let end = *at + i128::from(count) * i128::from(default);
            extend(span, *at, end);
            *at = end;
        }
        return Ok(());
    }
    if (count as usize).saturating_mul(per_sample) > fields.0.len() {
        return Err(bad(format!("a run of {count} samples in {} bytes", fields.0.len())));
    }
    for _ in 0..count {
        let duration = if flags & 0x100 != 0 { fields.u32()? } else { default };
        fields.take([0x200, 0x400].iter().filter(|flag| flags & **flag != 0).count() * 4)?;
        let offset = match (flags & 0x800 != 0, flags >> 24) {
            (false, _) => 0,
            (true, 0) => i128::from(fields.u32()?),
            (true, _) => i128::from(fields.u32()? as i32),
        };
        let shown = *at + offset;
        extend(span, shown, shown + i128::from(duration));
        *at += i128::from(duration);
    }
    Ok(())
}

fn extend(span: &mut Option<(i128, i128)>, start: i128, end: i128) {
    *span = Some(span.map_or((start, end), |(first, last)| (first.min(start), last.max(end))));
}

fn header_timescale(content: &[u8]) -> Result<u32, ProvenanceError> {
    let mut fields = Fields(content);
    let version = fields.u32()? >> 24;
    fields.take(if version == 0 { 8 } else { 16 })?;
    fields.u32().map(|timescale| timescale.max(1))
}

fn track(trak: &[u8], movie: u32) -> Result<Option<Track>, ProvenanceError> {
    let Some(tkhd) = child(trak, b"tkhd")? else { return Ok(None) };
    let mut fields = Fields(tkhd.content);
    let version = fields.u32()? >> 24;
    fields.take(if version == 0 { 8 } else { 16 })?;
    let id = fields.u32()?;
    let Some(mdia) = child(trak, b"mdia")? else { return Ok(None) };
    let Some(mdhd) = child(mdia.content, b"mdhd")? else { return Ok(None) };
    let timescale = header_timescale(mdhd.content)?;
    let shift = match child(trak, b"edts")?.map(|edts| child(edts.content, b"elst")).transpose()?.flatten() {
        Some(elst) => edit_shift(elst.content, timescale, movie)?,
        None => 0,
    };
    Ok(Some(Track { id, timescale, shift, duration: 0 }))
}

/// Where an edit list places a track: silence first, then its media from some time on.
fn edit_shift(elst: &[u8], timescale: u32, movie: u32) -> Result<i128, ProvenanceError> {
    let mut fields = Fields(elst);
    let version = fields.u32()? >> 24;
    let mut silence = 0;
    let count = fields.count(if version == 0 { 12 } else { 20 })?;
    for _ in 0..count {
        let (duration, start) = match version {
            0 => (u64::from(fields.u32()?), i64::from(fields.u32()? as i32)),
            _ => (fields.u64()?, fields.u64()? as i64),
        };
        fields.u32()?;
        if start >= 0 {
            return Ok(silence - i128::from(start));
        }
        silence += i128::from(duration) * i128::from(timescale) / i128::from(movie);
    }
    Ok(silence)
}
