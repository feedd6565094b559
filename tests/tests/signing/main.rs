//! `sorasign` in pipelines: what is written verifies, plays as before, and says what the elements know.

mod live;
mod sidecar;
mod store;
mod trouble;

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gst::prelude::*;
use sora_provenance::{
    Credentials, DevelopmentChain, KeyAlgorithm, ManifestReport, TrustAnchors, Validity, WATERMARK_ALG,
    development_chain, verify_file,
};
use sora_record::Prompt;
use sora_tests::{Model, play, run};

const ID: &str = "10112233445566778899aabb";
const SOURCE: &str =
    "videotestsrc num-buffers=25 pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1";
const ENCODER: &str = "x264enc threads=1 key-int-max=10";

/// What is found in a file that is to have a manifest.
fn manifest(path: &Path, anchors: &TrustAnchors) -> ManifestReport {
    match verify_file(path, None, anchors).expect("a clip that can be read").credentials {
        Credentials::Present(manifest) => *manifest,
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// Decoded frames of a file, hashed one by one.
fn frames(path: &Path) -> Vec<u64> {
    use std::hash::{Hash, Hasher};
    let line = format!(
        "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=I420 ! appsink name=sink sync=false",
        path.display()
    );
    let report = run(&line);
    let hash = |sample: &gst::Sample| {
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        let buffer = sample.buffer().expect("a frame").map_readable().expect("it can be read");
        buffer.as_slice().hash(&mut hasher);
        hasher.finish()
    };
    report.assert_clean().samples.iter().map(hash).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// `sorasign` with the keys that [`write_keys`] wrote into a folder.
fn signer(folder: &Path) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    format!("sorasign certificates={} key={}", file("chain.pem"), file("key.pem"))
}

#[test]
fn what_every_muxer_setting_writes_is_signed_and_plays_as_before() {
    let folder = folder();
    let audio = "audiotestsrc num-buffers=40 ! avenc_aac ! mux.";
    for (number, (mux, sign, extra)) in [
        ("mp4mux", "mode=patch", ""),
        ("mp4mux", "mode=spool", ""),
        ("mp4mux faststart=true", "mode=patch", ""),
        ("mp4mux faststart=true", "mode=auto", audio),
        ("mp4mux fragment-duration=300", "mode=spool", ""),
        (ROBUST, "mode=patch", audio),
        (ROBUST, "mode=spool", ""),
        ("qtmux", "mode=auto", audio),
    ]
    .into_iter()
    .enumerate()
    {
        let mut played = Vec::new();
        for signer in [format!("sorasign {sign} !"), String::new()] {
            let path = folder.path().join(format!("{number}-{}.mp4", signer.is_empty()));
            let line = format!(
                "{SOURCE} ! {ENCODER} ! queue ! mux. {extra} {mux} name=mux ! {signer} filesink location={}",
                path.display()
            );
            let report = run(&line);
            assert!(report.errors().is_empty(), "{mux} {sign}: {:?}", report.errors());
            if !signer.is_empty() {
                let found = manifest(&path, &TrustAnchors::none());
                assert_eq!(found.validity, Validity::Untrusted, "{mux} {sign}: {found:?}");
                assert!(found.structure.is_empty(), "{mux} {sign}: {:?}", found.structure);
            }
            played.push(frames(&path));
        }
        // GStreamer 1.22 loses reordered frames at the borders of fragments, signed or not.
        assert!(played[0].len() > 20, "{mux} {sign}: {} frames", played[0].len());
        assert_eq!(played[0], played[1], "{mux} {sign}");
    }
}

#[test]
fn a_sink_that_cannot_seek_gets_a_signed_clip() {
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    let file = fs::File::create(&path).expect("a file");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let copy = std::thread::spawn(move || std::io::copy(&mut { reader }, &mut { file }).expect("it copies"));
    let line = {
        use std::os::fd::AsRawFd;
        format!("{SOURCE} ! {ENCODER} ! mp4mux ! sorasign ! fdsink fd={}", writer.as_raw_fd())
    };
    assert!(run(&line).errors().is_empty());
    drop(writer);
    copy.join().expect("the copy ends");
    assert_eq!(manifest(&path, &TrustAnchors::none()).validity, Validity::Untrusted);
}

/// Writes a chain as root.pem, chain.pem and key.pem.
fn write_keys(folder: &Path, chain: &DevelopmentChain) {
    let file = |name: &str| folder.join(name);
    fs::write(file("root.pem"), &chain.root).expect("it is written");
    fs::write(file("chain.pem"), &chain.chain).expect("it is written");
    let mut owner_only = fs::OpenOptions::new();
    owner_only.write(true).create_new(true).mode(0o600);
    let mut key = owner_only.open(file("key.pem")).expect("a file");
    std::io::Write::write_all(&mut key, chain.key.as_bytes()).expect("it is written");
}

#[test]
fn a_key_of_ones_own_is_trusted_by_those_who_have_its_root() {
    let folder = folder();
    let file = |name: &str| folder.path().join(name);
    write_keys(folder.path(), &development_chain(KeyAlgorithm::Ed25519, "A studio").expect("a chain"));
    let signer = signer(folder.path());
    let clip = file("clip.mp4");
    run(&format!("{SOURCE} ! {ENCODER} ! mp4mux ! {signer} ! filesink location={}", clip.display()))
        .assert_clean();
    let anchors = TrustAnchors::from_pem_files(&[file("root.pem")]).expect("anchors");
    assert_eq!(manifest(&file("clip.mp4"), &anchors).validity, Validity::TrustedOwn);
    assert_eq!(manifest(&file("clip.mp4"), &TrustAnchors::none()).validity, Validity::Untrusted);
}

#[test]
fn record_and_mark_cross_encoder_and_muxer() {
    let (folder, model) = (folder(), Model::new());
    let path = folder.path().join("clip.mp4");
    let soragen = model.soragen("seed=77 prompt=\"a red ball\"");
    // The mark wants 64 pixels a side; the model's own size is smaller.
    let line = format!(
        "{soragen} ! videoscale ! video/x-raw,width=128,height=96 ! videoconvert ! sorawatermark id={ID} \
         ! {ENCODER} ! h264parse ! mp4mux ! sorasign ! filesink location={}",
        path.display()
    );
    assert!(run(&line).errors().is_empty());
    let found = manifest(&path, &TrustAnchors::none());
    let record = found.generation.expect("a record");
    let weights = record.model.as_ref().and_then(|model| model.weights_sha256);
    assert!(weights.is_some(), "which weights they were: {record:?}");
    assert_eq!((record.seed, record.frames, record.software.name.as_str()), (Some(77), Some(5), "soragen"));
    assert!(matches!(record.prompt, Some(Prompt::Sha256(_))), "{:?}", record.prompt);
    assert!(found.actions.iter().any(|action| action == "c2pa.created"), "{:?}", found.actions);
    assert!(
        found.digital_source_types.iter().any(|kind| kind.ends_with("/trainedAlgorithmicMedia")),
        "{:?}",
        found.digital_source_types
    );
    let bindings: Vec<_> = found.bindings.iter().map(|b| (b.alg.as_str(), b.value.as_str())).collect();
    assert_eq!(bindings, [(WATERMARK_ALG, ID)]);
}

#[test]
fn of_foreign_footage_nothing_is_said_of_ai() {
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    let line =
        format!("{SOURCE} ! {ENCODER} ! mp4mux ! sorasign title=ball ! filesink location={}", path.display());
    assert!(run(&line).errors().is_empty());
    let found = manifest(&path, &TrustAnchors::none());
    assert_eq!(found.generation, None);
    assert!(found.digital_source_types.is_empty(), "{:?}", found.digital_source_types);
    assert!(found.bindings.is_empty());
}

/// Whether a file looks signed to anybody.
fn looks_signed(path: &Path) -> bool {
    let report = verify_file(path, None, &TrustAnchors::none());
    report.is_ok_and(|report| matches!(report.credentials, Credentials::Present(_)))
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing_that_looks_signed() {
    let folder = folder();
    for mode in ["patch", "spool"] {
        let path = folder.path().join(format!("{mode}.mp4"));
        let line = format!(
            "videotestsrc ! video/x-raw,width=64,height=64 ! {ENCODER} tune=zerolatency ! mp4mux ! sorasign mode={mode} \
             ! filesink name=src location={} buffer-mode=unbuffered",
            path.display()
        );
        let playing = play(&line);
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        if mode == "patch" {
            while fs::metadata(&path).map_or(0, |file| file.len()) < 60_000 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        } else {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        let report = playing.stop();
        assert!(!looks_signed(&path), "{mode}");
        let warned = report.messages.iter().any(|message| match message.view() {
            gst::MessageView::Warning(warning) => warning.error().message().contains("not signed"),
            _ => false,
        });
        assert!(warned, "{mode}: no warning among {} messages", report.messages.len());
    }
}

/// A muxer that keeps room for an index in front and brings it up to date while it writes.
const ROBUST: &str = "mp4mux reserved-max-duration=60000000000 reserved-moov-update-period=200000000";

#[test]
fn a_recording_that_outlives_a_crash_does_so_when_it_is_to_be_signed() {
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    let line = format!(
        "videotestsrc ! video/x-raw,width=64,height=64 ! {ENCODER} tune=zerolatency key-int-max=4 ! {ROBUST} \
         ! sorasign mode=patch ! filesink name=src location={} buffer-mode=unbuffered",
        path.display()
    );
    let playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    while fs::metadata(&path).map_or(0, |file| file.len()) < 200_000 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    playing.stop();
    assert!(!looks_signed(&path));
    let found = frames(&path);
    assert!(found.len() > 10, "{} frames", found.len());
}

#[test]
fn what_cannot_be_signed_is_refused_by_name() {
    let folder = folder();
    let missing = folder.path().join("missing.pem");
    let refused = |sign: &str, mux: &str| -> (String, PathBuf) {
        let path = folder.path().join("refused.mp4");
        let line =
            format!("{SOURCE} ! {ENCODER} ! {mux} ! sorasign {sign} ! filesink location={}", path.display());
        let errors = run(&line).errors();
        (format!("{errors:?}"), path)
    };
    for (sign, mux, part) in [
        ("key=k.pem", "mp4mux", "certificates"),
        (&format!("key=k.pem certificates={}", missing.display()), "mp4mux", "k.pem cannot be read"),
        ("record=nonsense", "mp4mux", "record"),
        ("watermark-id=12", "mp4mux", "24 hexadecimal digits"),
        ("mode=patch", "mp4mux fragment-duration=300", "fragment"),
    ] {
        let (errors, path) = refused(sign, mux);
        assert!(errors.contains(part), "{sign}, {mux}: {errors}");
        assert!(!looks_signed(&path), "{sign}, {mux}");
    }
}

#[test]
fn a_clip_that_outgrows_its_space_fails_and_stays_unsigned() {
    let folder = folder();
    let path = folder.path().join("large.mp4");
    // 4 MiB of media data, where space for one is kept: uncompressed video in a container that takes it.
    let line = format!(
        "videotestsrc num-buffers=500 pattern=snow ! video/x-raw,width=640,height=480 ! jpegenc quality=95 \
         ! qtmux ! sorasign mode=patch max-megabytes=1 ! filesink location={}",
        path.display()
    );
    let errors = format!("{:?}", run(&line).errors());
    assert!(errors.contains("reserve"), "{errors}");
    assert!(!looks_signed(&path));
}
