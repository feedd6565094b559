//! The assertions of a claim, as c2pa takes them.

use c2pa::Builder;
use serde::Serialize;
use serde_json::{Value, json};
use sora_record::GenerationRecord;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{GENERATION_LABEL, Published};
use crate::ProvenanceError;
use crate::verdict::WATERMARK_ALG;

/// Where IPTC defines digital source types.
const IPTC: &str = "http://cv.iptc.org/newscodes/digitalsourcetype/";
/// The version of the specification that the claim follows.
const SPECIFICATION: &str = "2.4.0";
/// What the ingredient's label is that is opened.
const OPENED: &str = "opened";

/// The assertions that are made by the signer, in contrast to gathered ones (C2PA 2.4 §10.3.2). Only what the
/// signer itself created counts to those who read AI disclosures.
pub(crate) fn labels() -> [&'static str; 5] {
    ["c2pa.actions", "c2pa.soft-binding", "c2pa.ai-disclosure", "c2pa.session-keys", GENERATION_LABEL]
}

/// The binding to a watermark. c2pa 0.90 has a type for it whose value is text; the specification wants bytes.
#[derive(Serialize)]
struct SoftBinding<'a> {
    alg: &'a str,
    blocks: [Block<'a>; 1],
    #[serde(with = "serde_bytes")]
    pad: &'a [u8],
}

#[derive(Serialize)]
struct Block<'a> {
    /// Empty: all of the clip.
    scope: Scope,
    #[serde(with = "serde_bytes")]
    value: &'a [u8],
}

#[derive(Serialize)]
struct Scope {}

/// An ingredient without a file: what is known of it is its name.
pub(crate) struct Nameless {
    /// Its label in actions.
    pub(crate) label: String,
    /// As c2pa takes it.
    pub(crate) json: Value,
}

/// Says the claim in `builder`. Returns the ingredients that its actions name, in order; whoever signs adds
/// them, with the file where there is one.
pub(crate) fn add_to(builder: &mut Builder, claim: &Published) -> Result<Vec<Nameless>, ProvenanceError> {
    let failed = |error: c2pa::Error| ProvenanceError::Claim(error.to_string());
    builder.set_claim_generator_info(generator());
    if let Some(title) = &claim.title {
        builder.definition.title = Some(title.clone());
    }
    let ingredients = ingredients(claim);
    let mut actions = inception(claim, &ingredients);
    if let Some(watermark) = &claim.watermark {
        actions.push(json!({ "action": "c2pa.watermarked.bound" }));
        let blocks = [Block { scope: Scope {}, value: watermark }];
        let binding = SoftBinding { alg: WATERMARK_ALG, blocks, pad: &[] };
        builder.add_assertion("c2pa.soft-binding", &binding).map_err(failed)?;
    }
    let actions = json!({ "actions": actions, "allActionsIncluded": true });
    builder.add_assertion("c2pa.actions.v2", &actions).map_err(failed)?;
    if let Some(record) = &claim.record {
        builder.add_assertion("c2pa.ai-disclosure", &disclosure(record)).map_err(failed)?;
        // As JSON: a seed takes all of 64 bits, which not every reader of CBOR gives back.
        builder.add_assertion_json(GENERATION_LABEL, record).map_err(failed)?;
    }
    Ok(ingredients)
}

/// This program. The program that generated the clip is the action's software agent.
fn generator() -> c2pa::ClaimGeneratorInfo {
    let mut info = c2pa::ClaimGeneratorInfo::new("sora-gst");
    info.set_version(env!("CARGO_PKG_VERSION"));
    info.insert("specVersion", SPECIFICATION);
    info
}

/// How the clip came to be, and what follows from that.
fn inception(claim: &Published, ingredients: &[Nameless]) -> Vec<Value> {
    let ids: Vec<&str> = ingredients.iter().map(|ingredient| ingredient.label.as_str()).collect();
    let opened = json!({ "action": "c2pa.opened", "parameters": { "ingredientIds": [OPENED] } });
    let Some(record) = &claim.record else {
        return vec![opened, json!({ "action": "c2pa.published" })];
    };
    let agent = json!({ "name": record.software.name, "version": record.software.version });
    let mut action = match record.mode.has_source() {
        false => json!({
            "action": "c2pa.created",
            "digitalSourceType": format!("{IPTC}trainedAlgorithmicMedia"),
        }),
        true => json!({
            "action": "c2pa.edited",
            "digitalSourceType": format!("{IPTC}compositeWithTrainedAlgorithmicMedia"),
            "parameters": { "ingredientIds": ids },
        }),
    };
    action["softwareAgent"] = agent;
    if let Some(when) = record.created_at_ms.and_then(rfc3339) {
        action["when"] = when.into();
    }
    if record.mode.has_source() { vec![opened, action] } else { vec![action] }
}

fn rfc3339(milliseconds: u64) -> Option<String> {
    let seconds = i64::try_from(milliseconds / 1000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

/// What the claim names as its sources: the first input as what was opened, others as what went in too.
fn ingredients(claim: &Published) -> Vec<Nameless> {
    let named = |at: usize, title: Option<&str>| {
        let label = if at == 0 { OPENED.to_owned() } else { format!("input{at}") };
        let relationship = if at == 0 { "parentOf" } else { "inputTo" };
        let mut json = json!({ "relationship": relationship, "format": "video/mp4", "label": label });
        json["title"] = title.unwrap_or("the clip before it was signed").into();
        Nameless { label, json }
    };
    match &claim.record {
        None => vec![named(0, claim.title.as_deref())],
        Some(record) if record.mode.has_source() && record.inputs.is_empty() => {
            vec![named(0, Some("an input that is not recorded"))]
        }
        Some(record) if record.mode.has_source() => {
            record.inputs.iter().enumerate().map(|(at, input)| named(at, Some(&input.id))).collect()
        }
        Some(_) => Vec::new(),
    }
}

/// C2PA 2.4's disclosure of AI.
fn disclosure(record: &GenerationRecord) -> Value {
    let name = record.model.as_ref().map_or(&record.software.name, |model| &model.id);
    let mut disclosure = json!({
        "modelType": "c2pa.types.model",
        "modelName": name,
        "contentProfile": { "humanOversightLevel": "prompt_guided" },
    });
    if let Some(weights) = record.model.as_ref().and_then(|model| model.weights_sha256.as_ref()) {
        disclosure["modelIdentifier"] = format!("sha256:{weights}").into();
    }
    disclosure
}
