//! Which crate may know which: the arrows of the design point down only.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crate, and the crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("sora-model", &[]),
    ("sora-world", &[]),
    ("sora-record", &[]),
    ("sora-watermark", &[]),
    ("sora-provenance", &["sora-record"]),
    ("sora-store", &["sora-provenance"]),
    ("sora-engine-api", &[]),
    ("sora-diffusion", &["sora-model"]),
    ("sora-memory", &[]),
    ("sora-engine", &["sora-engine-api", "sora-diffusion", "sora-memory"]),
    ("sora-train", &["sora-diffusion", "sora-world", "sora-model"]),
    ("sora-gst", &[]),
    ("soraverify", &["sora-watermark", "sora-provenance", "sora-store", "sora-record", "sora-gst"]),
    ("gst-plugin-sora", &["sora-engine-api", "sora-model", "sora-gst", "sora-record"]),
    (
        "gst-plugin-soraprovenance",
        &["sora-watermark", "sora-provenance", "sora-store", "sora-record", "sora-gst"],
    ),
];

/// Crates that may be linked to libtorch.
const ON_TORCH: &[&str] = &["sora-diffusion", "sora-engine", "sora-memory", "sora-train"];

/// Crates that may be on GStreamer, besides the plugins and these tests; see also
/// `only_the_reader_of_soraverify_is_on_gstreamer`.
const ON_GSTREAMER: &[&str] = &["sora-gst", "soraverify"];

/// The crate that may know the C2PA library: its minor versions break those who use it.
const ON_C2PA: &str = "sora-provenance";

struct Package {
    normal: BTreeSet<String>,
}

fn workspace() -> BTreeMap<String, Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(sora_tests::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
            // Tests of a crate may know more than the crate.
            let normal = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
            let normal = normal.map(|dependency| text(&dependency["name"])).collect();
            (text(&package["name"]), Package { normal })
        })
        .collect()
}

#[test]
fn crates_know_only_what_the_design_lets_them() {
    let workspace = workspace();
    let names: BTreeSet<&String> = workspace.keys().collect();
    for (name, package) in &workspace {
        // These tests stand above everything.
        if name == "sora-tests" {
            continue;
        }
        let arrows = ARROWS.iter().find(|(from, _)| from == name);
        let (_, allowed) = arrows.unwrap_or_else(|| panic!("{name} has no place in the design's arrows"));
        for known in package.normal.iter().filter(|known| names.contains(known)) {
            assert!(allowed.contains(&known.as_str()), "{name} must not depend on {known}");
        }
    }
}

#[test]
fn only_the_engine_side_is_on_torch_and_only_plugins_on_gstreamer() {
    for (name, package) in workspace() {
        let torch = ["tch", "torch-sys"].iter().any(|torch| package.normal.contains(*torch));
        assert!(!torch || ON_TORCH.contains(&name.as_str()), "{name} must not be on torch");
        let gstreamer = package.normal.contains("gstreamer");
        let may =
            name.starts_with("gst-plugin-") || name == "sora-tests" || ON_GSTREAMER.contains(&name.as_str());
        assert!(!gstreamer || may, "{name} must not be on GStreamer");
    }
}

#[test]
fn only_one_crate_is_on_the_c2pa_library_and_soraverify_on_that() {
    let workspace = workspace();
    let on: Vec<&String> = workspace
        .iter()
        .filter(|(_, package)| package.normal.contains("c2pa"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(on, [ON_C2PA]);
    assert!(workspace["soraverify"].normal.contains(ON_C2PA));
}

#[test]
fn only_the_reader_of_soraverify_is_on_gstreamer() {
    let mut folders = vec![sora_tests::root().join("crates/soraverify/src")];
    let mut others = 0;
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).expect("the crate is there") {
            let path = file.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("sources are text");
            let on = text.contains("gst::") || text.contains("gst_app::") || text.contains("gst_video::");
            let reader = path.parent().is_some_and(|folder| folder.ends_with("reader"));
            assert_eq!(on, reader, "{}", path.display());
            others += usize::from(!reader);
        }
    }
    assert!(others > 2, "the sources were looked at");
}
