//! What can be wrong with a model directory.

use std::path::PathBuf;

/// A value in a config that this implementation refuses, and what it would take instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {value}; supported: {supported}")]
pub struct ConfigError {
    /// The key as it is written in the config file.
    pub key: String,
    /// The value found, as text.
    pub value: String,
    /// What is supported, as text for people.
    pub supported: String,
}

impl ConfigError {
    /// An error saying that `key` has a `value` outside what is `supported`.
    pub fn new(key: impl Into<String>, value: impl std::fmt::Display, supported: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.to_string(), supported: supported.into() }
    }
}

/// What can be wrong with a model directory or with a request made to it.
///
/// Every message names the file and, where there is one, the key, the value and the bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or folder that the model needs is not there.
    #[error("{} is missing ({what})", path.display())]
    Missing {
        /// The path that was looked for.
        path: PathBuf,
        /// What it is needed for.
        what: String,
    },
    /// The operating system refused to read a file.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A config or index file is not the JSON it should be.
    #[error("{} is not valid: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's reason, with the key or the line.
        message: String,
    },
    /// A config holds a value that is wrong or not supported.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key, the value and what is supported.
        problem: ConfigError,
    },
    /// `model_index.json` names a class that is not implemented.
    #[error(
        "{}: component `{component}` is a {class}, which is not implemented; supported: {supported}",
        path.display()
    )]
    UnknownClass {
        /// The file that names the class.
        path: PathBuf,
        /// The component, a key of `model_index.json`.
        component: String,
        /// The class found.
        class: String,
        /// The classes that could stand there.
        supported: &'static str,
    },
    /// A weight file or its index is broken or hostile.
    #[error("weight file {}: {message}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A request asks for something that the model cannot make.
    #[error("{setting} is {value}; {bound}")]
    Setting {
        /// The setting, for example `width`.
        setting: &'static str,
        /// The value asked for.
        value: String,
        /// What the model can make; for sizes this names the nearest.
        bound: String,
    },
}
