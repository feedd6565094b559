//! The plugin as it is installed: found by a registry scan, opened by gst-launch.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sora_tests::{Model, built, root};
use tempfile::TempDir;

/// An install prefix with a registry of its own.
struct Prefix {
    folder: TempDir,
}

impl Prefix {
    fn new() -> Self {
        let prefix = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir_all(prefix.at("lib/gstreamer-1.0")).expect("it can be written");
        for (from, to) in [
            ("libgstsora.so", "lib/gstreamer-1.0/libgstsora.so"),
            ("libsoraengine.so", "lib/libsoraengine.so"),
        ] {
            fs::copy(built(from), prefix.at(to)).expect("it can be written");
        }
        prefix
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// `lib/libtorch` becomes a link to the folder with libtorch's libraries.
    fn with_libtorch(self) -> Self {
        let libtorch = std::env::var_os("LIBTORCH").map(PathBuf::from);
        let libtorch = libtorch.unwrap_or_else(|| root().join("third_party/libtorch"));
        symlink(libtorch.join("lib"), self.at("lib/libtorch")).expect("a link can be made");
        self
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("GST_PLUGIN_PATH", self.at("lib/gstreamer-1.0"))
            .env("GST_REGISTRY", self.at("registry.bin"))
            .env_remove("LIBTORCH")
            .env_remove("SORA_LIBTORCH")
            .env_remove("SORA_ENGINE")
            .env_remove("SORA_MODEL_PATH")
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("GST_DEBUG");
        command
    }

    fn launch(&self, model: &Path, rest: &str) -> Command {
        let mut command = self.command("gst-launch-1.0");
        command.arg("soragen").arg(format!("model-path={}", model.display())).args(rest.split(' '));
        command
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn gst_launch_makes_a_clip_and_tells_how_far_it_is() {
    let (prefix, model) = (Prefix::new().with_libtorch(), Model::new());
    let clip = prefix.at("clip.rgb");
    let rest = format!("! video/x-raw,format=RGB ! filesink location={}", clip.display());
    let output = prefix.launch(model.path(), &rest).output().expect("gst-launch-1.0 is installed");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(fs::metadata(&clip).map(|file| file.len()).ok(), Some(5 * 48 * 32 * 3), "{said}");
    for part in ["loading", "step 2 of 2", "decoding"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

fn events_of(trace: &Path) -> Vec<serde_json::Value> {
    // The format allows the closing bracket to be missing.
    let written = fs::read_to_string(trace).expect("a trace") + "]";
    serde_json::from_str(&written).expect("an array of events")
}

/// When the spans of this name began and ended, in microseconds.
fn spans_of(events: &[serde_json::Value], name: &str) -> Vec<(f64, f64)> {
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let spans = events.iter().filter(|event| event["ph"] == "X" && event["name"] == name);
    spans.map(|event| (number(&event["ts"]), number(&event["ts"]) + number(&event["dur"]))).collect()
}

#[test]
fn soratransform_has_loaded_all_that_it_needs_before_its_first_block() {
    let (prefix, model) = (Prefix::new().with_libtorch(), Model::new());
    let trace = prefix.at("trace.json");
    let source = "videotestsrc num-buffers=9 ! video/x-raw,width=48,height=32,framerate=16/1";
    let transform = format!("! soratransform model-path={} prompt=ball ! fakesink", model.path().display());
    let mut command = prefix.command("gst-launch-1.0");
    command.args(source.split(' ')).args(transform.split(' ')).env("SORA_TRACE", &trace);
    let output = command.output().expect("gst-launch-1.0 is installed");
    assert!(output.status.success(), "{}", text(&output));
    let events = events_of(&trace);
    let loads = spans_of(&events, "load");
    assert_eq!(loads.len(), 2, "the model, and the VAE's encoder");
    let (first_block, _) = spans_of(&events, "text")[0];
    assert!(loads.iter().all(|(_, end)| *end <= first_block), "{loads:?}, and at {first_block} the prompt");
}

#[test]
fn a_trace_tells_how_long_each_stage_took_and_one_that_cannot_be_written_is_told() {
    let (prefix, model) = (Prefix::new().with_libtorch(), Model::new());
    let trace = prefix.at("trace.json");
    let launch = |trace: &Path| {
        let mut command = prefix.launch(model.path(), "num-buffers=5 ! fakesink");
        command.env("SORA_TRACE", trace).output().expect("gst-launch-1.0 is installed")
    };
    let output = launch(&trace);
    assert!(output.status.success(), "{}", text(&output));
    let events = events_of(&trace);
    let spans = |name: &str| spans_of(&events, name).len();
    assert_eq!([spans("load"), spans("step"), spans("decode")], [1, 2, 2], "two steps, two latent frames");
    assert_eq!([spans("copy"), spans("push")], [5, 5], "five frames");
    assert!(spans("text") >= 1, "{events:?}");
    // A step lies within the time of the whole, and the engine's spans are of the same process as the plugin's.
    let processes: std::collections::HashSet<String> = events.iter().map(|e| e["pid"].to_string()).collect();
    assert_eq!(processes.len(), 1, "{processes:?}");
    let output = launch(Path::new("/nowhere/trace.json"));
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("SORA_TRACE=/nowhere/trace.json cannot be written").count(), 1, "{said}");
}

#[test]
fn a_missing_libtorch_is_an_error_of_the_element_not_of_the_plugin() {
    let (prefix, model) = (Prefix::new(), Model::new());
    let output = prefix.launch(model.path(), "! fakesink").output().expect("gst-launch-1.0 is installed");
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.matches("ERROR: from element").count(), 1, "{said}");
    for part in ["libtorch was not found", "scripts/setup", "LIBTORCH"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The plugin is still known, and works as soon as libtorch is there.
    let inspect = prefix.command("gst-inspect-1.0").arg("-b").output().expect("gst-inspect-1.0 is installed");
    assert!(!text(&inspect).contains("libgstsora"), "blacklisted: {}", text(&inspect));
    let prefix = prefix.with_libtorch();
    let output = prefix.launch(model.path(), "! fakesink").output().expect("gst-launch-1.0 is installed");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn sora_libtorch_is_the_only_place_where_it_is_set() {
    let (prefix, model) = (Prefix::new().with_libtorch(), Model::new());
    let empty = prefix.at("empty");
    fs::create_dir(&empty).expect("it can be written");
    let mut command = prefix.launch(model.path(), "! fakesink");
    let output = command.env("SORA_LIBTORCH", &empty).output().expect("gst-launch-1.0 is installed");
    let said = text(&output);
    assert!(!output.status.success());
    assert!(said.contains(&empty.display().to_string()), "the place is named: {said}");
}

#[test]
fn a_scan_and_an_inspection_load_no_torch() {
    let prefix = Prefix::new().with_libtorch();
    let output = prefix
        .command("gst-inspect-1.0")
        .arg("soragen")
        .env("LD_DEBUG", "files")
        .output()
        .expect("gst-inspect-1.0 is installed");
    let said = text(&output);
    assert!(output.status.success());
    assert!(said.contains("libgstsora.so"), "the linker tells what it opens");
    for library in ["libtorch", "libc10", "libsoraengine"] {
        assert!(
            !said.contains(&format!("{library}.so")) && !said.contains(&format!("{library}_cpu.so")),
            "{library}"
        );
    }
}

#[test]
fn interrupting_gst_launch_in_a_long_computation_ends_it_cleanly() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let (prefix, model) = (Prefix::new().with_libtorch(), Model::new());
    let mut command = prefix.launch(model.path(), "num-inference-steps=1000 ! fakesink");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("gst-launch-1.0 is installed");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    assert!(
        lines.by_ref().any(|line| line.expect("text").contains("step 3 of")),
        "it came to its third step"
    );
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("kill is installed").success());
    for line in lines {
        let _ = line.expect("text");
    }
    let status = child.wait().expect("it ends");
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), None, "it ends by itself: {status:?}");
}
