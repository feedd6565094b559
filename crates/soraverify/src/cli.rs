//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use sora_watermark::{Key, Payload, Search};

use crate::check::{Check, watermark};
use crate::report::Report;
use crate::{keys, reader};

/// Said of the exit codes by `--help`, and what [`run`] returns.
const EXIT_CODES: &str = "\
Exit codes:
  0  every file carries the mark that was looked for (--expect-id, else any)
  1  at least one file was read and the mark was not found, which proves nothing
  2  at least one file, or a part of it, could not be read, or the arguments make no sense

A mark that is found says that the video, or something copied from a marked one, carries the id: by
chance no more often than the number that is given. It does not say that nothing was changed, and it
does not say who wrote it: marks under the public key can be written and copied by everybody.";

/// Says which marks video files carry.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Arguments {
    /// Videos or pictures: paths, URIs, or - for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// Look for the invisible mark, and at nothing else (the only check so far).
    #[arg(long, required = true)]
    pub watermark_only: bool,
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
        let variable = std::env::var_os("SORA_WATERMARK_KEY").filter(|list| !list.is_empty());
        let named: Vec<PathBuf> = match (self.key.is_empty(), &variable) {
            (true, Some(list)) => std::env::split_paths(list).collect(),
            _ => self.key.clone(),
        };
        let keys: Result<Vec<Key>, String> = named.iter().map(|path| keys::read(path)).collect();
        let keys = Some(keys?).filter(|keys| !keys.is_empty()).unwrap_or_else(|| vec![Key::public()]);
        let search = match self.search {
            Depth::Untouched => Search::Untouched,
            Depth::Scaled => Search::Scaled,
            Depth::Full => Search::Full,
        };
        Ok(Check { keys, expect: self.expect_id, still: self.still, search })
    }
}

/// Does what the arguments ask for; the code is 0, 1 or 2 as `--help` says.
pub fn run(arguments: &Arguments) -> ExitCode {
    let prepared = arguments.check().and_then(|check| {
        reader::start().map_err(|error| error.to_string())?;
        Ok(check)
    });
    let check = match prepared {
        Ok(check) => check,
        Err(text) => {
            eprintln!("error: {text}");
            return ExitCode::from(2);
        }
    };
    let mut code = 0;
    for file in &arguments.files {
        let found = report_on(file, &check, arguments);
        code = code.max(match found {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        });
    }
    ExitCode::from(code)
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
