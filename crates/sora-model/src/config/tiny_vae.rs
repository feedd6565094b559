//! What a file of tiny VAE weights is, read from the shapes of its tensors: such files come without a config.

use std::path::Path;

use super::VaeConfig;
use crate::weights::WeightFiles;
use crate::{ConfigError, ModelError};

/// Sizes of a TAEHV, the tiny video autoencoder of <https://github.com/madebyollin/taehv>, in the layouts `taew2_1`
/// (16 latent channels) and `taew2_2` (48, pixels folded two by two).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TinyVaeConfig {
    /// Latent channels.
    pub latent_channels: i64,
    /// Side of the pixel squares that are folded into channels.
    pub patch_size: i64,
    /// Channels of the encoder.
    pub encoder_dim: i64,
    /// Channels of the decoder's four levels, innermost first.
    pub decoder_dims: [i64; 4],
    /// Frames that the weights of each level but the last make of one; of more than [`Self::TIME_GROWTH`] the last
    /// are used.
    pub stored_growth: [i64; 3],
}

impl TinyVaeConfig {
    /// Frames that each level of the decoder but the last makes of one.
    pub const TIME_GROWTH: [i64; 3] = [1, 2, 2];

    /// Reads the sizes from the headers of `weights`, which came from `path`.
    ///
    /// # Errors
    /// [`ModelError::Weights`] for a file of something else, naming the tensor that tells.
    pub fn of(weights: &WeightFiles, path: &Path) -> Result<Self, ModelError> {
        let wrong = |message: String| ModelError::Weights { path: path.to_path_buf(), message };
        if weights.contains("decoder.0.weight") {
            return Err(wrong("it is a TAEHV of the layout `super`; supported: taew2_1, taew2_2".into()));
        }
        let shape = |name: &str| -> Result<Vec<i64>, ModelError> {
            let view = weights.get(name);
            let view = view.ok_or_else(|| wrong(format!("it holds no `{name}`: not a TAEHV")))?;
            // The header check has bounded each by the file's bytes.
            let shape: Vec<i64> = view.shape.iter().map(|&size| size as i64).collect();
            match shape.as_slice() {
                [_, _, _, _] if shape.iter().all(|size| *size > 0) => Ok(shape),
                other => Err(wrong(format!("its `{name}` is {other:?}, four sizes above 0 are needed"))),
            }
        };
        let first = shape("encoder.0.weight")?;
        let patch_size = match first[1] {
            3 => 1,
            12 => 2,
            other => {
                let message = format!("its `encoder.0.weight` takes {other} channels; supported: 3, 12");
                return Err(wrong(message));
            }
        };
        let inner = shape("decoder.1.weight")?;
        let mut decoder_dims = [inner[0], 0, 0, 0];
        let mut stored_growth = [1; 3];
        for level in 0..3 {
            let number = 7 + 6 * level;
            decoder_dims[level + 1] = shape(&format!("decoder.{}.weight", number + 1))?[0];
            let name = format!("decoder.{number}.conv.weight");
            let (rows, dim, wanted) = (shape(&name)?[0], decoder_dims[level], Self::TIME_GROWTH[level]);
            if rows % dim != 0 || rows / dim < wanted {
                return Err(wrong(format!(
                    "its `{name}` has {rows} rows, at least {} are needed",
                    dim * wanted
                )));
            }
            stored_growth[level] = rows / dim;
        }
        Ok(Self { latent_channels: inner[1], patch_size, encoder_dim: first[0], decoder_dims, stored_growth })
    }

    /// Pixels per latent row and column.
    pub fn spatial_scale_factor(&self) -> i64 {
        8 * self.patch_size
    }

    /// Frames per latent frame, after the first.
    pub fn temporal_scale_factor(&self) -> i64 {
        Self::TIME_GROWTH.iter().product()
    }

    /// Refuses one that reads other latents than those of `vae`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the size that differs.
    pub fn check_fit(&self, vae: &VaeConfig) -> Result<(), ConfigError> {
        for (key, value, wanted) in [
            ("latent channels of the tiny VAE", self.latent_channels, vae.z_dim),
            ("pixels per latent of the tiny VAE", self.spatial_scale_factor(), vae.spatial_scale_factor()),
            ("frames per latent of the tiny VAE", self.temporal_scale_factor(), vae.temporal_scale_factor()),
        ] {
            if value != wanted {
                return Err(ConfigError::new(key, value, format!("{wanted}, as in vae/config.json")));
            }
        }
        Ok(())
    }

    /// Opens `path` and checks that it fits `vae`.
    ///
    /// # Errors
    /// [`ModelError`] naming the file and what is wrong with it.
    pub fn open(path: &Path, vae: &VaeConfig) -> Result<(Self, WeightFiles), ModelError> {
        let weights = WeightFiles::open_file(path)?;
        let config = Self::of(&weights, path)?;
        let fits = config.check_fit(vae);
        fits.map_err(|problem| ModelError::Config { path: path.to_path_buf(), problem })?;
        Ok((config, weights))
    }
}
