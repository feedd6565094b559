//! A small but whole model directory to read, and to damage.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::{Value, json};
use sora_model::{ModelDir, ModelError};

pub struct Directory(tempfile::TempDir);

impl Directory {
    /// Two heads of 12, two latent channels: every file is there, and small.
    pub fn whole() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        directory.json(
            "model_index.json",
            json!({
                "_class_name": "WanPipeline",
                "_diffusers_version": "0.42.1",
                "boundary_ratio": null,
                "expand_timesteps": false,
                "scheduler": ["diffusers", "UniPCMultistepScheduler"],
                "text_encoder": ["transformers", "UMT5EncoderModel"],
                "tokenizer": ["transformers", "T5TokenizerFast"],
                "transformer": ["diffusers", "WanTransformer3DModel"],
                "transformer_2": [null, null],
                "vae": ["diffusers", "AutoencoderKLWan"],
            }),
        );
        directory.json(
            "transformer/config.json",
            json!({
                "_class_name": "WanTransformer3DModel",
                "num_attention_heads": 2,
                "attention_head_dim": 12,
                "in_channels": 2,
                "out_channels": 2,
                "text_dim": 16,
                "freq_dim": 8,
                "ffn_dim": 32,
                "num_layers": 2,
                "rope_max_seq_len": 32,
            }),
        );
        directory.json(
            "vae/config.json",
            json!({
                "_class_name": "AutoencoderKLWan",
                "base_dim": 3,
                "z_dim": 2,
                "dim_mult": [1, 1, 1, 1],
                "latents_mean": [0.1, -0.2],
                "latents_std": [1.5, 2.0],
            }),
        );
        directory.json(
            "text_encoder/config.json",
            json!({
                "architectures": ["UMT5EncoderModel"],
                "vocab_size": 20,
                "d_model": 16,
                "d_kv": 4,
                "d_ff": 8,
                "num_layers": 1,
                "num_heads": 2,
            }),
        );
        directory.json(
            "scheduler/scheduler_config.json",
            json!({
                "_class_name": "UniPCMultistepScheduler",
                "prediction_type": "flow_prediction",
                "use_flow_sigmas": true,
                "flow_shift": 3.0,
            }),
        );
        directory.bytes("tokenizer/tokenizer.json", b"{}");
        directory.bytes(
            "transformer/diffusion_pytorch_model.safetensors",
            &weights(&[("patch_embedding.weight", &[24, 2, 1, 2, 2])]),
        );
        directory
            .bytes("vae/diffusion_pytorch_model.safetensors", &weights(&[("decoder.conv_in.bias", &[3])]));
        directory.bytes("text_encoder/model.safetensors", &weights(&[("shared.weight", &[20, 16])]));
        directory
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn bytes(&self, name: &str, bytes: &[u8]) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn json(&self, name: &str, value: Value) {
        self.bytes(name, value.to_string().as_bytes());
    }

    /// Sets one key of a JSON file.
    pub fn set(&self, name: &str, key: &str, value: Value) {
        let text = fs::read_to_string(self.file(name)).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json[key] = value;
        self.json(name, json);
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    pub fn open(&self) -> Result<ModelDir, ModelError> {
        ModelDir::open(self.path())
    }

    /// The message with which the directory is refused.
    pub fn refused(&self) -> String {
        self.open().unwrap_err().to_string()
    }
}

/// A safetensors file of zeros in f32.
pub fn weights(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape)| {
            let elements: usize = shape.iter().product();
            (*name, shape.to_vec(), vec![0; elements * 4])
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (*name, view)
    });
    serialize(views, None).unwrap()
}

/// A safetensors file with this header, whatever it says, and this many zero bytes after it.
pub fn crafted(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(vec![0; data_bytes]);
    file
}
