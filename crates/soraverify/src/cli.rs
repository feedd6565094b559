//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use sora_provenance::TrustAnchors;
use sora_store::{Access, Store};
use sora_watermark::{Key, Payload, Search};

use crate::batch::inputs::expand;
use crate::batch::ledger::Ledger;
use crate::check::Check;
use crate::keygen::Keygen;
use crate::live::{self, Watch};
use crate::require::Requirement;
use crate::run::{self, Format, INTERNAL, Job};
use crate::serve::Serve;
use crate::sign_set::SignSet;
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
With --require: 0 every file is what is asked for, 1 one is not, 64 to 70 as above.

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
/// Code of what cannot be read.
const NO_INPUT: u8 = 66;

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
    /// Videos: paths, folders with videos, or - for standard input; with --watermark-only also pictures and URIs.
    #[arg(required_unless_present = "files_from", value_name = "FILE")]
    pub files: Vec<String>,
    /// A list of such, one a line; - is standard input. May be given several times.
    #[arg(long, value_name = "LIST")]
    pub files_from: Vec<PathBuf>,
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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["watermark_only", "manifest_only", "crjson", "live"])]
    pub store: Option<PathBuf>,
    /// A file with the 32 bytes of a key to look for, or "public"; may be given several times
    /// [default: $SORA_WATERMARK_KEY, else public].
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// The id that the files are said to carry: 24 hexadecimal digits, or 22 without version and flags.
    /// It is verified where a search that does not know it finds nothing.
    #[arg(long, value_name = "HEX", value_parser = str::parse::<Payload>)]
    pub expect_id: Option<Payload>,
    /// Look at the first frame only, as a picture by itself.
    #[arg(long)]
    pub still: bool,
    /// With --watermark-only: stop reading a file where its mark (--expect-id, else any) is sure, by chance at most
    /// 1 in 10^12, looked at every 4 seconds. What comes later, such as a second id or damage, is then not found, and
    /// times are those of the part that was read.
    #[arg(long, requires = "watermark_only", conflicts_with = "still")]
    pub until_sure: bool,
    /// How far to look for frames that were scaled, cropped, stretched, rotated, or play at another speed.
    #[arg(long, value_enum, default_value_t = Depth::Full)]
    pub search: Depth,
    /// What every file must be; then the exit code is 0 or 1.
    #[arg(long, value_enum, conflicts_with = "watermark_only")]
    pub require: Option<Requirement>,
    /// One line of JSON for each file, in order (docs/soraverify.schema.json).
    #[arg(long)]
    pub json: bool,
    /// The manifests as crJSON, the form that C2PA's conformance programme reads, one line for each file in order.
    /// The video is not decoded.
    #[arg(long, conflicts_with_all = ["json", "watermark_only"])]
    pub crjson: bool,
    /// Also write the lines of JSON to this file, each when its clip is done.
    #[arg(long, value_name = "FILE", conflicts_with = "watermark_only")]
    pub report: Option<PathBuf>,
    /// Go on with the report of an earlier run: files in it are not looked at again, unless they changed.
    #[arg(long, requires = "report")]
    pub resume: bool,
    /// Watch a stream that is signed fragment by fragment (an address, a path or -), and tell what is known of it
    /// as it arrives; the exit code is the last verdict's.
    #[arg(long, conflicts_with_all = ["watermark_only", "crjson", "report", "require", "files_from"])]
    pub live: bool,
    /// With --live: a line at least this often, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, requires = "live")]
    pub every: u32,
    /// With --live: end after so many seconds.
    #[arg(long, value_name = "SECONDS", requires = "live")]
    pub duration: Option<u32>,
    /// The beginning of a fragmented MP4 whose fragments are the files, in the order in which they are played: all of
    /// it is one clip.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["watermark_only", "crjson", "report", "files_from", "live"])]
    pub init: Option<PathBuf>,
    /// How many files are looked at together [default: one for each processor].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
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
    /// Sign a finished set of a beginning and fragments.
    SignSet(SignSet),
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Depth {
    /// Frames as they were marked, mirrored or turned by quarters.
    Untouched,
    /// Also scaled and cropped.
    Scaled,
    /// Also stretched, rotated up to 6 degrees, scaled and turned, at another speed.
    Full,
}

impl Arguments {
    fn check(&self) -> Result<Check, String> {
        let (keys, search) = (key_list(&self.key)?, self.search.into());
        Ok(Check { keys, expect: self.expect_id, still: self.still, search, until_sure: self.until_sure })
    }

    fn job(&self) -> Result<Job, String> {
        let format = match (self.json, self.crjson) {
            (true, _) => Format::Json,
            (_, true) => Format::CrJson,
            _ => Format::Text,
        };
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Job {
            check: self.check()?,
            anchors: self.anchors()?,
            store: None,
            watermark_only: self.watermark_only,
            manifest_only: self.manifest_only,
            format,
            require: self.require,
            jobs: self.jobs.map_or_else(processors, usize::from),
            quiet: self.quiet,
        })
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
        Some(Command::SignSet(set)) => return set.run(),
        None => {}
    }
    let usage = if arguments.watermark_only { 2 } else { USAGE };
    let mut job = match arguments.job() {
        Ok(job) => job,
        Err(text) => return stop(usage, &text),
    };
    job.store = match arguments.store.as_ref().map(|path| Store::open(path, Access::Read)).transpose() {
        Ok(store) => store,
        Err(error) => return stop(usage, &error.to_string()),
    };
    if !arguments.manifest_only
        && !arguments.crjson
        && let Err(error) = reader::start()
    {
        return stop(if arguments.watermark_only { 2 } else { INTERNAL }, &error.to_string());
    }
    if arguments.live {
        return watch(arguments, job);
    }
    let inputs = match expand(&arguments.files, &arguments.files_from) {
        Ok(inputs) if inputs.is_empty() => return stop(usage, "there is no file to look at"),
        Ok(inputs) => inputs,
        Err(text) => return stop(if arguments.watermark_only { 2 } else { NO_INPUT }, &text),
    };
    if let Some(init) = &arguments.init {
        return ExitCode::from(run::run_set(init, &inputs, &job));
    }
    let ledger = match arguments.report.as_ref().map(|path| Ledger::open(path, arguments.resume)).transpose()
    {
        Ok(ledger) => ledger,
        Err(text) => return stop(usage, &text),
    };
    ExitCode::from(run::run(&inputs, &job, ledger))
}

/// Watches a stream.
fn watch(arguments: &Arguments, job: Job) -> ExitCode {
    let [input] = arguments.files.as_slice() else {
        return stop(USAGE, &format!("--live watches one stream, not {}", arguments.files.len()));
    };
    if let Err(error) = reader::start() {
        return stop(INTERNAL, &error.to_string());
    }
    let watch = Watch {
        input,
        anchors: job.anchors,
        every: Duration::from_secs(arguments.every.into()),
        duration: arguments.duration.map(|seconds| Duration::from_secs(seconds.into())),
        json: arguments.json,
    };
    match live::watch(&watch) {
        Ok(code) => ExitCode::from(code),
        Err(error) => stop(error.exit_code(), &format!("{input}: {error}")),
    }
}

pub(crate) fn stop(code: u8, text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::from(code)
}
