//! The hash of a fragment (C2PA 2.4 §18.6.2, §19.4.1): over each box at its top level the place of that box in the
//! fragment, 8 bytes, and the box; without those that its exclusions leave out.

use ciborium::Value;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::emsg::{SCHEME, SCHEME_AT, scheme};
use crate::mp4::boxes::{C2PA_UUID, Inner, children};

/// What a signed fragment says of its hash.
pub(super) fn statement(hash: Vec<u8>) -> Value {
    let scheme = Value::Map(vec![
        (Value::from("offset"), Value::from(SCHEME_AT)),
        (Value::from("value"), Value::Bytes(SCHEME.to_vec())),
    ]);
    let exclusion = Value::Map(vec![
        (Value::from("xpath"), Value::from("/emsg")),
        (Value::from("data"), Value::Array(vec![scheme])),
    ]);
    Value::Map(vec![
        (Value::from("alg"), Value::from("sha256")),
        (Value::from("hash"), Value::Bytes(hash)),
        (Value::from("exclusions"), Value::Array(vec![exclusion])),
    ])
}

/// SHA-256 of the boxes in `parts`, which stand one after the other, but for a C2PA event between them that takes
/// `event` bytes.
pub(super) fn of_parts(before: &[u8], event: usize, after: &[u8]) -> Result<Vec<u8>, crate::ProvenanceError> {
    let mut hasher = Sha256::new();
    let mut at = 0u64;
    for inner in children(before)? {
        update(&mut hasher, &mut at, &inner);
    }
    at += event as u64;
    for inner in children(after)? {
        update(&mut hasher, &mut at, &inner);
    }
    Ok(hasher.finalize().to_vec())
}

fn update(hasher: &mut impl sha2::Digest, at: &mut u64, inner: &Inner<'_>) {
    hasher.update(at.to_be_bytes());
    hasher.update(inner.whole);
    *at += inner.whole.len() as u64;
}

/// Compares a fragment with what was signed of its hash.
pub(super) fn check(statement: &Value, fragment: &[u8]) -> Result<(), String> {
    let fields = statement.as_map().ok_or("what it says of the hash is no map")?;
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value);
        found.next().filter(|_| found.next().is_none())
    };
    if field("merkle").is_some() {
        return Err("its hash has a Merkle tree, which a fragment of a live stream has not".into());
    }
    let expected = field("hash").and_then(Value::as_bytes).ok_or("it states no hash")?;
    let exclusions = field("exclusions").and_then(Value::as_array).ok_or("it states no exclusions")?;
    let exclusions = exclusions.iter().map(Exclusion::read).collect::<Result<Vec<_>, _>>()?;
    if !exclusions.iter().any(|exclusion| matches!(exclusion, Exclusion::Events { .. })) {
        return Err("its exclusions do not leave out the event that states the hash".into());
    }
    let actual = match field("alg").and_then(Value::as_text) {
        Some("sha256") => digest::<Sha256>(fragment, &exclusions),
        Some("sha384") => digest::<Sha384>(fragment, &exclusions),
        Some("sha512") => digest::<Sha512>(fragment, &exclusions),
        other => return Err(format!("its hash algorithm is {other:?}, not SHA-2")),
    };
    match actual.map_err(|error| error.to_string())? == *expected {
        true => Ok(()),
        false => Err("its bytes are not those that were signed".into()),
    }
}

fn digest<D: sha2::Digest>(
    fragment: &[u8],
    exclusions: &[Exclusion],
) -> Result<Vec<u8>, crate::ProvenanceError> {
    let mut hasher = D::new();
    let mut at = 0u64;
    for inner in children(fragment)? {
        match exclusions.iter().any(|exclusion| exclusion.leaves_out(&inner)) {
            true => at += inner.whole.len() as u64,
            false => update(&mut hasher, &mut at, &inner),
        }
    }
    Ok(hasher.finalize().to_vec())
}

/// Boxes that a hash leaves out. Of all that C2PA can express, what leaves out media or an event of others is not
/// accepted here.
enum Exclusion {
    /// C2PA events whose scheme stands at this place of their box.
    Events { at: u64 },
    /// Boxes of a kind that hold no media.
    Kind([u8; 4]),
    /// C2PA's own boxes.
    Manifests,
}

impl Exclusion {
    fn read(value: &Value) -> Result<Self, String> {
        let fields = value.as_map().ok_or("an exclusion is no map")?;
        let given = |name: &str| {
            fields
                .iter()
                .find(|(key, value)| key.as_text() == Some(name) && !value.is_null())
                .map(|(_, value)| value)
        };
        let path = given("xpath").and_then(Value::as_text).unwrap_or_default();
        if let Some(other) =
            ["length", "version", "flags", "subset", "exact"].iter().find(|name| given(name).is_some())
        {
            return Err(format!("it excludes {path:?} by {other}, which is not accepted"));
        }
        let qualifiers = given("data").and_then(Value::as_array);
        let qualifier = match qualifiers.map(Vec::as_slice) {
            None => None,
            Some([one]) => one.as_map().and_then(|map| {
                let get = |name: &str| {
                    map.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
                };
                let at = u64::try_from(get("offset")?.as_integer()?).ok()?;
                Some((at, get("value")?.as_bytes()?.as_slice()))
            }),
            Some(_) => return Err(format!("it excludes {path:?} by several values, which is not accepted")),
        };
        let bare = &SCHEME[..SCHEME.len() - 1];
        match (path, qualifier, qualifiers.is_some()) {
            ("/emsg", Some((at, value)), _) if value == SCHEME || value == bare => Ok(Self::Events { at }),
            ("/uuid", Some((8, value)), _) if value == C2PA_UUID => Ok(Self::Manifests),
            ("/ftyp", _, false) => Ok(Self::Kind(*b"ftyp")),
            ("/free", _, false) => Ok(Self::Kind(*b"free")),
            ("/skip", _, false) => Ok(Self::Kind(*b"skip")),
            ("/mfra", _, false) => Ok(Self::Kind(*b"mfra")),
            _ => Err(format!("it excludes {path:?}, which a fragment's hash must cover")),
        }
    }

    fn leaves_out(&self, inner: &Inner<'_>) -> bool {
        match self {
            Self::Events { at } => {
                let header = (inner.whole.len() - inner.content.len()) as u64;
                &inner.kind == b"emsg"
                    && *at == header + SCHEME_AT - 8
                    && inner.content.starts_with(&[0])
                    && scheme(inner.content) == Some(SCHEME)
            }
            Self::Kind(kind) => &inner.kind == kind,
            Self::Manifests => &inner.kind == b"uuid" && inner.content.starts_with(&C2PA_UUID),
        }
    }
}
