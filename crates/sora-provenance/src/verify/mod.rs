//! Checking a clip's manifest, without a network.

mod ingredients;
mod manifest;
mod stored;

pub use stored::{embedded_manifest, verify_stored};

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use c2pa::{Context, Reader, Settings};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::ProvenanceError;
use crate::inspect::{Inspection, inspect};
use crate::jumbf::{self, MANIFEST_BYTES};
use crate::live::{self, LiveVerifier};
use crate::report::{Container, Credentials, Location, Report};
use crate::sign::{FORMAT, offline};

/// Longest file of anchors, in bytes; C2PA's own list has 50 KiB.
const ANCHOR_BYTES: u64 = 8 << 20;

/// Length of the pieces in which a file is read, in bytes.
const PIECE: usize = 1 << 20;

/// The root certificates of signers that are trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustAnchors {
    pem: String,
}

impl TrustAnchors {
    /// None: every signer is unknown.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads certificates from PEM files.
    ///
    /// # Errors
    /// [`ProvenanceError::Anchors`] where a file cannot be read, holds no certificate or something else.
    pub fn from_pem_files(paths: &[PathBuf]) -> Result<Self, ProvenanceError> {
        let mut pem = String::new();
        for path in paths {
            let shown = path.display();
            let cannot =
                |error: std::io::Error| ProvenanceError::Anchors(format!("{shown} cannot be read: {error}"));
            let mut text = String::new();
            File::open(path)
                .and_then(|file| file.take(ANCHOR_BYTES).read_to_string(&mut text))
                .map_err(cannot)?;
            let mut count = 0;
            for block in Pem::iter_from_buffer(text.as_bytes()) {
                let wrong = |problem: String| ProvenanceError::Anchors(format!("{shown} {problem}"));
                let block = block.map_err(|error| wrong(format!("is no PEM: {error}")))?;
                if block.label != "CERTIFICATE" || X509Certificate::from_der(&block.contents).is_err() {
                    return Err(wrong(format!("holds a {:?} that is no certificate", block.label)));
                }
                count += 1;
            }
            if count == 0 {
                return Err(ProvenanceError::Anchors(format!("{shown} holds no certificate as PEM")));
            }
            pem.push_str(&text);
            pem.push('\n');
        }
        Ok(Self { pem })
    }

    pub(crate) fn context(&self) -> Result<Context, ProvenanceError> {
        crate::clock::check()?;
        let mut settings = offline();
        if !self.pem.is_empty() {
            settings["trust"] = serde_json::json!({ "user_anchors": self.pem });
        }
        let failed = |error: c2pa::Error| ProvenanceError::Anchors(error.to_string());
        let settings = Settings::new().with_json(&settings.to_string()).map_err(failed)?;
        Context::new().with_settings(settings).map_err(failed)
    }
}

/// Looks for the manifest of a clip, in the file and then in `sidecar`, and checks it: its signature, its
/// signer against `anchors`, its hashes against the file, the places of manifest and samples, and what it
/// says of the clips that went in. A manifest in the file outweighs one beside it.
///
/// # Errors
/// [`ProvenanceError::Container`] where the file is no MP4, and no manifest is in it or beside it,
/// [`ProvenanceError::Stream`] where a file cannot be read. What is wrong with a manifest is no error; the
/// report says it.
pub fn verify_file(
    path: &Path,
    sidecar: Option<&Path>,
    anchors: &TrustAnchors,
) -> Result<Report, ProvenanceError> {
    let mut file = File::open(path).map_err(ProvenanceError::stream("reading the clip"))?;
    if let Some(report) = live_file(&mut file, anchors)? {
        return Ok(report);
    }
    let mut inspection = inspect_with(&mut file, sidecar)?;
    if inspection.signed {
        inspection.problems.extend(jumbf::embedded(&mut file)?);
    }
    file.rewind().map_err(ProvenanceError::stream("reading the clip"))?;
    let context = anchors.context()?;
    let (read, location) = match (inspection.signed, sidecar) {
        (true, _) => (Reader::from_context(context).with_stream(FORMAT, &mut file), Location::Embedded),
        (false, Some(sidecar)) => {
            let manifest = read_sidecar(sidecar)?;
            inspection.problems.extend(jumbf::problems(&manifest));
            let reader = Reader::from_context(context);
            (reader.with_manifest_data_and_stream(&manifest, FORMAT, &mut file), Location::Sidecar)
        }
        (false, None) => {
            return Ok(Report { container: inspection.container, credentials: Credentials::Absent });
        }
    };
    let container = inspection.container;
    let credentials = match read {
        Ok(reader) => credentials(&reader, location, inspection),
        Err(error) => unreadable(error.to_string(), inspection),
    };
    Ok(Report { container, credentials })
}

/// The manifest of a clip, in the file or in `sidecar`, as crJSON (C2PA's form for validators to be compared by), in
/// one line; `None` where there is none. Of a live stream it is that of its beginning, judged without the fragments: each
/// of them is signed by itself, which crJSON has no words for.
///
/// # Errors
/// As [`verify_file`], and [`ProvenanceError::Container`] for a manifest that cannot be read.
pub fn crjson(
    path: &Path,
    sidecar: Option<&Path>,
    anchors: &TrustAnchors,
) -> Result<Option<String>, ProvenanceError> {
    let mut file = File::open(path).map_err(ProvenanceError::stream("reading the clip"))?;
    let inspection = inspect_with(&mut file, sidecar)?;
    let beginning = live::beginning(&mut file)?;
    file.rewind().map_err(ProvenanceError::stream("reading the clip"))?;
    let reader = Reader::from_context(anchors.context()?);
    let read = match (inspection.signed, sidecar) {
        (true, _) => match beginning {
            Some(beginning) => reader.with_stream(FORMAT, Cursor::new(beginning)),
            None => reader.with_stream(FORMAT, &mut file),
        },
        (false, Some(sidecar)) => {
            reader.with_manifest_data_and_stream(&read_sidecar(sidecar)?, FORMAT, &mut file)
        }
        (false, None) => return Ok(None),
    };
    let unreadable =
        |error: String| ProvenanceError::Container(format!("a manifest that cannot be read: {error}"));
    let value =
        read.and_then(|reader| reader.to_crjson_value()).map_err(|error| unreadable(error.to_string()))?;
    serde_json::to_string(&value).map(Some).map_err(|error| unreadable(error.to_string()))
}

/// Inspects a clip; with a manifest beside it, it may be of any format.
fn inspect_with(file: &mut File, sidecar: Option<&Path>) -> Result<Inspection, ProvenanceError> {
    match inspect(file) {
        Err(ProvenanceError::Container(_)) if sidecar.is_some() => {
            Ok(Inspection { container: Container::Other, signed: false, problems: Vec::new() })
        }
        inspected => inspected,
    }
}

/// Verifies a stream that is signed fragment by fragment; `None` for any other file.
fn live_file(file: &mut File, anchors: &TrustAnchors) -> Result<Option<Report>, ProvenanceError> {
    let reading = || ProvenanceError::stream("reading the clip");
    let mut verifier = LiveVerifier::new(anchors.clone());
    let mut piece = vec![0; PIECE];
    let length = file.read(&mut piece[..8]).map_err(reading())?;
    file.rewind().map_err(reading())?;
    // Nothing else is held in memory to see whether it becomes a box.
    if piece[4..length.max(4)] != *b"ftyp" {
        return Ok(None);
    }
    loop {
        let length = file.read(&mut piece).map_err(reading())?;
        let broken = match length {
            0 => verifier.finish().err(),
            _ => verifier.push(&piece[..length]).err(),
        };
        // Until there are session keys, it is any kind of file.
        if !verifier.is_live() {
            match (broken, verifier.began(), length) {
                (None, false, 1..) => continue,
                _ => {
                    file.rewind().map_err(reading())?;
                    return Ok(None);
                }
            }
        }
        match broken {
            Some(problem) => {
                verifier.broken(&problem);
                return Ok(verifier.report());
            }
            None if length == 0 => return Ok(verifier.report()),
            None => {}
        }
    }
}

/// Reads the manifest of a file that is in memory, with the certificate of its signer.
pub(crate) fn verify_bytes(
    bytes: &[u8],
    anchors: &TrustAnchors,
) -> Result<(Report, Option<Vec<u8>>), ProvenanceError> {
    let mut file = std::io::Cursor::new(bytes);
    let mut inspection = inspect(&mut file)?;
    if !inspection.signed {
        return Ok((Report { container: inspection.container, credentials: Credentials::Absent }, None));
    }
    inspection.problems.extend(jumbf::embedded(&mut file)?);
    file.rewind().map_err(ProvenanceError::stream("reading the clip"))?;
    let container = inspection.container;
    let (credentials, certificate) =
        match Reader::from_context(anchors.context()?).with_stream(FORMAT, &mut file) {
            Ok(reader) => {
                let certificate = reader.active_manifest().and_then(manifest::certificate);
                (credentials(&reader, Location::Embedded, inspection), certificate)
            }
            Err(error) => (unreadable(error.to_string(), inspection), None),
        };
    Ok((Report { container, credentials }, certificate))
}

/// What a reader found.
pub(crate) fn credentials(reader: &Reader, location: Location, inspection: Inspection) -> Credentials {
    match manifest::report(reader, location, inspection.problems.clone()) {
        Some(report) => Credentials::Present(Box::new(report)),
        None => unreadable("no active manifest".into(), inspection),
    }
}

/// A manifest that could not be read.
pub(crate) fn unreadable(problem: String, inspection: Inspection) -> Credentials {
    let mut problems = vec![problem];
    problems.extend(inspection.problems);
    Credentials::Unreadable { problems }
}

fn read_sidecar(path: &Path) -> Result<Vec<u8>, ProvenanceError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MANIFEST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(ProvenanceError::stream("reading the manifest beside the clip"))?;
    if bytes.len() as u64 > MANIFEST_BYTES {
        let (value, bound) =
            (format!("more than {MANIFEST_BYTES} bytes"), format!("at most {MANIFEST_BYTES} bytes"));
        return Err(ProvenanceError::Value { what: "manifest beside the clip", value, bound });
    }
    Ok(bytes)
}
