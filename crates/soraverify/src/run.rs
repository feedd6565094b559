//! Looking at the files of a command line, by several workers, and printing what was found.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sora_provenance::TrustAnchors;
use sora_store::Store;

use crate::batch::inputs::Input;
use crate::batch::ledger::Ledger;
use crate::batch::pool::in_order;
use crate::check::{Check, watermark};
use crate::clip::{ClipError, Judged, judge_clip, judge_set, manifest_as_crjson};
use crate::findings::{Findings, Properties};
use crate::recover::recover;
use crate::report::Report;
use crate::require::Requirement;

/// Code of a check that failed by itself.
pub const INTERNAL: u8 = 70;
/// Codes from this one on say that a file could not be judged.
const ERRORS: u8 = 64;

/// What is looked for, and how it is printed.
#[derive(Debug)]
pub struct Job {
    /// The marks.
    pub check: Check,
    /// The signers.
    pub anchors: TrustAnchors,
    /// Where manifests are looked for that clips have lost.
    pub store: Option<Store>,
    /// Only marks are looked for.
    pub watermark_only: bool,
    /// Only the manifest is looked at.
    pub manifest_only: bool,
    /// What is printed.
    pub format: Format,
    /// What every file must be.
    pub require: Option<Requirement>,
    /// Workers.
    pub jobs: usize,
    /// No progress and no summary.
    pub quiet: bool,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Text,
    /// A line of JSON for each file.
    Json,
    /// A line of crJSON for each manifest.
    CrJson,
}

/// What was found of a file, ready to be printed.
struct Line {
    text: String,
    /// For the report.
    json: String,
    error: Option<String>,
    exit: u8,
    meets: Option<bool>,
    verdict: &'static str,
}

/// Counts what was found; gives the exit code of all.
#[derive(Default)]
struct Tally {
    verdicts: BTreeMap<String, u64>,
    files: u64,
    before: u64,
    worst: u8,
    error: u8,
    unmet: bool,
}

impl Tally {
    fn add(&mut self, verdict: &str, exit: u8, meets: Option<bool>) {
        self.files += 1;
        *self.verdicts.entry(verdict.to_owned()).or_default() += 1;
        self.worst = self.worst.max(exit);
        if exit >= ERRORS {
            self.error = self.error.max(exit);
        }
        self.unmet |= meets == Some(false);
    }

    fn code(&self, require: Option<Requirement>) -> u8 {
        match require {
            None => self.worst,
            Some(_) if self.error > 0 => self.error,
            Some(_) => u8::from(self.unmet),
        }
    }

    fn summary(&self) -> String {
        let counts: Vec<String> =
            self.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        let before = match self.before {
            0 => String::new(),
            count => format!(" ({count} by an earlier run)"),
        };
        format!("{} files{before}: {}", self.files, counts.join(", "))
    }
}

/// Looks at all inputs, prints what was found in their order, and notes it in the ledger; the exit code is as
/// `--help` says.
pub fn run(inputs: &[Input], job: &Job, mut ledger: Option<Ledger>) -> u8 {
    let mut tally = Tally::default();
    let mut todo = Vec::new();
    for input in inputs {
        match known(input, job, ledger.as_ref()) {
            Some((verdict, exit, meets)) => {
                tally.before += 1;
                tally.add(&verdict, exit, meets);
            }
            None => todo.push(input),
        }
    }
    let bar = match (job.quiet, inputs) {
        (true, _) => ProgressBar::hidden(),
        (false, [one]) => seconds_bar(&one.name),
        (false, _) => files_bar(todo.len()),
    };
    let single = inputs.len() == 1;
    let mut failed = None;
    in_order(
        todo.len(),
        job.jobs,
        |number| {
            look(todo[number], job, |time, length| {
                if single {
                    show(&bar, time, length);
                }
            })
        },
        |line| {
            tally.add(line.verdict, line.exit, line.meets);
            if !single {
                bar.inc(1);
            }
            // The bar is no part of what is printed.
            let written = bar.suspend(|| print(&line, job, ledger.as_mut()));
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    );
    bar.finish_and_clear();
    if let Some(error) = failed {
        eprintln!("error: cannot write: {error}");
        return if job.watermark_only { 2 } else { INTERNAL };
    }
    if inputs.len() > 1 && !job.quiet {
        eprintln!("{}", tally.summary());
    }
    tally.code(job.require)
}

/// Looks at a clip that is a beginning and fragments, and prints what was found; the exit code is as `--help` says.
pub fn run_set(init: &Path, fragments: &[Input], job: &Job) -> u8 {
    let input = Input { name: init.to_string_lossy().into_owned(), path: init.to_owned() };
    let fragments: Vec<PathBuf> = fragments.iter().map(|input| input.path.clone()).collect();
    let bar = if job.quiet { ProgressBar::hidden() } else { seconds_bar(&input.name) };
    let check = Some(&job.check).filter(|_| !job.manifest_only);
    let result = judge_set(init, &fragments, check, &job.anchors, |time, length| show(&bar, time, length));
    bar.finish_and_clear();
    let properties = Properties::of(init);
    let findings = Findings::new(&input.name, &result, &properties, job.require);
    let line = line_of(&input, &findings, findings.text());
    if let Err(error) = print(&line, job, None) {
        eprintln!("error: cannot write: {error}");
        return INTERNAL;
    }
    let mut tally = Tally::default();
    tally.add(line.verdict, line.exit, line.meets);
    tally.code(job.require)
}

/// What an earlier run found of a file that is still the same.
fn known(input: &Input, job: &Job, ledger: Option<&Ledger>) -> Option<(String, u8, Option<bool>)> {
    let ledger = ledger?;
    let properties = Properties::of(&input.path);
    let entry = ledger.before(&input.name, properties.bytes, properties.modified.as_deref())?;
    // Whether it is what is asked for now was not asked then.
    if job.require.is_some() && entry.meets.is_none() {
        return None;
    }
    let verdict = entry.verdict.clone().unwrap_or_else(|| "error".into());
    Some((verdict, entry.exit, entry.meets))
}

fn print(line: &Line, job: &Job, ledger: Option<&mut Ledger>) -> std::io::Result<()> {
    if let Some(ledger) = ledger {
        ledger.write(&line.json)?;
    }
    let text = if job.format == Format::Json { &line.json } else { &line.text };
    // A closed pipe is no reason to panic; the exit code still says it.
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if let (Some(error), true) = (&line.error, job.format != Format::Json) {
        eprintln!("error: {error}");
    }
    Ok(())
}

/// Looks at one file. Should the check itself break, that is said of this file, and the others are looked at.
fn look(input: &Input, job: &Job, progress: impl FnMut(Duration, Option<Duration>)) -> Line {
    let looked = catch_unwind(AssertUnwindSafe(|| match job.watermark_only {
        true => marks_of(input, job, progress),
        false => findings_of(input, job, progress),
    }));
    looked.unwrap_or_else(|panic| {
        let why = (panic.downcast_ref::<String>().map(String::as_str))
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("for no reason that it gives");
        let result = Err(ClipError::Internal(format!("the check failed: {why}")));
        line_of(
            input,
            &Findings::new(&input.name, &result, &Properties::default(), job.require),
            String::new(),
        )
    })
}

fn findings_of(input: &Input, job: &Job, progress: impl FnMut(Duration, Option<Duration>)) -> Line {
    let check = Some(&job.check).filter(|_| !job.manifest_only && job.format != Format::CrJson);
    let mut crjson = String::new();
    let result = on_disk(input, |path| {
        let judged = judge_clip(path, check, &job.anchors, progress)?;
        if job.format == Format::CrJson {
            crjson = manifest_as_crjson(path, &job.anchors)? + "\n";
        }
        match &job.store {
            Some(store) => recover(path, judged, store, &job.anchors),
            None => Ok(judged),
        }
    });
    let properties = Properties::of(&input.path);
    let findings = Findings::new(&input.name, &result, &properties, job.require);
    let text = if job.format == Format::CrJson { crjson } else { findings.text() };
    line_of(input, &findings, text)
}

fn line_of(input: &Input, findings: &Findings<'_>, text: String) -> Line {
    // What a file says of itself that is no JSON cannot come this far: all of it are strings and numbers.
    let json = serde_json::to_string(findings).unwrap_or_default() + "\n";
    let error = findings.error.as_ref().filter(|_| findings.verdict.is_none());
    Line {
        text,
        json,
        error: error.map(|error| format!("{}: {error}", input.name)),
        exit: findings.exit,
        meets: findings.meets,
        verdict: findings.verdict.map_or("error", |verdict| verdict.name()),
    }
}

/// Looks for marks alone, with the codes that go with it.
fn marks_of(input: &Input, job: &Job, progress: impl FnMut(Duration, Option<Duration>)) -> Line {
    let result = match input.path.to_str() {
        Some(path) => watermark(path, &job.check, progress),
        None => Err(crate::ReadError::Open("its name is not UTF-8".into())),
    };
    let report = Report::new(&input.name, &result);
    let (exit, verdict) = match (&report.error, report.found) {
        (None, Some(true)) => (0, "marked"),
        (None, Some(false)) => (1, "not marked"),
        _ => (2, "error"),
    };
    let error = result.as_ref().err().map(|error| format!("{}: {error}", input.name));
    let json = serde_json::to_string(&report).unwrap_or_default() + "\n";
    Line { text: report.text(), json, error, exit, meets: None, verdict }
}

/// Has a file that can be read twice judged: standard input is written to a temporary one first.
fn on_disk(
    input: &Input,
    judge: impl FnOnce(&Path) -> Result<Judged, ClipError>,
) -> Result<Judged, ClipError> {
    if input.path.as_os_str() != "-" {
        if input.name.contains("://") && !input.path.exists() {
            return Err(ClipError::NoInput(
                "manifests are looked for in files; --watermark-only and --live read addresses".into(),
            ));
        }
        return judge(&input.path);
    }
    let failed =
        |error: std::io::Error| ClipError::NoInput(format!("standard input cannot be read: {error}"));
    let mut spool = tempfile::Builder::new().prefix("soraverify-").tempfile().map_err(failed)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut spool).map_err(failed)?;
    spool.flush().map_err(failed)?;
    judge(spool.path())
}

/// Drawn on standard error, and only where that is a terminal.
fn seconds_bar(file: &str) -> ProgressBar {
    styled(ProgressBar::no_length().with_message(file.to_owned()), "{msg} {wide_bar} {pos} of {len} s")
}

fn files_bar(count: usize) -> ProgressBar {
    styled(ProgressBar::new(count as u64), "{wide_bar} {pos} of {len} files, {eta} left")
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are constants; without one the bar looks otherwise.
    if let Ok(style) = ProgressStyle::with_template(template) {
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
