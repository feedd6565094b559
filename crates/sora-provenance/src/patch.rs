//! Putting a manifest into a progressive MP4 while it is written.
//!
//! A [`PatchWriter`] stands between a muxer and its output and takes what a muxer does to a file: it
//! appends, and in the end goes back to fill in what it could not know. What goes out:
//!
//! ```text
//! in:   ftyp          | (free 8) mdat header 8 | media data      | moov
//! out:  ftyp | space  | mdat header 16         | media data      | moov with moved chunk offsets
//!             ^ in the end: manifest, and the rest of the space as a `free` box
//! ```
//!
//! The manifest stands before the media data, as C2PA 2.4 §A.5.3 wants it, and the output is passed once:
//! whoever makes the manifest ([`Seal`]) sees the media data as it goes through, and the rest of the
//! finished file in the end, so what is held in memory does not grow with the clip but for the index. The
//! header of `mdat` gets 16 bytes because validators disagree about where the leaves of a Merkle tree start
//! after one of 8. Until the very end the space is a `free` box: a file whose writing was interrupted does
//! not look signed.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use bytes::Bytes;

use crate::ProvenanceError;
use crate::mp4::boxes::{self, bad, c2pa_purpose, children};
use crate::mp4::{offsets, samples::INDEX_BYTES};

/// Longest `ftyp`, in bytes.
const FTYP_BYTES: u64 = 4096;
/// Least and most space that can be kept, in bytes.
pub const SPACE_BYTES: (usize, usize) = (8, 64 << 20);

/// Whoever makes the manifest of a file that a [`PatchWriter`] writes.
pub trait Seal {
    /// Gets the media data: the content of `mdat`, in order, in pieces of any length.
    ///
    /// # Errors
    /// Whatever makes a manifest impossible; the writing ends with it.
    fn media(&mut self, data: Bytes) -> Result<(), ProvenanceError>;

    /// Makes the manifest, a whole `uuid` box. `file` is the finished file, but that media data reads as
    /// zeros, and that a `free` box stands where the manifest and what is left of its space will be.
    ///
    /// # Errors
    /// Whatever makes the manifest impossible; the file then stays without.
    fn seal(&mut self, file: &mut SparseFile<'_>) -> Result<Vec<u8>, ProvenanceError>;
}

/// What a [`PatchWriter`] writes into.
pub trait Output: Write + Seek {
    /// Writes bytes that others may hold too. Whoever passes them on need not copy them.
    ///
    /// # Errors
    /// As [`Write::write_all`].
    fn write_shared(&mut self, bytes: Bytes) -> io::Result<()> {
        self.write_all(&bytes)
    }
}

impl Output for std::fs::File {}
impl<T> Output for io::Cursor<T> where io::Cursor<T>: Write + Seek {}
impl<T: Output> Output for &mut T {
    fn write_shared(&mut self, bytes: Bytes) -> io::Result<()> {
        (**self).write_shared(bytes)
    }
}

/// Writes a progressive MP4 with a manifest into `W`. See the module's text.
pub struct PatchWriter<W, S> {
    out: W,
    seal: S,
    /// What came in before the media data.
    head: Vec<u8>,
    state: State,
    /// Where the next byte comes in.
    at: u64,
    /// Space for the manifest.
    space: u64,
}

/// A file that is written and has its manifest.
#[derive(Debug)]
pub struct Patched<W, S> {
    /// What it was written to.
    pub output: W,
    /// Who made the manifest.
    pub seal: S,
    /// Where the manifest's box begins.
    pub manifest_at: u64,
    /// Length of the file, in bytes.
    pub length: u64,
}

enum State {
    Head,
    Media(Media),
}

struct Media {
    /// Where the media data starts, coming in and going out.
    from: u64,
    to: u64,
    /// How much of it there was.
    length: u64,
    /// What the header of `mdat` said, where it said something.
    declared: Option<u64>,
    /// What came in after the media data, or is taken for that.
    tail: Vec<u8>,
}

impl Media {
    fn end(&self) -> u64 {
        self.from + self.length
    }

    fn range(&self) -> Range<u64> {
        self.from..self.end()
    }
}

/// What the boxes before the media data are.
struct Head {
    ftyp: usize,
    /// Boxes between `ftyp` and `mdat`, without a `free` box that only keeps room for a longer header.
    between: Range<usize>,
    /// Length of the media data; `None`: not known.
    declared: Option<u64>,
    /// Length of all of it, `mdat`'s header included.
    length: usize,
}

impl<W: Output, S: Seal> PatchWriter<W, S> {
    /// Prepares to write into `out`, with `space` bytes kept for the manifest.
    ///
    /// # Errors
    /// [`ProvenanceError::Value`] for a space outside [`SPACE_BYTES`].
    pub fn new(out: W, seal: S, space: usize) -> Result<Self, ProvenanceError> {
        let (least, most) = SPACE_BYTES;
        if !(least..=most).contains(&space) {
            let (value, bound) = (format!("{space} bytes"), format!("{least} to {most} bytes"));
            return Err(ProvenanceError::Value { what: "space for the manifest", value, bound });
        }
        Ok(Self { out, seal, head: Vec::new(), state: State::Head, at: 0, space: space as u64 })
    }

    /// Where the muxer stands.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// How many bytes came in.
    fn length(&self) -> u64 {
        match &self.state {
            State::Head => self.head.len() as u64,
            State::Media(media) => media.end() + media.tail.len() as u64,
        }
    }

    /// The muxer goes to a place: its end to go on, before that to fill something in, or, before the media
    /// data, beyond it to keep room for an index.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] for a place inside the media data or after the end of it.
    pub fn seek(&mut self, to: u64) -> Result<(), ProvenanceError> {
        let inside = match &self.state {
            State::Head if (self.length()..=INDEX_BYTES).contains(&to) => {
                self.head.resize(to as usize, 0);
                false
            }
            State::Head => false,
            State::Media(media) => (media.from..media.end()).contains(&to),
        };
        if inside || to > self.length() {
            let length = self.length();
            return Err(bad(format!(
                "the muxer goes to byte {to} of {length}, which cannot be done while signing"
            )));
        }
        self.at = to;
        Ok(())
    }

    /// Takes what the muxer writes where it stands. An index (`moov`) is to come in one piece where the
    /// muxer does not say beforehand how long the media data is.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] where this cannot become a signed progressive file: no `ftyp` first,
    /// fragments, a manifest already there; [`ProvenanceError::Stream`] where the output fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ProvenanceError> {
        self.write_shared(Bytes::copy_from_slice(bytes))
    }

    /// The same for bytes that others may hold too: media data is passed on without a copy.
    ///
    /// # Errors
    /// As [`PatchWriter::write`].
    pub fn write_shared(&mut self, bytes: Bytes) -> Result<(), ProvenanceError> {
        if self.at < self.length() {
            return self.rewrite(&bytes);
        }
        self.at += bytes.len() as u64;
        if let State::Media(_) = self.state {
            return self.after_head(bytes);
        }
        if self.head.len() as u64 + bytes.len() as u64 > INDEX_BYTES {
            // Media data in one piece with the header is passed on at once; this is something else.
            if parse_head(&self.head)?.is_none() && parse_head(&[&self.head, &bytes[..]].concat())?.is_none()
            {
                return Err(bad(format!("no media data in the first {INDEX_BYTES} bytes")));
            }
        }
        self.head.extend_from_slice(&bytes);
        let Some(head) = parse_head(&self.head)? else { return Ok(()) };
        let rest = self.head.split_off(head.length);
        self.begin(&head)?;
        self.after_head(rest.into())
    }

    /// Writes what stands before the media data.
    fn begin(&mut self, head: &Head) -> Result<(), ProvenanceError> {
        let from = head.length as u64;
        // The boxes between keep their length: where offsets of 32 bits do not suffice, it fails here.
        let to = head.ftyp as u64 + self.space + head.between.len() as u64 + 16;
        let mut media = Media { from, to, length: 0, declared: head.declared, tail: Vec::new() };
        if let Some(declared) = head.declared {
            media.length = declared;
        }
        let first = self.front(head, &media, None)?;
        media.length = 0;
        self.out.write_all(&first).map_err(output)?;
        self.state = State::Media(media);
        Ok(())
    }

    /// All that goes out before the media data; the space holds `manifest`.
    fn front(&self, head: &Head, media: &Media, manifest: Option<&[u8]>) -> Result<Vec<u8>, ProvenanceError> {
        let mut front = self.head[..head.ftyp].to_vec();
        match manifest {
            Some(manifest) => front.extend_from_slice(manifest),
            None => free(self.space, &mut front),
        }
        let known = head.declared.is_some() || media.length > 0;
        for inner in children(&self.head[head.between.clone()])? {
            match &inner.kind {
                b"moov" if known => {
                    let moved = offsets::shift(inner.whole, &media.range(), media.to - media.from)?;
                    if moved.len() != inner.whole.len() {
                        return Err(bad(
                            "an index before more than 4 GiB of media data needs 64-bit offsets",
                        ));
                    }
                    front.extend_from_slice(&moved);
                }
                _ => front.extend_from_slice(inner.whole),
            }
        }
        front.extend_from_slice(&1u32.to_be_bytes());
        front.extend_from_slice(b"mdat");
        // 16 is an empty one: until its length is known.
        front.extend_from_slice(&(media.length + 16).to_be_bytes());
        if front.len() as u64 != media.to {
            return Err(bad("the boxes before the media data changed their length"));
        }
        Ok(front)
    }

    /// Takes what comes after the header of `mdat`: media data, then other boxes.
    fn after_head(&mut self, mut bytes: Bytes) -> Result<(), ProvenanceError> {
        let State::Media(media) = &mut self.state else { return Ok(()) };
        if media.tail.is_empty() {
            let is_media = match media.declared {
                Some(declared) => (declared - media.length).min(bytes.len() as u64) as usize,
                None if looks_like_index(&bytes) => 0,
                None => bytes.len(),
            };
            let data = bytes.split_to(is_media);
            forward(&mut self.seal, &mut self.out, media, data)?;
        } else if media.declared.is_none() && !could_be_boxes(&media.tail, &bytes) {
            // What looked like an index was media data.
            let data = std::mem::take(&mut media.tail);
            forward(&mut self.seal, &mut self.out, media, data.into())?;
            return self.after_head(bytes);
        }
        if media.tail.len() as u64 + bytes.len() as u64 > INDEX_BYTES {
            return Err(bad(format!("more than {INDEX_BYTES} bytes after the media data")));
        }
        media.tail.extend_from_slice(&bytes);
        Ok(())
    }

    /// Takes what the muxer fills in before its end.
    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), ProvenanceError> {
        let (at, end) = (self.at, self.at + bytes.len() as u64);
        if end > self.length() {
            return Err(bad(format!(
                "the muxer writes bytes {at} to {end} across its end {}",
                self.length()
            )));
        }
        let (into, start) = match &mut self.state {
            State::Media(media) if at >= media.end() => {
                let start = media.end();
                (&mut media.tail, start)
            }
            State::Media(_) if end > self.head.len() as u64 => {
                return Err(bad(format!("the muxer writes media data again, bytes {at} to {end}")));
            }
            _ => (&mut self.head, 0),
        };
        let range = (at - start) as usize..(end - start) as usize;
        into[range].copy_from_slice(bytes);
        self.at = end;
        if start == 0 { self.refresh() } else { Ok(()) }
    }

    /// Writes what stands before the media data again, with an index that the muxer brought up to date there:
    /// what is written up to now can be played, should it end here. Unsigned as it is.
    fn refresh(&mut self) -> Result<(), ProvenanceError> {
        let State::Media(media) = &self.state else { return Ok(()) };
        // Half of a change makes no sense yet, the other half comes next.
        let Ok(Some(head)) = parse_head(&self.head) else { return Ok(()) };
        let Ok(front) = self.front(&head, media, None) else { return Ok(()) };
        let (at, end) = (head.ftyp as u64 + self.space, media.to + media.length);
        self.out.seek(SeekFrom::Start(at)).map_err(output)?;
        self.out.write_all(&front[at as usize..]).map_err(output)?;
        self.out.seek(SeekFrom::Start(end)).map_err(output)?;
        Ok(())
    }

    /// The muxer is done: has the manifest made and fills it in.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] where what came in is not whole, [`ProvenanceError::Reserve`] where
    /// the manifest is larger than its space, and what the seal and the output give. The output then has no
    /// manifest, and is whole where only the manifest could not be made; only when it fails while the manifest is filled in, it may have part of one.
    pub fn finish(mut self) -> Result<Patched<W, S>, ProvenanceError> {
        let state = std::mem::replace(&mut self.state, State::Head);
        let State::Media(mut media) = state else { return Err(bad("it ends before the media data")) };
        let head = parse_head(&self.head)?.ok_or_else(|| bad("the header of mdat was overwritten"))?;
        if head.length as u64 != media.from {
            return Err(bad("the boxes before the media data changed their length"));
        }
        if let Some(declared) = head.declared
            && declared != media.length
        {
            let length = media.length;
            let missing = declared.checked_sub(length).and_then(|missing| usize::try_from(missing).ok());
            let Some(missing) = missing.filter(|missing| *missing <= media.tail.len()) else {
                return Err(bad(format!(
                    "the media data is {length} bytes long, its header says {declared}"
                )));
            };
            // What looked like an index was media data.
            let data: Vec<u8> = media.tail.drain(..missing).collect();
            forward(&mut self.seal, &mut self.out, &mut media, data.into())?;
        }
        let tail = shifted_tail(&media)?;
        media.tail = tail;
        let front = self.front(&head, &media, None)?;
        let mut file = SparseFile { front: &front, hole: media.length, tail: &media.tail, at: 0 };
        let sealed = self.seal.seal(&mut file).and_then(|manifest| fit(manifest, self.space as usize));
        let sealed = sealed.and_then(|manifest| self.front(&head, &media, Some(&manifest)));
        // Without a manifest the file is whole all the same.
        let front = sealed.as_ref().unwrap_or(&front);
        // The manifest is written last: before that, nothing looks signed.
        let parts = [
            (media.to + media.length, media.tail.as_slice()),
            (head.ftyp as u64 + self.space, &front[head.ftyp + self.space as usize..]),
            (head.ftyp as u64, &front[head.ftyp..head.ftyp + self.space as usize]),
        ];
        for (at, bytes) in parts.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            self.out.seek(SeekFrom::Start(*at)).map_err(output)?;
            self.out.write_all(bytes).map_err(output)?;
        }
        self.out.flush().map_err(output)?;
        sealed?;
        let length = media.to + media.length + media.tail.len() as u64;
        Ok(Patched { output: self.out, seal: self.seal, manifest_at: head.ftyp as u64, length })
    }

    /// What the output is written to.
    pub fn output(&mut self) -> &mut W {
        &mut self.out
    }

    /// Gives the output back, without a manifest.
    pub fn abandon(self) -> W {
        self.out
    }
}

fn output(source: io::Error) -> ProvenanceError {
    ProvenanceError::Stream { what: "writing the signed file", source }
}

fn forward(
    seal: &mut impl Seal,
    out: &mut impl Output,
    media: &mut Media,
    data: Bytes,
) -> Result<(), ProvenanceError> {
    if !data.is_empty() {
        media.length += data.len() as u64;
        seal.media(data.clone())?;
        out.write_shared(data).map_err(output)?;
    }
    Ok(())
}

/// Parses the boxes up to the header of `mdat`; `None` where that is not whole yet.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ProvenanceError> {
    let mut at = 0;
    let mut ftyp = 0;
    // Where a `free` box without content starts, if that is the last one.
    let mut room = None;
    while let Some(found) = boxes::header(&bytes[at..])? {
        let name = boxes::name(found.kind);
        if at == 0 && (&found.kind != b"ftyp" || found.size.is_none_or(|size| size > FTYP_BYTES)) {
            return Err(bad(format!(
                "it begins with {name:?}; a progressive MP4 begins with a short \"ftyp\""
            )));
        }
        if &found.kind == b"mdat" {
            let length = at + found.header as usize;
            let end = room.filter(|_| found.header == 8).unwrap_or(at);
            let declared = found.size.map(|size| size - found.header).filter(|declared| *declared > 0);
            return Ok(Some(Head { ftyp, between: ftyp..end, declared, length }));
        }
        if &found.kind == b"moof" {
            return Err(bad("a fragmented file; this is for progressive ones"));
        }
        let size =
            found.size.ok_or_else(|| bad(format!("box {name:?} without a size before the media data")))?;
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
            return Err(bad(format!("box {name:?} of {size} bytes before the media data")));
        };
        if size > INDEX_BYTES {
            return Err(bad(format!("box {name:?} of {size} bytes before the media data")));
        }
        if end > bytes.len() {
            return Ok(None);
        }
        let content = &bytes[at + found.header as usize..end];
        if &found.kind == b"uuid" && c2pa_purpose(content).is_some() {
            return Err(bad("it has a C2PA manifest already; sign it as the parent of a new clip"));
        }
        if at == 0 {
            ftyp = end;
        }
        room = (&found.kind == b"free" && size == 8).then_some(at);
        at = end;
    }
    Ok(None)
}

/// Whether a piece of the muxer's output is the beginning of the index.
fn looks_like_index(bytes: &[u8]) -> bool {
    let Ok(Some(header)) = boxes::header(bytes) else { return false };
    &header.kind == b"moov" && header.size.is_some_and(|size| (16..=INDEX_BYTES).contains(&size))
}

/// Whether `tail` followed by `next` can be the beginning of a row of boxes.
fn could_be_boxes(tail: &[u8], next: &[u8]) -> bool {
    let mut at = 0usize;
    let all = tail.len() + next.len();
    while at < all {
        let mut start = [0; 16];
        let bytes = tail.iter().chain(next).skip(at);
        let mut length = 0;
        for (to, from) in start.iter_mut().zip(bytes) {
            *to = *from;
            length += 1;
        }
        match boxes::header(&start[..length]) {
            Ok(None) => return true,
            Ok(Some(header)) if KNOWN_AFTER.contains(&header.kind) => match header.size {
                Some(size) if size <= INDEX_BYTES => at += size as usize,
                _ => return false,
            },
            _ => return false,
        }
    }
    true
}

/// Boxes that stand after the media data.
const KNOWN_AFTER: [[u8; 4]; 7] = [*b"moov", *b"free", *b"skip", *b"udta", *b"meta", *b"uuid", *b"wide"];

/// The boxes after the media data, with moved chunk offsets.
fn shifted_tail(media: &Media) -> Result<Vec<u8>, ProvenanceError> {
    let mut tail = Vec::with_capacity(media.tail.len());
    for inner in children(&media.tail)? {
        match &inner.kind {
            b"moov" => {
                tail.extend(offsets::shift(inner.whole, &media.range(), media.to - media.from)?);
            }
            b"mdat" | b"moof" => {
                return Err(bad("more than one piece of media data; this is for progressive files"));
            }
            b"uuid" if c2pa_purpose(inner.content).is_some() => {
                return Err(bad("it has a C2PA manifest already; sign it as the parent of a new clip"));
            }
            _ => tail.extend_from_slice(inner.whole),
        }
    }
    Ok(tail)
}

/// Appends a `free` box of `size` bytes, at least 8.
fn free(size: u64, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(&(size as u32).to_be_bytes());
    to.extend_from_slice(b"free");
    to.resize(start + size as usize, 0);
}

/// The manifest's box, and what is left of its space as a `free` box.
fn fit(mut manifest: Vec<u8>, space: usize) -> Result<Vec<u8>, ProvenanceError> {
    let Some(left) = space.checked_sub(manifest.len()) else {
        return Err(ProvenanceError::Reserve { needed: manifest.len(), reserved: space });
    };
    if left >= 8 {
        free(left as u64, &mut manifest);
    } else if left > 0 {
        // Too little for a box: JUMBF has a length of its own, zeros may follow it.
        manifest.resize(space, 0);
        manifest[..4].copy_from_slice(&(space as u32).to_be_bytes());
    }
    Ok(manifest)
}

/// A finished file whose media data reads as zeros: what of it must be hashed a second time is there.
pub struct SparseFile<'a> {
    front: &'a [u8],
    hole: u64,
    tail: &'a [u8],
    at: u64,
}

impl Read for SparseFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let front = self.front.len() as u64;
        let read = if self.at < front {
            (&self.front[self.at as usize..]).read(buffer)?
        } else if self.at < front + self.hole {
            let length = (front + self.hole - self.at).min(buffer.len() as u64) as usize;
            buffer[..length].fill(0);
            length
        } else {
            let at = (self.at - front - self.hole).min(self.tail.len() as u64);
            (&self.tail[at as usize..]).read(buffer)?
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for SparseFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = self.front.len() as u64 + self.hole + self.tail.len() as u64;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
