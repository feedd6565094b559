//! What another C2PA implementation, the crate `encypher-c2pa`, says of files, and of the same files tampered with:
//!
//! ```text
//! second-opinion ANCHORS.pem FILE...
//! ```
//!
//! Of each FILE it writes variants beside it (`FILE.flipped.mp4`: one bit of the media data is another; of live
//! streams also `.dropped` and `.swapped`: a fragment is missing, two are in each other's place), and prints
//! `FILE: integrity trust` for all. The exit code is 0 where every file is valid and trusted and no variant is.

mod tamper;

use std::error::Error;
use std::process::ExitCode;

use encypher_c2pa::{
    StreamEncapsulation, StreamMethod, VerifyOptions, verify_stream_with_options, verify_with_options,
};

use crate::tamper::{is_live, sessions, variants};

const MIME: &str = "video/mp4";
/// What it says of a file that is whole, signed by a signer of the anchors.
const ACCEPTED: &str = "valid valid_for_supplied_material";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [anchors, files @ ..] = arguments.as_slice() else {
        eprintln!("usage: second-opinion ANCHORS.pem FILE...");
        return ExitCode::from(64);
    };
    match judge_all(anchors, files) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(66)
        }
    }
}

fn judge_all(anchors: &str, files: &[String]) -> Result<bool, Box<dyn Error>> {
    let options = VerifyOptions {
        trust_pem: Some(std::fs::read_to_string(anchors)?),
        no_default_trust: true,
        ..VerifyOptions::default()
    };
    let mut agreed = true;
    for file in files {
        let bytes = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        let said = judge(&bytes, &options);
        println!("{file}: {said}");
        agreed &= said == ACCEPTED;
        for (name, variant) in variants(&bytes)? {
            let path = format!("{file}.{name}.mp4");
            std::fs::write(&path, &variant).map_err(|error| format!("{path}: {error}"))?;
            let said = judge(&variant, &options);
            println!("{path}: {said}");
            agreed &= !said.split(", ").all(|said| said.starts_with("valid"));
        }
    }
    Ok(agreed)
}

/// `integrity trust`, of each session of a live stream that is another than the one before.
fn judge(bytes: &[u8], options: &VerifyOptions) -> String {
    let said = if is_live(bytes) { judge_live(bytes, options) } else { judge_file(bytes, options) };
    said.unwrap_or_else(|error| format!("unreadable: {error}"))
}

fn judge_file(bytes: &[u8], options: &VerifyOptions) -> Result<String, Box<dyn Error>> {
    let report = verify_with_options(bytes, MIME, options)?;
    verbose(&report.validation_results)?;
    Ok(format!("{} {}", report.integrity, report.trust.status))
}

fn judge_live(bytes: &[u8], options: &VerifyOptions) -> Result<String, Box<dyn Error>> {
    let mut said = Vec::new();
    for (init, fragments) in sessions(bytes)? {
        let report = verify_stream_with_options(
            init,
            &fragments,
            MIME,
            StreamEncapsulation::Fmp4,
            StreamMethod::VerifiableSegmentInfo,
            options,
        )?;
        verbose(&report.stream)?;
        let trust = report.stream.map_or("unknown".to_owned(), |stream| stream.trust.status);
        said.push(format!("{} {trust}", report.integrity));
    }
    said.dedup();
    Ok(said.join(", "))
}

/// What it is based on, where `VERBOSE` is set.
fn verbose(report: &impl serde::Serialize) -> Result<(), serde_json::Error> {
    if std::env::var_os("VERBOSE").is_some() {
        eprintln!("{}", serde_json::to_string_pretty(report)?);
    }
    Ok(())
}
