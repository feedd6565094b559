//! The store itself.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sora_provenance::{ManifestReport, TrustAnchors, Validity, verify_stored};

use crate::error::StoreError;
use crate::open::{Access, Limits, connect};

/// Longest manifest that is kept, in bytes.
pub const MANIFEST_BYTES: usize = 16 << 20;
/// Longest fingerprint that is kept, in bytes.
const FINGERPRINT_BYTES: usize = 4 << 20;

/// Manifests by id and by soft binding. May be shared between threads.
pub struct Store {
    path: PathBuf,
    limits: Limits,
    connection: Mutex<Connection>,
}

/// A manifest that was read out and checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The manifest store, JUMBF.
    pub manifest: Vec<u8>,
    /// What its check found. That it is [`Validity::Invalid`] does not happen.
    pub report: ManifestReport,
}

impl Store {
    /// Opens the store in the file `path`.
    ///
    /// # Errors
    /// [`StoreError::Open`] where there is none or it cannot be made, [`StoreError::Corrupt`] for any other file,
    /// [`StoreError::Newer`], [`StoreError::ReadOnly`], [`StoreError::Locked`], [`StoreError::Full`].
    pub fn open(path: &Path, access: Access) -> Result<Self, StoreError> {
        Self::with_limits(path, access, Limits::default())
    }

    /// As [`Self::open`], with other limits.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_limits(path: &Path, access: Access, limits: Limits) -> Result<Self, StoreError> {
        let connection = Mutex::new(connect(path, access, limits)?);
        Ok(Self { path: path.to_owned(), limits, connection })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |error| StoreError::of(error, &self.path, self.limits.wait.as_secs_f64())
    }

    /// Keeps a manifest store (JUMBF) under its id and the soft bindings that it names, with a fingerprint of its clip,
    /// a kind and bytes. When this returns, it is on the disk. One that is there under the same id is replaced.
    ///
    /// Returns the id.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] where it is no manifest, is not valid or names no soft binding, [`StoreError::Value`] for one or a
    /// fingerprint that is too long, and those of writing. Then nothing has changed.
    pub fn put(&self, manifest: &[u8], fingerprint: Option<(&str, &[u8])>) -> Result<String, StoreError> {
        bounded("manifest", manifest, MANIFEST_BYTES)?;
        let report = verify_stored(manifest, &TrustAnchors::none())
            .map_err(|error| StoreError::Manifest(error.to_string()))?;
        if report.validity == Validity::Invalid {
            return Err(StoreError::Manifest(report.problems().join("; ")));
        }
        let bindings: Vec<(&str, Vec<u8>)> =
            report.bindings.iter().map(|found| (found.alg.as_str(), bytes(&found.value))).collect();
        if bindings.is_empty() {
            return Err(StoreError::Manifest(
                "it names no watermark, by which it could be found again".into(),
            ));
        }
        if let Some((_, data)) = fingerprint {
            bounded("fingerprint", data, FINGERPRINT_BYTES)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut connection = self.connection();
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let write = |transaction: Transaction<'_>| -> rusqlite::Result<()> {
            transaction.execute("DELETE FROM manifest WHERE id = ?1", params![report.id])?;
            transaction.execute(
                "INSERT INTO manifest (id, jumbf, created_at) VALUES (?1, ?2, ?3)",
                params![report.id, manifest, i64::try_from(now).unwrap_or(i64::MAX)],
            )?;
            for (alg, value) in &bindings {
                transaction.execute(
                    "INSERT OR IGNORE INTO binding (alg, value, manifest_id) VALUES (?1, ?2, ?3)",
                    params![alg, value, report.id],
                )?;
            }
            if let Some((kind, data)) = fingerprint {
                transaction.execute(INSERT_FINGERPRINT, params![report.id, kind, data])?;
            }
            transaction.commit()
        };
        begun.and_then(write).map_err(self.failed())?;
        Ok(report.id)
    }

    /// Keeps another fingerprint of the clip of a manifest that is kept: that of a stream that goes on.
    ///
    /// # Errors
    /// Those of writing, and [`StoreError::Value`] for one that is too long.
    pub fn set_fingerprint(&self, id: &str, kind: &str, data: &[u8]) -> Result<(), StoreError> {
        bounded("fingerprint", data, FINGERPRINT_BYTES)?;
        self.connection().execute(INSERT_FINGERPRINT, params![id, kind, data]).map_err(self.failed())?;
        Ok(())
    }

    /// Forgets a manifest; whether it was there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let removed = self.connection().execute("DELETE FROM manifest WHERE id = ?1", params![id]);
        Ok(removed.map_err(self.failed())? > 0)
    }

    /// Ids of at most `most` manifests that name a soft binding, the newest first. Not checked yet.
    ///
    /// # Errors
    /// Those of reading.
    pub fn find(&self, alg: &str, value: &[u8], most: usize) -> Result<Vec<String>, StoreError> {
        let connection = self.connection();
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare(
                "SELECT manifest.id FROM binding JOIN manifest ON manifest.id = binding.manifest_id
                 WHERE binding.alg = ?1 AND binding.value = ?2
                 ORDER BY manifest.created_at DESC, manifest.rowid DESC LIMIT ?3",
            )?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            statement.query_map(params![alg, value, most], |row| row.get(0))?.collect()
        };
        read().map_err(self.failed())
    }

    /// The manifest with an id, read out and checked: that its signature and its hashes are right, and that it is the
    /// one with this id. Where `binding` is given, also that it names this value of this algorithm. `None` where there is
    /// none with this id.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] where what is kept under the id does not pass, and those of reading.
    pub fn checked(
        &self,
        id: &str,
        binding: Option<(&str, &[u8])>,
        anchors: &TrustAnchors,
    ) -> Result<Option<Checked>, StoreError> {
        let read = self
            .connection()
            .query_row("SELECT jumbf FROM manifest WHERE id = ?1", params![id], |row| {
                row.get::<_, Vec<u8>>(0)
            })
            .optional();
        let Some(manifest) = read.map_err(self.failed())? else { return Ok(None) };
        bounded("manifest", &manifest, MANIFEST_BYTES)?;
        let refuse =
            |problem: String| StoreError::Manifest(format!("{id} in the store was changed: {problem}"));
        let report = verify_stored(&manifest, anchors).map_err(|error| refuse(error.to_string()))?;
        if report.validity == Validity::Invalid {
            return Err(refuse(report.problems().join("; ")));
        }
        if report.id != id {
            return Err(refuse(format!("it calls itself {}", report.id)));
        }
        let named = |(alg, value): (&str, &[u8])| {
            report.bindings.iter().any(|found| found.alg == alg && bytes(&found.value) == value)
        };
        if !binding.is_none_or(named) {
            return Err(refuse("it does not name the watermark under which it was found".into()));
        }
        Ok(Some(Checked { manifest, report }))
    }

    /// The fingerprint of this kind of the clip of a manifest.
    ///
    /// # Errors
    /// Those of reading.
    pub fn fingerprint(&self, id: &str, kind: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.connection()
            .query_row(
                "SELECT data FROM fingerprint WHERE manifest_id = ?1 AND kind = ?2",
                params![id, kind],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.failed())
    }

    /// Number of manifests.
    ///
    /// # Errors
    /// Those of reading.
    pub fn count(&self) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection()
            .query_row("SELECT count(*) FROM manifest", [], |row| row.get(0))
            .map_err(self.failed())?;
        Ok(count.unsigned_abs())
    }
}

const INSERT_FINGERPRINT: &str =
    "INSERT OR REPLACE INTO fingerprint (manifest_id, kind, data) VALUES (?1, ?2, ?3)";

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

fn bounded(what: &'static str, bytes: &[u8], most: usize) -> Result<(), StoreError> {
    if bytes.len() <= most {
        return Ok(());
    }
    let (value, bound) = (format!("{} bytes long", bytes.len()), format!("at most {most} bytes are kept"));
    Err(StoreError::Value { what, value, bound })
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        digits.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
