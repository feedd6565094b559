//! Files of JSON beside what a run makes: whole or not there, and named where they cannot be read.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::write_whole;

/// Writes `value` for people to read, whole.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    write_whole(path, |part| Ok(fs::write(part, text)?))
}

/// What a file says.
///
/// # Errors
/// If there is none, or it says something else than a `T`; both name the file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
