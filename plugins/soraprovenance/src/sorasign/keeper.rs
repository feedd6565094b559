//! Keeping the manifest of a clip in a store, before the clip is whole.

use std::io::{Cursor, Read, Seek};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use gst::glib;
use sora_provenance::{ManifestSeal, ProvenanceError, Seal, SparseFile, embedded_manifest};
use sora_store::{Store, StoreError};
use sora_watermark::Fingerprint;

/// Keeps the manifests of one clip: one, or with `mode=live` one for each session key.
#[derive(Clone)]
pub(super) struct Keeper {
    store: Arc<Store>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// What the clip looks like, as far as that is known.
    fingerprint: Option<glib::Bytes>,
    /// Ids of what is kept.
    kept: Vec<String>,
}

impl Keeper {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, inner: Arc::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the clip looks like, for what is kept from now on.
    pub(super) fn looks(&self, fingerprint: Option<glib::Bytes>) {
        if fingerprint.is_some() {
            self.inner().fingerprint = fingerprint;
        }
    }

    /// Keeps a manifest store.
    pub(super) fn keep(&self, manifest: &[u8]) -> Result<(), ProvenanceError> {
        let fingerprint = self.inner().fingerprint.clone();
        let fingerprint = fingerprint.as_ref().map(|bytes| (Fingerprint::KIND, bytes.as_ref()));
        let id = self.store.put(manifest, fingerprint).map_err(failed)?;
        self.inner().kept.push(id);
        Ok(())
    }

    /// Keeps the manifest that is in a clip, or in a box of one.
    pub(super) fn keep_of(&self, clip: &mut (impl Read + Seek)) -> Result<(), ProvenanceError> {
        let manifest = embedded_manifest(clip)?
            .ok_or_else(|| ProvenanceError::Seal("there is no manifest to keep in the store".into()))?;
        self.keep(&manifest)
    }

    /// Says of the newest manifest what its clip looks like by now.
    pub(super) fn refresh(&self) -> Result<(), ProvenanceError> {
        let (newest, fingerprint) = {
            let inner = self.inner();
            (inner.kept.last().cloned(), inner.fingerprint.clone())
        };
        let (Some(id), Some(fingerprint)) = (newest, fingerprint) else { return Ok(()) };
        self.store.set_fingerprint(&id, Fingerprint::KIND, &fingerprint).map_err(failed)
    }

    /// Forgets what was kept of a clip that stayed unsigned. Returns why not, where it could not be done.
    pub(super) fn withdraw(&self) -> Result<(), StoreError> {
        let kept = std::mem::take(&mut self.inner().kept);
        kept.iter().try_for_each(|id| self.store.remove(id).map(drop))
    }
}

fn failed(error: StoreError) -> ProvenanceError {
    ProvenanceError::Seal(error.to_string())
}

/// Makes the manifest of a file that is being written, and keeps it before the file gets it.
pub(super) struct KeepingSeal {
    seal: ManifestSeal,
    keeper: Option<Keeper>,
}

impl KeepingSeal {
    pub(super) fn new(seal: ManifestSeal, keeper: Option<Keeper>) -> Self {
        Self { seal, keeper }
    }
}

impl Seal for KeepingSeal {
    fn media(&mut self, data: Bytes) -> Result<(), ProvenanceError> {
        self.seal.media(data)
    }

    fn seal(&mut self, file: &mut SparseFile<'_>) -> Result<Vec<u8>, ProvenanceError> {
        let manifest = self.seal.seal(file)?;
        if let Some(keeper) = &self.keeper {
            keeper.keep_of(&mut Cursor::new(&manifest))?;
        }
        Ok(manifest)
    }
}
