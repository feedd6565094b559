//! The clips that went into a clip. c2pa calls an output trusted whose parent had been tampered with; what the
//! parents were worth is said here.

use c2pa::{Ingredient, Manifest, Reader, ValidationState};

use crate::report::{IngredientReport, IngredientValidity};

/// Deepest ingredient that is reported, and most of them: a manifest is a stranger's.
const DEPTH: usize = 16;
const COUNT: usize = 256;

/// The ingredients of a manifest and theirs, depth first.
pub(super) fn walk(reader: &Reader, manifest: &Manifest) -> Vec<IngredientReport> {
    let mut found = Vec::new();
    descend(reader, manifest, 1, &mut found);
    found
}

fn descend(reader: &Reader, manifest: &Manifest, depth: usize, found: &mut Vec<IngredientReport>) {
    for ingredient in manifest.ingredients() {
        if depth > DEPTH || found.len() >= COUNT {
            return;
        }
        found.push(report(ingredient, depth));
        if let Some(inner) = ingredient.active_manifest().and_then(|label| reader.get_manifest(label)) {
            descend(reader, inner, depth + 1, found);
        }
    }
}

fn report(ingredient: &Ingredient, depth: usize) -> IngredientReport {
    let relationship = serde_json::to_value(ingredient.relationship()).ok();
    let relationship = relationship.as_ref().and_then(|value| value.as_str()).unwrap_or("unknown");
    let mut failures: Vec<String> = Vec::new();
    if let Some(codes) = ingredient.validation_results().and_then(|results| results.active_manifest()) {
        failures.extend(codes.failure().iter().map(|status| status.code().to_owned()));
    }
    let older = ingredient.validation_status().unwrap_or_default();
    failures.extend(older.iter().map(|status| status.code().to_owned()));
    let state = ingredient.validation_results().map(|results| results.validation_state());
    let validity = ingredient.active_manifest().map(|_| match state {
        Some(ValidationState::Trusted) => IngredientValidity::Trusted,
        Some(ValidationState::Valid) => IngredientValidity::Untrusted,
        Some(ValidationState::Invalid) => IngredientValidity::Invalid,
        // Ingredients before version 3 list what is wrong and nothing else.
        None if failures.is_empty() => IngredientValidity::Untrusted,
        None => IngredientValidity::Invalid,
    });
    IngredientReport {
        title: ingredient.title().map(str::to_owned),
        relationship: relationship.to_owned(),
        validity,
        failures,
        depth,
    }
}
