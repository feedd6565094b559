//! The networks that can be trained, by size.
//!
//! A run folder holds the configs it was begun with (`config.json`); later stages read them there. A preset is
//! only where they come from.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sora_model::config::{TextEncoderConfig, TransformerConfig, VaeConfig};

use crate::json;

/// Which VAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum VaePreset {
    /// 2.6 M parameters, 8 latent channels: what two CPU cores can train.
    Tiny,
    /// 10 M parameters, 16 latent channels: what an hour of a GPU can train.
    Full,
}

/// Which text encoder and transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TransformerPreset {
    /// 0.7 M parameters: the smallest of the scaling study.
    Xxs,
    /// 2 M parameters: what the other studies use.
    Xs,
    /// 4 M parameters.
    S,
    /// 9 M parameters: what two CPU cores can train in an evening.
    Tiny,
    /// 9 M parameters, four times the tokens of `tiny`: what two CPU cores can train in two evenings, and what ships.
    Fine,
    /// 25 M parameters, four times the tokens: for a GPU.
    Full,
}

impl VaePreset {
    /// 8×8 pixels and 4 frames to one latent position, the residual layout of Wan 2.2, pixels in patches of 2×2.
    pub(crate) fn config(self) -> VaeConfig {
        let (base_dim, z_dim, num_res_blocks) = match self {
            Self::Tiny => (16, 8, 1),
            Self::Full => (32, 16, 2),
        };
        VaeConfig {
            base_dim,
            decoder_base_dim: Some(base_dim),
            z_dim,
            dim_mult: vec![2, 4, 4],
            num_res_blocks,
            temperal_downsample: vec![true, true],
            latents_mean: vec![0.0; z_dim as usize],
            latents_std: vec![1.0; z_dim as usize],
            is_residual: true,
            in_channels: 12,
            out_channels: 12,
            patch_size: Some(2),
            scale_factor_temporal: 4,
            scale_factor_spatial: 8,
            ..VaeConfig::default()
        }
    }
}

impl TransformerPreset {
    /// A transformer over latents of `z_dim` channels; heads of 64.
    pub(crate) fn transformer(self, z_dim: i64) -> TransformerConfig {
        let (heads, layers, patch) = match self {
            Self::Xxs => (1, 4, 4),
            Self::Xs => (2, 6, 4),
            Self::S => (3, 6, 4),
            Self::Tiny => (4, 8, 4),
            Self::Fine => (4, 8, 2),
            Self::Full => (6, 10, 2),
        };
        TransformerConfig {
            patch_size: [1, patch, patch],
            num_attention_heads: heads,
            attention_head_dim: 64,
            in_channels: z_dim,
            out_channels: z_dim,
            text_dim: 128,
            freq_dim: 256,
            ffn_dim: heads * 256,
            num_layers: layers,
            ..TransformerConfig::default()
        }
    }

    /// Its text encoder.
    pub(crate) fn text_encoder(self, vocab_size: i64) -> TextEncoderConfig {
        TextEncoderConfig {
            vocab_size,
            d_model: 128,
            d_kv: 32,
            d_ff: 256,
            num_layers: if self == Self::Full { 4 } else { 2 },
            num_heads: 4,
            dropout_rate: 0.0,
            ..TextEncoderConfig::default()
        }
    }
}

const FILE: &str = "config.json";

/// The config of a run: what its folder holds, or `fresh` in a new folder, which then holds it.
///
/// # Errors
/// If the folder holds another one than `fresh`: a checkpoint of another size cannot be continued.
pub(crate) fn settle<T: Serialize + DeserializeOwned + PartialEq>(dir: &Path, fresh: T) -> anyhow::Result<T> {
    let path = dir.join(FILE);
    settle_in(&path, fresh)?.map_err(|differs| {
        anyhow::anyhow!(
            "{} describes another network than the one asked for ({differs}): use another run folder, \
             or the preset it was begun with",
            path.display()
        )
    })
}

/// What a file holds, or `fresh` where there is none, which then holds it; or in what the two differ.
pub(crate) fn settle_in<T: Serialize + DeserializeOwned + PartialEq>(
    path: &Path,
    fresh: T,
) -> anyhow::Result<Result<T, String>> {
    if !path.exists() {
        json::write(path, &fresh)?;
        return Ok(Ok(fresh));
    }
    let held: T = json::read(path)?;
    if held == fresh {
        return Ok(Ok(held));
    }
    let differs = difference("", &serde_json::to_value(&held)?, &serde_json::to_value(&fresh)?);
    Ok(Err(differs.unwrap_or_else(|| "they differ".to_owned())))
}

/// Names the first field that is not the same, and what it is.
fn difference(name: &str, held: &Value, fresh: &Value) -> Option<String> {
    let inner = |field: &str| if name.is_empty() { field.to_owned() } else { format!("{name}.{field}") };
    match (held, fresh) {
        _ if held == fresh => None,
        (Value::Object(a), Value::Object(b)) => {
            let of = |map: &Map<String, Value>, field: &str| map.get(field).cloned().unwrap_or(Value::Null);
            let fields = a.keys().chain(b.keys().filter(|field| !a.contains_key(*field)));
            fields.filter_map(|field| difference(&inner(field), &of(a, field), &of(b, field))).next()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.filter_map(|(i, (a, b))| difference(&format!("{name}[{i}]"), a, b)).next()
        }
        _ => Some(format!("its {name} is {held}, asked for is {fresh}")),
    }
}

/// The config of a folder, if it holds one already.
pub(crate) fn held<T: DeserializeOwned>(dir: &Path) -> anyhow::Result<Option<T>> {
    if dir.join(FILE).exists() { read(dir).map(Some) } else { Ok(None) }
}

/// The config that a run folder holds.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path) -> anyhow::Result<T> {
    let path = dir.join(FILE);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: is {} the folder of a run?", path.display(), dir.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_other_sizes_is_refused_with_the_first_that_differs() {
        let dir = tempfile::tempdir().expect("a folder");
        settle(dir.path(), VaePreset::Tiny.config()).expect("a new folder");
        settle(dir.path(), VaePreset::Tiny.config()).expect("the same again");
        let error = settle(dir.path(), VaePreset::Full.config()).expect_err("another");
        let said = error.to_string();
        assert!(said.contains("its base_dim is 16, asked for is 32"), "{said}");
        assert!(said.contains(dir.path().to_str().expect("UTF-8")), "{said}");
    }

    #[test]
    fn differences_are_found_inside() {
        let of = |z_dim, heads: u32| serde_json::json!({ "a": [1, z_dim], "b": { "heads": heads }, "c": 1 });
        assert_eq!(difference("", &of(8, 1), &of(8, 1)), None);
        let said = difference("", &of(8, 1), &of(16, 2)).expect("they differ");
        assert_eq!(said, "its a[1] is 8, asked for is 16");
        let said = difference("", &of(8, 1), &of(8, 2)).expect("they differ");
        assert_eq!(said, "its b.heads is 1, asked for is 2");
    }
}
