//! A restyled stream by WebRTC, from one end of a pipeline to the other over the loopback interface.

use gst::glib;
use gst::prelude::*;
use sora_tests::{Model, play};

/// The only address of either end.
const LOOPBACK: &str = "127.0.0.1";

fn set_description(element: &gst::Element, signal: &str, description: &glib::Value) {
    let promise: Option<gst::Promise> = None;
    element.emit_by_name_with_values(signal, &[description.clone(), promise.to_value()]);
}

/// Asks `of` for a description and hands it to both ends.
fn describe(
    of: &gst::Element,
    to: &gst::Element,
    signal: &str,
    field: &'static str,
    then: fn(&gst::Element, &gst::Element),
) {
    let (one, other) = (of.clone(), to.clone());
    let promise = gst::Promise::with_change_func(move |reply| {
        let reply = reply.ok().flatten().expect("webrtcbin answers");
        let description = reply.value(field).expect("with what it was asked for").to_value();
        let description = description.clone();
        set_description(&one, "set-local-description", &description);
        set_description(&other, "set-remote-description", &description);
        then(&one, &other);
    });
    let options: Option<gst::Structure> = None;
    of.emit_by_name::<()>(signal, &[&options, &promise]);
}

#[test]
fn a_restyled_stream_comes_through_by_webrtc() {
    sora_tests::init();
    let needed = ["webrtcbin", "nicesink", "dtlsenc", "srtpenc", "x264enc", "avdec_h264"];
    if let Some(missing) = needed.into_iter().find(|name| gst::ElementFactory::find(name).is_none()) {
        println!("skipped: GStreamer has no {missing} here");
        return;
    }
    let model = Model::new();
    let line = format!(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,width=48,height=32,framerate=16/1 ! {} ! queue \
         ! x264enc tune=zerolatency key-int-max=8 ! rtph264pay config-interval=-1 aggregate-mode=zero-latency \
         ! application/x-rtp,media=video,encoding-name=H264,payload=96 ! webrtcbin name=send bundle-policy=max-bundle \
         webrtcbin name=receive bundle-policy=max-bundle \
         queue name=received ! rtph264depay ! h264parse ! avdec_h264 ! videoconvert ! video/x-raw,format=RGB \
         ! appsink name=sink sync=false",
        model.soratransform("strength=0.5")
    );
    let playing = play(&line);
    let find = |name: &str| playing.pipeline.by_name(name).expect("it is there");
    let (send, receive, received) = (find("send"), find("receive"), find("received"));
    for (one, other) in [(&send, &receive), (&receive, &send)] {
        let agent: glib::Object = one.property("ice-agent");
        assert!(agent.emit_by_name::<bool>("add-local-ip-address", &[&LOOPBACK]), "it takes the address");
        let other = other.clone();
        one.connect("on-ice-candidate", false, move |values| {
            let line: u32 = values[1].get().expect("a number");
            let candidate: String = values[2].get().expect("a text");
            assert!(candidate.contains(LOOPBACK), "{candidate}");
            other.emit_by_name::<()>("add-ice-candidate", &[&line, &candidate]);
            None
        });
    }
    let answerer = receive.clone();
    send.connect("on-negotiation-needed", false, move |values| {
        let offerer: gst::Element = values[0].get().expect("webrtcbin");
        describe(&offerer, &answerer, "create-offer", "offer", |offerer, answerer| {
            describe(answerer, offerer, "create-answer", "answer", |_, _| {});
        });
        None
    });
    receive.connect_pad_added(move |_, pad| {
        if pad.direction() == gst::PadDirection::Src {
            pad.link(&received.static_pad("sink").expect("a queue has one")).expect("it is RTP");
        }
    });
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let deadline = std::time::Instant::now() + sora_tests::PATIENCE;
    while playing.frames_so_far() < 16 {
        assert!(std::time::Instant::now() < deadline, "only {} frames came", playing.frames_so_far());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let report = playing.stop();
    assert_eq!(report.errors(), []);
    assert!(report.frames().iter().all(|frame| frame.len() == 48 * 32 * 3));
}
