//! Which VAE decodes: the model's own, or a tiny one that is faster and less faithful.

use std::path::PathBuf;

use gst::glib;
use gst::prelude::*;
use sora_model::config::TinyVaeConfig;
use sora_model::{ModelDir, ModelError};

use crate::choice::ModelChoice;
use crate::model::unusable;

/// What decodes latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraVae")]
pub(crate) enum Vae {
    /// A tiny one that is named, or that a stream's model brings along.
    #[default]
    #[enum_value(
        name = "vae-file where it is set; else, for streams, the model directory's taehv/ where there is one; else full",
        nick = "auto"
    )]
    Auto,
    /// The model's own.
    #[enum_value(name = "The model's own, as good as it gets", nick = "full")]
    Full,
    /// A tiny one.
    #[enum_value(name = "vae-file, else the model directory's taehv/: faster, less faithful", nick = "tiny")]
    Tiny,
}

/// The file of the tiny VAE that is to decode, which fits the model; `None` for the model's own VAE. `streams` says
/// whether what is made has to be made in time.
pub(crate) fn tiny_vae_file(
    choice: &ModelChoice,
    dir: &ModelDir,
    streams: bool,
) -> Result<Option<PathBuf>, gst::ErrorMessage> {
    let own = || dir.tiny_vae_file().map_err(|error| unusable(&dir.path().join("taehv"), &error));
    let file = match (choice.vae, &choice.vae_file) {
        (Vae::Full, _) => None,
        (_, Some(file)) => Some(file.clone()),
        (Vae::Auto, None) if !streams => None,
        (_, None) => own()?,
    };
    if let Some(file) = &file {
        if file.extension().is_some_and(|extension| extension == "pth" || extension == "pt") {
            let path = file.clone();
            let message =
                "it is a PyTorch checkpoint: scripts/convert-checkpoint makes a safetensors file of it"
                    .into();
            return Err(unusable(file, &ModelError::Weights { path, message }));
        }
        TinyVaeConfig::open(file, dir.vae()).map_err(|error| unusable(file, &error))?;
    } else if choice.vae == Vae::Tiny {
        return Err(gst::error_msg!(
            gst::ResourceError::NotFound,
            ("vae is tiny, but this model has no tiny VAE; set vae-file to one, or vae=full"),
            ["looked for {}", dir.path().join("taehv").display()]
        ));
    }
    Ok(file)
}

/// The properties: read when the element leaves NULL.
pub(crate) fn properties() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecEnum::builder_with_default("vae", Vae::Auto)
            .nick("VAE")
            .blurb("What decodes latents into frames; read when leaving NULL")
            .build(),
        glib::ParamSpecString::builder("vae-file")
            .nick("VAE file")
            .blurb("Safetensors file with a tiny VAE (TAEHV: taew2_1 for Wan 2.1, taew2_2 for Wan 2.2 5B) that decodes instead of the model's own; unset = none; read when leaving NULL")
            .build(),
    ]
}
