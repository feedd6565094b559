//! What verifying a clip's C2PA manifest found, as values.

use serde::Serialize;
use sora_record::GenerationRecord;

use crate::live::LiveReport;

/// What was found about a clip's manifest.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What kind of file it is.
    pub container: Container,
    /// Its manifest.
    pub credentials: Credentials,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Container {
    /// MP4 with its index.
    Mp4,
    /// MP4 in fragments, in one file.
    FragmentedMp4,
    /// The beginning of a fragmented MP4 without any fragment: it cannot be judged alone.
    InitSegment,
    /// No MP4: no manifest can be in it that is looked for here.
    Other,
}

/// A clip's manifest, or why there is none.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Credentials {
    /// There is none.
    Absent,
    /// There is something that claims to be one and cannot be read.
    Unreadable {
        /// Why.
        problems: Vec<String>,
    },
    /// There is one.
    Present(Box<ManifestReport>),
}

/// Where a manifest was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Location {
    /// In the file.
    Embedded,
    /// In a file beside it.
    Sidecar,
    /// In a store, found by the id that the clip's watermark carries.
    Store,
}

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Validity {
    /// Something changed after signing, or was never right.
    Invalid,
    /// Nothing changed since signing; the signer is not known.
    Untrusted,
    /// Nothing changed since it was signed by a signer of the user's own anchors.
    TrustedOwn,
    /// Nothing changed since it was signed by a signer of the anchors of others.
    TrustedOthers,
}

/// A manifest and what its check found.
#[derive(Debug, Clone, Serialize)]
pub struct ManifestReport {
    /// Its id, `urn:c2pa:…`.
    pub id: String,
    /// The instance of the clip that it was made for (`instanceID`); empty in claims that lack it.
    pub instance_id: String,
    /// Where it was.
    pub location: Location,
    /// What its signature is worth.
    pub validity: Validity,
    /// Of a live stream: what the signature of its beginning is worth, whatever came after it.
    pub of_beginning: Option<Validity>,
    /// Who signed; absent where the certificate cannot be read.
    pub signer: Option<Signer>,
    /// Time of signing that a time-stamping authority attests, RFC 3339. The times of actions are claims.
    pub time_stamp: Option<String>,
    /// C2PA status codes of failures, the untrusted signer's among them.
    pub failures: Vec<Failure>,
    /// What our own checks found wrong with the file: places of the manifest and of samples.
    pub structure: Vec<String>,
    /// The programs that made the claim, `name version`.
    pub claim_generator: Vec<String>,
    /// Labels of actions, in order.
    pub actions: Vec<String>,
    /// IPTC digital source types of its actions.
    pub digital_source_types: Vec<String>,
    /// Soft bindings.
    pub bindings: Vec<Binding>,
    /// Our generation record, where there is one.
    pub generation: Option<GenerationRecord>,
    /// The clips it was made from, depth first.
    pub ingredients: Vec<IngredientReport>,
    /// What was found of its fragments, where each is signed by itself (C2PA 2.4 §19.4).
    pub live: Option<LiveReport>,
}

/// A soft binding of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// Algorithm.
    pub alg: String,
    /// Value, hexadecimal.
    pub value: String,
}

/// Who signed.
#[derive(Debug, Clone, Serialize)]
pub struct Signer {
    /// Organization in the certificate's subject.
    pub organization: Option<String>,
    /// Common name in the certificate's subject.
    pub common_name: Option<String>,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// End of the certificate's validity, seconds since 1970.
    pub not_after: i64,
    /// A development certificate: the signature proves integrity since signing, not origin.
    pub development: bool,
}

/// A failed check, as C2PA names it.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Status code, e.g. `assertion.bmffHash.mismatch`.
    pub code: String,
    /// What it is about, a JUMBF URI.
    pub url: Option<String>,
    /// More, for people.
    pub explanation: Option<String>,
}

/// A clip that went into another.
#[derive(Debug, Clone, Serialize)]
pub struct IngredientReport {
    /// Title.
    pub title: Option<String>,
    /// How it went in: `parentOf`, `componentOf` or `inputTo`.
    pub relationship: String,
    /// What its own signature was worth when it went in; absent where it had no manifest.
    pub validity: Option<IngredientValidity>,
    /// Status codes of its failures.
    pub failures: Vec<String>,
    /// 1 for what went into the clip itself.
    pub depth: usize,
}

/// What an ingredient's signature was worth to the one who used it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IngredientValidity {
    /// It had been changed.
    Invalid,
    /// It was whole; its signer was not known.
    Untrusted,
    /// It was whole and its signer trusted.
    Trusted,
}

impl Report {
    /// The manifest, where there is one that can be read.
    pub fn manifest(&self) -> Option<&ManifestReport> {
        match &self.credentials {
            Credentials::Present(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// The manifest's id.
    pub fn manifest_id(&self) -> Option<&str> {
        self.manifest().map(|manifest| manifest.id.as_str())
    }

    /// What is wrong with the manifest or the file under it; an untrusted signer is nothing wrong.
    pub fn problems(&self) -> Vec<String> {
        match &self.credentials {
            Credentials::Absent => Vec::new(),
            Credentials::Unreadable { problems } => problems.clone(),
            Credentials::Present(manifest) => manifest.problems(),
        }
    }
}

impl ManifestReport {
    /// What is wrong; an untrusted signer is nothing wrong.
    pub fn problems(&self) -> Vec<String> {
        let failures = self.failures.iter().filter(|failure| failure.code != UNTRUSTED);
        let mut problems: Vec<String> = failures.map(|failure| failure.code.clone()).collect();
        problems.extend(self.structure.iter().cloned());
        problems.extend(self.live.iter().flat_map(|live| &live.problems).map(ToString::to_string));
        if problems.is_empty() && self.validity == Validity::Invalid {
            problems.push("the manifest is not valid".into());
        }
        problems
    }
}

/// C2PA's code for a signer that is in no anchor set.
pub(crate) const UNTRUSTED: &str = "signingCredential.untrusted";
