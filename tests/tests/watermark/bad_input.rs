//! What cannot be marked: one clear error or a stated rule, and the video is never damaged.

use gst::prelude::*;
use gst_video::VideoFormat;
use sora_tests::{play, run};

use crate::clip::{FRAME, ID, SECOND, buffer, bytes, clip, detect, element, harness, info, marked};

const CAPS: &str = "video/x-raw,format=I420,width=320,height=240,framerate=25/1";

#[test]
fn no_frames_are_no_error() {
    for line in ["sorawatermark", "soradetect"] {
        let mut playing = play(&format!("appsrc name=src format=time caps={CAPS} ! {line} ! fakesink"));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        assert!(playing.src().send_event(gst::event::Eos::new()));
        playing.wait_for_end();
        let report = playing.stop();
        report.assert_clean();
        assert_eq!(report.warnings(), [""; 0], "{line}");
    }
}

#[test]
fn one_frame_is_marked() {
    let frames = marked(&format!("sorawatermark id={ID}"), 320, 240, 1);
    assert_ne!(bytes(&frames[0]), bytes(&clip(320, 240, 1)[0]));
}

#[test]
fn black_and_white_stay_in_their_range() {
    for value in [0u8, 16, 235, 255] {
        let info = info(VideoFormat::I420, 320, 240);
        let mut harness = harness("sorawatermark", &info);
        let mut frames = Vec::new();
        for number in 0..SECOND {
            let (luma, chroma) = (vec![value; 320 * 240], vec![128; 320 * 120]);
            let frame = buffer([luma, chroma].concat(), Some(FRAME * number as u64));
            let out = harness.push_and_pull(frame).expect("it passes");
            let (low, high) = (value.min(16), value.max(235));
            assert!(bytes(&out).iter().all(|sample| (low..=high).contains(sample)), "{value}");
            frames.push(out);
        }
        // Found or not, it is no other id.
        let verdict = detect(&info, &frames);
        let id: String = element(&harness).property("id");
        assert!(verdict.marks.iter().all(|mark| mark.payload.to_string() == id), "{value}");
    }
}

#[test]
fn settings_out_of_their_range_are_refused_with_the_range() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let short = folder.path().join("short");
    std::fs::write(&short, [1]).expect("the folder can be written");
    let long = folder.path().join("long");
    std::fs::write(&long, [1; 33]).expect("the folder can be written");
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_value();
    for (factory, property, value, parts) in [
        ("sorawatermark", "target-psnr", f64::NAN.to_value(), ["NaN", "30 to 60"]),
        ("sorawatermark", "target-psnr", (-1.0).to_value(), ["-1", "30 to 60"]),
        ("sorawatermark", "target-psnr", 29.9.to_value(), ["29.9", "30 to 60"]),
        ("sorawatermark", "target-psnr", 60.1.to_value(), ["60.1", "30 to 60"]),
        ("sorawatermark", "id", "12".to_value(), ["`12`", "24 hexadecimal"]),
        ("sorawatermark", "key", text(&short), ["1 bytes", "32"]),
        ("sorawatermark", "key", text(&long), ["more than 32", "long"]),
        ("sorawatermark", "key", "/nowhere".to_value(), ["/nowhere", "cannot be used"]),
        ("soradetect", "key", text(&short), ["1 bytes", "32"]),
        ("soradetect", "expect-id", "zz".to_value(), ["`zz`", "24 hexadecimal"]),
    ] {
        let mut playing =
            play(&format!("videotestsrc num-buffers=3 ! {CAPS} ! {factory} name=src ! fakesink"));
        playing.src().set_property_from_value(property, &value);
        assert!(playing.pipeline.set_state(gst::State::Playing).is_err(), "{factory} {property} {value:?}");
        playing.wait_for_end();
        let error = playing.stop().one_error();
        assert!(parts.iter().all(|part| error.contains(part)), "{factory} {property}: {error}");
    }
}

#[test]
fn a_key_is_never_logged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("key");
    std::fs::write(&file, [0x5a; 32]).expect("the folder can be written");
    let log = std::sync::Arc::<std::sync::Mutex<String>>::default();
    sora_tests::init();
    let lines = std::sync::Arc::clone(&log);
    gst::log::set_default_threshold(gst::DebugLevel::None);
    gst::log::set_threshold_for_name("sora*", gst::DebugLevel::Memdump);
    let function = gst::log::add_log_function(move |_, _, _, _, _, _, message| {
        let text = message.get().map(|text| text.to_string()).unwrap_or_default();
        lines.lock().expect("no panic").push_str(&(text + "\n"));
    });
    gst::log::set_active(true);
    let line =
        format!("videotestsrc num-buffers=3 ! {CAPS} ! sorawatermark key={} ! fakesink", file.display());
    run(&line).assert_clean();
    gst::log::remove_log_function(function);
    let log = log.lock().expect("no panic").clone();
    let id = sora_watermark::Key::from_bytes([0x5a; 32]).id().to_string();
    assert!(log.contains(&id), "the id is logged: {log}");
    for secret in ["5a5a", "ZZZZ", "90, 90", "0x5a"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

/// A frame with a few bytes less than its caps say, between whole ones.
#[test]
fn a_frame_shorter_than_its_caps_is_one_error_with_both_sizes() {
    for line in ["sorawatermark", "soradetect"] {
        let mut harness = harness(line, &info(VideoFormat::Gray8, 320, 240));
        let bus = gst::Bus::new();
        harness.element().expect("an element").set_bus(Some(&bus));
        harness.push_and_pull(clip(320, 240, 1).remove(0)).expect("it passes");
        let short = buffer(vec![50; 320 * 240 - 5], Some(FRAME));
        assert_eq!(harness.push(short), Err(gst::FlowError::Error), "{line}");
        let errors: Vec<String> = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Error]))
            .filter_map(|message| match message.view() {
                gst::MessageView::Error(error) => Some(error.error().message().to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(errors.len(), 1, "{line}: {errors:?}");
        assert!(errors[0].contains("76795 bytes") && errors[0].contains("takes 76800"), "{errors:?}");
    }
}

#[test]
fn what_cannot_be_marked_is_an_error_or_passes_by_the_rule() {
    for (caps, part) in [
        ("format=I420,width=56,height=240", "at least 64"),
        ("format=RGB,width=320,height=8", "at least 64"),
        ("format=GRAY8,width=2000,height=100", "ratio at most 16"),
        ("format=I420,width=320,height=240,interlace-mode=interleaved", "interlaced"),
        ("format=NV12,width=320,height=240,interlace-mode=mixed", "interlaced"),
    ] {
        let source = format!("videotestsrc num-buffers=3 ! video/x-raw,{caps},framerate=25/1 ! ");
        let source = match caps.split_once(",interlace-mode=") {
            None => source,
            Some((progressive, mode)) => format!(
                "videotestsrc num-buffers=3 ! video/x-raw,{progressive},framerate=25/1 ! \
                 capssetter caps=video/x-raw,interlace-mode={mode} ! "
            ),
        };
        let refused = run(&format!("{source}sorawatermark ! fakesink"));
        let errors = refused.errors();
        assert!(errors[0].0.contains(part), "{caps}: {errors:?}");

        let passed =
            run(&format!("{source}sorawatermark on-unsupported=pass ! appsink name=sink sync=false"));
        let warnings = passed.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(part), "{caps}: {warnings:?}");
        let plain = run(&format!("{source}appsink name=sink sync=false"));
        assert_eq!(passed.assert_clean().frames(), plain.assert_clean().frames(), "{caps}");

        let seen = run(&format!("{source}soradetect ! appsink name=sink sync=false"));
        assert_eq!(seen.assert_clean().frames(), plain.frames(), "{caps}");
    }
}

#[test]
fn marking_goes_on_when_a_size_that_cannot_be_marked_is_over() {
    let mut harness = harness("sorawatermark on-unsupported=pass", &info(VideoFormat::Gray8, 320, 240));
    let mut is_marked = |width: u32, height: u32, number: u64| {
        harness.set_src_caps(info(VideoFormat::Gray8, width, height).to_caps().expect("valid caps"));
        let frame = buffer(vec![99; (width * height) as usize], Some(FRAME * number));
        let out = harness.push_and_pull(frame).expect("it passes");
        bytes(&out).iter().any(|sample| *sample != 99)
    };
    assert_eq!([is_marked(320, 240, 0), is_marked(32, 24, 1), is_marked(320, 240, 2)], [true, false, true]);
}

#[test]
fn any_bytes_may_be_set_as_a_key_or_an_id() {
    use gst::glib::translate::{ToGlibPtr, ToGlibPtrMut};
    use gst::glib::{gobject_ffi, types::Type};
    sora_tests::init();
    for property in [c"key", c"id"] {
        let mut playing =
            play(&format!("videotestsrc num-buffers=1 ! {CAPS} ! sorawatermark name=src ! fakesink"));
        let mut value = gst::glib::Value::from_type(Type::STRING);
        // SAFETY: the value holds a string, the text ends in NUL, and both outlive the calls; this is
        // what a C program does that passes its arguments on.
        unsafe {
            gobject_ffi::g_value_set_string(value.to_glib_none_mut().0, c"/no\xff\xfewhere".as_ptr());
            let src = playing.src();
            let object: *mut gst::ffi::GstElement = src.to_glib_none().0;
            gobject_ffi::g_object_set_property(object.cast(), property.as_ptr(), value.to_glib_none().0);
        }
        assert!(playing.pipeline.set_state(gst::State::Playing).is_err());
        playing.wait_for_end();
        let error = playing.stop().one_error();
        assert!(error.contains("where"), "{error}");
    }
}
