//! What cannot work: one error that people understand, and NULL after it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gst::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};
use sora_tests::{Model, Report, init, play, run};

const SINK: &str = " ! appsink name=sink sync=false";
const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

fn run_model(model: &Model) -> Report {
    run(&(model.soragen("") + SINK))
}

/// One error that contains `part`.
fn assert_refused(model: &Model, part: &str) {
    let report = run_model(model);
    let error = report.one_error();
    assert!(error.contains(part), "{part} is not in: {error}");
    assert!(report.samples.is_empty());
    report.assert_progress_is_closed();
}

#[test]
fn a_missing_directory() {
    let model = Model::new();
    let line = model.soragen("").replace("model-path=\"", "model-path=\"/nowhere");
    let error = run(&(line + SINK)).one_error();
    assert!(error.contains("/nowhere") && error.contains("missing"), "{error}");
}

#[test]
fn a_missing_file() {
    for file in [
        "model_index.json",
        "vae/config.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
        WEIGHTS,
    ] {
        let model = Model::new();
        model.remove(file);
        let folder = Path::new(file).parent().and_then(Path::to_str).unwrap_or_default();
        assert_refused(&model, folder);
    }
}

#[test]
fn a_broken_weight_file() {
    let model = Model::new();
    let whole = fs::read(model.file(WEIGHTS)).expect("the weights are there");
    let header = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &[0; 8]].concat();
    let name = Path::new(WEIGHTS).file_name().and_then(|name| name.to_str()).expect("a name");
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("truncated in the header", whole[..100].to_vec()),
        ("truncated in the data", whole[..whole.len() - 1].to_vec()),
        ("a header of 2^60 bytes", [&(1u64 << 60).to_le_bytes(), &whole[8..]].concat()),
        ("no JSON", header("what is this")),
        ("offsets out of range", header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,800]}}"#)),
        (
            "offsets that overflow",
            header(r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#),
        ),
    ] {
        model.write(WEIGHTS, bytes);
        let report = run_model(&model);
        let error = report.one_error();
        assert!(error.contains(name), "{what}: {error}");
    }
}

/// Writes the transformer's weights again, changed.
fn rewrite(model: &Model, change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>)) {
    let bytes = fs::read(model.file(WEIGHTS)).expect("the weights are there");
    let file = SafeTensors::deserialize(&bytes).expect("the weights are valid");
    let mut tensors: BTreeMap<_, _> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), Dtype::F32, "{name}");
            (name, (view.shape().to_vec(), view.data().to_vec()))
        })
        .collect();
    change(&mut tensors);
    let views: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, (shape, data))| {
            (name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).expect("shape and data fit"))
        })
        .collect();
    serialize_to_file(views, None, &model.file(WEIGHTS)).expect("the folder can be written");
}

#[test]
fn wrong_keys_and_shapes() {
    let key = "blocks.1.attn1.to_q.weight";
    let model = Model::new();
    rewrite(&model, |tensors| {
        tensors.remove(key).expect("the key is there");
    });
    assert_refused(&model, key);

    let model = Model::new();
    rewrite(&model, |tensors| {
        tensors.insert("blocks.9.surprise.weight".into(), (vec![1], vec![0; 4]));
    });
    assert_refused(&model, "blocks.9.surprise.weight");

    let model = Model::new();
    rewrite(&model, |tensors| {
        let (shape, data) = tensors.get_mut(key).expect("the key is there");
        shape[0] -= 1;
        data.truncate(shape.iter().product::<usize>() * 4);
    });
    assert_refused(&model, key);
}

#[test]
fn absurd_configs() {
    for (old, new, part) in [
        ("\"num_layers\": 3", "\"num_layers\": 1000000000", "num_layers"),
        ("\"ffn_dim\": 40", "\"ffn_dim\": 4000000000000", "ffn_dim"),
        ("\"num_attention_heads\": 3", "\"num_attention_heads\": -3", "num_attention_heads"),
        ("\"freq_dim\": 256", "\"freq_dim\": \"many\"", "freq_dim"),
    ] {
        let model = Model::new();
        model.replace("transformer/config.json", old, new);
        assert_refused(&model, part);
    }
}

#[test]
fn an_unknown_class() {
    let model = Model::new();
    model.replace("model_index.json", "\"WanPipeline\"", "\"FluxPipeline\"");
    assert_refused(&model, "FluxPipeline");
    let model = Model::new();
    model.replace("model_index.json", "\"AutoencoderKLWan\"", "\"AutoencoderKL\"");
    assert_refused(&model, "AutoencoderKL");
}

#[test]
fn an_empty_prompt_is_an_unconditional_clip() {
    let model = Model::new();
    assert_eq!(run(&(model.soragen("prompt=\"\"") + SINK)).assert_clean().samples.len(), 5);
}

#[test]
fn an_endless_prompt_is_cut_with_a_warning() {
    let model = Model::new();
    let mut playing = play(&(model.soragen("") + SINK));
    playing.src().set_property("prompt", "ball ".repeat(20_000));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let report = playing.stop();
    assert_eq!(report.assert_clean().samples.len(), 5);
    let warnings = report.warnings();
    assert!(warnings.iter().any(|text| text.contains("512")), "the limit is named: {warnings:?}");
}

#[test]
fn a_prompt_that_is_not_utf8() {
    use gst::glib::translate::{ToGlibPtr, ToGlibPtrMut};
    use gst::glib::{gobject_ffi, types::Type};
    init();
    let model = Model::new();
    let mut playing = play(&(model.soragen("") + SINK));
    let mut value = gst::glib::Value::from_type(Type::STRING);
    // SAFETY: the value holds a string, the text ends in NUL, and both outlive the calls; this is
    // what a C program does that passes its arguments on.
    unsafe {
        gobject_ffi::g_value_set_string(value.to_glib_none_mut().0, c"a \xff\xfe ball".as_ptr());
        let src = playing.src();
        let object: *mut gst::ffi::GstElement = src.to_glib_none().0;
        gobject_ffi::g_object_set_property(object.cast(), c"prompt".as_ptr(), value.to_glib_none().0);
    }
    assert!(playing.pipeline.set_state(gst::State::Playing).is_err());
    playing.wait_for_end();
    let error = playing.stop().one_error();
    assert!(error.contains("prompt") && error.contains("UTF-8"), "{error}");
}

#[test]
fn numbers_out_of_bounds() {
    for (setting, value, part) in [
        ("num-frames", 1_000_000i32.to_value(), "1000000"),
        ("guidance-scale", f64::NAN.to_value(), "guidance-scale"),
        ("device", "tpu".to_value(), "tpu"),
    ] {
        let model = Model::new();
        let mut playing = play(&(model.soragen("") + SINK));
        playing.src().set_property_from_value(setting, &value);
        assert!(playing.pipeline.set_state(gst::State::Playing).is_err(), "{setting}");
        playing.wait_for_end();
        let error = playing.stop().one_error();
        assert!(error.contains(part), "{setting}: {error}");
    }
}

#[test]
fn no_frames_asked_for_are_the_models_own_number() {
    let model = Model::new();
    assert_eq!(run(&(model.soragen("num-frames=-1") + SINK)).assert_clean().samples.len(), 5);
}

#[test]
fn a_device_that_is_not_there() {
    let model = Model::new();
    let line = model.soragen("").replace("device=cpu", "device=cuda:99");
    let report = run(&(line + SINK));
    let error = report.one_error();
    assert!(error.contains("cuda:99"), "{error}");
}

#[test]
fn a_full_disk() {
    let model = Model::new();
    let report = run(&(model.soragen("") + " ! filesink location=/dev/full"));
    // The file sink has the trouble and says so, as often as it likes; this element only stops.
    let errors: Vec<_> = report.messages.iter().filter(|m| m.type_() == gst::MessageType::Error).collect();
    let sources: Vec<_> = errors.iter().filter_map(|m| m.src()).map(|src| src.name().to_string()).collect();
    assert!(!sources.is_empty() && sources.iter().all(|name| name.starts_with("filesink")), "{sources:?}");
    report.assert_progress_is_closed();
}
