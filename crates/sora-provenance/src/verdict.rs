//! One verdict out of what was found: manifest, watermark, stored manifest.
//!
//! A verdict separates what is proven (a signature over these bytes), what is evidence (a watermark at a
//! stated false-alarm probability) and what is absent. None of them says that a clip shows what happened,
//! or that it does not.

use serde::Serialize;

use crate::report::{Container, Credentials, IngredientValidity, ManifestReport, Report, Validity};

/// `alg` of our watermark in soft bindings. Not in C2PA's list of soft binding algorithms.
pub const WATERMARK_ALG: &str = "org.sora-gst.watermark.1";

/// The nine verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Signed by a signer of the user's own anchors, unchanged since.
    Authentic,
    /// Signed by a signer of the anchors of others, unchanged since.
    AuthenticOther,
    /// Unchanged since signing, by a signer that nobody vouches for.
    ValidUntrusted,
    /// Without a manifest; the watermark led to a stored one whose signer is trusted.
    Recovered,
    /// Without a manifest; a watermark, and no stored manifest for it.
    WatermarkOnly,
    /// Neither manifest nor watermark.
    NoEvidence,
    /// A manifest that does not fit the clip, or is broken.
    Tampered,
    /// Manifest, watermark and record contradict each other.
    Conflict,
    /// Not enough to say anything.
    Inconclusive,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Authentic,
        Self::AuthenticOther,
        Self::ValidUntrusted,
        Self::Recovered,
        Self::WatermarkOnly,
        Self::NoEvidence,
        Self::Tampered,
        Self::Conflict,
        Self::Inconclusive,
    ];

    /// Exit code of a program that found it. Errors have others: 64 usage, 65 format, 66 no input, 70 internal.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Authentic | Self::AuthenticOther => 0,
            Self::ValidUntrusted => 10,
            Self::Recovered => 11,
            Self::WatermarkOnly => 12,
            Self::NoEvidence => 20,
            Self::Tampered => 30,
            Self::Conflict => 31,
            Self::Inconclusive => 40,
        }
    }

    /// What a signature alone says.
    pub fn of_signature(validity: Validity) -> Self {
        match validity {
            Validity::TrustedOwn => Self::Authentic,
            Validity::TrustedOthers => Self::AuthenticOther,
            Validity::Untrusted => Self::ValidUntrusted,
            Validity::Invalid => Self::Tampered,
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authentic => "authentic",
            Self::AuthenticOther => "authentic_other",
            Self::ValidUntrusted => "valid_untrusted",
            Self::Recovered => "recovered",
            Self::WatermarkOnly => "watermark_only",
            Self::NoEvidence => "no_evidence",
            Self::Tampered => "tampered",
            Self::Conflict => "conflict",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What looking for a watermark gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatermarkEvidence {
    /// Nobody looked.
    NotLookedFor,
    /// None above the threshold.
    Absent,
    /// One that carries this value.
    Found(Vec<u8>),
    /// It could not be said, and why.
    Inconclusive(String),
}

/// What a stored manifest for the watermark's value is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// There is none, or nobody looked.
    None,
    /// There is one, whose signature is that of a trusted signer, and the clip looks like the recorded one.
    Trusted,
    /// There is one, the clip looks like the recorded one, and its signer is not known.
    Untrusted,
    /// There is one, and it cannot be said whether the clip looks like the recorded one.
    Unclear,
    /// There is one, and the clip does not resemble the recorded one: the watermark was carried over.
    NotThisClip,
}

/// A verdict and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, one sentence each, for people.
    pub reasons: Vec<String>,
}

/// Combines what was found into one verdict.
///
/// A manifest is judged first: what is proven outweighs what is evidence. A watermark that contradicts a
/// whole manifest is a conflict; one that a manifest promises and that is not found is only mentioned, since
/// the signature covers these very bytes.
pub fn judge(report: &Report, watermark: &WatermarkEvidence, resolution: Resolution) -> Judgement {
    let mut reasons = Vec::new();
    let verdict = match &report.credentials {
        Credentials::Unreadable { problems } => {
            reasons.push(format!("There is a manifest that cannot be read: {}.", problems.join("; ")));
            Verdict::Tampered
        }
        Credentials::Present(manifest) => {
            of_manifest(report.container, manifest, watermark, resolution, &mut reasons)
        }
        Credentials::Absent => {
            reasons.push("There is no manifest.".into());
            of_watermark(watermark, resolution, &mut reasons)
        }
    };
    Judgement { verdict, reasons }
}

fn of_manifest(
    container: Container,
    manifest: &ManifestReport,
    watermark: &WatermarkEvidence,
    resolution: Resolution,
    reasons: &mut Vec<String>,
) -> Verdict {
    for ingredient in &manifest.ingredients {
        let title = ingredient.title.as_deref().unwrap_or("without a title");
        match ingredient.validity {
            Some(IngredientValidity::Invalid) => {
                let codes = ingredient.failures.join(", ");
                reasons.push(format!("The source {title:?} had been changed before it was used ({codes})."));
            }
            Some(IngredientValidity::Untrusted) => {
                reasons.push(format!("The source {title:?} was signed by a signer that is not trusted."));
            }
            _ => {}
        }
    }
    if manifest.validity == Validity::Invalid {
        let problems = manifest.problems();
        // A hash of the whole cannot fit a part of it.
        if container == Container::InitSegment && problems == ["assertion.bmffHash.mismatch"] {
            reasons.push("This is the beginning of a fragmented clip; its fragments are needed.".into());
            return Verdict::Inconclusive;
        }
        reasons.push(format!("The clip is not what was signed: {}.", problems.join("; ")));
        return Verdict::Tampered;
    }
    if container == Container::InitSegment && manifest.live.is_some() {
        reasons.push("This is the beginning of a live stream; its fragments are needed.".into());
        return Verdict::Inconclusive;
    }
    if let WatermarkEvidence::Found(value) = watermark {
        let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        let promised = manifest.bindings.iter().find(|binding| binding.alg == WATERMARK_ALG);
        match promised {
            Some(binding) if binding.value == value => {
                reasons.push("The watermark carries the value that the manifest names.".into());
            }
            Some(binding) => {
                let promised = &binding.value;
                reasons.push(format!("The watermark carries {value}, the manifest names {promised}."));
                return Verdict::Conflict;
            }
            None => {
                reasons.push(format!(
                    "The clip carries our watermark ({value}), and its manifest does not mention it."
                ));
                return Verdict::Conflict;
            }
        }
    }
    match watermark {
        WatermarkEvidence::Absent if manifest.bindings.iter().any(|found| found.alg == WATERMARK_ALG) => {
            reasons.push("The manifest names a watermark that was not found.".into());
        }
        WatermarkEvidence::Inconclusive(why) => reasons.push(format!("About a watermark: {why}.")),
        _ => {}
    }
    // Somebody took a manifest out and put another one in its place. Who is trusted need not ask.
    if manifest.validity == Validity::Untrusted && resolution == Resolution::Trusted {
        reasons.push(
            "The watermark leads to another manifest, stored by a trusted signer for a clip that looks like this one."
                .into(),
        );
        return Verdict::Conflict;
    }
    let signer = manifest.signer.as_ref();
    let name = signer.and_then(|signer| signer.organization.as_deref()).unwrap_or("an unnamed signer");
    reasons.push(format!("The clip is unchanged since {name:?} signed it."));
    if signer.is_some_and(|signer| signer.development) {
        reasons.push(
            "It is signed with a development certificate, which proves integrity since signing, not origin."
                .into(),
        );
    }
    if manifest.validity == Validity::Untrusted {
        reasons.push("The signer is in no set of trust anchors that was given.".into());
    }
    Verdict::of_signature(manifest.validity)
}

fn of_watermark(watermark: &WatermarkEvidence, resolution: Resolution, reasons: &mut Vec<String>) -> Verdict {
    match (watermark, resolution) {
        (WatermarkEvidence::Found(_), Resolution::Trusted) => {
            reasons.push("The watermark leads to a stored manifest of a trusted signer.".into());
            Verdict::Recovered
        }
        (WatermarkEvidence::Found(_), Resolution::NotThisClip) => {
            reasons.push("The watermark leads to the stored manifest of a clip that looks different.".into());
            Verdict::Conflict
        }
        (WatermarkEvidence::Found(_), Resolution::Untrusted) => {
            reasons.push("The watermark leads to a stored manifest whose signer is not trusted.".into());
            Verdict::WatermarkOnly
        }
        (WatermarkEvidence::Found(_), Resolution::Unclear) => {
            reasons.push(
                "The watermark leads to a stored manifest, and whether it is of this clip cannot be said: there is nothing, or too little, to compare."
                    .into(),
            );
            Verdict::WatermarkOnly
        }
        (WatermarkEvidence::Found(_), Resolution::None) => {
            reasons.push("There is a watermark, and no stored manifest for it is at hand.".into());
            Verdict::WatermarkOnly
        }
        (WatermarkEvidence::Inconclusive(why), _) => {
            reasons.push(format!("About a watermark nothing can be said: {why}."));
            Verdict::Inconclusive
        }
        (WatermarkEvidence::Absent, _) => {
            reasons.push(
                "There is no watermark of ours. That says nothing about where the clip comes from.".into(),
            );
            Verdict::NoEvidence
        }
        (WatermarkEvidence::NotLookedFor, _) => {
            reasons.push("Nobody looked for a watermark.".into());
            Verdict::NoEvidence
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Binding, Location};

    fn report(validity: Validity, bindings: &[&str]) -> Report {
        let bindings = bindings
            .iter()
            .map(|value| Binding { alg: WATERMARK_ALG.into(), value: (*value).into() })
            .collect();
        let manifest = ManifestReport {
            id: "urn:c2pa:1".into(),
            instance_id: String::new(),
            location: Location::Embedded,
            validity,
            of_beginning: None,
            signer: None,
            time_stamp: None,
            failures: vec![],
            structure: vec![],
            claim_generator: vec![],
            actions: vec![],
            digital_source_types: vec![],
            bindings,
            generation: None,
            ingredients: vec![],
            live: None,
        };
        Report { container: Container::Mp4, credentials: Credentials::Present(Box::new(manifest)) }
    }

    fn absent() -> Report {
        Report { container: Container::Mp4, credentials: Credentials::Absent }
    }

    #[test]
    fn a_manifest_and_a_watermark_make_one_verdict() {
        use Verdict::*;
        use WatermarkEvidence as W;
        let found = || W::Found(vec![0xab, 0x01]);
        let unsure = || W::Inconclusive("too short".into());
        let cases = [
            (Validity::TrustedOwn, &["ab01"][..], found(), Authentic),
            (Validity::TrustedOwn, &["ab01"], W::NotLookedFor, Authentic),
            (Validity::TrustedOwn, &["ab01"], W::Absent, Authentic),
            (Validity::TrustedOwn, &["ab01"], unsure(), Authentic),
            (Validity::TrustedOwn, &["ab02"], found(), Conflict),
            (Validity::TrustedOwn, &[], found(), Conflict),
            (Validity::TrustedOthers, &[], found(), Conflict),
            (Validity::TrustedOthers, &[], W::Absent, AuthenticOther),
            (Validity::Untrusted, &["ab01"], found(), ValidUntrusted),
            (Validity::Untrusted, &["ab02"], found(), Conflict),
            (Validity::Invalid, &["ab01"], found(), Tampered),
        ];
        for (validity, bindings, watermark, verdict) in cases {
            let judged = judge(&report(validity, bindings), &watermark, Resolution::None);
            assert_eq!(judged.verdict, verdict, "{validity:?} {bindings:?} {watermark:?}");
            assert!(!judged.reasons.is_empty());
        }
    }

    #[test]
    fn a_manifest_in_the_place_of_a_stored_one_is_a_conflict() {
        let found = WatermarkEvidence::Found(vec![0xab, 0x01]);
        let verdict = |validity, resolution| judge(&report(validity, &["ab01"]), &found, resolution).verdict;
        assert_eq!(verdict(Validity::Untrusted, Resolution::Trusted), Verdict::Conflict);
        assert_eq!(verdict(Validity::Untrusted, Resolution::NotThisClip), Verdict::ValidUntrusted);
        assert_eq!(verdict(Validity::TrustedOwn, Resolution::Trusted), Verdict::Authentic);
    }

    #[test]
    fn a_watermark_alone_makes_one_too() {
        use Verdict::*;
        use WatermarkEvidence as W;
        let cases = [
            (W::Found(vec![1]), Resolution::Trusted, Recovered),
            (W::Found(vec![1]), Resolution::Untrusted, WatermarkOnly),
            (W::Found(vec![1]), Resolution::None, WatermarkOnly),
            (W::Found(vec![1]), Resolution::NotThisClip, Conflict),
            (W::Found(vec![1]), Resolution::Unclear, WatermarkOnly),
            (W::Absent, Resolution::None, NoEvidence),
            (W::NotLookedFor, Resolution::None, NoEvidence),
            (W::Inconclusive("too short".into()), Resolution::None, Inconclusive),
        ];
        for (watermark, resolution, verdict) in cases {
            assert_eq!(judge(&absent(), &watermark, resolution).verdict, verdict, "{watermark:?}");
        }
    }

    #[test]
    fn names_and_exit_codes_are_those_that_are_documented() {
        let codes: Vec<_> =
            Verdict::ALL.iter().map(|verdict| (verdict.name(), verdict.exit_code())).collect();
        let expected = [
            ("authentic", 0),
            ("authentic_other", 0),
            ("valid_untrusted", 10),
            ("recovered", 11),
            ("watermark_only", 12),
            ("no_evidence", 20),
            ("tampered", 30),
            ("conflict", 31),
            ("inconclusive", 40),
        ];
        assert_eq!(codes, expected);
        for verdict in Verdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
    }

    #[test]
    fn no_word_calls_a_clip_real_or_fake() {
        for validity in
            [Validity::Invalid, Validity::Untrusted, Validity::TrustedOwn, Validity::TrustedOthers]
        {
            for watermark in [
                WatermarkEvidence::NotLookedFor,
                WatermarkEvidence::Absent,
                WatermarkEvidence::Found(vec![1]),
                WatermarkEvidence::Inconclusive("too short".into()),
            ] {
                for report in [report(validity, &["01"]), report(validity, &[]), absent()] {
                    for resolution in [
                        Resolution::None,
                        Resolution::Trusted,
                        Resolution::Untrusted,
                        Resolution::Unclear,
                        Resolution::NotThisClip,
                    ] {
                        let words = judge(&report, &watermark, resolution).reasons.join(" ").to_lowercase();
                        for word in ["real", "fake", "genuine"] {
                            assert!(!words.split(|c: char| !c.is_alphabetic()).any(|w| w == word), "{words}");
                        }
                    }
                }
            }
        }
    }
}
