//! The properties: what users may ask for, and what of it makes sense.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;
use sora_gst::{Provenance, property};
use sora_provenance::{Claim, SESSION_SECONDS, SigningKeys};
use sora_record::GenerationRecord;
use sora_store::{Access, Store};

use super::Mode;

/// Clip that space is kept for where nothing else is said, in megabytes: 24 KiB of leaves.
const MEGABYTES: u32 = 512;

/// Values of the writable properties, as given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    certificates: Option<OsString>,
    key: Option<OsString>,
    sign_command: Option<OsString>,
    record: Option<OsString>,
    watermark_id: Option<OsString>,
    title: Option<OsString>,
    sidecar: Option<OsString>,
    store: Option<OsString>,
    pub(super) max_megabytes: u32,
    pub(super) session_period: u64,
    pub(super) verify: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            certificates: None,
            key: None,
            sign_command: None,
            record: None,
            watermark_id: None,
            title: None,
            sidecar: None,
            store: None,
            max_megabytes: MEGABYTES,
            session_period: SESSION_SECONDS.1,
            verify: true,
        }
    }
}

impl Settings {
    /// The keys that the properties or the environment name, else ephemeral ones.
    pub(super) fn keys(&self) -> Result<SigningKeys, String> {
        let keys = match (&self.certificates, &self.key, &self.sign_command) {
            (_, Some(_), Some(_)) => return Err("key and sign-command are set; set one of them".into()),
            (Some(certificates), Some(key), None) => {
                SigningKeys::from_files(Path::new(certificates), Path::new(key)).map(Some)
            }
            (Some(certificates), None, Some(command)) => {
                let command = command.to_str().ok_or("sign-command is not UTF-8 text")?;
                SigningKeys::from_command(Path::new(certificates), command).map(Some)
            }
            (None, None, None) => SigningKeys::from_environment(),
            (Some(_), None, None) => {
                return Err(
                    "certificates is set and neither key nor sign-command is; set both or none".into()
                );
            }
            (None, Some(_), _) => return Err("key is set and certificates is not; set both or none".into()),
            (None, _, Some(_)) => {
                return Err("sign-command is set and certificates is not; set both or none".into());
            }
        };
        match keys.map_err(|error| error.to_string())? {
            Some(keys) => Ok(keys),
            None => SigningKeys::ephemeral().map_err(|error| error.to_string()),
        }
    }

    /// The store that manifests are kept in, opened.
    pub(super) fn store(&self) -> Result<Option<Store>, String> {
        let open = |path: &OsString| Store::open(Path::new(path), Access::Write);
        self.store.as_ref().map(open).transpose().map_err(|error| error.to_string())
    }

    /// The file that a manifest goes into with `mode=sidecar`.
    pub(super) fn sidecar(&self) -> Result<PathBuf, String> {
        self.sidecar.as_ref().map(PathBuf::from).ok_or_else(|| {
            "mode is sidecar, and sidecar-location names no file for the manifest; it is best called CLIP.c2pa".into()
        })
    }

    /// What is to be said of a stream of which this is known.
    pub(super) fn claim(&self, known: &Provenance) -> Result<Claim, String> {
        let text = |what: &str, value: &Option<OsString>| match value {
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(format!("{what} is not UTF-8 text: \"{}\"", value.to_string_lossy())),
            },
            None => Ok(None),
        };
        let given = text("record", &self.record)?;
        let record = given.as_deref().or(known.record.as_deref());
        let record = record
            .map(|json| GenerationRecord::from_json(json).map_err(|error| format!("record: {error}")))
            .transpose()?;
        let id = text("watermark-id", &self.watermark_id)?.or_else(|| known.watermark_id.clone());
        Ok(Claim { record, watermark_id: id, title: text("title", &self.title)? })
    }

    /// Sets the property called `name`. The value has its type: GObject has checked.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        const CHECKED: &str = "GObject checks the type";
        match name {
            "mode" => self.mode = value.get().expect(CHECKED),
            "certificates" => self.certificates = property::text(value),
            "key" => self.key = property::text(value),
            "sign-command" => self.sign_command = property::text(value),
            "record" => self.record = property::text(value),
            "watermark-id" => self.watermark_id = property::text(value),
            "title" => self.title = property::text(value),
            "sidecar-location" => self.sidecar = property::text(value),
            "store" => self.store = property::text(value),
            "max-megabytes" => self.max_megabytes = value.get().expect(CHECKED),
            "session-key-period" => self.session_period = value.get().expect(CHECKED),
            "verify" => self.verify = value.get().expect(CHECKED),
            other => unreachable!("{other} is not in the list of properties"),
        }
    }

    /// The property called `name`.
    pub(super) fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "mode" => self.mode.to_value(),
            "certificates" => property::shown(self.certificates.as_deref()),
            "key" => property::shown(self.key.as_deref()),
            "sign-command" => property::shown(self.sign_command.as_deref()),
            "record" => property::shown(self.record.as_deref()),
            "watermark-id" => property::shown(self.watermark_id.as_deref()),
            "title" => property::shown(self.title.as_deref()),
            "sidecar-location" => property::shown(self.sidecar.as_deref()),
            "store" => property::shown(self.store.as_deref()),
            "max-megabytes" => self.max_megabytes.to_value(),
            "session-key-period" => self.session_period.to_value(),
            "verify" => self.verify.to_value(),
            _ => return None,
        })
    }
}

/// The list of properties.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let text = |name, nick, blurb| {
            glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build()
        };
        vec![
            glib::ParamSpecEnum::builder_with_default("mode", Mode::Auto)
                .nick("Mode")
                .blurb("How the manifest gets into the clip")
                .mutable_ready()
                .build(),
            text(
                "certificates",
                "Certificates",
                "PEM file with the signer's certificate and those above it; unset = $SORA_SIGN_CHAIN; read when leaving NULL",
            ),
            text(
                "key",
                "Key",
                "PKCS#8 PEM file with the signer's key, readable by its owner only; unset = $SORA_SIGN_KEY; encrypted: $SORA_SIGN_PASSPHRASE opens it; read when leaving NULL",
            ),
            text(
                "sign-command",
                "Sign command",
                "Instead of key: a line for the shell that reads what is to be signed and writes the signature, for keys in hardware (PKCS#11) and key services; run when leaving NULL and for each manifest",
            ),
            text(
                "record",
                "Generation record",
                "What made the clip, as JSON; unset = what the elements of the stream say",
            ),
            text(
                "watermark-id",
                "Watermark id",
                "Id that the clip's watermark carries, 24 hexadecimal digits; unset = what the elements of the stream say",
            ),
            text("title", "Title", "Title of the clip in its manifest, at most 512 bytes; unset = none"),
            text(
                "sidecar-location",
                "Sidecar location",
                "mode=sidecar: file that the manifest is written into at EOS, best CLIP.mp4.c2pa; replaced where it exists",
            ),
            text(
                "store",
                "Store",
                "File of a manifest store, in which the manifest is kept under the watermark's id before the clip is whole; made where it is not there; opened when leaving NULL",
            ),
            glib::ParamSpecUInt64::builder("session-key-period")
                .nick("Period of a session key")
                .blurb("mode=live: seconds after which the next session key signs, and the beginning is sent again")
                .minimum(SESSION_SECONDS.0)
                .maximum(SESSION_SECONDS.2)
                .default_value(SESSION_SECONDS.1)
                .mutable_ready()
                .build(),
            glib::ParamSpecBoolean::builder("verify")
                .nick("Verify")
                .blurb("mode=patch: read what was written into a file again before EOS goes on, and fail where it is not valid")
                .default_value(true)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-megabytes")
                .nick("Megabytes at most")
                .blurb("mode=patch: media data that space is kept for, 48 bytes for each megabyte; a longer clip fails at its end")
                .minimum(1)
                .maximum(1 << 20)
                .default_value(MEGABYTES)
                .mutable_ready()
                .build(),
        ]
    });
    &PROPERTIES
}
