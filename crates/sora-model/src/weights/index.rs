//! `*.safetensors.index.json`: which shard holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use crate::ModelError;
use crate::config::read_json;

/// The largest published model has 82 shards; thousands would only exhaust file descriptors.
const MAX_SHARDS: usize = 1024;

#[derive(Debug, Deserialize)]
pub(super) struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// The shard files, each once.
    pub(super) fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    /// Tensor name and shard file.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.weight_map.iter();
        pairs.map(|(name, shard)| (name.as_str(), shard.as_str()))
    }
}

/// Reads an index; every shard is a plain file name, so that none leaves the folder.
pub(super) fn read(path: &Path) -> Result<ShardIndex, ModelError> {
    let index: ShardIndex = read_json(path)?;
    let refuse = |message: String| Err(ModelError::Weights { path: path.to_path_buf(), message });
    let shards = index.shards();
    if shards.is_empty() {
        return refuse("its weight_map is empty".into());
    }
    if shards.len() > MAX_SHARDS {
        return refuse(format!("it names {} shards; at most {MAX_SHARDS} are supported", shards.len()));
    }
    for shard in shards {
        let mut parts = Path::new(shard).components();
        let plain = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
        if !plain || shard.contains(['/', '\\', '\0']) {
            return refuse(format!("shard `{shard}` is not a plain file name beside the index"));
        }
    }
    Ok(index)
}
