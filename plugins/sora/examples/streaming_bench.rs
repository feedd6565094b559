//! Measures soratransform and endless soragen of the staged plugin; `scripts/bench-streaming` runs it.
//!
//!     streaming_bench LIVE_SECONDS BLOCKS CHANGES

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: streaming_bench LIVE_SECONDS BLOCKS CHANGES";

fn main() -> Result<()> {
    let args: Vec<u64> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<std::result::Result<_, _>>()?;
    let [seconds, blocks, prompts] = args[..] else { return Err(USAGE.into()) };
    gst::init()?;
    if seconds > 0 {
        throughput()?;
        // To a sink that shows each frame at its time: is anything dropped? And to one that takes them at once: how
        // long are they in the element?
        live(seconds, true)?;
        live(seconds, false)?;
    }
    if blocks > 0 {
        endless(blocks)?;
    }
    if prompts > 0 { changes(prompts) } else { Ok(()) }
}

fn run(line: &str) -> Result<gst::Pipeline> {
    let pipeline = gst::parse::launch(line)?.downcast::<gst::Pipeline>().map_err(|_| "no pipeline")?;
    pipeline.set_state(gst::State::Playing)?;
    Ok(pipeline)
}

/// Until EOS; recalculates the latency where an element asks for it, as applications do.
fn wait(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Latency(_) => pipeline.recalculate_latency()?,
            gst::MessageView::Error(error) => return Err(error.error().to_string().into()),
            gst::MessageView::Warning(warning) => println!("  warning: {}", warning.error()),
            _ => {}
        }
    }
    Err("the bus ended".into())
}

fn stat<T: for<'v> gst::glib::value::FromValue<'v> + 'static>(
    pipeline: &gst::Pipeline,
    element: &str,
    name: &str,
) -> Result<T> {
    let element = pipeline.by_name(element).ok_or("no such element")?;
    let stats = element.property::<gst::Structure>("stats");
    let value = stats.value(name)?;
    value.get::<T>().map_err(|_| format!("{name} is of another type").into())
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// How many frames a second can be restyled, with nothing else to wait for.
fn throughput() -> Result<()> {
    for (what, settings) in [
        ("method=auto, the default, which is the learned one here", ""),
        ("method=noise strength=0.3", "method=noise strength=0.3"),
    ] {
        let pipeline = run(&format!(
            "videotestsrc pattern=ball num-buffers=161 ! video/x-raw,width=128,height=128,framerate=8/1 \
             ! soratransform name=t seed=1 prompt=\"a pencil sketch of a ball\" {settings} ! fakesink"
        ))?;
        wait(&pipeline)?;
        let mean: u64 = stat(&pipeline, "t", "mean-block-time")?;
        let fps: f64 = stat(&pipeline, "t", "possible-fps")?;
        println!(
            "throughput at 128x128, {what}: {fps:.1} frames/s, {:.0} ms a block of 4",
            milliseconds(mean)
        );
        pipeline.set_state(gst::State::Null)?;
    }
    Ok(())
}

type Times = Arc<Mutex<HashMap<gst::ClockTime, Instant>>>;

/// A live source of 8 frames a second: drops, queue, the stated latency and the measured one.
fn live(seconds: u64, sync: bool) -> Result<()> {
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc pattern=ball is-live=true num-buffers={} ! video/x-raw,width=320,height=240,framerate=8/1 \
         ! identity name=before ! soratransform name=t seed=1 prompt=\"a pencil sketch of a ball\" ! videoconvert \
         ! fakesink sync={sync}",
        seconds * 8 + 1
    ))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "no pipeline")?;
    let element = pipeline.by_name("t").ok_or("no such element")?;
    let came = Times::default();
    let delays = Arc::<Mutex<Vec<Duration>>>::default();
    let lock = |times: &Times| times.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let times = Arc::clone(&came);
    element.static_pad("sink").ok_or("no pad")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) {
            times.lock().unwrap_or_else(PoisonError::into_inner).insert(pts, Instant::now());
        }
        gst::PadProbeReturn::Ok
    });
    let (times, list) = (Arc::clone(&came), Arc::clone(&delays));
    element.static_pad("src").ok_or("no pad")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let came =
            info.buffer().and_then(|buffer| buffer.pts()).and_then(|pts| lock(&times).get(&pts).copied());
        if let Some(came) = came {
            list.lock().unwrap_or_else(PoisonError::into_inner).push(came.elapsed());
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing)?;
    wait(&pipeline)?;
    let latency = |name: &str| -> Result<gst::ClockTime> {
        let element = pipeline.by_name(name).ok_or("no such element")?;
        let mut query = gst::query::Latency::new();
        let answered = element.static_pad("src").is_some_and(|pad| pad.query(&mut query));
        if answered { Ok(query.result().1) } else { Err("no latency".into()) }
    };
    let stated = milliseconds((latency("t")? - latency("before")?).nseconds());
    let mut delays = delays.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let first = delays.first().copied().unwrap_or_default();
    // The first of each block waits longest; the stream's first frame is a block of its own.
    let mut longest: Vec<f64> =
        delays.split_off(1).chunks(4).map(|block| block[0].as_secs_f64() * 1e3).collect();
    longest.sort_by(f64::total_cmp);
    let at = |share: f64| longest.get((longest.len() as f64 * share) as usize).copied().unwrap_or_default();
    let [frames, dropped] = ["frames-out", "dropped"].map(|name| stat::<u64>(&pipeline, "t", name));
    let [mean, most] = ["mean-block-time", "max-block-time"].map(|name| stat::<u64>(&pipeline, "t", name));
    let sink = if sync {
        "to a sink that waits for each frame's time"
    } else {
        "to a sink that takes frames at once"
    };
    println!("live, 8 frames/s of 320x240 for {seconds} s, {sink}: {} out, {} dropped", frames?, dropped?);
    println!("  block of 4: {:.0} ms on average, {:.0} ms at most", milliseconds(mean?), milliseconds(most?));
    println!(
        "  latency stated {stated:.0} ms; measured from pad to pad: median {:.0} ms, 95 of 100 within {:.0} ms",
        at(0.5),
        at(0.95)
    );
    println!("  first frame out {:.0} ms after it came in", first.as_secs_f64() * 1e3);
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}

fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no figure")?.parse::<f64>()? / 1024.0)
}

/// Block after block, as fast as it goes: does it get slower or larger?
fn endless(blocks: u64) -> Result<()> {
    let pipeline = run(&format!(
        "soragen name=s num-frames=0 seed=3 prompt=\"a red ball bounces on the grass\" num-buffers={} ! fakesink",
        (blocks - 1) * 4 + 1
    ))?;
    // Means of quarters, from the running mean: n · mean(n) is the sum.
    let (mut marks, mut quarter, mut memory) = (Vec::new(), 1, Vec::new());
    while quarter <= 4 {
        let made: u64 = stat(&pipeline, "s", "blocks")?;
        // The first blocks load, and fill the stream's memory.
        if made >= 20 {
            memory.push(resident()?);
        }
        if made >= 20.max(blocks * quarter / 4) {
            let mean: u64 = stat(&pipeline, "s", "mean-block-time")?;
            marks.push((made - 1, mean, std::mem::take(&mut memory)));
            quarter += 1;
        }
        // Fewer than a block takes: memory goes up and down within it.
        std::thread::sleep(Duration::from_millis(10));
    }
    wait(&pipeline)?;
    println!("endless soragen at 128x128, {blocks} blocks:");
    let mut before = (0, 0);
    for (n, (count, mean, mut memory)) in marks.into_iter().enumerate() {
        let sum = count * mean;
        let time = milliseconds((sum - before.1) / (count - before.0).max(1));
        memory.sort_by(f64::total_cmp);
        let at = |share: f64| memory[((memory.len() - 1) as f64 * share) as usize];
        println!(
            "  quarter {}: {time:.0} ms a block, memory {:.1} MiB (median), {:.1} MiB (most)",
            n + 1,
            at(0.5),
            at(1.0)
        );
        before = (count, sum);
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}

/// One prompt after the other while every core is busy with something else: how many frames go by until each shows?
fn changes(count: u64) -> Result<()> {
    let busy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..cores {
        let busy = Arc::clone(&busy);
        std::thread::spawn(move || {
            while busy.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    // Snow by day is bright, the sea at night in neon is dark.
    let prompts =
        ["a red ball stands on the snow, pencil sketch", "a red ball stands on the sea at night, neon"];
    let pipeline = run(&format!(
        "soragen name=s num-frames=0 seed=3 prompt=\"{}\" ! video/x-raw,format=RGB,width=64,height=64 \
         ! appsink name=sink sync=false max-buffers=1",
        prompts[0]
    ))?;
    let sink = pipeline.by_name("sink").and_then(|sink| sink.downcast::<gst_app::AppSink>().ok());
    let sink = sink.ok_or("no such element")?;
    let source = pipeline.by_name("s").ok_or("no such element")?;
    let brightness = || -> Result<f64> {
        let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(60)).ok_or("no frame in a minute")?;
        let map = sample.buffer().ok_or("no buffer")?.map_readable()?;
        Ok(map.iter().map(|&byte| f64::from(byte)).sum::<f64>() / map.len() as f64)
    };
    for _ in 0..16 {
        brightness()?;
    }
    let mut frames = Vec::new();
    for number in 1..=count {
        let dark = number % 2 == 1;
        source.set_property("prompt", prompts[usize::from(dark)]);
        let mut gone_by = 1;
        while (brightness()? < 135.0) != dark {
            gone_by += 1;
            if gone_by > 200 {
                return Err(format!("change {number} does not show within 200 frames").into());
            }
        }
        frames.push(gone_by);
    }
    busy.store(false, std::sync::atomic::Ordering::Relaxed);
    frames.sort_unstable();
    let at = |share: f64| frames[((frames.len() - 1) as f64 * share) as usize];
    println!(
        "{count} changes of the prompt, {cores} cores busy with something else: shown by frame {} (median), {} (95 of 100), \
         {} (all), of blocks of 4",
        at(0.5),
        at(0.95),
        at(1.0)
    );
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
