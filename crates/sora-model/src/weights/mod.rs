//! Weight files: safetensors, one or in shards, mapped and checked before any tensor is asked for.
//!
//! The `safetensors` crate parses the header and checks shapes, offsets and gaps. What it leaves
//! open is checked here: a header or a file larger than it may be, the same name twice (in one
//! header or in two shards), an index whose shard paths leave the directory, an index that names
//! absent tensors, and a tensor that the index puts elsewhere.

mod header;
mod index;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};
pub use safetensors::Dtype;

use crate::ModelError;
use header::{Entry, Header};

/// The names a component's weights can have, diffusers' first.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// One tensor of a weight file: its type, its shape and its bytes in the file.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Element type in the file.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: &'a [usize],
    /// Little-endian elements in row-major order; not aligned beyond one byte.
    pub data: &'a [u8],
}

#[derive(Debug, Clone)]
struct Shard {
    path: PathBuf,
    map: Arc<Mmap>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Located {
    shard: usize,
    entry: Entry,
}

#[derive(Debug)]
struct Inner {
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Located>,
}

/// The mapped weight files of one component; cloning shares the maps.
///
/// The maps are read-only and private. A file that another process truncates while it is mapped
/// ends this process with SIGBUS, as for every program that maps its models.
#[derive(Debug, Clone)]
pub struct WeightFiles(Arc<Inner>);

impl WeightFiles {
    /// Opens the weights in the component folder `dir`.
    ///
    /// Looked for, in this order: `diffusion_pytorch_model.safetensors.index.json`,
    /// `diffusion_pytorch_model.safetensors`, then the same with `model`.
    ///
    /// # Errors
    /// [`ModelError::Missing`] when there are none, [`ModelError::Weights`] when one is broken.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        for stem in STEMS {
            let index = dir.join(format!("{stem}.safetensors.index.json"));
            if index.is_file() {
                return Self::open_sharded(dir, &index);
            }
            let single = dir.join(format!("{stem}.safetensors"));
            if single.is_file() {
                return Self::open_file(&single);
            }
        }
        Err(ModelError::Missing {
            path: dir.join(format!("{}.safetensors", STEMS[0])),
            what: "the component's weights; model.safetensors or a sharded \
                   *.safetensors.index.json would do as well"
                .into(),
        })
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// [`ModelError::Missing`] when it is not there, [`ModelError::Weights`] when it is broken.
    pub fn open_file(path: &Path) -> Result<Self, ModelError> {
        let mut inner = Inner { shards: Vec::new(), tensors: BTreeMap::new() };
        inner.add(path)?;
        Ok(Self(Arc::new(inner)))
    }

    /// The same tensors under other names, for example those of [`crate::keys`]; a name for which
    /// `rename` gives `None` stays.
    ///
    /// # Errors
    /// [`ModelError::Weights`] when two tensors come to the same name.
    pub fn renamed(&self, rename: impl Fn(&str) -> Option<String>) -> Result<Self, ModelError> {
        let mut tensors = BTreeMap::new();
        for (name, located) in &self.0.tensors {
            let new_name = rename(name).unwrap_or_else(|| name.clone());
            let shard = located.shard;
            if tensors.insert(new_name.clone(), located.clone()).is_some() {
                return Err(ModelError::Weights {
                    path: self.0.shards[shard].path.clone(),
                    message: format!("two of its tensors are `{new_name}`, one is `{name}`"),
                });
            }
        }
        Ok(Self(Arc::new(Inner { shards: self.0.shards.clone(), tensors })))
    }

    fn open_sharded(dir: &Path, index_path: &Path) -> Result<Self, ModelError> {
        let index = index::read(index_path)?;
        let mut inner = Inner { shards: Vec::new(), tensors: BTreeMap::new() };
        for shard in index.shards() {
            inner.add(&dir.join(shard))?;
        }
        for (name, shard) in index.tensors() {
            let found = inner.tensors.get(name);
            let found = found.map(|located| inner.shards[located.shard].path.as_path());
            if found != Some(dir.join(shard).as_path()) {
                return Err(ModelError::Weights {
                    path: index_path.to_path_buf(),
                    message: format!("it puts `{name}` in {shard}, which does not hold it"),
                });
            }
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.tensors.keys().map(String::as_str)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.0.tensors.is_empty()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.tensors.contains_key(name)
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let Located { shard, entry } = self.0.tensors.get(name)?;
        Some(TensorView {
            dtype: entry.dtype,
            shape: &entry.shape,
            data: self.0.shards[*shard].map.get(entry.range.clone())?,
        })
    }

    /// Takes the pages of this tensor off the process, for those who have copied it; who reads it again has them read from
    /// the file again, or from the system's cache of it.
    pub fn release(&self, name: &str) {
        let Some(Located { shard, entry }) = self.0.tensors.get(name) else { return };
        let map = &self.0.shards[*shard].map;
        // SAFETY: the mapping is one of a file and nothing is written to it, so nothing is lost with its pages.
        let advised = unsafe {
            map.unchecked_advise_range(UncheckedAdvice::DontNeed, entry.range.start, entry.range.len())
        };
        // Where the system refuses, the pages stay until it needs their place.
        drop(advised);
    }

    /// Bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        let lengths = self.0.tensors.values();
        lengths.map(|located| located.entry.range.len() as u64).sum()
    }

    /// Elements of all tensors together.
    pub fn total_elements(&self) -> u64 {
        let shapes = self.0.tensors.values().map(|located| &located.entry.shape);
        // The header check has bounded each product by the file's bytes.
        shapes.map(|shape| shape.iter().map(|&size| size as u64).product::<u64>()).sum()
    }

    /// Free text that the files carry under `key`; of several files, the first's that has some.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.0.shards.iter().find_map(|shard| shard.metadata.get(key)).map(String::as_str)
    }

    /// The files, in the order they were opened.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.shards.iter().map(|shard| shard.path.as_path())
    }
}

impl Inner {
    fn add(&mut self, path: &Path) -> Result<(), ModelError> {
        let map = header::map(path)?;
        let shard = self.shards.len();
        let Header { entries, metadata } = header::read(path, &map)?;
        for (name, entry) in entries {
            if let Some(other) = self.tensors.get(&name) {
                return Err(ModelError::Weights {
                    path: path.to_path_buf(),
                    message: format!(
                        "tensor `{name}` is also in {}",
                        self.shards[other.shard].path.display()
                    ),
                });
            }
            self.tensors.insert(name, Located { shard, entry });
        }
        self.shards.push(Shard { path: path.to_path_buf(), map: Arc::new(map), metadata });
        Ok(())
    }
}
