//! Moving the media data of a file: the chunk offsets in `moov` follow.

use std::ops::Range;

use super::boxes::{Fields, Inner, bad, children};
use crate::ProvenanceError;

/// Boxes on the way from `moov` to the chunk offsets.
const PATH: [[u8; 4]; 5] = [*b"moov", *b"trak", *b"mdia", *b"minf", *b"stbl"];

/// Returns `moov`, a whole box, with every chunk offset raised by `delta`. Each must lie in `media`, the
/// media data before it moved. Offsets that no longer fit 32 bits become 64-bit ones, which makes the box
/// larger.
pub(crate) fn shift(moov: &[u8], media: &Range<u64>, delta: u64) -> Result<Vec<u8>, ProvenanceError> {
    let mut shifted = Vec::with_capacity(moov.len());
    for inner in children(moov)? {
        write(inner, 0, media, delta, &mut shifted)?;
    }
    Ok(shifted)
}

fn write(
    inner: Inner<'_>,
    depth: usize,
    media: &Range<u64>,
    delta: u64,
    out: &mut Vec<u8>,
) -> Result<(), ProvenanceError> {
    match &inner.kind {
        b"stco" | b"co64" if depth == PATH.len() => return write_offsets(inner, media, delta, out),
        kind if PATH.get(depth) == Some(kind) => {}
        _ => {
            out.extend_from_slice(inner.whole);
            return Ok(());
        }
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&inner.kind);
    for child in children(inner.content)? {
        write(child, depth + 1, media, delta, out)?;
    }
    finish(start, out)
}

/// Writes the size of the box that began at `start`.
fn finish(start: usize, out: &mut [u8]) -> Result<(), ProvenanceError> {
    let size = out.len() - start;
    let size = u32::try_from(size).map_err(|_| bad(format!("an index of {size} bytes")))?;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

fn write_offsets(
    inner: Inner<'_>,
    media: &Range<u64>,
    delta: u64,
    out: &mut Vec<u8>,
) -> Result<(), ProvenanceError> {
    let offsets = read(inner)?;
    let mut moved = Vec::with_capacity(offsets.len());
    for offset in offsets {
        if !media.contains(&offset) {
            return Err(bad(format!("a chunk at {offset}, outside the media data {media:?}")));
        }
        moved.push(offset.checked_add(delta).ok_or_else(|| bad(format!("a chunk at {offset}")))?);
    }
    let start = out.len();
    let large = &inner.kind == b"co64" || moved.iter().any(|offset| u32::try_from(*offset).is_err());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(if large { b"co64" } else { b"stco" });
    out.extend_from_slice(&inner.content[..4]);
    out.extend_from_slice(&(moved.len() as u32).to_be_bytes());
    for offset in moved {
        let bytes = offset.to_be_bytes();
        out.extend_from_slice(if large { &bytes } else { &bytes[4..] });
    }
    finish(start, out)
}

/// The chunk offsets of an `stco` or `co64` box.
pub(crate) fn read(inner: Inner<'_>) -> Result<Vec<u64>, ProvenanceError> {
    let mut fields = Fields(inner.content);
    // Version and flags.
    fields.u32()?;
    let large = &inner.kind == b"co64";
    let count = fields.count(if large { 8 } else { 4 })?;
    (0..count).map(|_| if large { fields.u64() } else { fields.u32().map(u64::from) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut bytes = (content.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(content);
        bytes
    }

    fn moov(table: &[u8]) -> Vec<u8> {
        let stbl = boxed(b"stbl", &[boxed(b"stsd", b"12345678"), table.to_vec()].concat());
        let trak = boxed(b"trak", &boxed(b"mdia", &boxed(b"minf", &stbl)));
        boxed(b"moov", &[boxed(b"mvhd", b"head"), trak.clone(), trak].concat())
    }

    fn stco(offsets: &[u32]) -> Vec<u8> {
        let mut content = vec![0; 4];
        content.extend_from_slice(&(offsets.len() as u32).to_be_bytes());
        content.extend(offsets.iter().flat_map(|offset| offset.to_be_bytes()));
        boxed(b"stco", &content)
    }

    fn co64(offsets: &[u64]) -> Vec<u8> {
        let mut content = vec![0; 4];
        content.extend_from_slice(&(offsets.len() as u32).to_be_bytes());
        content.extend(offsets.iter().flat_map(|offset| offset.to_be_bytes()));
        boxed(b"co64", &content)
    }

    #[test]
    fn every_offset_moves_and_nothing_else_changes() {
        assert_eq!(shift(&moov(&stco(&[48, 60])), &(48..100), 1000).unwrap(), moov(&stco(&[1048, 1060])));
        assert_eq!(shift(&moov(&co64(&[48, 60])), &(48..100), 7).unwrap(), moov(&co64(&[55, 67])));
    }

    #[test]
    fn offsets_beyond_32_bits_get_64() {
        let last = u32::MAX - 10;
        let media = 48..u64::from(u32::MAX);
        let shifted = shift(&moov(&stco(&[48, last])), &media, 100).unwrap();
        assert_eq!(shifted, moov(&co64(&[148, u64::from(last) + 100])));
    }

    #[test]
    fn an_offset_outside_the_media_data_is_refused() {
        let error = shift(&moov(&stco(&[48, 100])), &(48..100), 1).unwrap_err();
        assert!(error.to_string().contains("a chunk at 100"), "{error}");
    }

    #[test]
    fn a_table_longer_than_its_box_is_refused() {
        let table = boxed(b"stco", &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert!(shift(&moov(&table), &(0..10), 1).is_err());
    }
}
