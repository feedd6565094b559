//! What goes wrong around a clip that is being signed: the sink at the very end, the machine's clock.

use std::process::Command;

use gst::prelude::*;
use sora_provenance::{Credentials, KeyAlgorithm, TrustAnchors, development_chain, verify_file};
use sora_tests::{play, run};

use super::{ENCODER, SOURCE, folder, signer, write_keys};

/// A sink that takes the clip and fails when the manifest is to be filled in.
#[test]
fn a_sink_that_fails_at_the_end_is_an_error_and_the_clip_stays_unsigned() {
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    let line =
        format!("{SOURCE} ! {ENCODER} ! mp4mux ! sorasign ! filesink name=file location={}", path.display());
    let playing = play(&line);
    let entry = playing.pipeline.by_name("file").and_then(|file| file.static_pad("sink")).expect("a pad");
    let went_back = std::sync::atomic::AtomicBool::new(false);
    entry.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        use std::sync::atomic::Ordering::SeqCst;
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => {
                // Where the manifest goes: behind `ftyp`, which begins at 0.
                let gst::EventView::Segment(segment) = event.view() else { return gst::PadProbeReturn::Ok };
                let segment = segment.segment().downcast_ref::<gst::format::Bytes>();
                let start = segment.and_then(|segment| segment.start()).map_or(0, u64::from);
                went_back.fetch_or((1..100).contains(&start), SeqCst);
                gst::PadProbeReturn::Ok
            }
            Some(gst::PadProbeData::Buffer(_)) if went_back.load(SeqCst) => {
                info.flow_res = Err(gst::FlowError::Error);
                gst::PadProbeReturn::Handled
            }
            _ => gst::PadProbeReturn::Ok,
        }
    });
    let report = playing.finish();
    let ends = [gst::MessageType::Error, gst::MessageType::Eos];
    let first = report.messages.iter().map(|message| message.type_()).find(|kind| ends.contains(kind));
    assert_eq!(
        first,
        Some(gst::MessageType::Error),
        "it did not end well, and says so first: {:?}",
        report.messages
    );
    let bytes = std::fs::read(&path).expect("the clip was written");
    assert!(!bytes.windows(4).any(|window| window == b"jumb"), "no piece of a manifest is in it");
    let report = verify_file(&path, None, &TrustAnchors::none());
    assert!(!matches!(report.map(|report| report.credentials), Ok(Credentials::Present(_))));
}

/// Set for a run of one of these tests in a process of its own, whose clock is wrong.
const CHILD: &str = "SORA_TEST_CLOCK";

/// Runs a test of this program in a process whose clock stands at 1 January 1965; `None` without `faketime`.
fn in_1965(test: &str, folder: &std::path::Path) -> Option<std::process::Output> {
    let program = std::env::current_exe().expect("a program");
    let mut command = Command::new("faketime");
    command.args(["-f", "@1965-01-01 00:00:00"]).arg(program).args(["--exact", test, "--nocapture"]);
    // GStreamer's own clock goes on as it is.
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env(CHILD, folder);
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// Nothing can be signed in 1965, with a certificate of this century and with an ephemeral one, and nothing be judged,
/// which is said.
#[test]
fn a_clock_before_1970_is_an_error_and_no_crash() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return before_1970(std::path::Path::new(&folder));
    }
    let folder = folder();
    write_keys(folder.path(), &development_chain(KeyAlgorithm::Ed25519, "A studio").expect("a chain"));
    let signed = folder.path().join("before.mp4");
    let line = format!(
        "{SOURCE} ! {ENCODER} ! mp4mux ! {} ! filesink location={}",
        signer(folder.path()),
        signed.display()
    );
    run(&line).assert_clean();
    let test = "trouble::a_clock_before_1970_is_an_error_and_no_crash";
    let Some(output) = in_1965(test, folder.path()) else {
        println!("skipped: there is no faketime here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
}

fn before_1970(folder: &std::path::Path) {
    let now = std::time::SystemTime::now();
    assert!(now < std::time::SystemTime::UNIX_EPOCH, "{now:?}");
    let path = folder.join("clip.mp4");
    let write = |sign: &str| {
        let line = format!("{SOURCE} ! {ENCODER} ! mp4mux ! {sign} ! filesink location={}", path.display());
        run(&line)
    };
    let errors = format!("{:?}", write(&signer(folder)).errors());
    assert!(errors.contains("not valid before"), "{errors}");
    assert_eq!(std::fs::metadata(&path).map_or(0, |file| file.len()), 0, "nothing was written");
    let errors = format!("{:?}", write("sorasign").errors());
    assert!(errors.contains("s before 1970"), "{errors}");
    let manifests =
        std::fs::read(&path).map_or(0, |bytes| bytes.windows(4).filter(|kind| kind == b"jumb").count());
    assert_eq!(manifests, 0, "what was written has no manifest");
    let error =
        verify_file(&folder.join("before.mp4"), None, &TrustAnchors::none()).expect_err("there is no time");
    assert!(error.to_string().contains("s before 1970"), "{error}");
}
