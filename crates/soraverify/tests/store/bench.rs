//! A folder with keys and a store, in which clips are made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::{Folder, check_lines};

pub(crate) const ID: &str = "10112233445566778899aabb";

/// Two clips that look different, three seconds each.
pub(crate) const OURS: &str = "videotestsrc num-buffers=75 pattern=smpte horizontal-speed=2 ! video/x-raw,width=480,height=270,framerate=25/1";
pub(crate) const THEIRS: &str =
    "videotestsrc num-buffers=75 pattern=pinwheel ! video/x-raw,width=480,height=270,framerate=25/1";
const ENCODER: &str = "videoconvert ! x264enc bitrate=1500 speed-preset=veryfast threads=1 ! mp4mux";

pub(crate) struct Bench(Folder);

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self(Folder::new());
        for keys in ["own", "others"] {
            let output = soraverify(&["keygen", "--out", &bench.text(keys)]).output().expect("it runs");
            assert!(output.status.success(), "{output:?}");
        }
        bench
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.at(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.at(name).to_str().expect("UTF-8").to_owned()
    }

    /// Runs a pipeline that ends in a file.
    pub(crate) fn make(&self, name: &str, pipeline: &str) -> PathBuf {
        self.0.make(name, pipeline)
    }

    /// Frames with our mark, as a clip of its own.
    pub(crate) fn encode(&self, name: &str, frames: &str) -> PathBuf {
        self.make(name, &format!("{frames} ! {ENCODER}"))
    }

    /// The same, signed; `sign` are properties.
    pub(crate) fn signed(&self, name: &str, frames: &str, keys: &str, sign: &str) -> PathBuf {
        let keys = self.text(keys);
        let sign = format!("sorasign certificates={keys}/chain.pem key={keys}/key.pem {sign}");
        self.make(name, &format!("{frames} ! {ENCODER} ! {sign}"))
    }

    /// Our clip: marked, signed, and its manifest in the store.
    pub(crate) fn ours(&self) -> PathBuf {
        let frames = format!("{OURS} ! sorawatermark id={ID}");
        self.signed("ours.mp4", &frames, "own", &format!("store={}", self.text("store")))
    }

    /// What a platform makes of a clip: another size, another encoding, no manifest.
    pub(crate) fn again(&self, name: &str, clip: &Path, change: &str) -> PathBuf {
        self.encode(name, &format!("filesrc location={} ! decodebin ! {change}", clip.display()))
    }

    /// Checks a clip with our anchors, and what else is said; gives the code and the line of JSON.
    pub(crate) fn check(&self, clip: &Path, arguments: &[&str]) -> (i32, Value) {
        let root = self.text("own/root.pem");
        let mut command = soraverify(&["--json", "--anchors", &root]);
        let output = command.args(arguments).arg(clip).output().expect("the program runs");
        let code = output.status.code().unwrap_or_else(|| panic!("it ends by itself: {output:?}"));
        let mut lines = check_lines(&String::from_utf8_lossy(&output.stdout));
        assert_eq!(lines.len(), 1, "{output:?}");
        (code, lines.remove(0))
    }

    /// Id of the manifest in a clip.
    pub(crate) fn manifest_id(&self, clip: &Path) -> String {
        let (_, found) = self.check(clip, &["--manifest-only"]);
        found["manifest"]["credentials"]["id"].as_str().expect("an id").to_owned()
    }
}

pub(crate) const HALF: &str = "videoscale ! video/x-raw,width=240,height=136";

pub(crate) fn soraverify(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soraverify"));
    for variable in ["SORA_WATERMARK_KEY", "SORA_TRUST_ANCHORS", "GST_DEBUG"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    soraverify(arguments).output().expect("the program runs")
}
