//! The program, on files that GStreamer makes.

mod common;

use std::fs::File;
use std::path::Path;
use std::process::{Output, Stdio};

use common::{Folder, code, soraverify, text};
use serde_json::Value;

const ID: &str = "10112233445566778899aabb";
const OTHER_ID: &str = "10ffeeddccbbaa9988776655";

/// Runs it on files; each of `arguments` is one.
fn verify(files: &[&Path], arguments: &[&str]) -> Output {
    let mut command = soraverify(&["--watermark-only"]);
    command.args(arguments).args(files).output().expect("the program runs")
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn a_marked_movie_is_found_with_its_id_and_its_times() {
    let folder = Folder::new();
    let movie = folder.movie("it's \"marked\" 100%.mp4", &format!("sorawatermark id={ID}"));
    let output = verify(&[&movie], &[]);
    assert_eq!(code(&output), 0, "{output:?}");
    let said = text(&output.stdout);
    for part in ["a mark was found", ID, "at most 1 in 10^", "the public key", "0.0 to 2.0 s"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(text(&output.stderr), "", "no progress where nobody looks");

    let output = verify(&[&movie], &["--json"]);
    let [report] = &lines(&output)[..] else { panic!("{output:?}") };
    assert_eq!(report["version"], 1);
    assert_eq!(report["file"], movie.to_str().expect("UTF-8"));
    assert_eq!(
        (&report["found"], &report["conflict"], &report["error"]),
        (&true.into(), &false.into(), &Value::Null)
    );
    let mark = &report["marks"][0];
    assert_eq!(mark["id"], ID);
    assert!(mark["log10_p"].as_f64().is_some_and(|bound| bound < -6.0), "{report}");
    assert_eq!(report["frames"], 50);
    let range = &mark["ranges"][0];
    assert!(range[0].as_f64() < Some(0.5) && range[1].as_f64() > Some(1.5), "{range}");
}

#[test]
fn an_unmarked_movie_is_one_and_says_that_this_proves_nothing() {
    let folder = Folder::new();
    let movie = folder.movie("plain.mp4", "identity");
    let output = verify(&[&movie], &[]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(text(&output.stdout).contains("no mark was found, which proves nothing"), "{output:?}");
}

#[test]
fn the_code_is_the_worst_and_each_file_has_its_line_in_order() {
    let folder = Folder::new();
    let marked = folder.movie("marked.mp4", &format!("sorawatermark id={ID}"));
    let plain = folder.movie("plain.mp4", "identity");
    let missing = folder.at("missing.mp4");
    let output = verify(&[&plain, &marked], &["--json", "--search", "untouched"]);
    assert_eq!(code(&output), 1);
    let found: Vec<Value> = lines(&output).iter().map(|line| line["found"].clone()).collect();
    assert_eq!(found, [Value::Bool(false), Value::Bool(true)]);
    let output = verify(&[&missing, &marked], &["--json"]);
    assert_eq!(code(&output), 2);
    let [first, second] = &lines(&output)[..] else { panic!("{output:?}") };
    assert_eq!((&first["found"], &second["found"]), (&Value::Null, &Value::Bool(true)));
    assert!(first["error"].as_str().is_some_and(|error| error.contains("No such file")), "{first}");
}

#[test]
fn an_id_that_is_claimed_is_what_counts() {
    let folder = Folder::new();
    let movie = folder.movie("marked.mp4", &format!("sorawatermark id={ID}"));
    // Also without version and flags.
    for (id, expected) in [(ID, 0), (&ID[2..], 0), (OTHER_ID, 1)] {
        let output = verify(&[&movie], &["--expect-id", id, "--json"]);
        assert_eq!(code(&output), expected, "{id}: {output:?}");
        let report = &lines(&output)[0];
        assert_eq!(report["expected"]["accepted"], expected == 0, "{report}");
        assert_eq!(report["marks"][0]["id"], ID, "what is there is told");
    }
}

#[test]
fn only_the_given_keys_count() {
    let folder = Folder::new();
    let (ours, theirs) = (folder.write("ours", &[1; 32]), folder.write("theirs", &[2; 32]));
    let movie = folder.movie("marked.mp4", &format!("sorawatermark id={ID} key={}", ours.display()));
    let name = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    assert_eq!(code(&verify(&[&movie], &["--search", "untouched"])), 1);
    assert_eq!(code(&verify(&[&movie], &["--key", &name(&theirs), "--search", "untouched"])), 1);
    let output = verify(&[&movie], &["--key", "public", "--key", &name(&ours)]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(!text(&output.stdout).contains("public key"), "{output:?}");
    let mut command = soraverify(&["--watermark-only", &name(&movie)]);
    let output = command.env("SORA_WATERMARK_KEY", &ours).output().expect("the program runs");
    assert_eq!(code(&output), 0, "{output:?}");
}

#[test]
fn two_ids_are_told_as_a_conflict() {
    let folder = Folder::new();
    // A second element would see the first; one behind a file cannot.
    let raw = folder.make(
        "once.mkv",
        &format!("videotestsrc num-buffers=50 ! video/x-raw,format=I420,width=480,height=270,framerate=25/1 ! sorawatermark id={ID} ! matroskamux"),
    );
    let again = format!(
        "filesrc location={} ! matroskademux ! sorawatermark id={OTHER_ID} ! matroskamux",
        raw.display()
    );
    let twice = folder.make("twice.mkv", &again);
    let output = verify(&[&twice], &["--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let report = &lines(&output)[0];
    assert_eq!(report["conflict"], true, "{report}");
    assert!(text(&verify(&[&twice], &[]).stdout).contains("conflict"), "it is told to people too");
}

#[test]
fn until_sure_reads_no_further_than_the_mark_that_was_asked_for() {
    let folder = Folder::new();
    // Five seconds of each id; uncompressed, so that a frame more or less read is a frame.
    let part = |id: &str| {
        format!(
            "videotestsrc num-buffers=50 ! video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! sorawatermark id={id} ! joined."
        )
    };
    let splice = folder
        .make("splice.mkv", &format!("{} {} concat name=joined ! matroskamux", part(ID), part(OTHER_ID)));
    let report = |arguments: &[&str]| {
        let output = verify(&[&splice], &[arguments, &["--json"]].concat());
        assert_eq!(code(&output), 0, "{arguments:?}: {output:?}");
        common::check_lines(&text(&output.stdout)).remove(0)
    };
    let ids = |report: &Value| {
        let marks = report["marks"].as_array().expect("a list");
        let mut ids: Vec<String> =
            marks.iter().map(|mark| mark["id"].as_str().expect("an id").to_owned()).collect();
        ids.sort();
        ids
    };
    let whole = report(&[]);
    assert_eq!((&whole["stopped"], &whole["frames"]), (&false.into(), &100.into()), "{whole}");
    assert_eq!((ids(&whole), &whole["conflict"]), (vec![ID.into(), OTHER_ID.into()], &true.into()));
    // The frame that ends the first window is the last.
    let begun = report(&["--until-sure"]);
    assert_eq!((&begun["stopped"], &begun["frames"]), (&true.into(), &41.into()), "{begun}");
    assert_eq!((ids(&begun), &begun["conflict"]), (vec![ID.into()], &false.into()));
    // The first mark is not the one that is asked for.
    let claimed = report(&["--until-sure", "--expect-id", OTHER_ID]);
    assert_eq!(claimed["expected"]["accepted"], true, "{claimed}");
    assert_eq!(ids(&claimed), [ID, OTHER_ID]);
    let said = text(&verify(&[&splice], &["--until-sure"]).stdout);
    assert!(said.contains("stopped   after 4.0 s"), "{said}");
    // Of a verdict with a manifest it would hide a conflict.
    let splice = splice.to_str().expect("UTF-8");
    expect(&["--until-sure", splice], 64, &["--watermark-only"]);
}

#[test]
fn a_picture_and_standard_input_are_read() {
    let folder = Folder::new();
    let picture = folder.make(
        "frame.png",
        &format!("videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=1280,height=720 ! sorawatermark id={ID} ! pngenc"),
    );
    let output = verify(&[&picture], &["--still", "--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(lines(&output)[0]["frames"], 1);

    let movie = folder.movie("marked.mp4", &format!("sorawatermark id={ID}"));
    let file = File::open(&movie).expect("it was made");
    let output = soraverify(&["--watermark-only", "-"]).stdin(file).output().expect("the program runs");
    assert_eq!(code(&output), 0, "{output:?}");
}

#[test]
fn what_cannot_be_read_is_two_and_says_why() {
    let folder = Folder::new();
    let tiny = folder.make(
        "tiny.mkv",
        "videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=32,height=32 ! matroskamux",
    );
    let wave = folder.make("sound.wav", "audiotestsrc num-buffers=2 ! wavenc");
    let movie = folder.movie("whole.mp4", "identity");
    let whole = std::fs::read(&movie).expect("it was made");
    for (file, part) in [
        (folder.at("missing.mp4"), "No such file"),
        (folder.write("empty.mp4", b""), "empty (0 bytes)"),
        (folder.write("words.mp4", "no video at all\n".repeat(50).as_bytes()), "no video"),
        (
            folder.write("noise.mp4", &(0..4000u32).map(|n| ((n * n) >> 5) as u8).collect::<Vec<_>>()),
            "no video",
        ),
        (folder.write("cut.mp4", &whole[..whole.len() / 2]), ""),
        (wave, "no video"),
        (tiny, "at least 64"),
    ] {
        let output = verify(&[&file], &[]);
        assert_eq!(code(&output), 2, "{}: {output:?}", file.display());
        let said = text(&output.stderr);
        assert!(said.contains(part) && said.contains(&file.display().to_string()), "{part}: {output:?}");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(text(&output.stdout), "", "nothing that looks like a verdict");
    }
}

#[test]
fn what_was_found_stays_found_where_frames_follow_that_cannot_be_looked_at() {
    let folder = Folder::new();
    let coded = |name: &str, frames: u32, side: u32, mark: &str| {
        let source = format!(
            "videotestsrc num-buffers={frames} ! video/x-raw,format=I420,width={side},height={side},framerate=25/1"
        );
        let coder = "x264enc speed-preset=veryfast ! video/x-h264,stream-format=byte-stream";
        std::fs::read(folder.make(name, &format!("{source} ! {mark} ! {coder}"))).expect("it was made")
    };
    let marked = coded("marked.h264", 50, 256, &format!("sorawatermark id={ID}"));
    let tiny = coded("tiny.h264", 5, 48, "identity");
    let both = folder.write("both.h264", &[marked, tiny].concat());
    let output = verify(&[&both], &["--json"]);
    let report = &lines(&output)[0];
    assert_eq!((&report["found"], &report["marks"][0]["id"]), (&true.into(), &ID.into()), "{output:?}");
    assert!(report.to_string().contains("at least 64"), "what kept the rest from being read: {report}");
}

#[test]
fn arguments_that_make_no_sense_are_two() {
    let folder = Folder::new();
    let short = folder.write("short", &[1]);
    let short = short.to_str().expect("UTF-8");
    for (arguments, part) in [
        (["--watermark-only", "--key", short, "clip.mp4"].as_slice(), "1 bytes"),
        (&["--watermark-only", "--key", "/nowhere", "clip.mp4"], "/nowhere"),
        (&["--watermark-only", "--expect-id", "12", "clip.mp4"], "24 hexadecimal"),
        (&["--watermark-only"], "FILE"),
    ] {
        let output = soraverify(arguments).stdin(Stdio::null()).output().expect("the program runs");
        assert_eq!(code(&output), 2, "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {output:?}");
    }
}

/// Runs `soraverify` and expects this code and these words.
fn expect(arguments: &[&str], expected: i32, parts: &[&str]) {
    let output = soraverify(arguments).stdin(Stdio::null()).output().expect("the program runs");
    assert_eq!(code(&output), expected, "{arguments:?}: {output:?}");
    let said = text(&output.stdout) + &text(&output.stderr);
    for part in parts {
        assert!(said.contains(part), "{arguments:?} says nothing of {part:?}: {said}");
    }
}

#[test]
fn a_clip_is_judged_by_manifest_and_mark() {
    let folder = Folder::new();
    let path = |name: &str| folder.at(name).to_str().expect("UTF-8").to_owned();
    let keys = path("keys");
    expect(&["keygen", "--out", &keys], 0, &["root.pem", "chain.pem", "key.pem"]);
    // What is there is not overwritten.
    let output = soraverify(&["keygen", "--out", &keys]).output().expect("the program runs");
    assert_ne!(code(&output), 0, "{output:?}");
    let source = "videotestsrc num-buffers=50 pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1";
    let encoder = "x264enc bitrate=2000 ! mp4mux";
    let sign = format!("sorasign certificates={keys}/chain.pem key={keys}/key.pem");
    folder.make("own.mp4", &format!("{source} ! sorawatermark ! {encoder} ! {sign}"));
    folder.make("plain.mp4", &format!("{source} ! {encoder}"));
    let (own, plain, root) = (path("own.mp4"), path("plain.mp4"), path("keys/root.pem"));
    expect(&["--anchors", &root, &own], 0, &["own.mp4: authentic", "development"]);
    expect(&[&own], 10, &["valid_untrusted"]);
    expect(&[&plain], 20, &["no_evidence"]);
    expect(&["--anchors", &root, &own, &plain], 20, &["own.mp4: authentic", "no_evidence"]);
    let mut bytes = std::fs::read(&own).expect("it can be read");
    let last = bytes.len() - 20_000;
    bytes[last] ^= 1;
    folder.write("tampered.mp4", &bytes);
    expect(&["--anchors", &root, &path("tampered.mp4")], 30, &["tampered"]);
}

#[test]
fn what_cannot_be_judged_has_codes_of_its_own() {
    let folder = Folder::new();
    let noise = folder.write("noise.mp4", &[7; 5000]);
    let noise = noise.to_str().expect("UTF-8");
    expect(&["/nowhere/clip.mp4"], 66, &["/nowhere/clip.mp4"]);
    expect(&[noise], 65, &["noise.mp4"]);
    expect(&["--anchors", noise, noise], 64, &["noise.mp4"]);
}

#[test]
fn the_help_tells_the_exit_codes() {
    let output = soraverify(&["--help"]).output().expect("the program runs");
    let said = text(&output.stdout);
    assert!(said.contains("Exit codes") && said.contains("proves nothing"), "{said}");
}
