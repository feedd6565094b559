//! Several elements at once in one process.

use std::sync::Barrier;

use sora_tests::{Model, run};

const SINK: &str = " ! video/x-raw,format=RGB ! appsink name=sink sync=false";

#[test]
fn elements_that_run_together_make_the_frames_they_make_alone() {
    let model = Model::new();
    let line = |seed: usize| {
        model.soragen(&format!("seed={seed} num-inference-steps=6 guidance-scale=3 prompt=ball")) + SINK
    };
    let alone: Vec<_> = (0..2).map(|seed| run(&line(seed)).assert_clean().frames()).collect();
    assert_ne!(alone[0], alone[1]);
    for round in 0..5 {
        let together = Barrier::new(4);
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4)
                .map(|index| {
                    let (line, together) = (line(index % 2), &together);
                    scope.spawn(move || {
                        together.wait();
                        run(&line)
                    })
                })
                .collect();
            for (index, run) in runs.into_iter().enumerate() {
                let report = run.join().expect("no panic");
                let frames = report.assert_clean().frames();
                assert!(frames == alone[index % 2], "element {index} in round {round}");
            }
        });
    }
}

#[test]
fn one_element_that_stops_while_loading_does_not_stop_the_other() {
    use gst::prelude::*;
    for _ in 0..10 {
        // A new folder each time, so that the model is loaded each time.
        let model = Model::new();
        let line = model.soragen("seed=4") + SINK;
        let mut stays = sora_tests::play(&line);
        let leaves = sora_tests::play(&line);
        leaves.pipeline.set_state(gst::State::Paused).expect("it starts");
        stays.pipeline.set_state(gst::State::Playing).expect("it starts");
        assert_eq!(leaves.stop().errors(), []);
        stays.wait_for_end();
        let report = stays.stop();
        assert_eq!(report.assert_clean().samples.len(), 5);
    }
}

/// Memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[test]
fn memory_does_not_grow_with_clips() {
    let model = Model::new();
    let line = model.soragen("seed=4 num-frames=1 num-inference-steps=1") + SINK;
    for _ in 0..30 {
        run(&line).assert_clean();
    }
    let before = resident();
    for _ in 0..100 {
        run(&line).assert_clean();
    }
    let grown = resident().saturating_sub(before);
    // Other tests run in this process too; a kept clip or model each time would be far more.
    assert!(grown < 64 << 20, "{grown} bytes more after 100 clips");
}
