//! The properties: what users may ask for, and what of it makes sense.

use std::ffi::OsString;
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;
use sora_gst::property;
use sora_watermark as mark;

use super::{CheckExisting, OnUnsupported, Strength};

/// Values of the writable properties, as given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) id: Option<OsString>,
    pub(super) key: Option<OsString>,
    strength: Strength,
    target_psnr: f64,
    pub(super) enabled: bool,
    pub(super) on_unsupported: OnUnsupported,
    pub(super) check_existing: CheckExisting,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            id: None,
            key: None,
            strength: Strength::default(),
            target_psnr: 0.0,
            enabled: true,
            on_unsupported: OnUnsupported::default(),
            check_existing: CheckExisting::default(),
        }
    }
}

impl Settings {
    /// The strength, or what is wrong with it.
    pub(super) fn strength(&self) -> Result<mark::Strength, String> {
        if self.target_psnr != 0.0 {
            let (min, max) = (mark::Strength::MIN_PSNR, mark::Strength::MAX_PSNR);
            return mark::Strength::psnr(self.target_psnr).map_err(|_| {
                format!(
                    "target-psnr is {}; it is {min} to {max} dB, or 0 for the preset strength",
                    self.target_psnr
                )
            });
        }
        Ok(match self.strength {
            Strength::Subtle => mark::Strength::Subtle,
            Strength::Standard => mark::Strength::Standard,
            Strength::Robust => mark::Strength::Robust,
        })
    }

    /// Sets the property called `name`. The value has its type: GObject has checked.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        const CHECKED: &str = "GObject checks the type";
        match name {
            "id" => self.id = property::text(value),
            "key" => self.key = property::text(value),
            "strength" => self.strength = value.get().expect(CHECKED),
            "target-psnr" => self.target_psnr = value.get().expect(CHECKED),
            "enabled" => self.enabled = value.get().expect(CHECKED),
            "on-unsupported" => self.on_unsupported = value.get().expect(CHECKED),
            "check-existing" => self.check_existing = value.get().expect(CHECKED),
            other => unreachable!("{other} is not in the list of properties"),
        }
    }

    /// The property called `name`; `None` for those that are not settings.
    pub(super) fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "id" => property::shown(self.id.as_deref()),
            "key" => property::shown(self.key.as_deref()),
            "strength" => self.strength.to_value(),
            "target-psnr" => self.target_psnr.to_value(),
            "enabled" => self.enabled.to_value(),
            "on-unsupported" => self.on_unsupported.to_value(),
            "check-existing" => self.check_existing.to_value(),
            _ => return None,
        })
    }
}

/// The list of properties.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        vec![
            glib::ParamSpecString::builder("id")
                .nick("Id")
                .blurb("Id that the mark carries, 24 hexadecimal digits, or 22 without version and flags; unset = that of the stream's provenance, else a random one for each run, which then can be read here")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("key")
                .nick("Key")
                .blurb("One file with the 32 bytes of the key to mark under, or public; unset = $SORA_WATERMARK_KEY, which must name one then, else the public key, under which everybody can find marks and forge them")
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("strength", Strength::default())
                .nick("Strength")
                .blurb("How strong the mark is, unless target-psnr says it")
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("target-psnr")
                .nick("Target PSNR")
                .blurb("Luma PSNR in dB that every frame is brought to, 30 (strong; below 38 as far as no pixel changes by more than 7.8 of 255) to 60 (weak); 0 = as strength says")
                // The element refuses what is out of range, with the range. GObject would put the nearest
                // number in its place without a word, and it has no place for a gap from 0 to 30.
                .minimum(f64::MIN)
                .maximum(f64::MAX)
                .default_value(0.0)
                // Else GObject would not let NaN through to be refused.
                .lax_validation()
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("enabled")
                .nick("Enabled")
                .blurb("Mark the frames; else they pass untouched and uncopied")
                .default_value(true)
                .controllable()
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("on-unsupported", OnUnsupported::default())
                .nick("On unsupported video")
                .blurb("What to do with interlaced video and sizes that cannot be marked (a side below 64 or above 16384 pixels, longer than 16:1)")
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("check-existing", CheckExisting::default())
                .nick("Check for an existing mark")
                .blurb("Whether to look, beside the stream, if the frames carry a mark under this key already: with off and warn they are marked again, with stop until the mark is found, and what carries two ids is reported as a conflict by detectors. A stream that another sorawatermark of the pipeline marks under this key passes as it is, with a warning, in any case")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("key-id")
                .nick("Key id")
                .blurb("Name of the key in use, 16 hexadecimal digits; the key does not follow from it")
                .read_only()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Frames marked and frames passed as they were, in this run or the last")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
