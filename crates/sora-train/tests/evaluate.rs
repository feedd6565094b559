//! Evaluations as a person would start them.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn evaluate(out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    command.current_dir(root()).env("OMP_WAIT_POLICY", "PASSIVE").arg("evaluate").arg("--out").arg(out);
    command.args(more).stdin(Stdio::null()).output().expect("the trainer starts")
}

/// What a failing evaluation says.
fn fails(out: &Path, more: &[&str]) -> String {
    let output = evaluate(out, more);
    assert_eq!(output.status.code(), Some(1), "it ends with an error, and not by a panic or a signal");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_small_evaluation_leaves_a_report() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    // One step makes poor clips, but clips; enough to go through everything that reads and writes.
    let more =
        ["--measures", "following", "--clips", "3", "--steps", "1", "--probe", "crates/sora-train/probe"];
    let output = evaluate(&out, &[&more[..], &["--size", "160x96x33"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let read = |name: &str| fs::read_to_string(out.join(name)).expect(name);
    let json: serde_json::Value = serde_json::from_str(&read("report.json")).expect("JSON");
    let figure = |name: &str| json[name].as_f64().unwrap_or_else(|| panic!("{name} in {json}"));
    assert!((0.0..=1.0).contains(&figure("following mean")));
    // Three clips order nothing, but distances they are.
    assert!(figure("frechet generated") > 0.0 && figure("frechet renders") > 0.0);
    assert!(figure("following renders ground") > 0.6, "the probe reads renders");
    assert_eq!(read("following-clips.csv").lines().count(), 4, "a header and three clips");
    assert!(read("report.md").contains("| subject | 3 |"), "every caption names the subject");
    assert!(read("report.md").contains("clips of 33 frames at 160×96"), "{}", read("report.md"));
    assert!(read("command.txt").contains("--measures following"));
    assert!(read("command.txt").ends_with(" # seed 1\n"), "a seed that was not given is on record too");
    assert!(fs::metadata(out.join("following-sheet.png")).expect("a sheet").len() > 1000);
}

#[test]
fn streams_are_asked_for_as_told_and_on_record_without_their_pictures() {
    let dir = tempfile::tempdir().expect("a folder");
    let more = ["--measures", "drift", "--streams", "1", "--minutes", "0.05", "--steps", "1", "--captions"];
    let table = |captions: &str| {
        let out = dir.path().join(captions);
        // A folder in the place of a picture, as a machine without fonts: it cannot be drawn.
        fs::create_dir_all(out.join("drift-0.05min-sheet.png")).expect("a folder");
        let said = fails(&out, &[&more[..], &[captions, "--size", "96x96x17"]].concat());
        assert!(said.contains("Drift") && said.contains("drift-0.05min-sheet.png"), "{said}");
        let read = |name: &str| fs::read_to_string(out.join(name)).expect(name);
        assert!(read("report.json").contains("drift 0.05 min border change"), "{}", read("report.json"));
        assert!(read("report.md").contains("1 streams of 0.05 min"), "{}", read("report.md"));
        read("drift-0.05min.csv")
    };
    let (short, detailed) = (table("short"), table("detailed"));
    let caption = |table: &str| table.lines().nth(1).and_then(|row| row.split(',').next()).map(str::to_owned);
    assert_eq!(caption(&short), caption(&detailed), "what is asked about is what the short caption names");
    assert_ne!(short, detailed, "another prompt makes another stream");
}

#[test]
fn every_other_measure_reads_renders_as_they_are_and_reports_what_the_model_makes() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let measures = "vae,diversity,orbit,permanence,marks,restyling";
    let more = ["--measures", measures, "--claim-clips", "3", "--steps", "1", "--size", "96x96x17"];
    let output = evaluate(&out, &more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| fs::read_to_string(out.join(name)).expect(name);
    let json: serde_json::Value = serde_json::from_str(&read("report.json")).expect("JSON");
    let figure = |name: &str| json[name].as_f64().unwrap_or_else(|| panic!("{name} in {json}"));

    assert!(figure("vae psnr world") > 25.0 && figure("vae psnr textures") > 20.0);
    assert!((0.5..1.0).contains(&figure("vae ssim world")));
    assert!(figure("diversity generated") > 0.0 && figure("diversity renders") > 0.0);
    // What is known of renders: their ground turns with the camera, their marks stay, and a source is like itself.
    let turns = |of: &str| figure(&format!("orbit turns as it should, share of clips {of}"));
    assert!(turns("renders") > turns("generated"), "one step makes nothing turn: {json}");
    assert!(figure("orbit agreement of the ground renders") > figure("orbit agreement if unturned renders"));
    assert_eq!(figure("marks there renders, true marks"), 1.0);
    assert_eq!(figure("marks after 1 s renders, true marks"), 1.0);
    assert!(figure("restyling worlds source structure") > 0.999);
    assert!(figure("restyling worlds target structure") < figure("restyling worlds source structure"));
    assert!(figure("restyling worlds learned likeness") > figure("restyling worlds noise likeness"));
    for name in ["permanence comes back renders", "permanence comes back generated", "marks there generated"]
    {
        assert!((0.0..=1.0).contains(&figure(name)), "{name}");
    }
    for name in ["vae", "diversity", "orbit", "permanence", "marks", "restyling"] {
        assert!(read(&format!("{name}.csv")).lines().count() > 1, "{name}.csv has rows");
    }
    for claim in ["(claim d)", "(claim e)", "(claim f)", "## Restyling", "## VAE", "## Diversity"] {
        assert!(read("report.md").contains(claim), "{claim} in {}", read("report.md"));
    }
    for picture in [
        "vae-sheet",
        "orbit",
        "orbit-sheet",
        "permanence",
        "permanence-sheet",
        "marks",
        "marks-sheet",
        "restyling",
    ] {
        assert!(fs::metadata(out.join(format!("{picture}.png"))).expect(picture).len() > 1000, "{picture}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    let empty = empty.to_str().expect("UTF-8");

    let said = fails(&out, &["--probe", empty]);
    assert!(said.contains("probe.json") && said.contains(empty), "{said}");
    fs::write(out.join("report.json"), "hours").expect("written");
    let said = fails(&out, &["--probe", "crates/sora-train/probe", "--model", empty]);
    assert!(said.contains("model_index.json") && said.contains(empty), "{said}");
    let names: Vec<_> =
        fs::read_dir(&out).expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(names, ["report.json"], "nothing is written before there is something to measure");
    assert_eq!(fs::read_to_string(out.join("report.json")).expect("the former report"), "hours");
    let said = fails(&out, &["--clips", "2"]);
    assert!(said.contains("clips is 2"), "{said}");
    let said = fails(&out, &["--device", "cuda:99"]);
    assert!(said.to_lowercase().contains("cuda"), "{said}");
    let output = evaluate(&out, &["--size", "160x96"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("160x96 is not WIDTHxHEIGHTxFRAMES"));
    let said = fails(&out, &["--minutes", "0"]);
    assert!(said.contains("minutes is 0"), "{said}");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    let said = fails(&file.join("out"), &[]);
    assert!(said.contains("out folder") && said.contains(file.to_str().expect("UTF-8")), "{said}");
}
