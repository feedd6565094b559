//! `model_index.json`: which class each component of the pipeline is.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::read_json;
use crate::{ConfigError, ModelError};

/// `model_index.json` of a diffusers directory.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelIndex {
    /// The pipeline class, for example `WanPipeline`.
    pub class_name: String,
    /// Component name to class name; components that are `null` in the file are left out.
    pub components: BTreeMap<String, String>,
    /// Part of the training timesteps, counted from 0, where `transformer_2` takes over (Wan 2.2
    /// A14B); `None` when one transformer does every step.
    pub boundary_ratio: Option<f64>,
    /// Whether the timestep is given per token (Wan 2.2 TI2V-5B).
    pub expand_timesteps: bool,
}

impl ModelIndex {
    /// Reads the index in `path`.
    ///
    /// # Errors
    /// [`ModelError::Missing`], [`ModelError::Io`] or [`ModelError::Json`] when the file cannot be
    /// read, [`ModelError::Config`] when a key has the wrong form.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let entries: BTreeMap<String, Value> = read_json(path)?;
        Self::from_entries(entries)
            .map_err(|problem| ModelError::Config { path: path.to_path_buf(), problem })
    }

    fn from_entries(entries: BTreeMap<String, Value>) -> Result<Self, ConfigError> {
        let mut index = Self {
            class_name: String::new(),
            components: BTreeMap::new(),
            boundary_ratio: None,
            expand_timesteps: false,
        };
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("_class_name", Value::String(name)) => index.class_name = name,
                ("_class_name", other) => return Err(ConfigError::new(key, other, "a string")),
                ("boundary_ratio", Value::Null) => {}
                ("boundary_ratio", value) => match value.as_f64() {
                    Some(ratio) if (0.0..=1.0).contains(&ratio) => {
                        index.boundary_ratio = Some(ratio);
                    }
                    _ => return Err(ConfigError::new(key, value, "null or 0 to 1")),
                },
                ("expand_timesteps", Value::Bool(on)) => index.expand_timesteps = on,
                ("expand_timesteps", other) => {
                    return Err(ConfigError::new(key, other, "true or false"));
                }
                (name, value) if !name.starts_with('_') => match component_class(&value) {
                    Some(Some(class)) => {
                        index.components.insert(key, class);
                    }
                    Some(None) => {}
                    None => tracing::debug!(key, "key not used"),
                },
                _ => {}
            }
        }
        if index.class_name.is_empty() {
            return Err(ConfigError::new("_class_name", "absent", "WanPipeline"));
        }
        Ok(index)
    }

    /// Whether the index names this component.
    pub fn has(&self, component: &str) -> bool {
        self.components.contains_key(component)
    }
}

/// `["library", "Class"]` gives the class, `[null, null]` nothing; anything else is no component.
fn component_class(value: &Value) -> Option<Option<String>> {
    match value.as_array()?.as_slice() {
        [Value::Null, Value::Null] => Some(None),
        [_, Value::String(class)] => Some(Some(class.clone())),
        _ => None,
    }
}
