//! The fixtures that `scripts/reference/make_fixtures.py` made with Python diffusers.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sora_diffusion::weights::{FileWeights, Layout, Weights};
use sora_model::weights::{Dtype, WeightFiles};
use tch::{Device, Kind, Tensor};

/// `tests/fixtures` of the workspace.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// A list of cases in a JSON file of the fixtures.
pub fn cases(file: &str, list: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(fixtures().join(file)).expect("fixtures are in the repository");
    let json: serde_json::Value = serde_json::from_str(&text).expect("the script writes JSON");
    let cases = json[list].as_array().unwrap_or_else(|| panic!("{file} has a list `{list}`")).clone();
    assert!(!cases.is_empty(), "{file}: `{list}` is empty, so this test would test nothing");
    cases
}

/// The tensors of one fixture file.
pub fn tensors(file: &str) -> HashMap<String, Tensor> {
    let files = WeightFiles::open_file(&fixtures().join(file)).expect("a fixture file");
    let read = |name: &str| {
        let view = files.get(name).expect("listed");
        let kind = match view.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::I64 => Kind::Int64,
            other => panic!("{file}: `{name}` is {other:?}"),
        };
        let shape: Vec<i64> = view.shape.iter().map(|&d| d as i64).collect();
        (name.to_owned(), Tensor::from_data_size(view.data, &shape, kind))
    };
    files.names().map(read).collect()
}

/// Builds a model from weight files; all keys must be used.
pub fn build<T>(
    files: &WeightFiles,
    tolerated: &[&str],
    new: impl FnOnce(&Weights) -> sora_diffusion::Result<T>,
) -> T {
    let mut on_bytes = |_| ControlFlow::Continue(());
    let layout = Layout { device: Device::Cpu, kind: Kind::Float, keep_in_f32: &[], streamed: false };
    let source = Rc::new(FileWeights::new("test", files, layout, &mut on_bytes));
    let model = new(&Weights::new(source.clone())).expect("the fixture has all keys");
    source.finish(tolerated).expect("every key is used");
    model
}

/// Largest difference, relative to the largest value of the reference.
pub fn relative_difference(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size(), "shapes differ");
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    let scale = want.abs().max().double_value(&[]).max(1e-12);
    let difference = (got - want).abs().max().double_value(&[]) / scale;
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// Relative tolerance of a part in f32.
pub const TOLERANCE: f64 = 1e-4;

/// Asserts parity and says how close it came.
#[track_caller]
pub fn assert_close(what: &str, got: &Tensor, want: &Tensor) {
    let difference = relative_difference(got, want);
    println!("{what}: {difference:.1e}");
    assert!(difference < TOLERANCE, "{what}: {difference:e} away from the reference, allowed {TOLERANCE:e}");
}
