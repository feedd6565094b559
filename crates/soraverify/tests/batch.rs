//! Many files, streams that arrive, and the form of what is printed.

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{Folder, check_lines, code, soraverify, split, text};
use serde_json::Value;

const SOURCE: &str =
    "videotestsrc num-buffers=25 pattern=ball ! video/x-raw,format=I420,width=160,height=128,framerate=25/1";
const ENCODER: &str = "x264enc key-int-max=5 bframes=0 bitrate=500";

/// The lines of JSON of a run; each must be what the schema says, and have no field that it does not know.
fn lines(output: &std::process::Output) -> Vec<Value> {
    check_lines(&text(&output.stdout))
}

fn names(lines: &[Value]) -> Vec<String> {
    lines
        .iter()
        .map(|line| {
            let file = Path::new(line["file"].as_str().expect("a name"));
            file.file_name().expect("a name").to_str().expect("UTF-8").to_owned()
        })
        .collect()
}

/// A folder with clips of all kinds.
fn clips() -> (Folder, String) {
    let folder = Folder::new();
    let keys = folder.at("keys");
    let output = soraverify(&["keygen", "--out", keys.to_str().expect("UTF-8")]).output().expect("it runs");
    assert_eq!(code(&output), 0, "{output:?}");
    std::fs::create_dir_all(folder.at("clips/more")).expect("folders");
    let sign = format!("sorasign certificates={0}/chain.pem key={0}/key.pem", keys.display());
    let marked =
        folder.make("clips/b.mp4", &format!("{SOURCE} ! sorawatermark ! {ENCODER} ! mp4mux ! {sign}"));
    folder.make("clips/a.mp4", &format!("{SOURCE} ! {ENCODER} ! mp4mux"));
    folder.make(
        "clips/more/live.mp4",
        &format!("{SOURCE} ! {ENCODER} ! mp4mux streamable=true fragment-duration=200 ! {sign} mode=live"),
    );
    let mut bytes = std::fs::read(&marked).expect("it can be read");
    let last = bytes.len() - 5_000;
    bytes[last] ^= 1;
    folder.write("clips/more/changed.mp4", &bytes);
    folder.write("clips/broken.mp4", b"nothing that plays");
    folder.write("clips/notes.txt", b"not looked at");
    let clips = folder.at("clips").to_str().expect("UTF-8").to_owned();
    (folder, clips)
}

#[test]
fn the_clips_of_a_folder_are_judged_in_order_and_the_worst_is_the_code() {
    let (folder, clips) = clips();
    let root = folder.at("keys/root.pem");
    let anchors = ["--anchors", root.to_str().expect("UTF-8")];
    for jobs in ["1", "3"] {
        let output = soraverify(&["--json", "--jobs", jobs, &clips]).args(anchors).output().expect("it runs");
        assert_eq!(code(&output), 65, "{output:?}");
        let lines = lines(&output);
        assert_eq!(names(&lines), ["a.mp4", "b.mp4", "broken.mp4", "changed.mp4", "live.mp4"]);
        let verdicts: Vec<&str> =
            lines.iter().map(|line| line["verdict"].as_str().unwrap_or("none")).collect();
        assert_eq!(verdicts, ["no_evidence", "authentic", "none", "tampered", "authentic"]);
        assert_eq!(lines[4]["manifest"]["credentials"]["live"]["good"], 5);
        assert!(
            text(&output.stderr).contains("5 files: 2 authentic, 1 error, 1 no_evidence, 1 tampered"),
            "{output:?}"
        );
    }
    let list = folder.write("list", format!("{clips}/b.mp4\n{clips}/more/live.mp4\n").as_bytes());
    let output = soraverify(&["--files-from"]).arg(list).args(anchors).output().expect("it runs");
    assert_eq!(code(&output), 0, "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("fragments 5 of 5 as they were signed, numbers 1 to 5"), "{said}");
    std::fs::create_dir(folder.at("empty")).expect("a folder");
    let output = soraverify(&[folder.at("empty").to_str().expect("UTF-8")]).output().expect("it runs");
    assert_eq!(code(&output), 66, "{output:?}");
    assert!(text(&output.stderr).contains("no video in the folder"), "{output:?}");
}

#[test]
fn a_report_goes_on_where_it_was_interrupted() {
    let (folder, clips) = clips();
    let report = folder.at("report.jsonl");
    let run = |resume: &[&str]| {
        let mut command = soraverify(&["--manifest-only", "--json", "--report"]);
        command.arg(&report).args(resume).arg(&clips).output().expect("it runs")
    };
    let first = run(&[]);
    assert_eq!(code(&first), 65, "{first:?}");
    let whole = std::fs::read_to_string(&report).expect("a report");
    assert_eq!(whole, text(&first.stdout), "what is printed is what is noted");
    let output = run(&[]);
    assert_eq!(code(&output), 64, "{output:?}");
    assert!(text(&output.stderr).contains("--resume"), "{output:?}");
    // It was interrupted in its third line, and the first clip changed since.
    let cut: usize = whole.lines().take(2).map(|line| line.len() + 1).sum::<usize>() + 40;
    std::fs::write(&report, &whole[..cut]).expect("it can be written");
    let changed = folder.at("clips/a.mp4");
    let mut bytes = std::fs::read(&changed).expect("it can be read");
    bytes.extend_from_slice(b"\0\0\0\x08free");
    std::fs::write(&changed, bytes).expect("it can be written");
    let output = run(&["--resume"]);
    assert_eq!(code(&output), 65, "{output:?}");
    assert_eq!(names(&lines(&output)), ["a.mp4", "broken.mp4", "changed.mp4", "live.mp4"]);
    assert!(text(&output.stderr).contains("5 files (1 by an earlier run)"), "{output:?}");
    let noted = check_lines(&std::fs::read_to_string(&report).expect("a report"));
    assert_eq!(names(&noted), ["a.mp4", "b.mp4", "a.mp4", "broken.mp4", "changed.mp4", "live.mp4"]);
    // Nothing is left to do but what could not be read; the code is that of all.
    std::fs::remove_file(folder.at("clips/broken.mp4")).expect("it goes");
    let output = run(&["--resume"]);
    assert_eq!((code(&output), text(&output.stdout).as_str()), (30, ""), "{output:?}");
}

#[test]
fn what_is_required_is_a_yes_or_a_no() {
    let (folder, clips) = clips();
    let root = folder.at("keys/root.pem").to_str().expect("UTF-8").to_owned();
    let at = |name: &str| format!("{clips}/{name}");
    for (require, file, anchors, expected) in [
        ("own", "b.mp4", true, 0),
        ("own", "b.mp4", false, 1),
        ("credential", "b.mp4", false, 0),
        ("credential", "more/changed.mp4", true, 1),
        ("credential", "a.mp4", true, 1),
        ("generated", "a.mp4", true, 1),
        ("generated", "more/live.mp4", true, 1),
        // It carries our mark, which says that it was marked as generated.
        ("generated", "b.mp4", true, 0),
        ("none", "more/changed.mp4", true, 0),
        ("none", "broken.mp4", true, 65),
    ] {
        let mut command = soraverify(&["--json", "--require", require, &at(file)]);
        if anchors {
            command.args(["--anchors", &root]);
        }
        let output = command.output().expect("it runs");
        assert_eq!(code(&output), expected, "{require} {file}: {output:?}");
        let meets = lines(&output)[0]["meets"].clone();
        assert_eq!(
            meets,
            if expected < 2 { Value::Bool(expected == 0) } else { Value::Null },
            "{require} {file}"
        );
    }
}

#[test]
fn a_manifest_is_shown_as_crjson() {
    let (_folder, clips) = clips();
    let output = soraverify(&["--crjson", &format!("{clips}/b.mp4")]).output().expect("it runs");
    assert_eq!(code(&output), 10, "{output:?}");
    let shown: Value = serde_json::from_str(&text(&output.stdout)).expect("JSON");
    assert!(shown["@context"].to_string().contains("crjson"), "{shown:#}");
    let claim = shown["manifests"][0].to_string();
    assert!(claim.contains("c2pa.soft-binding") && claim.contains("claimSignature.validated"), "{shown:#}");
    // Of a live stream its beginning counts: each fragment is signed by itself.
    let live = format!("{clips}/more/live.mp4");
    let output = soraverify(&["--crjson", &live]).output().expect("it runs");
    let shown: Value = serde_json::from_str(&text(&output.stdout)).expect("JSON");
    let results = shown["manifests"][0]["validationResults"].to_string();
    assert!(results.contains("bmffHash.match") && !results.contains("mismatch"), "{shown:#}");
    let output = soraverify(&["--crjson", &format!("{clips}/a.mp4")]).output().expect("it runs");
    assert_eq!((code(&output), text(&output.stdout).as_str()), (65, ""), "{output:?}");
    assert!(text(&output.stderr).contains("no manifest"), "{output:?}");
}

#[test]
fn a_stream_is_watched_as_it_arrives() {
    let (folder, clips) = clips();
    let root = folder.at("keys/root.pem").to_str().expect("UTF-8").to_owned();
    let live = format!("{clips}/more/live.mp4");
    let watch = |input: &str, stdin: Stdio| {
        let mut command = soraverify(&["--live", "--json", "--anchors", &root, input]);
        command.stdin(stdin).output().expect("it runs")
    };
    let output = watch("-", std::fs::File::open(&live).expect("a file").into());
    assert_eq!(code(&output), 0, "{output:?}");
    let told = lines(&output);
    let last = told.last().expect("lines");
    assert_eq!((last["ended"].clone(), last["verdict"].clone()), (true.into(), "authentic".into()));
    assert_eq!(last["manifest"]["credentials"]["live"]["streak"], 5);
    // With a bit changed in its second fragment: what comes after that is as signed again.
    let mut bytes = std::fs::read(&live).expect("it can be read");
    let media: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, kind)| kind == b"mdat").map(|(at, _)| at).collect();
    bytes[media[1] + 30] ^= 1;
    let changed = folder.write("changed-live.mp4", &bytes);
    let uri = format!("file://{}", changed.display());
    for input in [changed.to_str().expect("UTF-8"), &uri] {
        let output = watch(input, Stdio::null());
        assert_eq!(code(&output), 30, "{input}: {output:?}");
        let told = lines(&output);
        let last = told.last().expect("lines");
        assert_eq!(
            (last["verdict"].clone(), last["recent"].clone()),
            ("tampered".into(), "authentic".into())
        );
        assert_eq!(last["manifest"]["credentials"]["live"]["streak"], 3);
    }
    // One that is cut off in a fragment, one that is no such stream, and nothing at all.
    let cut = folder.write("cut.mp4", &std::fs::read(&live).expect("it can be read")[..media[2]]);
    let output = watch(cut.to_str().expect("UTF-8"), Stdio::null());
    assert_eq!(code(&output), 30, "{output:?}");
    let output = watch(&format!("{clips}/b.mp4"), Stdio::null());
    assert_ne!(code(&output), 0, "{output:?}");
    let output = watch("/nowhere/stream.mp4", Stdio::null());
    assert_eq!(code(&output), 66, "{output:?}");
    assert!(text(&output.stderr).contains("/nowhere/stream.mp4"), "{output:?}");
}

#[test]
fn a_set_of_fragments_is_signed_and_judged_as_one_clip() {
    let (folder, _) = clips();
    let at = |name: &str| folder.at(name).to_str().expect("UTF-8").to_owned();
    let whole = folder.make(
        "whole.mp4",
        &format!("{SOURCE} ! sorawatermark id=10112233445566778899aabb ! {ENCODER} ! mp4mux streamable=true fragment-duration=200"),
    );
    let (init, fragments) = split(&std::fs::read(whole).expect("it can be read"), b"moof");
    folder.write("init.mp4", &init);
    let fragments: Vec<String> = (fragments.iter().enumerate())
        .map(|(number, fragment)| {
            let name = format!("{number}.m4s");
            folder.write(&name, fragment);
            name
        })
        .collect();
    let (chain, key, out) = (at("keys/chain.pem"), at("keys/key.pem"), at("out"));
    let mut sign = soraverify(&["sign-set", "--init", &at("init.mp4"), "--out", &out]);
    sign.args(["--certificates", &chain, "--key", &key, "--watermark-id", "10112233445566778899aabb"]);
    let output = sign.args(fragments.iter().map(|name| at(name))).output().expect("it runs");
    assert_eq!(code(&output), 0, "{output:?}");
    let judge = |fragments: &[String]| {
        let mut command =
            soraverify(&["--json", "--anchors", &at("keys/root.pem"), "--init", &at("out/init.mp4")]);
        command.args(fragments.iter().map(|name| at(&format!("out/{name}")))).output().expect("it runs")
    };
    let output = judge(&fragments);
    assert_eq!(code(&output), 0, "{output:?}");
    let found = &lines(&output)[0];
    assert_eq!(found["watermark"]["marks"][0]["id"], "10112233445566778899aabb");
    let output = judge(&fragments[..3]);
    assert_eq!(code(&output), 30, "{output:?}");
    assert!(text(&output.stdout).contains("3 of the 5 fragments"), "{output:?}");
}
