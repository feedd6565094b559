//! Weights are there once, however many use them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gst::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sora_tests::{Model, Playing, play, run};

const FILE: &str = "transformer/diffusion_pytorch_model.safetensors";
const SINK: &str = " ! video/x-raw,format=RGB ! appsink name=sink sync=false";
/// Large enough that 100 MB of f32 weights are in the transformer.
const FFN_DIM: usize = 100_000;
const DIM: usize = 42;
const LAYERS: usize = 3;
const WEIGHTS: u64 = (2 * DIM * FFN_DIM * LAYERS * 4) as u64;
/// The folder of the model that [`holds_a_model_until_told`] is to hold.
const HELD: &str = "SORA_TEST_HELD_MODEL";

/// The tiny model with wide feed-forward layers, stored in f32 or in bf16.
fn wide_model(dtype: Dtype) -> Model {
    let model = Model::new();
    model.replace("transformer/config.json", "\"ffn_dim\": 40", &format!("\"ffn_dim\": {FFN_DIM}"));
    let bytes = std::fs::read(model.file(FILE)).expect("the model has weights");
    let old = SafeTensors::deserialize(&bytes).expect("they are safetensors");
    let zeros = vec![0u8; DIM * FFN_DIM * 4];
    let mut tensors = HashMap::new();
    for (name, view) in old.tensors() {
        let shape = if name.ends_with("ffn.net.0.proj.weight") {
            vec![FFN_DIM, DIM]
        } else if name.ends_with("ffn.net.0.proj.bias") {
            vec![FFN_DIM]
        } else if name.ends_with("ffn.net.2.weight") {
            vec![DIM, FFN_DIM]
        } else {
            let old = TensorView::new(view.dtype(), view.shape().to_vec(), view.data());
            tensors.insert(name, old.expect("as it was"));
            continue;
        };
        let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        tensors.insert(name, TensorView::new(dtype, shape, &zeros[..length]).expect("as long as its shape"));
    }
    model.write(FILE, safetensors::serialize(tensors, None).expect("a file"));
    model
}

/// Memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// A pipeline whose element has loaded the model and made a clip, and keeps both.
fn holding(model: &Path, settings: &str) -> Playing {
    let mut playing = play(&format!(
        "soragen model-path=\"{}\" device=cpu dtype=f32 seed=1 num-inference-steps=1 {settings}{SINK}",
        model.display()
    ));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    assert_eq!(playing.frames_so_far(), 5);
    playing
}

/// Wants a process of its own: what another model took comes back in its own time.
fn a_second_element_costs_under_a_fifth_of_the_first(dtype: Dtype) {
    // What libtorch takes for itself is there before.
    run(&(Model::new().soragen("seed=1") + SINK)).assert_clean();
    let model = wide_model(dtype);
    let before = resident();
    let first = holding(model.path(), "");
    let one = resident() - before;
    assert!(one > WEIGHTS * 8 / 10, "{dtype:?}: {one} bytes do not hold {WEIGHTS} of weights");
    let second = holding(model.path(), "");
    let two = resident() - before;
    let more = two.saturating_sub(one);
    assert!(more * 5 < one, "{dtype:?}: the first takes {one} bytes, the second {more} more");
    drop((first, second));
}

#[test]
fn a_second_element_of_the_same_model_costs_under_a_fifth_of_the_first() {
    a_second_element_costs_under_a_fifth_of_the_first(Dtype::F32);
}

#[test]
fn so_it_does_where_the_weights_are_converted() {
    a_second_element_costs_under_a_fifth_of_the_first(Dtype::BF16);
}

/// Memory of this process that no file stands behind, in bytes.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB"));
    kilobytes.and_then(|number| number.trim().parse::<u64>().ok()).expect("a number") * 1024
}

/// Wants a process of its own, as above.
#[test]
fn with_little_memory_weights_stay_in_their_file_and_the_frames_are_the_same() {
    run(&(Model::new().soragen("seed=1") + SINK)).assert_clean();
    let model = wide_model(Dtype::BF16);
    let before = anonymous();
    let holding_with = |settings| {
        let playing = holding(model.path(), settings);
        (anonymous().saturating_sub(before), playing.stop().assert_clean().frames())
    };
    let (streamed, frames) = holding_with("low-memory=true");
    let (stayed, same) = holding_with("low-memory=false");
    assert!(stayed > WEIGHTS * 8 / 10, "{stayed} bytes do not hold {WEIGHTS} of weights");
    assert!(streamed < WEIGHTS / 5, "{streamed} bytes, of {WEIGHTS} that all weights take");
    assert!(frames == same);
}

/// Not a test by itself: the other process of the test below, which starts it.
#[test]
#[ignore = "started by a_machine_keeps_to_the_formats_that_it_chose"]
fn tells_its_formats() {
    let model = PathBuf::from(std::env::var_os(HELD).expect("started by the other test"));
    let line = |settings: &str| {
        format!("soragen name=src model-path=\"{}\" device=cpu seed=1 {settings}{SINK}", model.display())
    };
    for settings in ["dtype=f32", "dtype=bf16", ""] {
        let mut playing = play(&line(settings));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        playing.wait_for_end();
        let stats = playing.src().property::<gst::Structure>("stats");
        println!("\nformats {}", stats.get::<String>("dtype").expect("a text"));
    }
}

#[test]
fn a_machine_keeps_to_the_formats_that_it_chose() {
    let (model, cache) = (Model::new(), tempfile::tempdir().expect("a folder"));
    let formats = || {
        let program = std::env::current_exe().expect("the test is a file");
        let mut command = Command::new(program);
        command.args(["--ignored", "--exact", "weights::tells_its_formats", "--nocapture"]);
        let output =
            command.env(HELD, model.path()).env("XDG_CACHE_HOME", cache.path()).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).expect("text");
        said.lines().filter_map(|line| line.strip_prefix("formats ").map(str::to_owned)).collect::<Vec<_>>()
    };
    let first = formats();
    assert_eq!(first[..2], ["f32", "bf16"]);
    assert!(["f32", "bf16", "bf16, vae f32", "f32, vae bf16"].contains(&first[2].as_str()), "{first:?}");
    let kept = || std::fs::read_dir(cache.path().join("sora/formats")).expect("it was measured");
    let file = kept().next().expect("and kept").expect("it can be read").path();
    let written = std::fs::read(&file).expect("it can be read");
    assert_eq!(formats(), first);
    assert_eq!(kept().count(), 1);
    assert_eq!(std::fs::read(&file).expect("it is there"), written, "not measured again");
    std::fs::write(&file, &written[1..]).expect("it can be written");
    assert_eq!(formats().len(), 3, "a damaged file is no error");
    assert_eq!(kept().count(), 1);
    assert_ne!(std::fs::read(&file).expect("it is there"), &written[1..], "measured again");
}

/// What the system says of the pages of `file` in process `id`, in bytes, by name.
fn pages_of(file: &Path, id: u32) -> HashMap<String, u64> {
    let maps = std::fs::read_to_string(format!("/proc/{id}/smaps")).expect("it is our process");
    let mut pages = HashMap::new();
    let mut inside = false;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match (words.next().and_then(|word| word.strip_suffix(':')), words.next().map(str::parse::<u64>)) {
            (Some(name), Some(Ok(kilobytes))) if inside => {
                *pages.entry(name.to_owned()).or_default() += kilobytes * 1024;
            }
            (Some(_), _) => {}
            _ => inside = line.ends_with(file.to_str().expect("a plain name")),
        }
    }
    pages
}

/// Not a test by itself: the other process of the test below, which starts it.
#[test]
#[ignore = "started by two_processes_share_the_pages_of_the_weights"]
fn holds_a_model_until_told() {
    let model = PathBuf::from(std::env::var_os(HELD).expect("started by the other test"));
    let playing = holding(&model, "");
    println!("\nholding");
    // Until the other side closes it.
    std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
    drop(playing);
}

#[test]
fn two_processes_share_the_pages_of_the_weights() {
    let model = wide_model(Dtype::F32);
    let file = model.file(FILE).canonicalize().expect("it is there");
    let own = holding(model.path(), "");
    let program = std::env::current_exe().expect("the test is a file");
    let mut child = Command::new(program)
        .args(["--ignored", "--exact", "weights::holds_a_model_until_told", "--nocapture"])
        .env(HELD, model.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Stays open until the other process has ended, which says something more then.
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let holds = said.any(|line| line == "holding");
    assert!(holds, "the other process ended: {:?}", child.wait());
    for id in [std::process::id(), child.id()] {
        let pages = pages_of(&file, id);
        let of = |name: &str| pages.get(name).copied().unwrap_or_default();
        assert!(of("Rss") > WEIGHTS * 9 / 10, "{pages:?}");
        assert!(of("Shared_Clean") > of("Rss") * 9 / 10, "{pages:?}");
        assert_eq!((of("Private_Dirty"), of("Shared_Dirty")), (0, 0), "{pages:?}");
        assert!(of("Pss") < of("Rss") * 6 / 10, "each counts for half: {pages:?}");
    }
    drop(child.stdin.take());
    said.for_each(drop);
    assert!(child.wait().expect("it ends").success());
    drop(own);
}
