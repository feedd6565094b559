//! A rolling verdict on a stream that is signed fragment by fragment, while it arrives.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;
use sora_provenance::{
    Judgement, LiveReport, LiveVerifier, ProvenanceError, Report, Resolution, TrustAnchors, Verdict,
    WatermarkEvidence, judge,
};

use crate::clip::ClipError;
use crate::findings::fragments;
use crate::reader::bytes::{Next, Source};
use crate::report::VERSION;

/// What is watched, and how it is told.
#[derive(Debug)]
pub struct Watch<'w> {
    /// An address, a path, or `-` for standard input.
    pub input: &'w str,
    /// The signers.
    pub anchors: TrustAnchors,
    /// A line at least this often; one more whenever something changes.
    pub every: Duration,
    /// End of it; `None`: the stream's own.
    pub duration: Option<Duration>,
    /// Lines of JSON instead of text.
    pub json: bool,
}

/// What is known of a stream at some time, as a line of JSON.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct State<'s> {
    /// [`VERSION`].
    pub version: u32,
    /// The stream, as it was named.
    pub stream: &'s str,
    /// Seconds since it was begun to be watched.
    pub at: f64,
    /// Nothing more comes.
    pub ended: bool,
    /// Of all that came.
    pub verdict: Verdict,
    /// Of the fragments since the last that was not as signed; `tampered` where that was the last one.
    pub recent: Verdict,
    /// Exit code of the verdict.
    pub exit: u8,
    /// Why, one sentence each.
    pub reasons: &'s [String],
    /// What was found of a manifest.
    pub manifest: Option<&'s Report>,
    /// What went wrong with the stream itself.
    pub error: Option<&'s str>,
}

/// Watches a stream until it ends, and tells what is known of it; the exit code of the last verdict.
///
/// # Errors
/// Where it cannot be read at all, or its format is another.
pub fn watch(watch: &Watch<'_>) -> Result<u8, ClipError> {
    let source = Source::open(watch.input)?;
    let mut verifier = LiveVerifier::joining_late(watch.anchors.clone());
    let begun = Instant::now();
    let mut told = Told::default();
    let mut bytes = 0u64;
    let error = loop {
        if watch.duration.is_some_and(|duration| begun.elapsed() >= duration) {
            break None;
        }
        match source.next() {
            Ok(Next::Nothing) => {}
            Ok(Next::Bytes(buffer)) => {
                bytes += buffer.len() as u64;
                if let Err(error) = verifier.push(&buffer) {
                    break Some(error.to_string());
                }
            }
            Ok(Next::End) => {
                break verifier.finish().err().map(|error| error.to_string());
            }
            Err(error) if bytes == 0 => return Err(ClipError::NoInput(error)),
            Err(error) => break Some(error),
        }
        if verifier.report().is_some() {
            told.tell(watch, &verifier, begun, None)?;
        }
    };
    if let Some(error) = &error {
        if !verifier.is_live() && verifier.report().is_none() {
            return Err(ClipError::Format(error.clone()));
        }
        verifier.broken(&ProvenanceError::Container(error.clone()));
    }
    told.tell(watch, &verifier, begun, Some(error.as_deref()))
}

/// What was told last.
#[derive(Default)]
struct Told {
    at: Option<Instant>,
    key: Option<(Verdict, Verdict, usize, u64)>,
}

impl Told {
    /// Tells what is known where that changed, the time has come, or the stream `ended`; gives the exit code.
    fn tell(
        &mut self,
        watch: &Watch<'_>,
        verifier: &LiveVerifier,
        begun: Instant,
        ended: Option<Option<&str>>,
    ) -> Result<u8, ClipError> {
        let live = verifier.fragments();
        let report = verifier.report();
        let judgement = verdict_of(report.as_ref(), live);
        let verdict = judgement.verdict;
        let recent = recent(report.as_ref(), live, verdict);
        let key = Some((verdict, recent, live.problems.len(), live.sessions));
        let due = self.at.is_none_or(|at| at.elapsed() >= watch.every);
        if ended.is_none() && key == self.key && !due {
            return Ok(verdict.exit_code());
        }
        (self.key, self.at) = (key, Some(Instant::now()));
        let state = State {
            version: VERSION,
            stream: watch.input,
            at: begun.elapsed().as_secs_f64(),
            ended: ended.is_some(),
            verdict,
            recent,
            exit: verdict.exit_code(),
            reasons: &judgement.reasons,
            manifest: report.as_ref(),
            error: ended.flatten(),
        };
        let line = match watch.json {
            true => {
                serde_json::to_string(&state).map_err(|error| ClipError::Internal(error.to_string()))? + "\n"
            }
            false => text(&state, live),
        };
        let mut out = std::io::stdout().lock();
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| ClipError::Internal(format!("cannot write: {error}")))?;
        Ok(verdict.exit_code())
    }
}

fn verdict_of(report: Option<&Report>, live: &LiveReport) -> Judgement {
    match report {
        Some(report) => judge(report, &WatermarkEvidence::NotLookedFor, Resolution::None),
        None if live.fragments > 0 || !live.problems.is_empty() => Judgement {
            verdict: Verdict::Tampered,
            reasons: live.problems.iter().map(|problem| format!("{problem}.")).collect(),
        },
        None => Judgement {
            verdict: Verdict::NoEvidence,
            reasons: vec![
                "There is no beginning that names session keys: it is not signed fragment by fragment."
                    .into(),
            ],
        },
    }
}

/// The verdict, were there only the fragments since the last that was wrong.
fn recent(report: Option<&Report>, live: &LiveReport, verdict: Verdict) -> Verdict {
    let Some(report) = report else { return verdict };
    if live.problems.is_empty() {
        return verdict;
    }
    if live.streak == 0 {
        return Verdict::Tampered;
    }
    // What the beginning's manifest is worth by itself, the fragments aside.
    let manifest = report.manifest();
    manifest.and_then(|manifest| manifest.of_beginning).map_or(verdict, Verdict::of_signature)
}

fn text(state: &State<'_>, live: &LiveReport) -> String {
    let (at, verdict) = (state.at, state.verdict.name());
    let mut text = format!("{at:.1} s: {verdict}, fragments {}", fragments(live));
    if state.recent != state.verdict {
        text += &format!("; the last {}: {}", live.streak, state.recent.name());
    }
    if let Some(problem) = live.problems.last() {
        text += &format!("; last problem: {problem}");
    }
    text.push('\n');
    if state.ended {
        for reason in state.reasons {
            text += &format!("  {reason}\n");
        }
        if let Some(error) = state.error {
            text += &format!("  broken    {error}\n");
        }
    }
    text
}
