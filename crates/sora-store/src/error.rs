//! What can go wrong with a store.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why a store was refused, or did not do what it was asked. Messages name the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another program is writing, for longer than one waits.
    #[error("the store {path} is locked by another program, for longer than {seconds} s", path = .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        seconds: f64,
    },
    /// It must not be written.
    #[error("the store {path} is read-only", path = .path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or is no store.
    #[error("the store {path} is damaged, or no store at all: {problem}", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// There is no room, on the disk or within the limit that was set.
    #[error("the store {path} is full: there is no room for more", path = .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened, or not made.
    #[error("the store {path} cannot be opened: {problem}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// It was made by a newer version.
    #[error("the store {path} has version {found}, and this program knows versions up to {known}", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// What is to be kept is no manifest that could be used.
    #[error("it is no manifest that can be kept: {0}")]
    Manifest(String),
    /// A value is outside its bounds.
    #[error("{what} is {value}; {bound}")]
    Value {
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        bound: String,
    },
    /// Anything else that SQLite says.
    #[error("the store {path} failed: {problem}", path = .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        problem: String,
    },
}

impl StoreError {
    /// What SQLite says of the file `path`, where one waits so many seconds for others.
    pub(crate) fn of(error: rusqlite::Error, path: &Path, seconds: f64) -> Self {
        let (path, problem) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path, seconds },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, problem },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Self::Open { path, problem },
            // Values of another type than they were written with.
            _ if matches!(
                error,
                rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)
            ) =>
            {
                Self::Corrupt { path, problem }
            }
            _ => Self::Failed { path, problem },
        }
    }
}
