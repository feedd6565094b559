//! `sorasign store=…`: what is kept, when, and what becomes of a clip where it cannot be.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use sora_provenance::{TrustAnchors, Validity, WATERMARK_ALG};
use sora_store::{Access, Store};
use sora_tests::{Model, play, run};
use sora_watermark::Fingerprint;

use super::{ENCODER, ID, SOURCE, folder, frames, looks_signed, manifest};

fn id_bytes() -> Vec<u8> {
    (0..12).map(|at| u8::from_str_radix(&ID[at * 2..at * 2 + 2], 16).expect("digits")).collect()
}

/// Ids that a store has for the watermark.
fn kept(store: &Path) -> Vec<String> {
    let store = Store::open(store, Access::Read).expect("a store");
    store.find(WATERMARK_ALG, &id_bytes(), 10).expect("it reads")
}

#[test]
fn every_mode_keeps_the_manifest_that_it_writes_and_what_the_clip_looks_like() {
    let folder = folder();
    for (mode, mux) in [
        ("patch", "mp4mux"),
        ("spool", "mp4mux"),
        ("spool", "mp4mux fragment-duration=300"),
        ("sidecar", "mp4mux"),
        ("live", "mp4mux fragment-duration=300 streamable=true"),
    ] {
        let (store, clip) = (folder.path().join("store"), folder.path().join("clip.mp4"));
        let sidecar = folder.path().join("clip.mp4.c2pa");
        let extra =
            if mode == "sidecar" { format!("sidecar-location={}", sidecar.display()) } else { String::new() };
        let line = format!(
            "{SOURCE} ! sorawatermark id={ID} ! {ENCODER} ! {mux} ! sorasign mode={mode} store={} {extra} ! filesink location={}",
            store.display(),
            clip.display()
        );
        run(&line).assert_clean();
        let [id] = &kept(&store)[..] else { panic!("{mode}, {mux}: {:?}", kept(&store)) };
        let opened = Store::open(&store, Access::Read).expect("a store");
        let found = opened.checked(id, Some((WATERMARK_ALG, &id_bytes())), &TrustAnchors::none());
        let found = found.expect("it passes").expect("it is there");
        assert_eq!(found.report.validity, Validity::Untrusted, "an ephemeral certificate");
        if mode == "sidecar" {
            assert!(fs::read(&sidecar).expect("a manifest") == found.manifest);
            fs::remove_file(&sidecar).expect("it is there");
        } else {
            assert_eq!(&manifest(&clip, &TrustAnchors::none()).id, id, "{mode}, {mux}");
        }
        let looks = opened.fingerprint(id, Fingerprint::KIND).expect("it reads").expect("there is one");
        // One second of 25 frames.
        assert_eq!(Fingerprint::from_bytes(&looks).expect("a fingerprint").len(), 2, "{mode}, {mux}");
        fs::remove_file(&store).expect("it is there");
    }
}

#[test]
fn the_manifest_is_kept_before_the_clip_has_it() {
    let folder = folder();
    let store = folder.path().join("store");
    for mode in ["patch", "spool"] {
        let line = format!(
            "{SOURCE} ! sorawatermark id={ID} ! {ENCODER} ! mp4mux ! sorasign mode={mode} store={} \
             ! filesink name=sink location={}",
            store.display(),
            folder.path().join("clip.mp4").display()
        );
        let playing = play(&line);
        let sink = playing.pipeline.by_name("sink").expect("a sink").static_pad("sink").expect("a pad");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (watched, file) = (Arc::clone(&seen), store.clone());
        sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let map = info.buffer().expect("a buffer").map_readable().expect("it can be read");
            if map.windows(9).any(|bytes| bytes == b"c2pa.clai") {
                watched.lock().expect("no panic").push(kept(&file).len());
            }
            gst::PadProbeReturn::Ok
        });
        playing.finish().assert_clean();
        let seen = seen.lock().expect("no panic");
        assert!(!seen.is_empty() && seen.iter().all(|count| *count == 1), "{mode}: {seen:?}");
        fs::remove_file(&store).expect("it is there");
    }
}

#[test]
fn where_it_cannot_be_kept_the_clip_stays_unsigned() {
    let folder = folder();
    let (store, clip) = (folder.path().join("store"), folder.path().join("clip.mp4"));
    drop(Store::open(&store, Access::Write).expect("a store"));
    for mode in ["patch", "spool"] {
        let writer = rusqlite::Connection::open(&store).expect("a database");
        writer.execute_batch("BEGIN IMMEDIATE").expect("it is free");
        let line = format!(
            "{SOURCE} ! sorawatermark id={ID} ! {ENCODER} ! mp4mux ! sorasign mode={mode} store={} ! filesink location={}",
            store.display(),
            clip.display()
        );
        let error = run(&line).one_error();
        assert!(error.contains("locked by another program") && error.contains("unsigned"), "{mode}: {error}");
        assert!(!looks_signed(&clip), "{mode}");
        if mode == "patch" {
            assert!(frames(&clip).len() > 20, "the clip itself is kept");
        }
        writer.execute_batch("COMMIT").expect("it ends");
        assert!(kept(&store).is_empty(), "{mode}");
    }
}

#[test]
fn a_store_that_is_none_is_refused_before_a_byte_is_written() {
    let folder = folder();
    let (words, missing) = (folder.path().join("words"), folder.path().join("nowhere/store"));
    fs::write(&words, "no database\n".repeat(100)).expect("it is written");
    for (store, part) in [(&words, "no store at all"), (&missing, "cannot be opened")] {
        let clip = folder.path().join("clip.mp4");
        let line = format!(
            "{SOURCE} ! sorawatermark ! {ENCODER} ! mp4mux ! sorasign store={} ! filesink location={}",
            store.display(),
            clip.display()
        );
        let error = run(&line).one_error();
        assert!(error.contains(part) && error.contains(&store.display().to_string()), "{error}");
        assert!(fs::metadata(&clip).map_or(0, |file| file.len()) == 0);
    }
    let line = format!(
        "{SOURCE} ! {ENCODER} ! mp4mux ! sorasign store={} ! fakesink",
        folder.path().join("store").display()
    );
    let errors = format!("{:?}", run(&line).errors());
    assert!(errors.contains("no watermark"), "{errors}");
}

#[test]
fn a_clip_whose_manifest_is_withdrawn_leaves_none_in_the_store() {
    let folder = folder();
    let store = folder.path().join("store");
    let playing = play(&format!(
        "{SOURCE} ! sorawatermark id={ID} ! {ENCODER} ! mp4mux ! sorasign mode=patch store={} ! filesink name=sink location={}",
        store.display(),
        folder.path().join("clip.mp4").display()
    ));
    let sink = playing.pipeline.by_name("sink").expect("a sink").static_pad("sink").expect("a pad");
    let passed = AtomicUsize::new(0);
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut()
            && buffer.size() > 100
            && passed.fetch_add(1, Ordering::Relaxed) == 5
        {
            let mut map = buffer.make_mut().map_writable().expect("it can be written");
            let last = map.len() - 1;
            map[last] ^= 1;
        }
        gst::PadProbeReturn::Ok
    });
    let error = playing.finish().one_error();
    assert!(error.contains("not what was signed"), "{error}");
    assert!(kept(&store).is_empty(), "{:?}", kept(&store));
}

/// The whole way: generated, marked, signed, kept; then re-encoded at half size by somebody who drops the manifest.
#[test]
fn a_generated_clip_is_recovered_from_what_a_platform_made_of_it() {
    use soraverify::{Check, judge_clip, recover};
    let (folder, model) = (folder(), Model::new());
    let at = |name: &str| folder.path().join(name);
    let chain = sora_provenance::development_chain(sora_provenance::KeyAlgorithm::Ed25519, "A studio");
    let chain = chain.expect("a chain");
    super::write_keys(folder.path(), &chain);
    let soragen = model.soragen("seed=7 num-frames=33 prompt=\"a red ball\"");
    let line = format!(
        "{soragen} ! videoscale ! video/x-raw,width=512,height=384 ! videoconvert ! sorawatermark id={ID} strength=robust \
         ! x264enc threads=1 bitrate=2000 ! h264parse ! mp4mux ! sorasign certificates={} key={} store={} ! filesink location={}",
        at("chain.pem").display(),
        at("key.pem").display(),
        at("store").display(),
        at("clip.mp4").display()
    );
    let report = run(&line);
    assert!(report.errors().is_empty(), "{:?}", report.errors());
    assert!(!frames(&at("clip.mp4")).is_empty());
    let again = format!(
        "filesrc location={} ! decodebin ! videoscale ! video/x-raw,width=256,height=192 ! x264enc threads=1 bitrate=1000 \
         ! mp4mux ! filesink location={}",
        at("clip.mp4").display(),
        at("half.mp4").display()
    );
    assert!(run(&again).errors().is_empty());
    let anchors = TrustAnchors::from_pem_files(&[at("root.pem")]).expect("anchors");
    let check = Check {
        keys: vec![sora_watermark::Key::public()],
        expect: None,
        still: false,
        search: sora_watermark::Search::Full,
        until_sure: false,
    };
    let store = Store::open(&at("store"), Access::Read).expect("a store");
    let verdict = |name: &str| {
        let judged = judge_clip(&at(name), Some(&check), &anchors, |_, _| {}).expect("a clip");
        recover(&at(name), judged, &store, &anchors).expect("a store")
    };
    assert_eq!(verdict("clip.mp4").judgement.verdict, sora_provenance::Verdict::Authentic);
    let half = verdict("half.mp4");
    assert_eq!(half.judgement.verdict, sora_provenance::Verdict::Recovered, "{:?}", half.judgement);
    let found = half.recovery.and_then(|recovery| recovery.manifest).expect("a manifest");
    assert_eq!(found.id, manifest(&at("clip.mp4"), &anchors).id);
    assert_eq!(found.generation.and_then(|record| record.seed), Some(7));
}
