//! Models that make several latent frames at once, and tiny VAEs.

use sora_tests::{Model, fixtures};

use crate::feed::{FRAME, Feed, seen};

#[test]
fn blocks_of_several_latent_frames_keep_every_frame_at_its_time() {
    let model = Model::new();
    model.write(
        "sora.json",
        r#"{"width": 48, "height": 32, "num_frames": 13, "frame_rate": [8, 1],
            "causal": {"num_frame_per_block": 3, "denoising_step_list": [1000, 500], "local_attn_size": 9,
            "sink_size": 3}}"#,
    );
    let file = fixtures().join("taehv/taew2_1.safetensors");
    for vae in [String::from("vae=full"), format!("vae-file=\"{}\"", file.display())] {
        // Nine, twelve, and what is left at EOS: some, a whole latent frame, nothing.
        for count in [3, 9, 25, 33] {
            let mut feed = Feed::start(&model, &format!("strength=0.6 method=noise {vae}"));
            feed.push(count, 48, 32);
            let report = feed.finish();
            report.assert_clean().assert_progress_is_closed();
            let times: Vec<_> = seen(&report).iter().map(|frame| frame.pts).collect();
            let expected: Vec<_> = (0..count).map(|n| Some(FRAME * n)).collect();
            assert_eq!(times, expected, "{vae}");
        }
    }
}
