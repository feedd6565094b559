//! Random damage to a model directory is refused or harmless, never a panic.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Directory, weights};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

const FILES: [&str; 8] = [
    "model_index.json",
    "transformer/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "sora.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "text_encoder/diffusion_pytorch_model.safetensors.index.json",
];

fn sharded() -> Directory {
    let directory = Directory::whole();
    directory.bytes("sora.json", br#"{"width": 128, "height": 64, "num_frames": 9}"#);
    directory.bytes("text_encoder/a.safetensors", &weights(&[("shared.weight", &[20, 16])]));
    directory.bytes(
        "text_encoder/diffusion_pytorch_model.safetensors.index.json",
        br#"{"weight_map": {"shared.weight": "a.safetensors"}}"#,
    );
    directory.open().unwrap();
    directory
}

/// Opens the directory and, where that works, touches every byte of every tensor.
fn open_and_read(directory: &Directory) {
    let Ok(model) = directory.open() else { return };
    let rules = model.size_rules();
    let _ = rules.round_size(64, 64);
    let _ = rules.round_num_frames(5);
    for files in [model.transformer_weights(), model.vae_weights(), model.text_encoder_weights()] {
        for name in files.names() {
            let tensor = files.get(name).unwrap();
            let elements: usize = tensor.shape.iter().product();
            assert_eq!(tensor.data.len() * 8, elements * tensor.dtype.bitsize());
            std::hint::black_box(tensor.data.iter().map(|&byte| u64::from(byte)).sum::<u64>());
        }
    }
}

/// Runs `damage` on random values; it gives the file and what to write there instead.
fn never_panics<S: Strategy>(values: S, damage: impl Fn(&[Vec<u8>], S::Value) -> (usize, Vec<u8>)) {
    let directory = sharded();
    let whole = FILES.map(|file| fs::read(directory.file(file)).unwrap());
    let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&values, |value| {
        let (file, bytes) = damage(&whole, value);
        directory.bytes(FILES[file], &bytes);
        open_and_read(&directory);
        directory.bytes(FILES[file], &whole[file]);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn flipped_bytes_never_panic() {
    let flips = prop::collection::vec((any::<Index>(), any::<u8>()), 1..8);
    never_panics((0..FILES.len(), flips), |whole, (file, flips)| {
        let mut bytes = whole[file].clone();
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        (file, bytes)
    });
}

#[test]
fn replaced_numbers_never_panic() {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        Just("null".to_owned()),
        Just("[]".to_owned()),
    ];
    let values = (0..FILES.len(), any::<Index>(), number);
    never_panics(values, |whole, (file, place, number)| {
        let bytes = &whole[file];
        let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'-' || *byte == b'.';
        let starts: Vec<usize> = (9..bytes.len())
            .filter(|&at| is_number(&bytes[at]) && b":[, ".contains(&bytes[at - 1]))
            .collect();
        if starts.is_empty() {
            return (file, bytes.clone());
        }
        let start = starts[place.index(starts.len())];
        let digits = bytes[start..].iter().take_while(|byte| is_number(byte));
        let end = start + digits.count();
        let mut damaged = [&bytes[..start], number.as_bytes(), &bytes[end..]].concat();
        if FILES[file].ends_with(".safetensors") {
            // Keep the header's length true, so that the damage is read.
            let grown = damaged.len() as i64 - bytes.len() as i64;
            let length = i64::from_le_bytes(bytes[..8].try_into().unwrap()) + grown;
            damaged[..8].copy_from_slice(&length.to_le_bytes());
        }
        (file, damaged)
    });
}
