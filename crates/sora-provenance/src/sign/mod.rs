//! Signing a clip, in three ways:
//!
//! - [`sign_file`]: a finished file, into another;
//! - [`sign_sidecar`]: a finished file, which stays as it is; the manifest goes into a file beside it;
//! - [`ManifestSeal`]: a file that is being written, through a [`PatchWriter`](crate::PatchWriter).
//!
//! Nothing is fetched from a network and no time stamp is asked for: a signature can be checked until the
//! signer's certificate ends. Manifests are small, because the space for the signature is measured and not
//! guessed: about 2 KiB more than the certificates and what the claim says.

mod file;
mod seal;
mod signer;

pub use file::{sign_file, sign_sidecar};
pub use seal::{ManifestSeal, expected_manifest_bytes};
pub(crate) use signer::ClipSigner;

use c2pa::{Builder, Context, Settings};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::claim::{self, Claim, Published};
use crate::{ProvenanceError, SigningKeys};

/// What c2pa knows the format by.
pub(crate) const FORMAT: &str = "video/mp4";

/// Settings of c2pa under which nothing leaves this machine.
pub(crate) fn offline() -> Value {
    json!({
        "version": 1,
        "core": { "allowed_network_hosts": [] },
        "verify": { "remote_manifest_fetch": false, "ocsp_fetch": false },
    })
}

/// A builder for a claim, with its ingredients yet to be added, and the signer in its context.
pub(crate) fn builder(
    claim: &Claim,
    keys: &SigningKeys,
) -> Result<(Builder, Published, Vec<claim::Nameless>), ProvenanceError> {
    let published = claim.publishable()?;
    let mut settings = offline();
    settings["builder"] = json!({
        "thumbnail": { "enabled": false },
        "created_assertion_labels": claim::labels(),
        "actions": {
            "auto_created_action": { "enabled": false },
            "auto_opened_action": { "enabled": false },
            "auto_placed_action": { "enabled": false },
        },
    });
    crate::clock::check()?;
    let settings = Settings::new().with_json(&settings.to_string()).map_err(failed)?;
    let context = Context::new().with_settings(settings).map_err(failed)?;
    let mut builder = Builder::from_context(context.with_signer(ClipSigner::new(keys)));
    builder.set_format(FORMAT);
    // A claim must name its instance (C2PA 2.4 §10.3.2.2); the builder leaves that empty in some of its ways.
    builder.definition.instance_id = format!("xmp:iid:{}", Uuid::new_v4());
    let ingredients = claim::add_to(&mut builder, &published)?;
    Ok((builder, published, ingredients))
}

/// Adds the ingredients that have no file.
pub(crate) fn add_nameless(
    builder: &mut Builder,
    ingredients: &[claim::Nameless],
) -> Result<(), ProvenanceError> {
    for ingredient in ingredients {
        builder.add_ingredient(c2pa::Ingredient::from_json(&ingredient.json.to_string()).map_err(failed)?);
    }
    Ok(())
}

pub(crate) fn failed(error: c2pa::Error) -> ProvenanceError {
    ProvenanceError::Sign(error.to_string())
}
