//! What was found of a clip, as text for people and as a line of JSON for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use sora_provenance::{LiveReport, Location, ManifestReport, Verdict};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clip::{ClipError, Judged};
use crate::recover::Recovery;
use crate::report::{VERSION, Watermark};
use crate::require::Requirement;

/// What the file system says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Length, in bytes.
    pub bytes: Option<u64>,
    /// Time of the last change, RFC 3339.
    pub modified: Option<String>,
}

impl Properties {
    /// Those of the file at `path`; nothing where there is none.
    pub fn of(path: &Path) -> Self {
        let Some(metadata) = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file) else {
            return Self::default();
        };
        let modified = metadata.modified().ok();
        let modified = modified.and_then(|time| OffsetDateTime::from(time).format(&Rfc3339).ok());
        Self { bytes: Some(metadata.len()), modified }
    }
}

/// One clip, as a line of JSON.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Findings<'r> {
    /// [`VERSION`].
    pub version: u32,
    /// The clip, as it was named.
    pub file: &'r str,
    /// Its length in bytes; `null` for standard input.
    pub bytes: Option<u64>,
    /// When it was changed last, RFC 3339; `null` for standard input.
    pub modified: Option<&'r str>,
    /// The verdict; `null` where nothing could be read.
    pub verdict: Option<Verdict>,
    /// Exit code of this clip alone.
    pub exit: u8,
    /// Whether it is what `--require` asks for; `null` where nothing is, or where nothing could be read.
    pub meets: Option<bool>,
    /// Why, one sentence each.
    pub reasons: &'r [String],
    /// What was found of a manifest.
    pub manifest: Option<&'r sora_provenance::Report>,
    /// What the frames say; `null` where nobody looked, or they cannot be read.
    pub watermark: Option<Watermark>,
    /// What a store knows of the marks; `null` where none was asked.
    pub recovery: Option<&'r Recovery>,
    /// What went wrong, also after some of it was read.
    pub error: Option<String>,
}

impl<'r> Findings<'r> {
    /// The findings on `file`.
    pub fn new(
        file: &'r str,
        result: &'r Result<Judged, ClipError>,
        properties: &'r Properties,
        require: Option<Requirement>,
    ) -> Self {
        let (bytes, modified) = (properties.bytes, properties.modified.as_deref());
        let judged = match result {
            Ok(judged) => judged,
            Err(error) => {
                return Self {
                    version: VERSION,
                    file,
                    bytes,
                    modified,
                    verdict: None,
                    exit: error.exit_code(),
                    meets: None,
                    reasons: &[],
                    manifest: None,
                    watermark: None,
                    recovery: None,
                    error: Some(error.to_string()),
                };
            }
        };
        let (watermark, error) = match &judged.marks {
            None => (None, None),
            Some(Err(error)) => (None, Some(error.to_string())),
            Some(Ok(checked)) => {
                (Some(Watermark::new(&checked.verdict)), checked.error.as_ref().map(ToString::to_string))
            }
        };
        Self {
            version: VERSION,
            file,
            bytes,
            modified,
            verdict: Some(judged.judgement.verdict),
            exit: judged.judgement.verdict.exit_code(),
            meets: require.map(|require| require.is_met(judged)),
            reasons: &judged.judgement.reasons,
            manifest: Some(&judged.manifest),
            watermark,
            recovery: judged.recovery.as_ref(),
            error,
        }
    }

    /// The findings for people, several lines; nothing where nothing could be read.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Some(verdict) = self.verdict else { return Ok(()) };
        writeln!(text, "{}: {}", self.file, verdict.name())?;
        if self.meets == Some(false) {
            writeln!(text, "  It is not what --require asks for.")?;
        }
        for reason in self.reasons {
            writeln!(text, "  {reason}")?;
        }
        let stored = self.recovery.and_then(|recovery| recovery.manifest.as_ref());
        for manifest in self.manifest.and_then(|report| report.manifest()).into_iter().chain(stored) {
            write_manifest(text, manifest)?;
        }
        if let Some(likeness) = self.recovery.and_then(|recovery| recovery.likeness) {
            let percent = likeness.max(0.0) * 100.0;
            writeln!(text, "  likeness  {percent:.0} % to the clip of the stored manifest")?;
        }
        for mark in self.watermark.iter().flat_map(|watermark| &watermark.marks) {
            writeln!(text, "  mark      {} under the key {}", mark.id, mark.key_id)?;
        }
        Ok(())
    }
}

fn write_manifest(text: &mut String, manifest: &ManifestReport) -> std::fmt::Result {
    let place = match manifest.location {
        Location::Sidecar => "beside the file",
        Location::Store => "in the store",
        _ => "in the file",
    };
    writeln!(text, "  manifest  {}, {place}", shown(&manifest.id))?;
    if let Some(signer) = &manifest.signer {
        let organization = signer.organization.as_deref().unwrap_or("no organization");
        let name = signer.common_name.as_deref().unwrap_or("no name");
        writeln!(text, "  signer    {}, {}", shown(organization), shown(name))?;
    }
    if !manifest.actions.is_empty() {
        writeln!(text, "  says      {}", shown(&manifest.actions.join(", ")))?;
    }
    for kind in &manifest.digital_source_types {
        writeln!(text, "  source    {}", shown(kind.rsplit('/').next().unwrap_or(kind)))?;
    }
    if let Some(live) = &manifest.live {
        writeln!(text, "  fragments {}", fragments(live))?;
    }
    if let Some(record) = &manifest.generation {
        let (software, model) = (&record.software, record.model.as_ref());
        write!(text, "  made by   {} {}", shown(&software.name), shown(&software.version))?;
        match model {
            Some(model) => writeln!(text, " with {}", shown(&model.id))?,
            None => writeln!(text)?,
        }
    }
    Ok(())
}

/// The fragments of a stream, in a line.
pub(crate) fn fragments(live: &LiveReport) -> String {
    let mut text = format!("{} of {} as they were signed", live.good, live.fragments);
    if let (Some(first), Some(last)) = (live.first, live.last) {
        let _ = write!(text, ", numbers {first} to {last}");
    }
    if live.missing > 0 {
        let _ = write!(text, ", {} missing", live.missing);
    }
    text
}

/// A stranger's text without what could steer a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(shown("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
