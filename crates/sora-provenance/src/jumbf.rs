//! The boxes of a manifest (JUMBF, ISO/IEC 19566-5). Hashes cover what is in them; that sizes fit, that reserved
//! bits are zero and that nothing stands behind the last box is what a C2PA library does not look at.

use std::io::{Read, Seek};

use crate::ProvenanceError;
use crate::mp4::boxes::{self, bad, children};

/// Longest manifest that is read, in bytes.
pub(crate) const MANIFEST_BYTES: u64 = 64 << 20;
/// Deepest box in a box; manifests have 4.
const DEPTH: usize = 16;
/// The type of a manifest store (C2PA 2.4 §11.1.4.2), `c2pa` in the end of ISO's base.
const STORE: [u8; 16] =
    [0x63, 0x32, 0x70, 0x61, 0x00, 0x11, 0x00, 0x10, 0x80, 0x00, 0x00, 0xaa, 0x00, 0x38, 0x9b, 0x71];
/// The labels of what a manifest is made of (C2PA 2.4 §11.1.4.2). No signature covers them, and libraries take `c2pa.claim.v0`
/// for a claim as well.
const PARTS: [&str; 6] = [
    "c2pa.assertions",
    "c2pa.claim",
    "c2pa.claim.v2",
    "c2pa.signature",
    "c2pa.credentials",
    "c2pa.databoxes",
];
/// How deep such a part is: within a manifest, which is in the store.
const PART_DEPTH: usize = 3;
/// CBOR's nil.
const NIL: u8 = 0xf6;
/// Bits of a description that have no meaning yet.
const RESERVED: u8 = 0b1110_0000;

/// What is wrong with the boxes of the manifests in a file.
pub(crate) fn embedded(file: &mut (impl Read + Seek)) -> Result<Vec<String>, ProvenanceError> {
    let mut problems = Vec::new();
    for store in stores(file)? {
        match store {
            Ok(store) => problems.extend(self::problems(&store)),
            Err(problem) => problems.push(problem),
        }
    }
    Ok(problems)
}

/// The manifest stores in a file, those that can be read.
pub(crate) fn embedded_stores(file: &mut (impl Read + Seek)) -> Result<Vec<Vec<u8>>, ProvenanceError> {
    Ok(stores(file)?.into_iter().filter_map(Result::ok).collect())
}

/// The manifest stores in a file, or why one cannot be read.
fn stores(file: &mut (impl Read + Seek)) -> Result<Vec<Result<Vec<u8>, String>>, ProvenanceError> {
    let mut stores = Vec::new();
    for found in boxes::scan_until_broken(file)?.0 {
        let Some(purpose) =
            found.c2pa.as_deref().filter(|purpose| matches!(*purpose, "manifest" | "original" | "update"))
        else {
            continue;
        };
        let size = found.size - found.header;
        if size > MANIFEST_BYTES {
            stores.push(Err(format!("a manifest of {size} bytes; at most {MANIFEST_BYTES} are read")));
            continue;
        }
        let content = boxes::read_at(file, found.at + found.header, size)?;
        // Identifier, version and flags, purpose with its zero, offset of a Merkle box.
        let store = content.get(16 + 4 + purpose.len() + 1 + 8..);
        stores.push(store.map(<[u8]>::to_vec).ok_or_else(|| format!("a manifest of {size} bytes")));
    }
    Ok(stores)
}

/// The label of a store's active manifest, its last (C2PA 2.4 §11.1.4.2).
pub(crate) fn active_label(store: &[u8]) -> Option<String> {
    label(active(store)?).map(str::to_owned)
}

/// The CBOR of the active manifest's assertions with a label.
pub(crate) fn assertions<'a>(store: &'a [u8], wanted: &str) -> Vec<&'a [u8]> {
    let inner = |content: &'a [u8]| {
        children(content).unwrap_or_default().into_iter().filter(|inner| &inner.kind == b"jumb")
    };
    let manifest = active(store).into_iter().flat_map(inner);
    let stores = manifest.filter(|found| label(found.content) == Some("c2pa.assertions"));
    let found =
        stores.flat_map(|store| inner(store.content)).filter(|found| label(found.content) == Some(wanted));
    found
        .filter_map(|found| children(found.content).ok()?.into_iter().find(|inner| &inner.kind == b"cbor"))
        .map(|cbor| cbor.content)
        .collect()
}

/// The content of a store's last manifest.
fn active(store: &[u8]) -> Option<&[u8]> {
    // Zeros may follow the outer box.
    let header = boxes::header(store).ok()??;
    let end = header.size.map_or(Some(store.len()), |size| usize::try_from(size).ok())?;
    let content = store.get(header.header as usize..end)?;
    let last = children(content).ok()?.into_iter().rfind(|inner| &inner.kind == b"jumb")?;
    Some(last.content)
}

/// The label in the description that a box begins with: type, toggles, then text with a zero.
fn label(content: &[u8]) -> Option<&str> {
    let description = children(content).ok()?.into_iter().next().filter(|first| &first.kind == b"jumd")?;
    let text = description.content.get(17..)?;
    std::str::from_utf8(&text[..text.iter().position(|byte| *byte == 0)?]).ok()
}

/// What is wrong with the boxes of a manifest store: nothing, or the first thing.
pub(crate) fn problems(store: &[u8]) -> Vec<String> {
    check_store(store).err().map(|problem| format!("in the manifest: {problem}")).into_iter().collect()
}

fn check_store(bytes: &[u8]) -> Result<(), ProvenanceError> {
    let header = boxes::header(bytes)?.ok_or_else(|| bad("it is empty"))?;
    let size = header.size.unwrap_or(bytes.len() as u64);
    let Some((store, rest)) = usize::try_from(size).ok().and_then(|size| bytes.split_at_checked(size)) else {
        return Err(bad(format!("a store of {size} bytes in {}", bytes.len())));
    };
    if &header.kind != b"jumb" {
        return Err(bad(format!("a box {:?} where its store begins", boxes::name(header.kind))));
    }
    // Zeros may follow, where less space was needed than there was.
    if rest.iter().any(|byte| *byte != 0) {
        return Err(bad("something stands behind its last box"));
    }
    let content = &store[header.header as usize..];
    let described = children(content)?.first().is_some_and(|first| {
        first.content.starts_with(&STORE) && first.content.get(17..) == Some(b"c2pa\0".as_slice())
    });
    if !described {
        return Err(bad("its store is not described as one"));
    }
    check(content, 1)
}

/// Checks the boxes within one of the type `jumb`.
fn check(content: &[u8], depth: usize) -> Result<(), ProvenanceError> {
    if depth > DEPTH {
        return Err(bad(format!("boxes in boxes, more than {DEPTH} deep")));
    }
    let name = label(content);
    if depth == PART_DEPTH && !name.is_some_and(|name| PARTS.contains(&name)) {
        return Err(bad(format!("a part of a manifest with the label {:?}", name.unwrap_or_default())));
    }
    let signature = name == Some("c2pa.signature");
    for (at, inner) in children(content)?.into_iter().enumerate() {
        if (&inner.kind == b"jumd") != (at == 0) {
            return Err(bad("a box that does not begin with its one description"));
        }
        match &inner.kind {
            b"jumb" => check(inner.content, depth + 1)?,
            b"cbor" if signature && payload(inner.content) != Some(NIL) => {
                return Err(bad("a signature with a payload of its own"));
            }
            b"jumd" if inner.content.get(16).is_none_or(|toggles| toggles & RESERVED != 0) => {
                return Err(bad("a description with bits that mean nothing"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first byte of what stands in a COSE_Sign1 where the payload may be (RFC 9052 §4.2): C2PA's is elsewhere, and
/// this is nil. Readers take other values that mean nothing for nil as well, which no signature covers.
fn payload(cose: &[u8]) -> Option<u8> {
    // The tag may be left out; then an array of four.
    let at = usize::from(cose.first() == Some(&0xd2));
    if cose.get(at) != Some(&0x84) {
        return None;
    }
    let protected = skip(cose, at + 1, 0)?;
    cose.get(skip(cose, protected, 0)?).copied()
}

/// Where the CBOR item (RFC 8949 §3) that begins at `at` ends.
fn skip(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    let first = *bytes.get(at)?;
    let (major, short) = (first >> 5, first & 0x1f);
    let length = match short {
        0..=23 | 31 => 0,
        24..=27 => 1usize << (short - 24),
        _ => return None,
    };
    let value =
        bytes.get(at + 1..at + 1 + length)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let value = if length == 0 { u64::from(short) } else { value };
    let mut at = at + 1 + length;
    if depth > DEPTH {
        return None;
    }
    let items = match (major, short) {
        (0 | 1 | 7, 0..=30) => 0,
        (2 | 3, 0..=30) => {
            at = at.checked_add(usize::try_from(value).ok()?)?;
            0
        }
        (4, 0..=30) => value,
        (5, 0..=30) => value.checked_mul(2)?,
        (6, 0..=30) => 1,
        (2..=5, 31) => {
            while *bytes.get(at)? != 0xff {
                at = skip(bytes, at, depth + 1)?;
            }
            return Some(at + 1);
        }
        _ => return None,
    };
    // Each item takes at least a byte: an end beyond the bytes is found, however many are said to be there.
    for _ in 0..items {
        at = skip(bytes, at, depth + 1)?;
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_found_behind_whatever_stands_before_it() {
        // Protected header {1: -8}; unprotected {"x": [1, "ab"], "pad": 3 zeros}.
        let headers = b"\x43\xa1\x01\x27\xa2\x61x\x82\x01\x62ab\x63pad\x43\0\0\0";
        let cose = |payload: &[u8]| [b"\xd2\x84", &headers[..], payload, b"\x41s"].concat();
        assert_eq!(payload(&cose(b"\xf6")), Some(NIL));
        assert_eq!(payload(&cose(b"\xf6")[1..]), Some(NIL), "without its tag");
        assert_eq!(payload(&cose(b"\xf7")), Some(0xf7));
        assert_eq!(payload(&cose(b"\x43abc")), Some(0x43));
        for broken in [
            &b""[..],
            b"\xd2",
            b"\xd2\x84\x43\xa1",
            b"\xd2\x84\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            &[0x84; 100],
        ] {
            assert_eq!(payload(broken), None, "{broken:?}");
        }
        let indefinite = b"\xd2\x84\x5f\x41a\x41b\xff\xbf\x61a\x9f\x01\xff\xff\xf6\x40";
        assert_eq!(payload(indefinite), Some(NIL));
    }

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut bytes = (content.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(content);
        bytes
    }

    fn store(toggles: u8, label: &[u8]) -> Vec<u8> {
        let description = boxed(b"jumd", &[&STORE[..], &[toggles], label].concat());
        let inner = boxed(
            b"jumb",
            &[boxed(b"jumd", &[&STORE[..], &[3], b"x\0"].concat()), boxed(b"cbor", b"1")].concat(),
        );
        boxed(b"jumb", &[description, inner].concat())
    }

    #[test]
    fn boxes_that_fit_are_no_problem_and_others_are() {
        let good = store(3, b"c2pa\0");
        assert!(problems(&good).is_empty(), "{:?}", problems(&good));
        assert!(problems(&[good.as_slice(), &[0; 9]].concat()).is_empty());
        let problem = |bytes: &[u8]| problems(bytes).join("; ");
        assert!(problem(&[good.as_slice(), b"x"].concat()).contains("behind its last box"));
        assert!(problem(&store(0x83, b"c2pa\0")).contains("bits that mean nothing"));
        assert!(problem(&store(3, b"c2pb\0")).contains("not described"));
        assert!(!problem(&good[..good.len() - 1]).is_empty());
        assert!(!problem(b"").is_empty());
        let mut inner = good;
        let size = boxes::header(&inner).unwrap().unwrap().size.unwrap() as usize;
        inner[size - 9 + 3] += 1;
        assert!(!problem(&inner).is_empty(), "a box larger than the one around it");
        let of = |label: &[u8], content: Vec<u8>| {
            boxed(b"jumb", &[boxed(b"jumd", &[&STORE[..], &[3], label].concat()), content].concat())
        };
        let manifest = |label: &[u8]| of(b"c2pa\0", of(b"urn:c2pa:1\0", of(label, Vec::new())));
        assert_eq!(problem(&manifest(b"c2pa.claim.v2\0")), "");
        assert!(problem(&manifest(b"c2pa.claim.v0\0")).contains("the label \"c2pa.claim.v0\""));
        let deep = (0..40).fold(boxed(b"cbor", b""), |inner, _| of(b"c2pa.assertions\0", inner));
        let deep = of(b"c2pa\0", deep);
        assert!(problem(&deep).contains("deep"));
    }
}
