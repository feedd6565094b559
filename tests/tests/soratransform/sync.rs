//! Audio beside the element: clicks stay with flashes.

use gst::prelude::*;
use gst_app::{AppSink, AppSrc};
use gst_base::prelude::BaseSinkExt;
use sora_tests::{play, root};

const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(125);
const SIDE: usize = 64;
/// Frames of the clip, and the frames with a flash in them, which is one block long.
const FRAMES: u64 = 33;
const FLASHES: [u64; 3] = [5, 13, 25];

fn flashes(frame: u64) -> bool {
    FLASHES.iter().any(|start| (*start..start + 4).contains(&frame))
}

fn stamped(bytes: Vec<u8>, frame: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let fresh = buffer.get_mut().expect("one owner");
    fresh.set_pts(FRAME * frame);
    fresh.set_duration(FRAME);
    buffer
}

/// When a buffer is rendered: its running time, and the latency that its sink waits for.
fn due(sink: &AppSink, sample: &gst::Sample) -> gst::ClockTime {
    let buffer = sample.buffer().expect("a buffer");
    let segment =
        sample.segment().expect("a segment").downcast_ref::<gst::ClockTime>().expect("time").clone();
    let time = segment.to_running_time(buffer.pts()).expect("within the segment");
    time + latency(sink)
}

/// The latency that a sink waits for.
fn latency(sink: &AppSink) -> gst::ClockTime {
    let element: &gst::Element = sink.upcast_ref();
    element.dynamic_cast_ref::<gst_base::BaseSink>().expect("an appsink is a sink").latency()
}

#[test]
fn clicks_are_heard_when_flashes_are_seen() {
    // The embedded model: what a random VAE makes of a flash need not be bright.
    let line = format!(
        "appsrc name=src is-live=true format=time caps=video/x-raw,format=GRAY8,width={SIDE},height={SIDE},framerate=8/1 \
         ! soratransform name=transform model-path=\"{}\" device=cpu seed=1 strength=0.3 method=difference queue-policy=wait \
         prompt=\"a red ball on the snow\" ! queue ! appsink name=video sync=true \
         appsrc name=audio is-live=true format=time \
         caps=audio/x-raw,format=S16LE,layout=interleaved,channels=1,rate=8000 ! queue max-size-time=0 \
         ! appsink name=sound sync=true",
        root().join("models/sora-tiny").display()
    );
    let mut playing = play(&line);
    let find = |name: &str| playing.pipeline.by_name(name).expect("it is there");
    let [video, audio] = ["src", "audio"].map(|name| find(name).downcast::<AppSrc>().expect("an appsrc"));
    let transform = find("transform");
    let [seen, heard] = ["video", "sound"].map(|name| find(name).downcast::<AppSink>().expect("an appsink"));
    for frame in 0..FRAMES {
        let level = if flashes(frame) { 255 } else { 0 };
        video.push_buffer(stamped(vec![level; SIDE * SIDE], frame)).expect("it is taken");
        let click = if flashes(frame) { 0x7f } else { 0 };
        audio.push_buffer(stamped(vec![click; 2000], frame)).expect("it is taken");
    }
    video.end_of_stream().expect("it is taken");
    audio.end_of_stream().expect("it is taken");
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let collect = |sink: &AppSink, is_on: fn(f64) -> bool| {
        let mut due_times = Vec::new();
        let mut count = 0;
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(60)) {
            let map = sample.buffer().expect("a buffer").map_readable().expect("readable");
            let mean = map.iter().map(|byte| f64::from(*byte)).sum::<f64>() / map.len() as f64;
            if is_on(mean) {
                due_times.push(due(sink, &sample));
            }
            count += 1;
        }
        (due_times, count)
    };
    let (flashes_seen, clicks_heard) = std::thread::scope(|scope| {
        let sound = scope.spawn(|| collect(&heard, |mean| mean > 60.0));
        // Black and white come back as up to 74 and from 113 on, the first frame after a change half way to it.
        (collect(&seen, |mean| mean > 94.0), sound.join().expect("no panic"))
    });
    playing.wait_for_end();
    let stats = transform.property::<gst::Structure>("stats");
    let (seen_latency, heard_latency) = (latency(&seen), latency(&heard));
    let stated = gst::ClockTime::from_nseconds(stats.get::<u64>("latency").expect("a number"));
    let report = playing.stop();
    report.assert_clean();
    assert_eq!(flashes_seen.1, FRAMES, "no frame is lost");
    assert_eq!(clicks_heard.1, FRAMES);
    assert_eq!(clicks_heard.0.len(), 4 * FLASHES.len());
    assert_eq!(flashes_seen.0, clicks_heard.0, "at the same time, on both sinks");
    // Both sinks wait for the element, at least as long as its frames do.
    assert_eq!(seen_latency, heard_latency);
    assert!(seen_latency >= FRAME * 3, "{seen_latency}, and {stated} is stated");
}
