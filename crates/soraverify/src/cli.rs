//! The command line.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use sora_provenance::TrustAnchors;
use sora_store::{Access, Store};
use sora_watermark::{Key, Payload, Search};

use crate::check::{Check, watermark};
use crate::clip::{ClipError, Judged, judge_clip};
use crate::findings::Findings;
use crate::keygen::Keygen;
use crate::recover::recover;
use crate::report::Report;
use crate::serve::Serve;
use crate::{keys, reader};

/// Said of the exit codes by `--help`, and what [`run`] returns.
const EXIT_CODES: &str = "\
Exit codes, the highest of all files:
   0  authentic         signed by a signer of --anchors and unchanged since
   0  authentic_other   the same, by a signer of the anchors of others
  10  valid_untrusted   unchanged since it was signed, by a signer that nobody vouches for
  11  recovered         no manifest; a mark led to a stored one
  12  watermark_only    no manifest; a mark, and nothing stored for it
  20  no_evidence       neither a manifest nor a mark, which proves nothing
  30  tampered          a manifest that does not fit the clip, or is broken
  31  conflict          manifest and mark contradict each other
  40  inconclusive      not enough to say anything
  64  the arguments make no sense
  65  a file is no video   66  a file cannot be read   70  the check itself failed

Exit codes with --watermark-only:
  0  every file carries the mark that was looked for (--expect-id, else any)
  1  at least one file was read and the mark was not found, which proves nothing
  2  at least one file, or a part of it, could not be read, or the arguments make no sense

A signature says who vouches for a clip, and that it did not change since; it does not say that what it
shows has happened. A mark that is found says that the video, or something copied from a marked one,
carries the id: by chance no more often than the number that is given. It does not say that nothing was
changed, and it does not say who wrote it: marks under the public key can be written and copied by everybody.";

/// Code of arguments that make no sense.
pub(crate) const USAGE: u8 = 64;
/// Code of a check that failed by itself.
pub(crate) const INTERNAL: u8 = 70;

/// Says what is known of video files: their C2PA manifests, and the marks they carry.
///
/// A manifest is looked for in the file, then beside it (CLIP.c2pa). Nothing is fetched from a network.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, arg_required_else_help = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    /// Something else than looking at files.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Videos: paths, or - for standard input; with --watermark-only also pictures and URIs.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// Look for the invisible mark, and at nothing else.
    #[arg(long, conflicts_with = "manifest_only")]
    pub watermark_only: bool,
    /// Look at the manifest, and do not decode the video.
    #[arg(long)]
    pub manifest_only: bool,
    /// A PEM file with root certificates of signers that you trust; may be given several times
    /// [default: $SORA_TRUST_ANCHORS].
    #[arg(long, value_name = "PEM", conflicts_with = "watermark_only")]
    pub anchors: Vec<PathBuf>,
    /// A manifest store, as sorasign store=FILE fills it: where a clip has no manifest, its mark leads to one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["watermark_only", "manifest_only"])]
    pub store: Option<PathBuf>,
    /// A file with the 32 bytes of a key to look for, or "public"; may be given several times
    /// [default: $SORA_WATERMARK_KEY, else public].
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// The id that the files are said to carry: 24 hexadecimal digits, or 22 without version and flags.
    /// It is verified where a search that does not know it finds nothing.
    #[arg(long, value_name = "HEX", value_parser = keys::payload)]
    pub expect_id: Option<Payload>,
    /// Look at the first frame only, as a picture by itself.
    #[arg(long)]
    pub still: bool,
    /// How far to look for frames that were scaled, cropped, stretched, rotated, or play at another speed.
    #[arg(long, value_enum, default_value_t = Depth::Full)]
    pub search: Depth,
    /// One line of JSON for each file, in order.
    #[arg(long)]
    pub json: bool,
    /// No progress on standard error.
    #[arg(long)]
    pub quiet: bool,
}

/// Something else than looking at files.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and a certificate chain to sign with.
    Keygen(Keygen),
    /// Answer over HTTP: a page that checks clips, and C2PA's soft binding resolution API.
    Serve(Serve),
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Depth {
    /// Frames as they were marked, or mirrored.
    Untouched,
    /// Also scaled and cropped.
    Scaled,
    /// Also stretched, rotated up to 6 degrees, at another speed.
    Full,
}

impl Arguments {
    fn check(&self) -> Result<Check, String> {
        let (keys, search) = (key_list(&self.key)?, self.search.into());
        Ok(Check { keys, expect: self.expect_id, still: self.still, search })
    }

    fn anchors(&self) -> Result<TrustAnchors, String> {
        anchor_set(&self.anchors)
    }
}

impl From<Depth> for Search {
    fn from(depth: Depth) -> Self {
        match depth {
            Depth::Untouched => Self::Untouched,
            Depth::Scaled => Self::Scaled,
            Depth::Full => Self::Full,
        }
    }
}

/// The keys that are named, else those of the environment, else the public one.
pub(crate) fn key_list(named: &[PathBuf]) -> Result<Vec<Key>, String> {
    let keys: Result<Vec<Key>, String> =
        or_variable(named, "SORA_WATERMARK_KEY").iter().map(|path| keys::read(path)).collect();
    Ok(Some(keys?).filter(|keys| !keys.is_empty()).unwrap_or_else(|| vec![Key::public()]))
}

/// The anchors that are named, else those of the environment, else none.
pub(crate) fn anchor_set(named: &[PathBuf]) -> Result<TrustAnchors, String> {
    let named = or_variable(named, "SORA_TRUST_ANCHORS");
    TrustAnchors::from_pem_files(&named).map_err(|error| error.to_string())
}

fn or_variable(named: &[PathBuf], variable: &str) -> Vec<PathBuf> {
    let list = std::env::var_os(variable).filter(|list| !list.is_empty());
    match (named.is_empty(), &list) {
        (true, Some(list)) => std::env::split_paths(list).collect(),
        _ => named.to_vec(),
    }
}

/// Parses the command line, the program's name first, and does what it asks for.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    // Marks alone had their codes before there were others.
    let marks_alone = arguments.iter().any(|argument| argument == "--watermark-only");
    match Arguments::try_parse_from(arguments) {
        Ok(arguments) => run(&arguments),
        Err(error) => {
            let usage = if marks_alone { 2 } else { USAGE };
            let code = if error.use_stderr() { usage } else { 0 };
            // A closed pipe is no reason to panic; the exit code still says it.
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}

/// Does what the arguments ask for; the code is as `--help` says.
pub fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Some(Command::Keygen(keygen)) => return keygen.run(),
        Some(Command::Serve(serve)) => return serve.run(),
        None => {}
    }
    let usage = if arguments.watermark_only { 2 } else { USAGE };
    let prepared = arguments.check().and_then(|check| Ok((check, arguments.anchors()?)));
    let (check, anchors) = match prepared {
        Ok(prepared) => prepared,
        Err(text) => return stop(usage, &text),
    };
    if !arguments.manifest_only
        && let Err(error) = reader::start()
    {
        return stop(if arguments.watermark_only { 2 } else { INTERNAL }, &error.to_string());
    }
    let store = arguments.store.as_ref().map(|path| Store::open(path, Access::Read)).transpose();
    let store = match store {
        Ok(store) => store,
        Err(error) => return stop(usage, &error.to_string()),
    };
    let mut code = 0;
    for file in &arguments.files {
        code = code.max(if arguments.watermark_only {
            match report_on(file, &check, arguments) {
                Some(true) => 0,
                Some(false) => 1,
                None => 2,
            }
        } else {
            findings_on(file, &check, &anchors, store.as_ref(), arguments)
        });
    }
    ExitCode::from(code)
}

pub(crate) fn stop(code: u8, text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::from(code)
}

/// Judges one file and prints what was found; returns its exit code.
fn findings_on(
    file: &str,
    check: &Check,
    anchors: &TrustAnchors,
    store: Option<&Store>,
    arguments: &Arguments,
) -> u8 {
    let bar = if arguments.quiet { ProgressBar::hidden() } else { progress_bar(file) };
    let check = Some(check).filter(|_| !arguments.manifest_only);
    let result = on_disk(file, |path| {
        let judged = judge_clip(path, check, anchors, |time, length| show(&bar, time, length))?;
        match store {
            Some(store) => recover(path, judged, store, anchors),
            None => Ok(judged),
        }
    });
    bar.finish_and_clear();
    let findings = Findings::new(file, &result);
    let printed = if arguments.json {
        serde_json::to_string(&findings).map_err(std::io::Error::from).map(|line| line + "\n")
    } else {
        Ok(findings.text())
    };
    let written = printed.and_then(|text| std::io::stdout().lock().write_all(text.as_bytes()));
    if let (Err(error), false) = (&result, arguments.json) {
        eprintln!("error: {file}: {error}");
    }
    if let Err(error) = written {
        eprintln!("error: cannot write: {error}");
        return INTERNAL;
    }
    findings.exit
}

/// Has a file that can be read twice judged: standard input is written to a temporary one first.
fn on_disk(file: &str, judge: impl FnOnce(&Path) -> Result<Judged, ClipError>) -> Result<Judged, ClipError> {
    if file != "-" {
        if file.contains("://") && !Path::new(file).exists() {
            return Err(ClipError::NoInput(
                "manifests are looked for in files; --watermark-only reads addresses".into(),
            ));
        }
        return judge(Path::new(file));
    }
    let failed =
        |error: std::io::Error| ClipError::NoInput(format!("standard input cannot be read: {error}"));
    let mut spool = tempfile::Builder::new().prefix("soraverify-").tempfile().map_err(failed)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut spool).map_err(failed)?;
    spool.flush().map_err(failed)?;
    judge(spool.path())
}

/// Checks one file and prints what was found; `None` where not all of it could be read.
fn report_on(file: &str, check: &Check, arguments: &Arguments) -> Option<bool> {
    let bar = if arguments.quiet { ProgressBar::hidden() } else { progress_bar(file) };
    let result = watermark(file, check, |time, length| show(&bar, time, length));
    bar.finish_and_clear();
    let report = Report::new(file, &result);
    let printed = if arguments.json {
        serde_json::to_string(&report).map_err(std::io::Error::from).map(|line| line + "\n")
    } else {
        Ok(report.text())
    };
    // A closed pipe is no reason to panic; the exit code still says it.
    let written = printed.and_then(|text| std::io::stdout().lock().write_all(text.as_bytes()));
    if let (Err(error), false) = (&result, arguments.json) {
        eprintln!("error: {file}: {error}");
    }
    if let Err(error) = written {
        eprintln!("error: cannot write: {error}");
        return None;
    }
    match report.error {
        Some(_) => None,
        None => report.found,
    }
}

/// Drawn on standard error, and only where that is a terminal.
fn progress_bar(file: &str) -> ProgressBar {
    let bar = ProgressBar::no_length().with_message(file.to_owned());
    // The template is a constant; without it the bar looks otherwise.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} s") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, time: Duration, length: Option<Duration>) {
    if let Some(length) = length {
        bar.set_length(length.as_secs());
    }
    bar.set_position(time.as_secs());
}
