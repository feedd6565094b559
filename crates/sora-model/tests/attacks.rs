//! Every way to hand over a weight file or an index that is broken or hostile; each test is named
//! after the attack and asserts that the file is refused by name, with the reason.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Directory, crafted, weights};
use serde_json::json;
use sora_model::weights::WeightFiles;

const FILE: &str = "transformer/diffusion_pytorch_model.safetensors";
const INDEX: &str = "transformer/diffusion_pytorch_model.safetensors.index.json";

/// The directory with these bytes for the transformer's weights is refused, saying all of `reasons`.
fn refuse_weights(bytes: &[u8], reasons: &[&str]) {
    let directory = Directory::whole();
    directory.bytes(FILE, bytes);
    let message = directory.refused();
    assert!(message.contains("diffusion_pytorch_model.safetensors"), "{message}");
    for reason in reasons {
        assert!(message.contains(reason), "{message} lacks {reason}");
    }
}

/// The directory with this index over two good shards is refused.
fn refuse_index(weight_map: serde_json::Value, reasons: &[&str]) {
    let directory = Directory::whole();
    directory.remove(FILE);
    directory.bytes("transformer/a.safetensors", &weights(&[("a", &[2])]));
    directory.bytes("transformer/b.safetensors", &weights(&[("b", &[2])]));
    directory.bytes("outside.safetensors", &weights(&[("c", &[2])]));
    directory.json(INDEX, json!({ "weight_map": weight_map }));
    let message = directory.refused();
    for reason in reasons {
        assert!(message.contains(reason), "{message} lacks {reason}");
    }
}

#[test]
fn empty_file() {
    refuse_weights(b"", &["it is empty"]);
}

#[test]
fn file_shorter_than_the_header_length() {
    refuse_weights(b"1234567", &["7 bytes, too few"]);
}

#[test]
fn huge_header_length() {
    let mut file = u64::MAX.to_le_bytes().to_vec();
    file.extend(b"{}");
    refuse_weights(&file, &["18446744073709551615", "at most 100000000"]);
}

#[test]
fn header_length_past_the_end() {
    let mut file = 1000_u64.to_le_bytes().to_vec();
    file.extend(b"{}");
    refuse_weights(&file, &["1000 bytes", "only 2 follow"]);
}

#[test]
fn truncated_anywhere() {
    let whole = weights(&[("patch_embedding.weight", &[24, 2, 1, 2, 2]), ("b", &[3])]);
    let directory = Directory::whole();
    for length in 0..whole.len() {
        directory.bytes(FILE, &whole[..length]);
        let message = directory.refused();
        assert!(message.contains("diffusion_pytorch_model.safetensors"), "{message}");
    }
    assert!(directory.refused().contains("truncated"));
}

#[test]
fn header_that_is_not_json() {
    refuse_weights(&crafted("PK\u{3}\u{4}", 0), &["header is not valid"]);
    refuse_weights(&crafted("[]", 0), &["header is not valid"]);
    refuse_weights(&crafted("{}{}", 0), &["header is not valid"]);
}

#[test]
fn header_that_is_not_utf8() {
    let mut file = 4_u64.to_le_bytes().to_vec();
    file.extend(b"{\"\xff\"");
    refuse_weights(&file, &["header is not valid"]);
}

#[test]
fn deeply_nested_header() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let header = format!(r#"{{"__metadata__":{deep}}}"#);
    refuse_weights(&crafted(&header, 0), &["header is not valid"]);
    let header = format!(r#"{{"a":{{"dtype":"F32","shape":{deep},"data_offsets":[0,4]}}}}"#);
    refuse_weights(&crafted(&header, 4), &["tensor `a`"]);
    let directory = Directory::whole();
    directory.bytes("model_index.json", format!(r#"{{"a":{deep}}}"#).as_bytes());
    assert!(directory.refused().contains("recursion limit"));
}

#[test]
fn offsets_out_of_range() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    refuse_weights(&crafted(header, 4), &["end at byte 8", "there are 4"]);
    let header =
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]}}"#;
    refuse_weights(&crafted(header, 8), &["out of range"]);
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#;
    refuse_weights(&crafted(header, 8), &["tensor `a`"]);
}

#[test]
fn offsets_backwards() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#;
    refuse_weights(&crafted(header, 8), &["offset", "`a`"]);
}

#[test]
fn overlapping_tensors() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                     "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    refuse_weights(&crafted(header, 12), &["offset", "`b`"]);
}

#[test]
fn gap_between_tensors() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                     "b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    refuse_weights(&crafted(header, 12), &["offset", "`b`"]);
}

#[test]
fn bytes_that_belong_to_no_tensor() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    refuse_weights(&crafted(header, 4096), &["4092 bytes after its last tensor"]);
}

#[test]
fn shape_that_does_not_match_the_bytes() {
    let header = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#;
    refuse_weights(&crafted(header, 8), &["offsets are not valid"]);
}

#[test]
fn shape_whose_product_overflows() {
    let header = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
    refuse_weights(&crafted(header, 0), &["overflow"]);
    let header = r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}"#;
    refuse_weights(&crafted(header, 0), &["tensor `a`"]);
}

#[test]
fn unknown_number_format() {
    let header = r#"{"a":{"dtype":"F1024","shape":[1],"data_offsets":[0,4]}}"#;
    refuse_weights(&crafted(header, 4), &["tensor `a`", "F1024"]);
}

#[test]
fn tensor_twice_in_one_header() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                     "a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    refuse_weights(&crafted(header, 4), &["tensor `a` is there twice"]);
}

#[test]
fn tensor_in_two_shards() {
    let directory = Directory::whole();
    directory.remove(FILE);
    directory.bytes("transformer/a.safetensors", &weights(&[("a", &[2]), ("b", &[2])]));
    directory.bytes("transformer/b.safetensors", &weights(&[("b", &[2])]));
    let map = json!({ "a": "a.safetensors", "b": "b.safetensors" });
    directory.json(INDEX, json!({ "weight_map": map }));
    let message = directory.refused();
    assert!(message.contains("`b` is also in"), "{message}");
}

#[test]
fn shard_outside_the_directory() {
    for shard in [
        "../outside.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a.safetensors/../../outside.safetensors",
        "./a.safetensors",
        "sub\\..\\..\\outside.safetensors",
        "a.safetensors\0",
    ] {
        refuse_index(json!({ "a": "a.safetensors", "c": shard }), &["not a plain file name"]);
    }
}

#[test]
fn index_that_names_absent_tensors() {
    let map = json!({ "a": "a.safetensors", "b": "b.safetensors", "ghost": "a.safetensors" });
    refuse_index(map, &["puts `ghost` in a.safetensors", "does not hold it"]);
}

#[test]
fn index_that_puts_a_tensor_in_the_wrong_shard() {
    let map = json!({ "a": "b.safetensors", "b": "a.safetensors" });
    refuse_index(map, &["does not hold it"]);
}

#[test]
fn index_with_a_missing_shard() {
    let map = json!({ "a": "a.safetensors", "z": "z.safetensors" });
    refuse_index(map, &["z.safetensors is missing"]);
}

#[test]
fn index_without_tensors() {
    refuse_index(json!({}), &["weight_map is empty"]);
    refuse_index(json!("a.safetensors"), &["key `weight_map`"]);
}

#[test]
fn index_with_thousands_of_shards() {
    let map: serde_json::Map<_, _> =
        (0..2000).map(|shard| (format!("t{shard}"), json!(format!("{shard}.safetensors")))).collect();
    refuse_index(map.into(), &["2000 shards"]);
}

#[test]
fn weights_that_are_a_directory_or_a_pipe() {
    let directory = Directory::whole();
    directory.remove(FILE);
    fs::create_dir(directory.file(FILE)).unwrap();
    assert!(directory.refused().contains("is missing"));
    let message = WeightFiles::open_file(&directory.file(FILE)).unwrap_err().to_string();
    assert!(message.contains("not a regular file"), "{message}");
    // /dev/zero never ends; reading it as a config or as weights must not start.
    let endless = std::path::Path::new("/dev/zero");
    assert!(WeightFiles::open_file(endless).is_err());
    fs::remove_file(directory.file("model_index.json")).unwrap();
    std::os::unix::fs::symlink(endless, directory.file("model_index.json")).unwrap();
    assert!(directory.refused().contains("model_index.json cannot be read"));
}

#[test]
fn wrong_kinds_of_values_in_an_index() {
    let directory = Directory::whole();
    for (key, value) in [
        ("_class_name", json!(7)),
        ("boundary_ratio", json!("high")),
        ("boundary_ratio", json!(7.5)),
        ("expand_timesteps", json!("yes")),
    ] {
        let whole = fs::read(directory.file("model_index.json")).unwrap();
        directory.set("model_index.json", key, value);
        let message = directory.refused();
        assert!(message.contains("model_index.json"), "{message}");
        assert!(message.contains(key), "{message}");
        directory.bytes("model_index.json", &whole);
    }
}
