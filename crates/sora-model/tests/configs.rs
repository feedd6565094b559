//! Model directories that are whole, and directories whose configs are not what we can run: each
//! refusal names the file, the key, the value and what is supported.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Directory, weights};
use serde_json::{Value, json};
use sora_model::ModelDir;
use sora_model::config::{
    Config, SchedulerClass, SchedulerConfig, TextEncoderConfig, TransformerConfig, VaeConfig,
};
use sora_model::weights::Dtype;

const TRANSFORMER: &str = "transformer/config.json";
const VAE: &str = "vae/config.json";
const TEXT_ENCODER: &str = "text_encoder/config.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

#[test]
fn a_whole_directory_opens() {
    let directory = Directory::whole();
    let model = directory.open().unwrap();
    assert_eq!(model.transformer().inner_dim(), 24);
    assert_eq!(model.transformer().rope_split(), [4, 4, 4]);
    assert_eq!(model.vae().temporal_scale_factor(), 4);
    assert_eq!(model.text_encoder().inner_dim(), 8);
    assert_eq!(model.scheduler().class, SchedulerClass::UniPcMultistep);
    assert_eq!(model.scheduler().flow_shift, 3.0);
    assert!(model.transformer_2().is_none());
    assert_eq!(model.tokenizer_class(), "T5TokenizerFast");
    assert_eq!(model.size_rules().max_size(), (512, 512));
    // The published 832 x 480 does not fit this model's rotary table.
    assert_eq!((model.native().width, model.native().height), (512, 480));
    assert_eq!(model.native().frame_rate, (16, 1));
    let tensor = model.transformer_weights().get("patch_embedding.weight").unwrap();
    assert_eq!(tensor.dtype, Dtype::F32);
    assert_eq!(tensor.shape, [24, 2, 1, 2, 2]);
    assert_eq!(tensor.data.len(), 24 * 2 * 4 * 4);
    assert!(model.transformer_weights().get("absent").is_none());
}

#[test]
fn sharded_weights_open() {
    let directory = Directory::whole();
    directory.remove("transformer/diffusion_pytorch_model.safetensors");
    directory.bytes("transformer/x-1.safetensors", &weights(&[("a", &[2, 3])]));
    directory.bytes("transformer/x-2.safetensors", &weights(&[("b", &[]), ("c", &[0, 7])]));
    directory.json(
        "transformer/diffusion_pytorch_model.safetensors.index.json",
        json!({
            "metadata": { "total_size": 28 },
            "weight_map": { "a": "x-1.safetensors", "b": "x-2.safetensors", "c": "x-2.safetensors" },
        }),
    );
    let model = directory.open().unwrap();
    let files = model.transformer_weights();
    assert_eq!(files.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(files.get("a").unwrap().shape, [2, 3]);
    assert_eq!(files.get("b").unwrap().data.len(), 4);
    assert_eq!(files.get("c").unwrap().data.len(), 0);
    assert_eq!((files.total_bytes(), files.total_elements()), (28, 7));
    assert_eq!(files.paths().count(), 2);
}

#[test]
fn directories_that_python_diffusers_wrote_open() {
    let fixtures = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"));
    for (name, class, expand_timesteps, frames) in [
        ("tiny-wan21", SchedulerClass::UniPcMultistep, false, 81),
        ("tiny-wan22", SchedulerClass::FlowMatchEulerDiscrete, true, 81),
        ("tiny-moe", SchedulerClass::UniPcMultistep, false, 81),
    ] {
        let model = ModelDir::open(&fixtures.join(name)).unwrap();
        assert_eq!(model.name(), name);
        assert_eq!(model.scheduler().class, class);
        assert_eq!(model.index().expand_timesteps, expand_timesteps);
        assert_eq!(model.native().num_frames, frames.min(model.size_rules().max_num_frames()));
        let (config, weights) = (model.transformer(), model.transformer_weights());
        assert_eq!(config.num_parameters(), weights.total_elements(), "{name}");
        let (config, weights) = (model.text_encoder(), model.text_encoder_weights());
        assert_eq!(config.num_parameters(), weights.total_elements(), "{name}");
    }
    // The original names of a transformer are the diffusers names of the same transformer.
    let model = ModelDir::open(&fixtures.join("tiny-wan21")).unwrap();
    let own: Vec<String> = model.transformer_weights().names().map(str::to_owned).collect();
    for file in ["same.safetensors", "other.safetensors"] {
        let path = fixtures.join("tiny-original").join(file);
        let replaced = model.clone().with_transformer_file(&path).unwrap();
        assert_eq!(replaced.transformer_weights().names().collect::<Vec<_>>(), own, "{file}");
    }
}

#[test]
fn a_transformer_file_with_original_names_takes_the_place_of_the_directory_s() {
    let directory = Directory::whole();
    directory.bytes(
        "original.safetensors",
        &weights(&[
            ("model.patch_embedding.weight", &[24, 2, 1, 2, 2]),
            ("model.blocks.0.self_attn.o.weight", &[24, 24]),
            ("model.something_else", &[1]),
        ]),
    );
    let model = directory.open().unwrap();
    let model = model.with_transformer_file(&directory.file("original.safetensors")).unwrap();
    assert_eq!(
        model.transformer_weights().names().collect::<Vec<_>>(),
        ["blocks.0.attn1.to_out.0.weight", "model.something_else", "patch_embedding.weight"],
    );
}

#[test]
fn a_transformer_file_of_another_model_is_refused() {
    let directory = Directory::whole();
    let replaced = |tensors: &[(&str, &[usize])]| {
        directory.bytes("other.safetensors", &weights(tensors));
        let model = directory.open().unwrap();
        let replaced = model.with_transformer_file(&directory.file("other.safetensors"));
        replaced.unwrap_err().to_string()
    };
    let message = replaced(&[("patch_embedding.weight", &[1536, 16, 1, 2, 2])]);
    assert!(message.contains("[1536, 16, 1, 2, 2]"), "{message}");
    assert!(message.contains("[24, 2, 1, 2, 2]"), "{message}");
    let message = replaced(&[("unet.conv_in.weight", &[1])]);
    assert!(message.contains("not a Wan transformer"), "{message}");
    let message = replaced(&[("blocks.0.norm3.bias", &[1]), ("blocks.0.norm2.bias", &[1])]);
    assert!(message.contains("two of its tensors are `blocks.0.norm2.bias`"), "{message}");
}

const SOURCE_EMBEDDING: &str = "source_embedding/diffusion_pytorch_model.safetensors";
const SOURCE_LORA: &str = "source_lora/pytorch_lora_weights.safetensors";
const A: &str = "transformer.proj_out.lora_A.weight";
const B: &str = "transformer.proj_out.lora_B.weight";

/// Names and shapes of factors.
type Factors<'a> = &'a [(&'a str, &'a [usize])];

/// A directory whose transformer is taught to see sources, with these factors beside it.
fn with_source_lora(factors: Factors<'_>) -> Directory {
    let directory = Directory::whole();
    directory.bytes(
        "transformer/diffusion_pytorch_model.safetensors",
        &weights(&[("patch_embedding.weight", &[24, 2, 1, 2, 2]), ("proj_out.weight", &[8, 24])]),
    );
    directory.bytes(SOURCE_EMBEDDING, &weights(&[("weight", &[24, 2, 1, 2, 2]), ("bias", &[24])]));
    directory.bytes(SOURCE_LORA, &weights(factors));
    directory
}

#[test]
fn an_adapter_for_sources_opens_with_its_directory_and_goes_with_its_transformer() {
    let directory = with_source_lora(&[(A, &[3, 24]), (B, &[8, 3])]);
    let model = directory.open().unwrap();
    assert_eq!(model.source_lora_weights().unwrap().names().collect::<Vec<_>>(), [A, B]);
    directory.bytes("other.safetensors", &weights(&[("patch_embedding.weight", &[24, 2, 1, 2, 2])]));
    let other = model.with_transformer_file(&directory.file("other.safetensors")).unwrap();
    assert!(other.source_lora_weights().is_none() && other.source_embedding_weights().is_none());
    assert!(Directory::whole().open().unwrap().source_lora_weights().is_none());
}

#[test]
fn an_adapter_that_does_not_fit_the_transformer_is_refused() {
    let cases: [(Factors<'_>, &str); 8] = [
        (&[(A, &[3, 25]), (B, &[8, 3])], "for `proj_out` A is [3, 25] and B is [8, 3]"),
        (&[(A, &[3, 24]), (B, &[9, 3])], "here [8, 24]"),
        (&[(A, &[3, 24]), (B, &[8, 4])], "A is [3, 24] and B is [8, 4]"),
        (&[(A, &[0, 24]), (B, &[8, 0])], "A is [0, 24]"),
        (&[(A, &[3, 24])], "B is []"),
        (&[(B, &[8, 3])], "A is []"),
        (&[("transformer.proj_in.lora_A.weight", &[3, 24])], "for `proj_in`"),
        (&[("proj_out.lora_A.weight", &[3, 24])], "its `proj_out.lora_A.weight` is neither"),
    ];
    for (factors, part) in cases {
        let message = with_source_lora(factors).refused();
        assert!(message.contains(part) && message.contains("source_lora"), "{factors:?}: {message}");
    }
    let directory = with_source_lora(&[(A, &[3, 24]), (B, &[8, 3])]);
    directory.remove(SOURCE_LORA);
    assert!(directory.refused().contains("pytorch_lora_weights.safetensors is missing"));
    let directory = with_source_lora(&[(A, &[3, 24]), (B, &[8, 3])]);
    std::fs::remove_dir_all(directory.file("source_embedding")).unwrap();
    assert!(directory.refused().contains("no source_embedding"));
}

const SOURCE_ENCODER: &str = "source_encoder/diffusion_pytorch_model.safetensors";

/// A directory with a source encoder of so many channels, and a source embedding that takes so many.
fn with_source_encoder(channels: i64, seen: usize) -> Directory {
    let directory = Directory::whole();
    let config = format!("{{\"channels\": {channels}, \"num_layers\": 2}}");
    directory.bytes("source_encoder/config.json", config.as_bytes());
    directory.bytes(SOURCE_ENCODER, &weights(&[("query", &[8])]));
    directory.bytes(SOURCE_EMBEDDING, &weights(&[("weight", &[24, seen, 1, 2, 2]), ("bias", &[24])]));
    directory
}

#[test]
fn a_source_encoder_opens_with_its_directory_and_goes_with_its_transformer() {
    let directory = with_source_encoder(16, 4);
    let model = directory.open().unwrap();
    let (config, _) = model.source_encoder().unwrap();
    assert_eq!((config.channels, config.num_layers), (16, 2));
    directory.bytes("other.safetensors", &weights(&[("patch_embedding.weight", &[24, 2, 1, 2, 2])]));
    let other = model.with_transformer_file(&directory.file("other.safetensors")).unwrap();
    assert!(other.source_encoder().is_none());
    assert!(Directory::whole().open().unwrap().source_encoder().is_none());
}

#[test]
fn a_source_encoder_that_does_not_fit_is_refused() {
    // The embedding sees the source's latents and the guess, two channels each.
    let message = with_source_encoder(16, 2).refused();
    assert!(message.contains("[24, 2, 1, 2, 2]") && message.contains("[24, 4, 1, 2, 2]"), "{message}");
    assert!(message.contains("source_encoder"), "{message}");
    let message = with_source_encoder(20, 4).refused();
    assert!(message.contains("channels") && message.contains("a multiple of 8"), "{message}");
    let message = with_source_encoder(0, 4).refused();
    assert!(message.contains("8 to 4096"), "{message}");
    let directory = with_source_encoder(16, 4);
    directory.remove(SOURCE_ENCODER);
    let message = directory.refused();
    assert!(message.contains("source_encoder"), "{message}");
    let directory = with_source_encoder(16, 4);
    std::fs::remove_dir_all(directory.file("source_embedding")).unwrap();
    let message = directory.refused();
    assert!(message.contains("source_embedding is missing"), "{message}");
}

#[test]
fn every_missing_file_is_named() {
    let path = std::path::Path::new("/nonexistent/model");
    let message = sora_model::ModelDir::open(path).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/model is missing"), "{message}");
    for file in [
        "model_index.json",
        TRANSFORMER,
        VAE,
        TEXT_ENCODER,
        SCHEDULER,
        "tokenizer/tokenizer.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        let directory = Directory::whole();
        directory.remove(file);
        let message = directory.refused();
        assert!(message.contains(&format!("{file} is missing")), "{message}");
    }
    let directory = Directory::whole();
    directory.remove("text_encoder/model.safetensors");
    let message = directory.refused();
    assert!(message.contains("text_encoder/"), "{message}");
    assert!(message.contains("model.safetensors"), "{message}");
}

#[test]
fn unknown_classes_are_named_with_their_file() {
    for (key, class, supported) in [
        ("_class_name", json!("StableDiffusionPipeline"), "WanPipeline"),
        ("transformer", json!(["diffusers", "UNet2DConditionModel"]), "WanTransformer3DModel"),
        ("vae", json!(["diffusers", "AutoencoderKL"]), "AutoencoderKLWan"),
        ("text_encoder", json!(["transformers", "CLIPTextModel"]), "UMT5EncoderModel"),
        ("scheduler", json!(["diffusers", "DDIMScheduler"]), "UniPCMultistepScheduler"),
        ("tokenizer", json!(["transformers", "CLIPTokenizer"]), "T5TokenizerFast"),
        ("transformer_2", json!(["diffusers", "Other"]), "WanTransformer3DModel"),
        ("vae", json!([null, null]), "AutoencoderKLWan"),
    ] {
        let directory = Directory::whole();
        directory.set("model_index.json", key, class.clone());
        let message = directory.refused();
        let class = class.as_str().or(class[1].as_str()).unwrap_or("absent");
        for part in ["model_index.json", key, class, supported] {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
    let directory = Directory::whole();
    directory.set(SCHEDULER, "_class_name", json!("DDIMScheduler"));
    let message = directory.refused();
    assert!(message.contains("scheduler_config.json"), "{message}");
    assert!(message.contains("DDIMScheduler"), "{message}");
}

/// The directory with `file[key] = value` is refused, and the message names all three.
fn refuse(file: &str, key: &str, value: Value) {
    let directory = Directory::whole();
    directory.set(file, key, value.clone());
    let message = directory.refused();
    assert!(message.contains(file), "{message} lacks {file}");
    assert!(message.contains(key), "{message} lacks {key}");
}

#[test]
fn absurd_sizes_are_refused() {
    let huge = json!(1_000_000_000_000_000_i64);
    for (file, keys) in [
        (
            TRANSFORMER,
            &[
                "num_attention_heads",
                "attention_head_dim",
                "in_channels",
                "out_channels",
                "text_dim",
                "freq_dim",
                "ffn_dim",
                "num_layers",
                "rope_max_seq_len",
            ][..],
        ),
        (VAE, &["base_dim", "decoder_base_dim", "z_dim", "num_res_blocks", "patch_size"]),
        (TEXT_ENCODER, &["vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"]),
        (SCHEDULER, &["num_train_timesteps", "solver_order"]),
    ] {
        for key in keys {
            for value in [json!(0), json!(-1), huge.clone(), json!(i64::MAX), json!(i64::MIN)] {
                // Nothing for the output channels means as many as for the input.
                if !(*key == "out_channels" && value == json!(0)) {
                    refuse(file, key, value);
                }
            }
        }
    }
    refuse(TRANSFORMER, "patch_size", json!([1, 1000, 2]));
    refuse(VAE, "dim_mult", json!(vec![1; 1000]));
    refuse(VAE, "dim_mult", json!([]));
}

#[test]
fn a_config_of_a_far_larger_model_than_its_files_is_refused() {
    let directory = Directory::whole();
    directory.set(TRANSFORMER, "num_attention_heads", json!(40));
    directory.set(TRANSFORMER, "attention_head_dim", json!(128));
    directory.set(TRANSFORMER, "num_layers", json!(40));
    let message = directory.refused();
    assert!(message.contains("number of parameters"), "{message}");
}

#[test]
fn wrong_types_are_named() {
    for (file, key, value) in [
        (TRANSFORMER, "num_layers", json!("two")),
        (TRANSFORMER, "num_layers", json!(2.5)),
        (TRANSFORMER, "num_layers", json!(null)),
        (TRANSFORMER, "patch_size", json!([1, 2])),
        (TRANSFORMER, "patch_size", json!(2)),
        (TRANSFORMER, "eps", json!("small")),
        (VAE, "dim_mult", json!([1, 1, 1, "1"])),
        (VAE, "latents_mean", json!(null)),
        (VAE, "is_residual", json!(0)),
        (TEXT_ENCODER, "d_model", json!([16])),
        (SCHEDULER, "flow_shift", json!("3")),
        (SCHEDULER, "use_flow_sigmas", json!(1)),
    ] {
        refuse(file, key, value);
    }
    for text in ["", "{", "[]", "7", "{\"num_layers\": 1e400}", "\u{feff}{}"] {
        let directory = Directory::whole();
        directory.bytes(TRANSFORMER, text.as_bytes());
        let message = directory.refused();
        assert!(message.contains(TRANSFORMER), "{message}");
    }
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    for (file, key, value) in [
        (TRANSFORMER, "qk_norm", json!("layer_norm")),
        (TRANSFORMER, "qk_norm", json!(null)),
        (TRANSFORMER, "image_dim", json!(1280)),
        (TRANSFORMER, "added_kv_proj_dim", json!(24)),
        (TRANSFORMER, "pos_embed_seq_len", json!(514)),
        (TRANSFORMER, "patch_size", json!([2, 2, 2])),
        (TRANSFORMER, "attention_head_dim", json!(13)),
        (VAE, "attn_scales", json!([0.5])),
        (VAE, "temperal_downsample", json!([true])),
        (VAE, "in_channels", json!(4)),
        (VAE, "latents_mean", json!([0.0])),
        (VAE, "latents_std", json!([1.0, 0.0])),
        (VAE, "scale_factor_spatial", json!(16)),
        (VAE, "scale_factor_temporal", json!(2)),
        (TEXT_ENCODER, "feed_forward_proj", json!("gated-mish")),
        (TEXT_ENCODER, "relative_attention_max_distance", json!(8)),
        (SCHEDULER, "prediction_type", json!("epsilon")),
        (SCHEDULER, "use_flow_sigmas", json!(false)),
        (SCHEDULER, "use_karras_sigmas", json!(true)),
        (SCHEDULER, "use_dynamic_shifting", json!(true)),
        (SCHEDULER, "thresholding", json!(true)),
        (SCHEDULER, "predict_x0", json!(false)),
        (SCHEDULER, "solver_type", json!("bh3")),
        (SCHEDULER, "solver_type", json!("bh1")),
        (SCHEDULER, "lower_order_final", json!(false)),
        (SCHEDULER, "flow_shift", json!(0.0)),
        (SCHEDULER, "shift_terminal", json!(1.0)),
    ] {
        refuse(file, key, value);
    }
}

#[test]
fn components_that_do_not_fit_each_other_are_refused() {
    refuse(TRANSFORMER, "text_dim", json!(4096));
    refuse(TRANSFORMER, "in_channels", json!(16));
    refuse(TRANSFORMER, "out_channels", json!(16));
    let directory = Directory::whole();
    directory.set("model_index.json", "boundary_ratio", json!(0.875));
    let message = directory.refused();
    assert!(message.contains("boundary_ratio is 0.875") || message.contains("`boundary_ratio`"), "{message}");
    // With a second transformer it is right.
    let second = json!(["diffusers", "WanTransformer3DModel"]);
    directory.set("model_index.json", "transformer_2", second);
    fs::create_dir(directory.file("transformer_2")).unwrap();
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        let from = directory.file("transformer").join(file);
        fs::copy(from, directory.file("transformer_2").join(file)).unwrap();
    }
    let model = directory.open().unwrap();
    assert_eq!(model.index().boundary_ratio, Some(0.875));
    assert_eq!(model.transformer_2(), Some(model.transformer()));
    assert!(model.transformer_2_weights().is_some());
}

#[test]
fn another_scheduler_class_keeps_the_shift() {
    let unipc = SchedulerConfig::unipc(3.0);
    let euler = unipc.with_class(SchedulerClass::FlowMatchEulerDiscrete);
    assert_eq!(euler, SchedulerConfig::flow_match_euler(3.0));
    assert_eq!(euler.with_class(SchedulerClass::UniPcMultistep), unipc);
    assert_eq!(unipc.with_class(SchedulerClass::UniPcMultistep), unipc);
}

#[test]
fn keys_that_are_not_known_are_passed_over() {
    let directory = Directory::whole();
    directory.set(TRANSFORMER, "window_size", json!([-1, -1]));
    directory.set(TEXT_ENCODER, "is_encoder_decoder", json!(true));
    directory.set("model_index.json", "image_encoder", json!([null, null]));
    directory.open().unwrap();
}

#[test]
fn absent_keys_take_the_upstream_defaults() {
    assert_eq!(TransformerConfig::from_json("{}").unwrap(), TransformerConfig::default());
    assert_eq!(VaeConfig::from_json("{}").unwrap(), VaeConfig::default());
    assert_eq!(TextEncoderConfig::from_json("{}").unwrap(), TextEncoderConfig::default());
    let euler = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#;
    let euler = SchedulerConfig::from_json(euler).unwrap();
    assert_eq!(euler, SchedulerConfig::flow_match_euler(1.0));
    let no_out_channels = TransformerConfig::from_json(r#"{"out_channels": null}"#).unwrap();
    assert_eq!(no_out_channels.out_channels(), 16);
    // Wan 2.1 14B and 1.3B, counted by torch.
    assert_eq!(TransformerConfig::default().num_parameters(), 14_288_491_584);
}

#[test]
fn sora_json_overrides_the_native_settings() {
    let directory = Directory::whole();
    directory.json(
        "sora.json",
        json!({ "width": 128, "height": 96, "num_frames": 33, "frame_rate": [24000, 1001], "guidance_scale": 3.5 }),
    );
    let model = directory.open().unwrap();
    let native = model.native();
    assert_eq!((native.width, native.height, native.num_frames), (128, 96, 33));
    assert_eq!(native.frame_rate, (24000, 1001));
    assert_eq!(native.guidance_scale, 3.5);
    assert_eq!(native.num_inference_steps, 50);
    for (key, value) in [
        ("width", json!(100)),
        ("height", json!(100_000)),
        ("num_frames", json!(6)),
        ("num_frames", json!(1_000_000)),
        ("frame_rate", json!([16, 0])),
        ("frame_rate", json!(16)),
        ("num_inference_steps", json!(0)),
        ("guidance_scale", json!(-1.0)),
        ("max_sequence_length", json!(1_000_000)),
    ] {
        directory.json("sora.json", json!({ key: value }));
        let message = directory.refused();
        assert!(message.contains("sora.json"), "{message}");
        assert!(message.contains(key), "{message}");
    }
}
