//! What a manifest says of a clip.
//!
//! | record                     | actions, in order                                            | source type |
//! |----------------------------|--------------------------------------------------------------|-------------|
//! | from a prompt alone        | `c2pa.created`                                               | `trainedAlgorithmicMedia` |
//! | with footage of others     | `c2pa.opened`, `c2pa.edited`, the inputs as ingredients       | `compositeWithTrainedAlgorithmicMedia` |
//! | none                       | `c2pa.opened`, `c2pa.published`, the clip as its own ingredient | none |
//!
//! A claim must begin with `c2pa.created` or `c2pa.opened` (C2PA 2.4 §18.15.4.2). Of a clip of which nothing is
//! known only the second is true: somebody opened it, and published it unchanged. The ingredient that it asks
//! for says nothing but that there was one.
//!
//! With a watermark id comes `c2pa.watermarked.bound` and a `c2pa.soft-binding` with the id's bytes; with a
//! record come `c2pa.ai-disclosure` and our own assertion, [`GENERATION_LABEL`], which is the record as far as
//! its prompt policy lets it be published. `c2pa.watermarked.bound` does not point to the soft binding
//! (`relatedAssertions`): c2pa 0.90 cannot resolve such a reference before the claim exists.

mod assertions;

use sora_record::{Concealed, GenerationRecord, Prompt, PromptPolicy, Sha256 as Digest256};

pub(crate) use assertions::{Nameless, add_to, labels};

use crate::ProvenanceError;

/// Label of the assertion that holds a [`GenerationRecord`].
pub const GENERATION_LABEL: &str = "org.sora-gst.generation";
/// Bytes of a watermark's id.
const WATERMARK_BYTES: usize = 12;
/// Bytes of the salt of a concealed prompt.
const SALT_BYTES: usize = 32;
/// Longest title, in bytes.
const TITLE_BYTES: usize = 512;

/// What a manifest is to say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claim {
    /// What made the clip; `None` where that is not known or it was not generated: then nothing is said of AI.
    pub record: Option<GenerationRecord>,
    /// The watermark's id that the clip carries, 24 hexadecimal digits.
    pub watermark_id: Option<String>,
    /// Title, at most 512 bytes.
    pub title: Option<String>,
}

impl Claim {
    /// Checks the claim, and turns the record into what may be published of it.
    pub(crate) fn publishable(&self) -> Result<Published, ProvenanceError> {
        let record = self.record.as_ref().map(publish).transpose()?;
        let watermark = self.watermark_id.as_deref().map(watermark_bytes).transpose()?;
        if let Some(title) = &self.title
            && (!(1..=TITLE_BYTES).contains(&title.len()) || title.chars().any(char::is_control))
        {
            let (value, bound) = (
                format!("{} bytes", title.len()),
                format!("1 to {TITLE_BYTES} bytes, no control characters"),
            );
            return Err(ProvenanceError::Value { what: "title", value, bound });
        }
        Ok(Published { record, watermark, title: self.title.clone() })
    }
}

/// A checked claim without what must not be published.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) record: Option<GenerationRecord>,
    pub(crate) watermark: Option<[u8; WATERMARK_BYTES]>,
    pub(crate) title: Option<String>,
}

/// The record with as much of the prompt as its policy allows.
fn publish(record: &GenerationRecord) -> Result<GenerationRecord, ProvenanceError> {
    let mut record = record.clone();
    record.prompt = match (record.prompt_policy, record.prompt.take()) {
        (PromptPolicy::Omit, _) => None,
        (PromptPolicy::SaltedHash, Some(Prompt::Text(text))) => Some(Prompt::Sha256(conceal(&text)?)),
        (_, prompt) => prompt,
    };
    record.check().map_err(|error| ProvenanceError::Claim(error.to_string()))?;
    Ok(record)
}

/// A commitment to a prompt: SHA-256 of a fresh salt and the text.
fn conceal(text: &str) -> Result<Concealed, ProvenanceError> {
    use sha2::Digest as _;
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)
        .map_err(|error| ProvenanceError::Claim(format!("no random numbers: {error}")))?;
    let digest = sha2::Sha256::new().chain_update(salt).chain_update(text.as_bytes()).finalize();
    let digest: Digest256 =
        hex(&digest).parse().map_err(|error| ProvenanceError::Claim(format!("{error}")))?;
    Ok(Concealed { salt: hex(&salt), digest })
}

fn watermark_bytes(id: &str) -> Result<[u8; WATERMARK_BYTES], ProvenanceError> {
    let wrong = || {
        let shown: String = id.chars().take(64).collect();
        let bound = format!("{} hexadecimal digits", WATERMARK_BYTES * 2);
        ProvenanceError::Value { what: "watermark id", value: format!("{shown:?}"), bound }
    };
    if id.len() != WATERMARK_BYTES * 2 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; WATERMARK_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use sora_record::Mode;

    use super::*;

    fn with_prompt(policy: PromptPolicy) -> Claim {
        let mut record = GenerationRecord::new("soragen", "0.1.0", Mode::TextToVideo);
        record.prompt = Some(Prompt::Text("a red balloon".into()));
        record.prompt_policy = policy;
        Claim { record: Some(record), ..Claim::default() }
    }

    #[test]
    fn the_policy_decides_what_of_the_prompt_is_published() {
        let prompt = |policy| with_prompt(policy).publishable().unwrap().record.unwrap().prompt;
        assert_eq!(prompt(PromptPolicy::Omit), None);
        assert_eq!(prompt(PromptPolicy::Text), Some(Prompt::Text("a red balloon".into())));
        let (Some(Prompt::Sha256(one)), Some(Prompt::Sha256(two))) =
            (prompt(PromptPolicy::SaltedHash), prompt(PromptPolicy::SaltedHash))
        else {
            panic!("no commitment");
        };
        assert_ne!(one.salt, two.salt, "a salt is used once");
        let salt: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&one.salt[at * 2..at * 2 + 2], 16).unwrap()).collect();
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest([salt.as_slice(), b"a red balloon"].concat());
        assert_eq!(one.digest.to_string(), hex(&digest), "whoever knows the prompt can show it");
    }

    #[test]
    fn an_id_that_is_none_is_refused() {
        assert_eq!(watermark_bytes("10112233445566778899aabb").unwrap()[11], 0xbb);
        for id in ["", "10112233445566778899aab", "10112233445566778899aabg", "+0112233445566778899aabb"] {
            let error = watermark_bytes(id).unwrap_err().to_string();
            assert!(error.contains("24 hexadecimal digits"), "{error}");
        }
    }
}
