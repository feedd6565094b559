//! The record itself, and how it is read, checked and written.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::{RecordError, Sha256};

/// The schema that this version writes. It rises when an older reader would misunderstand a record; a field
/// that can be skipped does not raise it.
pub const SCHEMA: u32 = 1;

/// What made a clip. Every field but `schema`, `software` and `mode` may be unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// Schema of the record, [`SCHEMA`] when it is written here.
    pub schema: u32,
    /// The program that made the clip, e.g. `soragen` `0.1.0`.
    pub software: Software,
    /// The model, where one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// What kind of work it was.
    pub mode: Mode,
    /// The prompt, in the clear or concealed; see [`PromptPolicy`] for what may be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Prompt>,
    /// What of the prompt may leave the process in a manifest.
    #[serde(default)]
    pub prompt_policy: PromptPolicy,
    /// Seed of the noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Width of the frames in pixels, 1 to [`limits::SIDE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height of the frames in pixels, 1 to [`limits::SIDE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Number of frames, 1 to [`limits::FRAMES`]; absent for a live stream whose end is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// Frames per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<FrameRate>,
    /// Denoising steps, 1 to [`limits::STEPS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_inference_steps: Option<u32>,
    /// Scale of classifier-free guidance, 0 to [`limits::GUIDANCE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f64>,
    /// The clips or pictures that went in, in the order in which they were used; at most [`limits::INPUTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// When the clip was made, in milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at_ms: Option<u64>,
}

/// A program and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Software {
    /// Name, 1 to [`limits::NAME_BYTES`] bytes.
    pub name: String,
    /// Version, 1 to [`limits::NAME_BYTES`] bytes.
    pub version: String,
}

/// A model and its weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Identifier, e.g. `sora-tiny` or `Wan-AI/Wan2.1-T2V-1.3B-Diffusers`; 1 to [`limits::NAME_BYTES`] bytes.
    pub id: String,
    /// SHA-256 over what `sha256sum` prints for the model's weight files, sorted by path: one line
    /// `<64 hex digits>␠␠<path relative to the model directory>\n` for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<Sha256>,
}

/// How a clip came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// From a prompt alone.
    TextToVideo,
    /// A picture, animated.
    ImageToVideo,
    /// A clip, continued.
    Extend,
    /// Footage, repainted frame by frame.
    Restyle,
    /// Two clips, made one.
    Merge,
}

impl Mode {
    /// Whether footage or pictures of somebody else's went in, so that the result is a composite.
    pub fn has_source(self) -> bool {
        self != Self::TextToVideo
    }
}

/// A prompt as a record carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prompt {
    /// In the clear; 0 to [`limits::PROMPT_BYTES`] bytes.
    Text(String),
    /// As a commitment: whoever knows the prompt can show that it was this one, nobody can read it.
    Sha256(Concealed),
}

/// A commitment to a text: SHA-256 of the salt followed by the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concealed {
    /// Random bytes, as hexadecimal digits; bounds in [`limits::SALT_BYTES`].
    pub salt: String,
    /// SHA-256 of the salt's bytes followed by the text in UTF-8.
    pub digest: Sha256,
}

/// What of the prompt a manifest may say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptPolicy {
    /// Nothing.
    Omit,
    /// A salted hash, so that the author can prove authorship later.
    #[default]
    SaltedHash,
    /// The text itself, because somebody asked for it.
    Text,
}

/// Frames per second as a fraction, as in GStreamer's caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameRate {
    /// Numerator, above 0.
    pub numerator: u32,
    /// Denominator, above 0.
    pub denominator: u32,
}

/// Something that went into a clip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is known by: a manifest's URN, a watermark's id, a name; 1 to [`limits::NAME_BYTES`] bytes. No
    /// local paths: the record is published.
    pub id: String,
    /// SHA-256 of its bytes, where it was a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

impl GenerationRecord {
    /// A record of the given software and mode, with everything else unknown.
    pub fn new(name: impl Into<String>, version: impl Into<String>, mode: Mode) -> Self {
        Self {
            schema: SCHEMA,
            software: Software { name: name.into(), version: version.into() },
            model: None,
            mode,
            prompt: None,
            prompt_policy: PromptPolicy::default(),
            seed: None,
            width: None,
            height: None,
            frames: None,
            frame_rate: None,
            num_inference_steps: None,
            guidance_scale: None,
            inputs: Vec::new(),
            created_at_ms: None,
        }
    }

    /// Reads a record from JSON. Unknown fields are skipped.
    ///
    /// # Errors
    /// [`RecordError`] where the text is too long, is not a record, is of a newer schema, or a field is
    /// outside its bounds.
    pub fn from_json(text: &str) -> Result<Self, RecordError> {
        if text.len() > limits::JSON_BYTES {
            return Err(RecordError::TooLong { bytes: text.len(), bound: limits::JSON_BYTES });
        }
        // The schema is looked at alone first: a newer record need not have this version's fields.
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let json = |error: serde_json::Error| RecordError::Json(error.to_string());
        let head: Head = serde_json::from_str(text).map_err(json)?;
        check_schema(head.schema)?;
        let record: Self = serde_json::from_str(text).map_err(json)?;
        record.check()?;
        Ok(record)
    }

    /// Writes the record as one line of JSON.
    ///
    /// # Errors
    /// [`RecordError`] where a field is outside its bounds, so that no reader refuses what was written.
    pub fn to_json(&self) -> Result<String, RecordError> {
        self.check()?;
        let text = serde_json::to_string(self).map_err(|error| RecordError::Json(error.to_string()))?;
        if text.len() > limits::JSON_BYTES {
            return Err(RecordError::TooLong { bytes: text.len(), bound: limits::JSON_BYTES });
        }
        Ok(text)
    }

    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// [`RecordError`] naming the first field that is outside.
    pub fn check(&self) -> Result<(), RecordError> {
        check_schema(self.schema)?;
        check_name("software.name", &self.software.name)?;
        check_name("software.version", &self.software.version)?;
        if let Some(model) = &self.model {
            check_name("model.id", &model.id)?;
        }
        match &self.prompt {
            Some(Prompt::Text(text)) if text.len() > limits::PROMPT_BYTES => {
                let bound = format!("at most {} bytes", limits::PROMPT_BYTES);
                return Err(field("prompt", format!("{} bytes", text.len()), bound));
            }
            Some(Prompt::Sha256(concealed)) => check_salt(&concealed.salt)?,
            _ => {}
        }
        check_range("width", self.width.map(u64::from), u64::from(limits::SIDE))?;
        check_range("height", self.height.map(u64::from), u64::from(limits::SIDE))?;
        check_range("frames", self.frames, limits::FRAMES)?;
        check_range(
            "num_inference_steps",
            self.num_inference_steps.map(u64::from),
            u64::from(limits::STEPS),
        )?;
        if let Some(rate) = self.frame_rate {
            let most = u64::from(limits::FRAMES_PER_SECOND) * u64::from(rate.denominator);
            if rate.numerator == 0 || rate.denominator == 0 || u64::from(rate.numerator) > most {
                let value = format!("{}/{}", rate.numerator, rate.denominator);
                let bound = format!("above 0, at most {}/1", limits::FRAMES_PER_SECOND);
                return Err(field("frame_rate", value, bound));
            }
        }
        if let Some(scale) = self.guidance_scale.filter(|scale| !(0.0..=limits::GUIDANCE).contains(scale)) {
            return Err(field("guidance_scale", scale.to_string(), format!("0 to {}", limits::GUIDANCE)));
        }
        if self.inputs.len() > limits::INPUTS {
            return Err(field(
                "inputs",
                self.inputs.len().to_string(),
                format!("at most {}", limits::INPUTS),
            ));
        }
        self.inputs.iter().try_for_each(|input| check_name("inputs[].id", &input.id))
    }
}

fn field(field: &'static str, value: String, bound: String) -> RecordError {
    RecordError::Field { field, value, bound }
}

fn check_schema(schema: u32) -> Result<(), RecordError> {
    if (1..=SCHEMA).contains(&schema) {
        return Ok(());
    }
    Err(RecordError::Schema { found: schema, newest: SCHEMA })
}

fn check_name(name: &'static str, value: &str) -> Result<(), RecordError> {
    if (1..=limits::NAME_BYTES).contains(&value.len()) && !value.chars().any(char::is_control) {
        return Ok(());
    }
    let shown: String = value.chars().take(64).collect();
    let bound = format!("1 to {} bytes, no control characters", limits::NAME_BYTES);
    Err(field(name, format!("{shown:?} ({} bytes)", value.len()), bound))
}

fn check_salt(salt: &str) -> Result<(), RecordError> {
    let (fewest, most) = limits::SALT_BYTES;
    let hex = salt.len().is_multiple_of(2) && salt.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex && (fewest..=most).contains(&(salt.len() / 2)) {
        return Ok(());
    }
    let bound = format!("{fewest} to {most} bytes as hexadecimal digits");
    Err(field("prompt.salt", format!("{} characters", salt.len()), bound))
}

fn check_range(name: &'static str, value: Option<u64>, most: u64) -> Result<(), RecordError> {
    match value {
        Some(value) if !(1..=most).contains(&value) => {
            Err(field(name, value.to_string(), format!("1 to {most}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn full() -> GenerationRecord {
        let mut record = GenerationRecord::new("soragen", "0.1.0", Mode::Restyle);
        record.model = Some(Model { id: "sora-tiny".into(), weights_sha256: Some(Sha256([7; 32])) });
        record.prompt = Some(Prompt::Text("a red ball".into()));
        record.seed = Some(u64::MAX);
        record.width = Some(256);
        record.height = Some(144);
        record.frames = Some(81);
        record.frame_rate = Some(FrameRate { numerator: 30_000, denominator: 1001 });
        record.num_inference_steps = Some(4);
        record.guidance_scale = Some(6.5);
        record.inputs = vec![Input { id: "urn:c2pa:1".into(), sha256: Some(Sha256([9; 32])) }];
        record.created_at_ms = Some(1_790_000_000_123);
        record
    }

    #[test]
    fn json_and_back() {
        let record = full();
        assert_eq!(GenerationRecord::from_json(&record.to_json().unwrap()).unwrap(), record);
        let mut bare = GenerationRecord::new("soragen", "0.1.0", Mode::TextToVideo);
        assert_eq!(GenerationRecord::from_json(&bare.to_json().unwrap()).unwrap(), bare);
        bare.prompt = Some(Prompt::Sha256(Concealed { salt: "ab".repeat(16), digest: Sha256([1; 32]) }));
        assert_eq!(GenerationRecord::from_json(&bare.to_json().unwrap()).unwrap(), bare);
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        let text = full().to_json().unwrap().replacen('{', r#"{"camera":{"lens":[1,2]},"#, 1);
        assert_eq!(GenerationRecord::from_json(&text).unwrap(), full());
    }

    #[test]
    fn a_newer_schema_is_refused_whatever_else_it_says() {
        let found = GenerationRecord::from_json(r#"{"schema":2}"#).unwrap_err();
        assert_eq!(found, RecordError::Schema { found: 2, newest: SCHEMA });
        assert!(GenerationRecord::from_json(r#"{"schema":0}"#).is_err());
    }

    #[test]
    fn long_text_is_refused_unread() {
        let text = " ".repeat(limits::JSON_BYTES + 1);
        assert!(matches!(GenerationRecord::from_json(&text), Err(RecordError::TooLong { .. })));
        // JSON escapes can make a prompt within its bound longer than a record may be.
        let mut record = full();
        record.prompt = Some(Prompt::Text("\u{1}".repeat(limits::PROMPT_BYTES)));
        assert!(matches!(record.to_json(), Err(RecordError::TooLong { .. })));
    }

    #[test]
    fn values_outside_their_bounds_are_named() {
        type Spoil = fn(&mut GenerationRecord);
        let cases: [(&str, Spoil); 13] = [
            ("software.name", |record| record.software.name.clear()),
            ("software.version", |record| record.software.version = "1\n".into()),
            ("model.id", |record| record.model.as_mut().unwrap().id = "m".repeat(513)),
            ("prompt", |record| record.prompt = Some(Prompt::Text("p".repeat(16385)))),
            ("prompt.salt", |record| {
                record.prompt =
                    Some(Prompt::Sha256(Concealed { salt: "ab".into(), digest: Sha256([0; 32]) }));
            }),
            ("width", |record| record.width = Some(0)),
            ("height", |record| record.height = Some(32769)),
            ("frames", |record| record.frames = Some(0)),
            ("num_inference_steps", |record| record.num_inference_steps = Some(0)),
            ("frame_rate", |record| record.frame_rate.as_mut().unwrap().denominator = 0),
            ("guidance_scale", |record| record.guidance_scale = Some(f64::NAN)),
            ("inputs", |record| record.inputs = vec![record.inputs[0].clone(); 65]),
            ("inputs[].id", |record| record.inputs[0].id.clear()),
        ];
        for (name, spoil) in cases {
            let mut record = full();
            spoil(&mut record);
            match record.to_json() {
                Err(RecordError::Field { field, .. }) => assert_eq!(field, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_prompt_is_concealed_unless_somebody_asked() {
        assert_eq!(
            GenerationRecord::new("a", "1", Mode::TextToVideo).prompt_policy,
            PromptPolicy::SaltedHash
        );
        let text = r#"{"schema":1,"software":{"name":"a","version":"1"},"mode":"text-to-video"}"#;
        assert_eq!(GenerationRecord::from_json(text).unwrap().prompt_policy, PromptPolicy::SaltedHash);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}", cut in 0usize..400) {
            let _ = GenerationRecord::from_json(&text);
            let json = full().to_json().unwrap();
            let cut = cut.min(json.len());
            let _ = GenerationRecord::from_json(&json[..cut]);
        }
    }
}
