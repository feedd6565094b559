//! From what c2pa found to our report.

use c2pa::assertions::Actions;
use c2pa::validation_status::ValidationStatus;
use c2pa::{Manifest, Reader, SignatureInfo, ValidationState};
use serde_json::Value;
use sora_record::GenerationRecord;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{ingredients, stored};
use crate::claim::{GENERATION_LABEL, hex};
use crate::keys::{DEVELOPMENT, EPHEMERAL, subject_of};
use crate::report::{Binding, Failure, Location, ManifestReport, Signer, Validity};

/// The report of the active manifest; `None` where there is none.
pub(super) fn report(reader: &Reader, location: Location, structure: Vec<String>) -> Option<ManifestReport> {
    let manifest = reader.active_manifest()?;
    let signer = manifest.signature_info().and_then(signer);
    let failures = failures(reader);
    let ephemeral = signer
        .as_ref()
        .and_then(|signer| signer.common_name.as_deref())
        .is_some_and(|name| name == EPHEMERAL);
    let validity = match reader.validation_state() {
        _ if !structure.is_empty() => Validity::Invalid,
        // The hash of the clip is of no use without the clip.
        _ if location == Location::Store => stored::validity(reader, ephemeral),
        ValidationState::Invalid => Validity::Invalid,
        ValidationState::Valid => Validity::Untrusted,
        // The root of such a signer is forgotten: who has one that fits vouches for nobody.
        ValidationState::Trusted if ephemeral => Validity::Untrusted,
        ValidationState::Trusted => Validity::TrustedOwn,
    };
    let (actions, digital_source_types) = actions(manifest);
    Some(ManifestReport {
        id: reader.active_label().unwrap_or_default().to_owned(),
        instance_id: manifest.instance_id().to_owned(),
        location,
        validity,
        of_beginning: None,
        signer,
        time_stamp: manifest.signature_info().and_then(|info| info.time.clone()),
        failures,
        structure,
        claim_generator: claim_generator(manifest),
        actions,
        digital_source_types,
        bindings: bindings(manifest),
        generation: generation(manifest),
        ingredients: ingredients::walk(reader, manifest),
        live: None,
    })
}

/// The signer's certificate, DER.
pub(super) fn certificate(manifest: &Manifest) -> Option<Vec<u8>> {
    let info = manifest.signature_info()?;
    Some(Pem::iter_from_buffer(info.cert_chain().as_bytes()).next()?.ok()?.contents)
}

/// Failures of the active manifest and of what went into it, as far as they are new.
fn failures(reader: &Reader) -> Vec<Failure> {
    let Some(results) = reader.validation_results() else { return Vec::new() };
    let active = results.active_manifest().into_iter().flat_map(|codes| codes.failure());
    let deltas = results.ingredient_deltas().into_iter().flatten();
    let inner = deltas.flat_map(|delta| delta.validation_deltas().failure());
    active.chain(inner).map(failure).collect()
}

fn failure(status: &ValidationStatus) -> Failure {
    Failure {
        code: status.code().to_owned(),
        url: status.url().map(str::to_owned),
        explanation: status.explanation().map(str::to_owned),
    }
}

fn signer(info: &SignatureInfo) -> Option<Signer> {
    let block = Pem::iter_from_buffer(info.cert_chain().as_bytes()).next()?.ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    let (organization, unit, common_name) = subject_of(certificate.subject());
    let development = unit.as_deref() == Some(DEVELOPMENT) || common_name.as_deref() == Some(EPHEMERAL);
    Some(Signer {
        organization,
        common_name,
        serial: hex(certificate.raw_serial()),
        not_after: certificate.validity().not_after.timestamp(),
        development,
    })
}

fn claim_generator(manifest: &Manifest) -> Vec<String> {
    let infos = manifest.claim_generator_info.iter().flatten();
    let named = |info: &c2pa::ClaimGeneratorInfo| match &info.version {
        Some(version) => format!("{} {version}", info.name),
        None => info.name.clone(),
    };
    infos.map(named).collect()
}

/// Labels of actions, and the source types that they state.
fn actions(manifest: &Manifest) -> (Vec<String>, Vec<String>) {
    let (mut labels, mut types) = (Vec::new(), Vec::new());
    for assertion in manifest.assertions().iter().filter(|found| found.label().starts_with("c2pa.actions")) {
        let Ok(actions) = assertion.to_assertion::<Actions>() else { continue };
        for action in actions.actions() {
            labels.push(action.action().to_owned());
            if let Some(of) = action.source_type().and_then(|of| serde_json::to_value(of).ok())
                && let Some(of) = of.as_str()
                && !types.iter().any(|known| known == of)
            {
                types.push(of.to_owned());
            }
        }
    }
    (labels, types)
}

/// Soft bindings, ours and those of others.
fn bindings(manifest: &Manifest) -> Vec<Binding> {
    let mut bindings = Vec::new();
    for assertion in manifest.assertions().iter().filter(|found| found.label() == "c2pa.soft-binding") {
        let Ok(value) = assertion.value() else { continue };
        let alg = value["alg"].as_str().unwrap_or_default();
        for block in value["blocks"].as_array().into_iter().flatten() {
            if let Some(bytes) = bytes(&block["value"]) {
                bindings.push(Binding { alg: alg.to_owned(), value: hex(&bytes) });
            }
        }
    }
    bindings
}

/// A byte string, which c2pa gives as a list of numbers. Older programs write text: its bytes are taken.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Array(numbers) => {
            numbers.iter().map(|number| number.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect()
        }
        Value::String(text) => Some(text.clone().into_bytes()),
        _ => None,
    }
}

/// Our record. One that breaks its bounds, or of a newer schema, is as good as none.
fn generation(manifest: &Manifest) -> Option<GenerationRecord> {
    let assertion = manifest.assertions().iter().find(|found| found.label() == GENERATION_LABEL)?;
    GenerationRecord::from_json(&assertion.value().ok()?.to_string()).ok()
}
