//! The header of one safetensors file: 8 bytes of length, JSON, then the tensors without a gap.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::ModelError;

/// The format's own bound on the header.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The format's key for free text; never a tensor.
const METADATA_KEY: &str = "__metadata__";

/// One tensor: its type, its shape and where its bytes are in the file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

/// What a header holds.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) entries: BTreeMap<String, Entry>,
    /// Free text by key.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Maps `path` read-only.
pub(super) fn map(path: &Path) -> Result<Mmap, ModelError> {
    let io = |source| ModelError::Io { path: path.to_path_buf(), source };
    let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            ModelError::Missing { path: path.to_path_buf(), what: "weights".into() }
        }
        _ => io(source),
    })?;
    let refuse = |message: &str| ModelError::Weights { path: path.to_path_buf(), message: message.into() };
    // Opening a pipe would wait for its other end.
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(refuse("it is empty"));
    }
    let file = File::open(path).map_err(io)?;
    // SAFETY: the map is read-only and private to this process. Another process that shortens the
    // file in place would end this one by SIGBUS; that is stated at `WeightFiles`.
    unsafe { Mmap::map(&file) }.map_err(io)
}

/// Reads and checks the header at the start of `bytes`, a whole file.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Header, ModelError> {
    parse(bytes).map_err(|message| ModelError::Weights { path: path.to_path_buf(), message })
}

fn parse(bytes: &[u8]) -> Result<Header, String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("it has {} bytes, too few for a safetensors file", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(format!("its header claims {length} bytes; at most {MAX_HEADER_BYTES} are allowed"));
    }
    let length = usize::try_from(length).map_err(|error| error.to_string())?;
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Err(format!(
            "its header claims {length} bytes, but only {} follow: the file is truncated or not \
             safetensors",
            rest.len()
        ));
    };
    let (tensors, metadata) =
        parse_json(header).map_err(|error| format!("its header is not valid: {error}"))?;
    check_layout(&tensors, data.len())?;
    let start = 8 + length;
    let entries = tensors.into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        let entry = Entry { dtype: info.dtype, shape: info.shape, range: start + from..start + to };
        (name, entry)
    });
    Ok(Header { entries: entries.collect(), metadata })
}

/// The tensors of a header, and its metadata.
type Parsed = (BTreeMap<String, TensorInfo>, BTreeMap<String, String>);

/// A tensor's name that comes twice is an error (a plain map would keep the last).
fn parse_json(header: &[u8]) -> Result<Parsed, serde_json::Error> {
    struct Tensors;
    impl<'de> Visitor<'de> for Tensors {
        type Value = Parsed;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("an object of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut tensors, mut metadata) = (BTreeMap::new(), BTreeMap::new());
            while let Some(name) = map.next_key::<String>()? {
                if name == METADATA_KEY {
                    metadata = map.next_value()?;
                    continue;
                }
                let info: TensorInfo = map
                    .next_value()
                    .map_err(|error| A::Error::custom(format!("tensor `{name}`: {error}")))?;
                match tensors.entry(name) {
                    MapEntry::Vacant(place) => place.insert(info),
                    MapEntry::Occupied(there) => {
                        let name = there.key();
                        return Err(A::Error::custom(format!("tensor `{name}` is there twice")));
                    }
                };
            }
            Ok((tensors, metadata))
        }
    }
    let mut json = serde_json::Deserializer::from_slice(header);
    let parsed = json.deserialize_map(Tensors)?;
    // The format pads with spaces, which `end` passes over.
    json.end()?;
    Ok(parsed)
}

/// Offsets in order, without gap or overlap, each as long as shape and type say, up to the end.
fn check_layout(tensors: &BTreeMap<String, TensorInfo>, data_bytes: usize) -> Result<(), String> {
    let mut sorted: Vec<(String, TensorInfo)> =
        tensors.iter().map(|(name, info)| (name.clone(), info.clone())).collect();
    sorted.sort_by_key(|(_, info)| info.data_offsets);
    let end = sorted.last().map_or(0, |(_, info)| info.data_offsets.1);
    // Said first, because a truncated file is the usual accident and this names it.
    if end > data_bytes {
        return Err(format!(
            "its tensors end at byte {end} of the data, but there are {data_bytes}: the file is \
             truncated or its offsets are out of range"
        ));
    }
    Metadata::new(None, sorted).map_err(|error| format!("its offsets are not valid: {error}"))?;
    if end < data_bytes {
        return Err(format!("{} bytes after its last tensor belong to no tensor", data_bytes - end));
    }
    Ok(())
}
