//! Small files that save work next time, in the user's cache folder.
//!
//! A cache never makes anything fail: what cannot be read is not there, what is damaged is thrown away, and what
//! cannot be written is not kept.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// Bytes of the checksum that ends every file.
const CHECKSUM: usize = 32;

/// What a file is called: a SHA-256 of all that its contents depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key([u8; CHECKSUM]);

impl Key {
    /// The key of these parts; where one ends and the next begins counts.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// To be part of another key.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn name(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A folder of such files, of which the ones used last are kept.
#[derive(Clone, Debug)]
pub(crate) struct DiskCache {
    folder: PathBuf,
    /// Of all files together.
    most_bytes: u64,
}

impl DiskCache {
    /// The files in `folder`, which need not be there yet.
    pub(crate) fn at(folder: impl Into<PathBuf>, most_bytes: u64) -> Self {
        Self { folder: folder.into(), most_bytes }
    }

    /// The folder `name` of ours in the user's cache: `$XDG_CACHE_HOME/sora`, else `~/.cache/sora`. `None` for a
    /// user without a home.
    pub(crate) fn of_user(name: &str, most_bytes: u64) -> Option<Self> {
        let folder =
            |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
        Some(Self::at(base.join("sora").join(name), most_bytes))
    }

    /// The contents kept under `key`, whole and unchanged. They count as used.
    pub(crate) fn get(&self, key: Key) -> Option<Vec<u8>> {
        let path = self.folder.join(key.name());
        let file = File::open(&path).ok()?;
        let mut contents = Vec::new();
        // Never more than we would have written.
        let limit = self.most_bytes.saturating_add(CHECKSUM as u64);
        (&file).take(limit).read_to_end(&mut contents).ok()?;
        let Some(length) = contents.len().checked_sub(CHECKSUM).filter(|&length| {
            contents[length..] == *Key::of(&[key.as_bytes(), &contents[..length]]).as_bytes()
        }) else {
            tracing::debug!("{} is damaged: thrown away", path.display());
            // Of no use if it stays: it is replaced when the contents are made again.
            let _ = fs::remove_file(&path);
            return None;
        };
        contents.truncate(length);
        // Only the order of eviction suffers where this is not allowed.
        let _ = file.set_modified(SystemTime::now());
        Some(contents)
    }

    /// Keeps `contents` under `key`, and drops what was used least if it is too much now.
    pub(crate) fn put(&self, key: Key, contents: &[u8]) {
        if contents.len() as u64 > self.most_bytes {
            return;
        }
        if let Err(error) = self.write(key, contents).and_then(|()| self.evict(key)) {
            tracing::debug!("nothing is kept in {}: {error}", self.folder.display());
        }
    }

    fn write(&self, key: Key, contents: &[u8]) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // Another process or thread that writes the same file has another name for it meanwhile.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let new = self.folder.join(format!(".{}.{}.{number}", key.name(), std::process::id()));
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut file| {
                file.write_all(contents)?;
                file.write_all(Key::of(&[key.as_bytes(), contents]).as_bytes())?;
                fs::rename(&new, self.folder.join(key.name()))
            });
        if written.is_err() {
            // Nothing more can be done about it; later evictions find it.
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Removes the files used longest ago until the rest is small enough, but never that of `key`.
    fn evict(&self, key: Key) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(&self.folder)?
            .flatten()
            .filter_map(|entry| {
                let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((about.modified().ok()?, about.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if bytes <= self.most_bytes {
                break;
            }
            if path.file_name() != Path::new(&key.name()).file_name() && fs::remove_file(&path).is_ok() {
                bytes -= length;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> Key {
        Key::of(&[name.as_bytes()])
    }

    #[test]
    fn what_was_kept_is_found_by_another_and_only_under_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = DiskCache::at(folder.path().join("new/one"), 1000);
        assert_eq!(cache.get(key("a")), None);
        cache.put(key("a"), b"contents");
        let other = DiskCache::at(folder.path().join("new/one"), 1000);
        assert_eq!(other.get(key("a")).as_deref(), Some(&b"contents"[..]));
        assert_eq!(other.get(key("b")), None);
        cache.put(key("a"), b"");
        assert_eq!(other.get(key("a")).as_deref(), Some(&b""[..]));
        assert_ne!(Key::of(&[b"ab", b"c"]), Key::of(&[b"a", b"bc"]));
    }

    #[test]
    fn others_may_not_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = DiskCache::at(folder.path().join("cache"), 1000);
        cache.put(key("a"), b"contents");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&cache.folder), 0o700);
        assert_eq!(mode(&cache.folder.join(key("a").name())), 0o600);
    }

    #[test]
    fn damage_of_any_kind_is_thrown_away_and_can_be_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = DiskCache::at(folder.path(), 1000);
        let path = folder.path().join(key("a").name());
        cache.put(key("a"), b"contents");
        let whole = fs::read(&path).expect("it was written");
        let mut damaged =
            vec![Vec::new(), whole[1..].to_vec(), whole[..whole.len() - 1].to_vec(), vec![0; 5000]];
        damaged.extend((0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            bytes
        }));
        for bytes in damaged {
            fs::write(&path, bytes).expect("the folder can be written");
            assert_eq!(cache.get(key("a")), None);
            assert!(!path.exists());
            cache.put(key("a"), b"again");
            assert_eq!(cache.get(key("a")).as_deref(), Some(&b"again"[..]));
        }
        // A whole file under the name of another.
        fs::copy(&path, folder.path().join(key("b").name())).expect("the folder can be written");
        assert_eq!(cache.get(key("b")), None);
    }

    #[test]
    fn what_was_used_least_goes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = DiskCache::at(folder.path(), 3 * (100 + CHECKSUM as u64));
        let age = |name: &str, seconds| {
            let file = File::options().write(true).open(folder.path().join(key(name).name()));
            let then = SystemTime::now() - Duration::from_secs(seconds);
            file.expect("it is there").set_modified(then).expect("it is ours");
        };
        for (name, seconds) in [("a", 300), ("b", 200), ("c", 100)] {
            cache.put(key(name), &[7; 100]);
            age(name, seconds);
        }
        assert!(cache.get(key("a")).is_some(), "used: younger than all others");
        cache.put(key("d"), &[7; 100]);
        let there = |name| cache.get(key(name)).is_some();
        assert_eq!(["a", "b", "c", "d"].map(there), [true, false, true, true]);
        cache.put(key("e"), &[7; 4000]);
        assert_eq!(["a", "c", "d", "e"].map(there), [true, true, true, false], "too large for any");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 3);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a file");
        fs::write(&file, b"no folder").expect("the folder can be written");
        let cache = DiskCache::at(&file, 1000);
        cache.put(key("a"), b"contents");
        assert_eq!(cache.get(key("a")), None);
        assert_eq!(fs::read(&file).expect("it is still there"), b"no folder");
    }
}
