//! The properties: what users may ask for, and what of it makes sense.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;
use sora_gst::{Provenance, property};
use sora_provenance::{
    ChainSource, Credential, CredentialConfig, DEFAULT_RESERVE, KeySource, MAX_RESERVE, ManifestSpec, Parent,
    SoftBinding, TrustAnchors, WATERMARK_ALG,
};
use sora_record::GenerationRecord;

use super::Mode;
use crate::keys;

/// Largest source clip that becomes an ingredient, in bytes.
const PARENT_BYTES: u64 = 1 << 30;

/// Values of the writable properties, as given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    key: Option<OsString>,
    cert_chain: Option<OsString>,
    sign_command: Option<OsString>,
    anchors: Option<OsString>,
    record: Option<OsString>,
    watermark_id: Option<OsString>,
    title: Option<OsString>,
    parent: Option<OsString>,
    sidecar_location: Option<OsString>,
    store: Option<OsString>,
    pub(super) reserve_size: u32,
    pub(super) verify: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            key: None,
            cert_chain: None,
            sign_command: None,
            anchors: None,
            record: None,
            watermark_id: None,
            title: None,
            parent: None,
            sidecar_location: None,
            store: None,
            reserve_size: DEFAULT_RESERVE as u32,
            verify: true,
        }
    }
}

impl Settings {
    /// Who signs, or what is wrong with it.
    pub(super) fn credential(&self) -> Result<Credential, String> {
        let path = |text: &Option<OsString>| text.as_ref().map(PathBuf::from);
        let mut config = CredentialConfig::default();
        if let Some(command) = &self.sign_command {
            let command = command.to_str().ok_or("sign-command is not UTF-8")?;
            config.key = Some(KeySource::Command(command.to_owned()));
        } else {
            config.key = path(&self.key).map(KeySource::File);
        }
        config.chain = path(&self.cert_chain).map(ChainSource::File);
        let config = config.or_environment(|name| std::env::var_os(name)).map_err(|error| error.to_string())?;
        Credential::load(&config).map_err(|error| error.to_string())
    }

    /// Whose signatures on a source clip are trusted.
    pub(super) fn anchors(&self) -> Result<TrustAnchors, String> {
        let Some(path) = &self.anchors else { return Ok(TrustAnchors::default()) };
        let path = Path::new(path);
        let pem = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        TrustAnchors::default().with_own(&pem).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// What the manifest is to say: the properties, else what is known of the stream.
    pub(super) fn spec(&self, known: &Provenance) -> Result<ManifestSpec, String> {
        let text = |name: &str, value: &Option<OsString>| -> Result<Option<String>, String> {
            let value = value.clone().map(OsString::into_string).transpose();
            value.map_err(|_| format!("{name} is not UTF-8"))
        };
        let record = text("record", &self.record)?.or_else(|| known.record.clone());
        let record = record.map(|json| GenerationRecord::from_json(&json)).transpose();
        let id = text("watermark-id", &self.watermark_id)?.or_else(|| known.watermark_id.clone());
        Ok(ManifestSpec {
            record: record.map_err(|error| error.to_string())?,
            binding: id.as_deref().map(binding).transpose()?,
            title: text("title", &self.title)?,
            parent: self.parent.as_ref().map(|path| parent(Path::new(path))).transpose()?,
        })
    }

    /// Where the sidecar goes.
    pub(super) fn sidecar_location(&self) -> Option<&Path> {
        self.sidecar_location.as_ref().map(Path::new)
    }

    /// The manifest store.
    pub(super) fn store(&self) -> Option<&Path> {
        self.store.as_ref().map(Path::new)
    }

    /// Sets the property called `name`. The value has its type: GObject has checked.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        const CHECKED: &str = "GObject checks the type";
        match name {
            "mode" => self.mode = value.get().expect(CHECKED),
            "key" => self.key = property::text(value),
            "cert-chain" => self.cert_chain = property::text(value),
            "sign-command" => self.sign_command = property::text(value),
            "anchors" => self.anchors = property::text(value),
            "record" => self.record = property::text(value),
            "watermark-id" => self.watermark_id = property::text(value),
            "title" => self.title = property::text(value),
            "parent" => self.parent = property::text(value),
            "sidecar-location" => self.sidecar_location = property::text(value),
            "store" => self.store = property::text(value),
            "reserve-size" => self.reserve_size = value.get().expect(CHECKED),
            "verify" => self.verify = value.get().expect(CHECKED),
            other => unreachable!("{other} is not in the list of properties"),
        }
    }

    /// The property called `name`; `None` for those that are not settings.
    pub(super) fn value(&self, name: &str) -> Option<glib::Value> {
        let shown = |text: &Option<OsString>| property::shown(text.as_deref());
        Some(match name {
            "mode" => self.mode.to_value(),
            "key" => shown(&self.key),
            "cert-chain" => shown(&self.cert_chain),
            "sign-command" => shown(&self.sign_command),
            "anchors" => shown(&self.anchors),
            "record" => shown(&self.record),
            "watermark-id" => shown(&self.watermark_id),
            "title" => shown(&self.title),
            "parent" => shown(&self.parent),
            "sidecar-location" => shown(&self.sidecar_location),
            "store" => shown(&self.store),
            "reserve-size" => self.reserve_size.to_value(),
            "verify" => self.verify.to_value(),
            _ => return None,
        })
    }
}

fn binding(id: &str) -> Result<SoftBinding, String> {
    let payload = keys::payload(id).map_err(|error| format!("watermark-id: {error}"))?;
    Ok(SoftBinding { alg: WATERMARK_ALG.to_owned(), value: payload.to_bytes().to_vec() })
}

fn parent(path: &Path) -> Result<Parent, String> {
    let failed = |error: std::io::Error| format!("parent {}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > PARENT_BYTES {
        return Err(format!("parent {} has {length} bytes; at most {PARENT_BYTES}", path.display()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = std::fs::read(path).map_err(failed)?;
    Ok(Parent { title: name, mime: "video/mp4".to_owned(), bytes })
}

/// The list of properties.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let text = |name, nick, blurb| {
            glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build()
        };
        vec![
            glib::ParamSpecEnum::builder_with_default("mode", Mode::default())
                .nick("Mode")
                .blurb("How the manifest comes to the clip")
                .mutable_ready()
                .build(),
            text("key", "Key", "Path of the private key, PKCS#8 PEM that only its owner can read"),
            text("cert-chain", "Certificate chain", "Path of the certificates, PEM, the signer's first"),
            text(
                "sign-command",
                "Sign command",
                "Shell command that reads what is to be signed and writes the signature, in place of key",
            ),
            text("anchors", "Anchors", "Path of trusted roots, PEM, that the signature of parent is judged by"),
            text("record", "Record", "Generation record as JSON, where no element upstream tells one"),
            text("watermark-id", "Watermark id", "Id of the watermark as sorawatermark has it, where no element tells one"),
            text("title", "Title", "Title of the clip in its manifest"),
            text("parent", "Parent", "Path of the clip that this one was made from"),
            text("sidecar-location", "Sidecar location", "Path of the manifest in sidecar mode"),
            text("store", "Store", "Path of a manifest store that finds the manifest by its watermark"),
            glib::ParamSpecUInt::builder("reserve-size")
                .nick("Reserve size")
                .blurb("Bytes kept for hashes in patch mode: 34 for each MiB of the clip")
                .minimum(34)
                .maximum(MAX_RESERVE as u32)
                .default_value(DEFAULT_RESERVE as u32)
                .mutable_ready()
                .build(),
            glib::ParamSpecBoolean::builder("verify")
                .nick("Verify")
                .blurb("Read the finished file again and verify it, where the sink says which file it is")
                .default_value(true)
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("manifest-id")
                .nick("Manifest id")
                .blurb("Id of the last manifest that was signed")
                .read_only()
                .build(),
            glib::ParamSpecString::builder("key-id")
                .nick("Key id")
                .blurb("SHA-256 of the public key that signs")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
