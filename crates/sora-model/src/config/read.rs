//! Reading a JSON config: bounded, tolerant of unknown keys, exact about wrong types.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{ConfigError, ModelError};

/// No config or index is near this size; the index of a 14B model in 12 shards has 100 kB.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// A config file of a component: read, then checked.
pub trait Config: DeserializeOwned {
    /// Refuses values that are not implemented and sizes that no real model has.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key, its value and what is supported.
    fn check(&self) -> Result<(), ConfigError>;

    /// Reads and checks the config in `path`.
    ///
    /// # Errors
    /// [`ModelError::Missing`] or [`ModelError::Io`] when the file cannot be read,
    /// [`ModelError::Json`] when a value has the wrong type, [`ModelError::Config`] when
    /// [`Config::check`] refuses it.
    fn open(path: &Path) -> Result<Self, ModelError> {
        let config: Self = read_json(path)?;
        config.check().map_err(|problem| ModelError::Config { path: path.to_path_buf(), problem })?;
        Ok(config)
    }

    /// Reads and checks a config held in memory.
    ///
    /// # Errors
    /// As [`Config::open`]; the path in the message is `(json)`.
    fn from_json(text: &str) -> Result<Self, ModelError> {
        let path = Path::new("(json)");
        let config: Self = parse_json(path, text.as_bytes())?;
        config.check().map_err(|problem| ModelError::Config { path: path.to_path_buf(), problem })?;
        Ok(config)
    }
}

/// The bytes of `path`, refused when there are more than `limit`.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let io = |source| ModelError::Io { path: path.to_path_buf(), source };
    let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => {
            ModelError::Missing { path: path.to_path_buf(), what: "part of a model directory".into() }
        }
        _ => io(source),
    })?;
    // Opening a pipe would wait for its other end.
    if !metadata.is_file() {
        return Err(io(ErrorKind::InvalidInput.into()));
    }
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file at the limit from one beyond it, and a file that
    // grows or a device that never ends cannot fill the memory.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(ModelError::Json {
            path: path.to_path_buf(),
            message: format!("it is larger than {limit} bytes"),
        });
    }
    Ok(bytes)
}

/// Reads the JSON file `path` as a `T`; keys that `T` does not know are logged and ignored.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    parse_json(path, &read_bounded(path, MAX_JSON_BYTES)?)
}

fn parse_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ModelError> {
    let invalid = |message: String| ModelError::Json { path: path.to_path_buf(), message };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let value = serde_ignored::deserialize(tracked, |key| {
        // Keys with an underscore are upstream's book-keeping (_class_name, _diffusers_version).
        let key = key.to_string();
        if !key.starts_with('_') {
            tracing::debug!(file = %path.display(), key, "key not used");
        }
    });
    let value: T = match value {
        Ok(value) => value,
        Err(error) => {
            let key = track.path().to_string();
            return Err(invalid(if key == "." {
                error.to_string()
            } else {
                format!("key `{key}`: {error}")
            }));
        }
    };
    json.end().map_err(|error| invalid(error.to_string()))?;
    Ok(value)
}
