//! A fragmented MP4 as it arrives: its beginning (`ftyp`, `moov`), then fragments, each up to its media data.

use super::boxes::{self, Header, bad};
use crate::ProvenanceError;

/// Largest fragment and largest beginning, in bytes: what is held in memory.
pub(crate) const FRAGMENT_BYTES: u64 = 256 << 20;

/// A part of a fragmented MP4, whole boxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// `ftyp` and `moov` and what stands with them. A stream may have it again.
    Init(Vec<u8>),
    /// One fragment: `styp`, `sidx` and others, `moof`, and the media data up to its end.
    Fragment(Vec<u8>),
    /// What is neither, an index at the end (`mfra`) for example.
    Other(Vec<u8>),
}

/// Cuts bytes into [`Part`]s.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    /// What came and is not yet a whole part.
    pending: Vec<u8>,
    /// How much of that are whole boxes.
    whole: usize,
    /// What kinds of boxes those are.
    seen: Seen,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    ftyp: bool,
    moov: bool,
    moof: bool,
}

impl Fragments {
    /// Takes more bytes and adds the parts that are whole now to `parts`, also where something is wrong after them.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] for a box that is none, of unknown length, or a part of more than 256 MiB.
    pub(crate) fn push(&mut self, bytes: &[u8], parts: &mut Vec<Part>) -> Result<(), ProvenanceError> {
        self.pending.extend_from_slice(bytes);
        while let Some(header) = boxes::header(&self.pending[self.whole..])? {
            let size = self.size(&header)?;
            if self.begins(header.kind) {
                self.cut(self.whole, parts);
            }
            let Some(end) = self.whole.checked_add(size).filter(|end| *end <= self.pending.len()) else {
                break;
            };
            self.whole = end;
            match &header.kind {
                b"ftyp" => self.seen.ftyp = true,
                b"moov" => self.seen.moov = true,
                b"moof" => self.seen.moof = true,
                _ => {}
            }
            // A beginning ends with its index, a fragment with its media data. Media data of an unfragmented file
            // has no business here.
            let done = match &header.kind {
                b"mdat" if self.seen.moof => true,
                b"mdat" => {
                    return Err(bad("media data without a fragment header: the file is not fragmented"));
                }
                b"moov" => self.seen.ftyp,
                b"mfra" => true,
                _ => false,
            };
            if done {
                self.cut(self.whole, parts);
            }
        }
        Ok(())
    }

    /// What is left at the end: nothing in a whole stream.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] where it ends in the middle of a box or of a fragment.
    pub(crate) fn finish(mut self) -> Result<Option<Part>, ProvenanceError> {
        let left = self.pending.len() - self.whole;
        if left > 0 {
            return Err(bad(format!("it ends in the middle of a box, {left} bytes into it")));
        }
        if self.seen.moof {
            return Err(bad("it ends with a fragment header without media data"));
        }
        let mut parts = Vec::new();
        self.cut(self.whole, &mut parts);
        Ok(parts.pop())
    }

    fn size(&self, header: &Header) -> Result<usize, ProvenanceError> {
        let kind = boxes::name(header.kind);
        let size =
            header.size.ok_or_else(|| bad(format!("box {kind:?} has no length; a fragment's boxes have")))?;
        let held = (self.whole as u64).saturating_add(size);
        if held > FRAGMENT_BYTES {
            return Err(bad(format!(
                "a part of {held} bytes with box {kind:?}; at most {FRAGMENT_BYTES} are held"
            )));
        }
        // At most 256 MiB.
        Ok(size as usize)
    }

    /// Whether a box begins another part than the one that is collected.
    fn begins(&self, kind: [u8; 4]) -> bool {
        match &kind {
            b"ftyp" | b"styp" | b"mfra" => true,
            b"moof" => self.seen.moof,
            _ => false,
        }
    }

    fn cut(&mut self, at: usize, parts: &mut Vec<Part>) {
        let seen = std::mem::take(&mut self.seen);
        self.whole = 0;
        if at == 0 {
            return;
        }
        let rest = self.pending.split_off(at);
        let part = std::mem::replace(&mut self.pending, rest);
        parts.push(match seen {
            Seen { moov: true, .. } => Part::Init(part),
            Seen { moof: true, .. } => Part::Fragment(part),
            _ => Part::Other(part),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], length: usize) -> Vec<u8> {
        let mut bytes = (length as u32 + 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.resize(length + 8, 0x55);
        bytes
    }

    fn stream() -> (Vec<u8>, Vec<Part>) {
        let join = |boxes: &[(&[u8; 4], usize)]| -> Vec<u8> {
            boxes.iter().flat_map(|(kind, length)| boxed(kind, *length)).collect()
        };
        let parts = vec![
            Part::Init(join(&[(b"ftyp", 16), (b"free", 4), (b"moov", 90)])),
            Part::Fragment(join(&[(b"styp", 12), (b"sidx", 20), (b"moof", 50), (b"mdat", 1000)])),
            Part::Fragment(join(&[(b"moof", 50), (b"mdat", 7)])),
            Part::Init(join(&[(b"ftyp", 16), (b"moov", 90)])),
            Part::Fragment(join(&[(b"emsg", 30), (b"moof", 50), (b"mdat", 0)])),
            Part::Other(join(&[(b"mfra", 40)])),
        ];
        let bytes = parts.iter().flat_map(|part| match part {
            Part::Init(bytes) | Part::Fragment(bytes) | Part::Other(bytes) => bytes.clone(),
        });
        (bytes.collect(), parts)
    }

    #[test]
    fn parts_are_the_same_however_the_bytes_come() {
        let (bytes, parts) = stream();
        for length in [1, 3, 8, 17, 100, 5000] {
            let mut cutter = Fragments::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(length) {
                cutter.push(piece, &mut found).unwrap();
            }
            found.extend(cutter.finish().unwrap());
            assert_eq!(found, parts, "pieces of {length}");
        }
    }

    #[test]
    fn what_cannot_be_held_or_ends_early_is_refused() {
        let error = |bytes: &[u8]| {
            let mut cutter = Fragments::default();
            match cutter.push(bytes, &mut Vec::new()) {
                Err(error) => error.to_string(),
                Ok(()) => cutter.finish().unwrap_err().to_string(),
            }
        };
        assert!(error(b"\x7f\0\0\0mdat").contains("2130706432 bytes"));
        assert!(error(b"\0\0\0\0mdat").contains("no length"));
        assert!(error(b"\0\0\0\x01mdat\x80\0\0\0\0\0\0\0").contains("9223372036854775808 bytes"));
        assert!(error(&boxed(b"mdat", 4)).contains("not fragmented"));
        assert!(error(&boxed(b"moof", 4)).contains("without media data"));
        let (bytes, _) = stream();
        assert!(error(&bytes[..bytes.len() - 1]).contains("middle of a box"));
    }
}
