//! Box headers, at the top level of a file and inside a box that is in memory.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use crate::ProvenanceError;

/// The extended type of C2PA's `uuid` box (C2PA 2.4 §A.5.1).
pub(crate) const C2PA_UUID: [u8; 16] =
    [0xd8, 0xfe, 0xc3, 0xd6, 0x1b, 0x0e, 0x48, 0x3c, 0x92, 0x97, 0x58, 0x28, 0x87, 0x7e, 0xc4, 0x81];
/// Most boxes at the top level of a file: a day of one-second fragments has a quarter of it.
const TOP_BOXES: usize = 1 << 20;

/// The header of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Four-character code.
    pub(crate) kind: [u8; 4],
    /// Length of the header in bytes, 8 or 16.
    pub(crate) header: u64,
    /// Length of the whole box in bytes; `None`: to the end of the file.
    pub(crate) size: Option<u64>,
}

/// Reads a header from the start of `bytes`; `None` where it needs more bytes.
pub(crate) fn header(bytes: &[u8]) -> Result<Option<Header>, ProvenanceError> {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let Some((kind, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let (header, size) = match u32::from_be_bytes(*size) {
        0 => (8, None),
        1 => match rest.first_chunk::<8>() {
            Some(large) => (16, Some(u64::from_be_bytes(*large))),
            None => return Ok(None),
        },
        size => (8, Some(u64::from(size))),
    };
    if let Some(size) = size.filter(|size| *size < header) {
        return Err(bad(format!("box {:?} has size {size}, less than its header", name(*kind))));
    }
    Ok(Some(Header { kind: *kind, header, size }))
}

/// A four-character code for people.
pub(crate) fn name(kind: [u8; 4]) -> String {
    kind.iter().map(|byte| char::from(*byte)).flat_map(char::escape_default).collect()
}

pub(crate) fn bad(problem: impl Into<String>) -> ProvenanceError {
    ProvenanceError::Container(problem.into())
}

/// A box at the top level of a file.
#[derive(Debug, Clone)]
pub(crate) struct TopBox {
    pub(crate) kind: [u8; 4],
    /// Where it starts in the file.
    pub(crate) at: u64,
    /// Length of its header in bytes.
    pub(crate) header: u64,
    /// Length in bytes, header included.
    pub(crate) size: u64,
    /// The purpose that a C2PA `uuid` box states, e.g. `manifest` or `merkle`.
    pub(crate) c2pa: Option<String>,
}

impl TopBox {
    pub(crate) fn payload(&self) -> Range<u64> {
        self.at + self.header..self.at + self.size
    }
}

/// Lists the boxes at the top level up to the first that is none, and says why it is none.
pub(crate) fn scan_until_broken(
    file: &mut (impl Read + Seek),
) -> Result<(Vec<TopBox>, Option<ProvenanceError>), ProvenanceError> {
    let length = file.seek(SeekFrom::End(0)).map_err(ProvenanceError::stream("reading boxes"))?;
    let mut boxes = Vec::new();
    let mut at = 0;
    while at < length {
        match scan_one(file, at, length) {
            Ok(found) => {
                at += found.size;
                boxes.push(found);
            }
            Err(error @ ProvenanceError::Stream { .. }) => return Err(error),
            Err(problem) => return Ok((boxes, Some(problem))),
        }
        if boxes.len() > TOP_BOXES {
            return Ok((boxes, Some(bad(format!("more than {TOP_BOXES} boxes at the top level")))));
        }
    }
    Ok((boxes, None))
}

fn scan_one(file: &mut (impl Read + Seek), at: u64, length: u64) -> Result<TopBox, ProvenanceError> {
    let left = length - at;
    let start = read_at(file, at, 16.min(left))?;
    let found = header(&start)?.ok_or_else(|| bad(format!("{left} bytes at {at} are no box")))?;
    let size = found.size.unwrap_or(left);
    if size > left {
        return Err(bad(format!("box {:?} at {at} has size {size}, {left} are left", name(found.kind))));
    }
    let c2pa = match &found.kind {
        b"uuid" => c2pa_purpose(&read_at(file, at + found.header, (size - found.header).min(64))?),
        _ => None,
    };
    Ok(TopBox { kind: found.kind, at, header: found.header, size, c2pa })
}

/// The purpose that the content of a `uuid` box states, if it is C2PA's: identifier, version and flags, then
/// a string that ends with zero.
pub(crate) fn c2pa_purpose(content: &[u8]) -> Option<String> {
    let rest = content.strip_prefix(&C2PA_UUID)?.get(4..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// Reads `length` bytes at `at`.
pub(crate) fn read_at(
    file: &mut (impl Read + Seek),
    at: u64,
    length: u64,
) -> Result<Vec<u8>, ProvenanceError> {
    let mut bytes = Vec::new();
    let read =
        file.seek(SeekFrom::Start(at)).and_then(|_| file.by_ref().take(length).read_to_end(&mut bytes));
    let read = read.map_err(ProvenanceError::stream("reading boxes"))?;
    if read as u64 != length {
        return Err(bad(format!("ends at {}, {length} bytes at {at} were expected", at + read as u64)));
    }
    Ok(bytes)
}

/// A box inside another that is in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inner<'a> {
    pub(crate) kind: [u8; 4],
    /// All of it, header included.
    pub(crate) whole: &'a [u8],
    /// What follows the header.
    pub(crate) content: &'a [u8],
}

/// The boxes in `bytes`, one after the other. A size of 0 is the rest.
pub(crate) fn children(bytes: &[u8]) -> Result<Vec<Inner<'_>>, ProvenanceError> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let header =
            header(rest)?.ok_or_else(|| bad(format!("{} bytes inside a box are no box", rest.len())))?;
        let size = header.size.unwrap_or(rest.len() as u64);
        let Some((whole, after)) = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size))
        else {
            let kind = name(header.kind);
            return Err(bad(format!("inner box {kind:?} has size {size}, {} are left", rest.len())));
        };
        // A size is at least the header's, and a header is at most 16 bytes.
        found.push(Inner { kind: header.kind, whole, content: &whole[header.header as usize..] });
        rest = after;
    }
    Ok(found)
}

/// The first child of a kind.
pub(crate) fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Result<Option<Inner<'a>>, ProvenanceError> {
    Ok(children(bytes)?.into_iter().find(|inner| &inner.kind == kind))
}

/// Big-endian numbers from the front of a slice.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], ProvenanceError> {
        let short = || bad("a box ends in the middle of a field");
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ProvenanceError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ProvenanceError> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    /// A count of entries of `each` bytes that must all be there.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, ProvenanceError> {
        let count = self.u32()? as usize;
        if count.saturating_mul(each) > self.0.len() {
            return Err(bad(format!("a table of {count} entries in {} bytes", self.0.len())));
        }
        Ok(count)
    }
}
