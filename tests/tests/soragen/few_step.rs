//! Models of few steps that make several latent frames at once, and tiny VAEs.

use sora_tests::{Model, fixtures, run};

use crate::image::picture;

const SINK: &str = " ! video/x-raw,format=RGB ! appsink name=sink sync=false";
const THREES: &str = r#"{"width": 48, "height": 32, "num_frames": 13, "frame_rate": [8, 1],
    "causal": {"num_frame_per_block": 3, "denoising_step_list": [1000, 500], "timestep_shift": 5.0,
    "local_attn_size": 9, "sink_size": 3}}"#;

fn tiny_vae(layout: &str) -> String {
    fixtures().join(format!("taehv/{layout}.safetensors")).display().to_string()
}

#[test]
fn a_clip_is_the_beginning_of_the_stream_and_both_come_in_blocks() {
    let model = Model::new();
    model.write("sora.json", THREES);
    // Two steps per block are the model's own.
    let stream = run(&(model.soragen("num-frames=0 num-buffers=33 seed=1") + SINK));
    let frames = stream.assert_clean().frames();
    assert_eq!(frames.len(), 33);
    let clip = run(&(model.soragen("seed=1") + SINK));
    clip.assert_progress_is_closed();
    assert_eq!(clip.assert_clean().frames(), frames[..13]);
    // Two blocks of two steps; the operation ends when frames flow.
    assert!(clip.progress().iter().any(|(_, _, text)| text == "step 2 of 4"), "{:?}", clip.progress());
    let image = run(&(model.soragen("seed=1 num-frames=1") + SINK));
    assert_eq!(image.assert_clean().frames(), frames[..1]);
    let error = run(&(model.soragen("scheduler=unipc") + SINK)).one_error();
    assert!(error.contains("leave the scheduler to it"), "{error}");
}

#[test]
fn a_tiny_vae_decodes_where_it_is_asked_for() {
    let model = Model::new();
    let frames =
        |settings: &str| run(&(model.soragen(&format!("seed=1 {settings}")) + SINK)).assert_clean().frames();
    let (clip, endless) = ("num-frames=13", "num-frames=0 num-buffers=13");
    let file = format!("vae-file=\"{}\"", tiny_vae("taew2_1"));
    let (full, tiny) = (frames(clip), frames(&format!("{clip} {file}")));
    assert_eq!((full.len(), tiny.len()), (13, 13));
    assert_ne!(full, tiny);
    assert_eq!(frames(&format!("{clip} vae=full {file}")), full);
    let endless_full = frames(endless);

    std::fs::create_dir(model.file("taehv")).expect("the temporary folder can be written");
    std::fs::copy(tiny_vae("taew2_1"), model.file("taehv/taew2_1.safetensors")).expect("it can be copied");
    // By itself only what has to be made in time takes the model's.
    assert_eq!(frames(clip), full);
    assert_eq!(frames(&format!("{clip} vae=tiny")), tiny);
    assert_ne!(frames(endless), endless_full);
    assert_eq!(frames(&format!("{endless} vae=full")), endless_full);
}

#[test]
fn a_tiny_vae_that_cannot_be_is_one_error_that_says_why() {
    let model = Model::new();
    let refused = |settings: &str| run(&(model.soragen(settings) + SINK)).one_error();
    let error = refused("vae=tiny");
    assert!(error.contains("has no tiny VAE") && error.contains("vae-file"), "{error}");
    let error = refused(&format!("vae-file=\"{}\"", tiny_vae("taew2_2")));
    assert!(error.contains("is 48") && error.contains("16, as in vae/config.json"), "{error}");
    let error = refused("vae-file=/nowhere/taew2_1.safetensors");
    assert!(error.contains("/nowhere/taew2_1.safetensors is missing"), "{error}");
    let error = refused("vae-file=/nowhere/taew2_1.pth");
    assert!(error.contains("scripts/convert-checkpoint"), "{error}");
    let transformer = fixtures().join("tiny-original/other.safetensors");
    let error = refused(&format!("vae-file=\"{}\"", transformer.display()));
    assert!(error.contains("encoder.0.weight") && error.contains("not a TAEHV"), "{error}");
    // A cut file: the headers are read before anything is loaded.
    let whole = std::fs::read(tiny_vae("taew2_1")).expect("a fixture");
    model.write("cut.safetensors", &whole[..whole.len() / 2]);
    let error = refused(&format!("vae-file=\"{}\"", model.file("cut.safetensors").display()));
    assert!(error.contains("truncated"), "{error}");
    std::fs::create_dir(model.file("taehv")).expect("the temporary folder can be written");
    model.write("taehv/taew2_1.pth", "");
    let error = refused("vae=tiny");
    assert!(error.contains("scripts/convert-checkpoint"), "{error}");
}

#[test]
fn a_picture_is_one_latent_frame_and_the_clip_ends_where_it_should() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = picture(folder.path(), "pngenc", "width=48,height=32");
    let model = Model::new();
    model.write("sora.json", THREES);
    let frames = |count: u32| {
        let settings = format!("seed=1 num-frames={count} image=\"{}\"", file.display());
        run(&(model.soragen(&settings) + SINK)).assert_clean().frames()
    };
    // One frame, then twelve.
    let whole = frames(13);
    assert_eq!(whole.len(), 13);
    assert_eq!(frames(5), whole[..5]);
}
