//! Manifests beside their clips, and what was written being read again.

use std::fs;
use std::path::PathBuf;

use gst::prelude::*;
use sora_provenance::{Credentials, Location, TrustAnchors, Validity, verify_file};
use sora_tests::{play, run};

use crate::{ENCODER, SOURCE, folder, frames, looks_signed, manifest};

#[test]
fn a_manifest_is_written_beside_a_clip_that_stays_as_it_is() {
    let folder = folder();
    for (number, mux) in
        ["mp4mux", "mp4mux faststart=true", "mp4mux fragment-duration=300"].into_iter().enumerate()
    {
        let clip = |name: &str| folder.path().join(format!("{number}-{name}"));
        let (signed, plain, sidecar) = (clip("signed.mp4"), clip("plain.mp4"), clip("signed.mp4.c2pa"));
        let sign = format!("sorasign mode=sidecar sidecar-location={} !", sidecar.display());
        for (path, sign) in [(&signed, sign.as_str()), (&plain, "")] {
            let line = format!("{SOURCE} ! {ENCODER} ! {mux} ! {sign} filesink location={}", path.display());
            let errors = run(&line).errors();
            assert!(errors.is_empty(), "{mux}: {errors:?}");
        }
        assert_eq!(frames(&signed), frames(&plain), "{mux}");
        let alone = verify_file(&signed, None, &TrustAnchors::none()).expect("a clip");
        assert!(matches!(alone.credentials, Credentials::Absent), "{mux}");
        let found = verify_file(&signed, Some(&sidecar), &TrustAnchors::none()).expect("a clip");
        let found = found.manifest().expect("a manifest");
        assert_eq!((found.validity, found.location), (Validity::Untrusted, Location::Sidecar), "{mux}");
        let mut changed = fs::read(&signed).expect("a clip");
        let media = changed.windows(4).rposition(|found| found == b"mdat").expect("media data");
        changed[media + 20] ^= 1;
        fs::write(&signed, changed).expect("it is written");
        let found = verify_file(&signed, Some(&sidecar), &TrustAnchors::none()).expect("a clip");
        assert_eq!(found.manifest().map(|found| found.validity), Some(Validity::Invalid), "{mux}");
    }
}

/// What cannot hold a manifest has it beside it, or none, and then says why.
#[test]
fn other_containers_have_their_manifest_beside_them() {
    let folder = folder();
    for (number, mux) in ["matroskamux", "mpegtsmux", "avimux"].into_iter().enumerate() {
        let clip = folder.path().join(format!("{number}.bin"));
        let sidecar = folder.path().join(format!("{number}.c2pa"));
        let line = |sign: &str| {
            format!("{SOURCE} ! {ENCODER} ! {mux} ! {sign} ! filesink location={}", clip.display())
        };
        let errors = format!("{:?}", run(&line("sorasign")).errors());
        assert!(
            errors.contains("can put no manifest into video/") && errors.contains("mode=sidecar"),
            "{errors}"
        );
        let errors =
            run(&line(&format!("sorasign mode=sidecar sidecar-location={}", sidecar.display()))).errors();
        assert!(errors.is_empty(), "{mux}: {errors:?}");
        assert_eq!(frames(&clip).len(), 25, "{mux}");
        let judge = || verify_file(&clip, Some(&sidecar), &TrustAnchors::none()).expect("a clip");
        let report = judge();
        let found = report.manifest().unwrap_or_else(|| panic!("{mux}: {report:#?}"));
        assert_eq!(
            (found.validity, found.location),
            (Validity::Untrusted, Location::Sidecar),
            "{mux}: {found:#?}"
        );
        for change in [|bytes: &mut Vec<u8>| bytes[1000] ^= 1, |bytes: &mut Vec<u8>| bytes.push(0)] {
            let whole = fs::read(&clip).expect("a clip");
            let mut bytes = whole.clone();
            change(&mut bytes);
            fs::write(&clip, bytes).expect("it is written");
            assert_eq!(judge().manifest().map(|found| found.validity), Some(Validity::Invalid), "{mux}");
            fs::write(&clip, whole).expect("it is written");
        }
    }
}

#[test]
fn a_sidecar_without_a_place_is_refused_and_leaves_nothing() {
    let folder = folder();
    let clip = folder.path().join("clip.mp4");
    let nowhere = folder.path().join("missing/clip.c2pa");
    for (sidecar, part) in [
        (String::new(), "sidecar-location names no file"),
        (format!("sidecar-location={}", nowhere.display()), "writing the manifest beside the clip"),
    ] {
        let line = format!(
            "{SOURCE} ! {ENCODER} ! mp4mux ! sorasign mode=sidecar {sidecar} ! filesink location={}",
            clip.display()
        );
        let errors = format!("{:?}", run(&line).errors());
        assert!(errors.contains(part), "{errors}");
        assert!(!looks_signed(&clip));
    }
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("a folder").flatten().map(|file| file.path()).collect();
    assert_eq!(left, [clip]);
}

/// Changes a byte of the media data on its way to the sink.
fn change_a_byte(line: &str) -> (String, PathBuf, tempfile::TempDir) {
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    let playing = play(&format!("{line} ! filesink name=sink location={}", path.display()));
    let sink = playing.pipeline.by_name("sink").expect("a sink").static_pad("sink").expect("a pad");
    let passed = std::sync::atomic::AtomicUsize::new(0);
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut()
            && buffer.size() > 100
            && passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 5
        {
            let mut map = buffer.make_mut().map_writable().expect("it can be written");
            let last = map.len() - 1;
            map[last] ^= 1;
        }
        gst::PadProbeReturn::Ok
    });
    let errors = format!("{:?}", playing.finish().errors());
    (errors, path, folder)
}

#[test]
fn what_was_written_is_read_again_and_its_manifest_withdrawn_where_it_does_not_fit() {
    let pipeline = format!("{SOURCE} ! {ENCODER} ! mp4mux");
    let (errors, path, _folder) = change_a_byte(&format!("{pipeline} ! sorasign mode=patch"));
    assert!(errors.contains("not what was signed"), "{errors}");
    assert!(errors.contains("assertion.bmffHash.mismatch"), "{errors}");
    assert!(!looks_signed(&path));
    assert!(frames(&path).len() > 20, "the clip itself is kept");
    // Who does not want that gets what was asked for, and whoever verifies it sees it.
    let (errors, path, _folder) = change_a_byte(&format!("{pipeline} ! sorasign mode=patch verify=false"));
    assert_eq!(errors, "[]");
    assert_eq!(manifest(&path, &TrustAnchors::none()).validity, Validity::Invalid);
}

#[test]
fn every_file_of_splitmuxsink_is_signed() {
    let folder = folder();
    let playing = play(&format!(
        "videotestsrc num-buffers=75 pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 ! {ENCODER} \
         ! h264parse ! splitmuxsink name=split muxer=mp4mux max-size-time=1000000000 location={}/clip-%02d.mp4",
        folder.path().display()
    ));
    let split = playing.pipeline.by_name("split").expect("an element");
    let sink = gst::parse::bin_from_description("sorasign ! filesink", true).expect("a bin");
    split.set_property("sink", &sink);
    let report = playing.finish();
    assert!(report.errors().is_empty(), "{:?}", report.errors());
    let mut played = 0;
    for number in 0..fs::read_dir(folder.path()).expect("a folder").count() {
        let path = folder.path().join(format!("clip-{number:02}.mp4"));
        let found = manifest(&path, &TrustAnchors::none());
        assert_eq!(found.validity, Validity::Untrusted, "{number}: {found:#?}");
        played += frames(&path).len();
    }
    assert_eq!(played, 75);
}
