//! The properties: what users may ask for, and what of it makes sense.

use std::ffi::OsString;
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;
use sora_gst::property;
use sora_watermark as mark;

use super::Search;
use crate::analysis::Queue;
use crate::keys;

/// Values of the writable properties, as given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    key: Option<OsString>,
    expect_id: Option<OsString>,
    interval: u64,
    drop: bool,
    max_buffers: u32,
    search: Search,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: None,
            expect_id: None,
            interval: gst::ClockTime::SECOND.nseconds(),
            drop: true,
            max_buffers: 8,
            search: Search::default(),
        }
    }
}

impl Settings {
    pub(super) fn queue(&self) -> Queue {
        Queue {
            capacity: self.max_buffers as usize,
            drop: self.drop,
            interval: std::time::Duration::from_nanos(self.interval),
        }
    }

    /// The detector that the properties describe, or what is wrong with them.
    pub(super) fn detector(&self) -> Result<mark::Detector, String> {
        let mut options = mark::Options::default();
        options.search = match self.search {
            Search::Untouched => mark::Search::Untouched,
            Search::Scaled => mark::Search::Scaled,
            Search::Full => mark::Search::Full,
        };
        let keys = keys::listed(self.key.as_deref())?;
        let mut detector = mark::Detector::new(keys, options).map_err(|error| format!("key: {error}"))?;
        if let Some(id) = &self.expect_id {
            detector.expect(
                id.to_string_lossy().parse().map_err(|error: mark::WatermarkError| error.to_string())?,
            );
        }
        Ok(detector)
    }

    /// Sets the property called `name`. The value has its type: GObject has checked.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        const CHECKED: &str = "GObject checks the type";
        match name {
            "key" => self.key = property::text(value),
            "expect-id" => self.expect_id = property::text(value),
            "interval" => self.interval = value.get().expect(CHECKED),
            "drop" => self.drop = value.get().expect(CHECKED),
            "max-buffers" => self.max_buffers = value.get().expect(CHECKED),
            "search" => self.search = value.get().expect(CHECKED),
            other => unreachable!("{other} is not in the list of properties"),
        }
    }

    /// The property called `name`; `None` for those that are not settings.
    pub(super) fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "key" => property::shown(self.key.as_deref()),
            "expect-id" => property::shown(self.expect_id.as_deref()),
            "interval" => self.interval.to_value(),
            "drop" => self.drop.to_value(),
            "max-buffers" => self.max_buffers.to_value(),
            "search" => self.search.to_value(),
            _ => return None,
        })
    }
}

/// The list of properties.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let defaults = Settings::default();
        vec![
            glib::ParamSpecString::builder("key")
                .nick("Key")
                .blurb("Files with the 32 bytes of each key to look for, or public, parted by colons; unset = $SORA_WATERMARK_KEY, else the public key")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("expect-id")
                .nick("Expected id")
                .blurb("Id that is claimed for this stream, 24 hexadecimal digits, or 22 without version and flags: it is verified where a blind search finds nothing")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt64::builder("interval")
                .nick("Interval")
                .blurb("Time of the stream between verdicts, in nanoseconds; marks that were moved are told every four seconds")
                .default_value(defaults.interval)
                .mutable_ready()
                .build(),
            glib::ParamSpecBoolean::builder("drop")
                .nick("Drop")
                .blurb("Leave frames out of the analysis when it does not keep up; else the stream waits for it")
                .default_value(defaults.drop)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-buffers")
                .nick("Max buffers")
                .blurb("Frames that wait for the analysis, at most")
                .minimum(1)
                .maximum(256)
                .default_value(defaults.max_buffers)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("search", defaults.search)
                .nick("Search")
                .blurb("How far to look for a mark whose frames were moved: further takes longer")
                .mutable_ready()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Frames analysed and frames left out, since the start or the last flush")
                .read_only()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("last-verdict")
                .nick("Last verdict")
                .blurb("What the last message said")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
