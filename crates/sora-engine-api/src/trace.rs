//! Where the time goes: spans in the trace event format that Perfetto and Chrome's `about:tracing` show.
//!
//! `SORA_TRACE=FILE` turns it on, for the whole process. The plugin and the engine are libraries of their own, each
//! with its own copy of this module: both append to the file, each event in one write, and stamp it by the same clock
//! (`CLOCK_MONOTONIC`, which is also that of GStreamer's log). The file is one JSON array without its closing bracket,
//! as the format allows, so that it is whole at any moment, also when the process is killed.
//!
//! | span | what it is |
//! |---|---|
//! | `load` | reading the weights |
//! | `text` | encoding a prompt that is not remembered |
//! | `encode` | frames to latents |
//! | `step` | one denoising step: its `step` counts from 0 |
//! | `remember` | keys and values of a finished block |
//! | `decode` | latents to frames |
//! | `copy` | frames from or to the format of the buffers |
//! | `wait` | for frames, on the thread that pushes them |
//! | `push` | downstream has the frame |

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

/// Environment variable with the name of the file.
const VARIABLE: &str = "SORA_TRACE";

static TRACE: OnceLock<Result<Option<File>, String>> = OnceLock::new();

fn trace() -> Option<&'static File> {
    let opened = TRACE.get_or_init(|| match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        None => Ok(None),
        Some(path) => {
            let path = PathBuf::from(path);
            open(&path)
                .map(Some)
                .map_err(|error| format!("{VARIABLE}={} cannot be written: {error}", path.display()))
        }
    });
    opened.as_ref().ok().and_then(Option::as_ref)
}

/// Begins a trace, or goes on with the one that another library of this process began.
fn open(path: &Path) -> std::io::Result<File> {
    let name = std::env::current_exe().ok();
    let name = name.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let args = json!({ "name": name });
    let event = json!({ "name": "process_name", "ph": "M", "pid": std::process::id(), "args": args });
    let head = format!("[{event}");
    let mut begun = Vec::new();
    if let Ok(file) = File::open(path) {
        file.take(head.len() as u64).read_to_end(&mut begun)?;
    }
    let goes_on = begun == head.as_bytes();
    if !goes_on {
        std::fs::write(path, head)?;
    }
    OpenOptions::new().append(true).open(path)
}

/// Whether a trace is written.
pub fn is_on() -> bool {
    trace().is_some()
}

/// Why none is, where one was asked for.
pub fn problem() -> Option<&'static str> {
    trace();
    TRACE.get().and_then(|opened| opened.as_ref().err()).map(String::as_str)
}

/// The time in nanoseconds, as [`complete`] takes it.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place, and this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Writes a span of this thread that began at a time and ends now.
pub fn complete(name: &str, began: u64, args: Value) {
    let Some(file) = trace() else { return };
    let thread = thread(file);
    let micros = |nanos: u64| nanos as f64 / 1e3;
    append(
        file,
        &json!({
            "name": name, "ph": "X", "pid": std::process::id(), "tid": thread,
            "ts": micros(began), "dur": micros(now().saturating_sub(began)), "args": args,
        }),
    );
}

/// Number of this thread; its first event says what it is called.
fn thread(file: &File) -> i32 {
    thread_local! { static TOLD: Cell<bool> = const { Cell::new(false) } }
    // SAFETY: it has no conditions.
    let thread = unsafe { libc::gettid() };
    if !TOLD.replace(true) {
        // GStreamer's threads have no name that Rust knows.
        let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
        let args = json!({ "name": name.trim_end() });
        append(
            file,
            &json!({ "name": "thread_name", "ph": "M", "pid": std::process::id(), "tid": thread, "args": args }),
        );
    }
    thread
}

fn append(mut file: &File, event: &Value) {
    // A trace that cannot go on, on a full disk, is no reason to fail.
    let _ = file.write_all(format!(",\n{event}").as_bytes());
}

/// A span that ends when it goes; `None` where no trace is written, at the cost of a look.
#[must_use = "it ends when it goes"]
pub fn span(name: &'static str) -> Option<Span> {
    is_on().then(|| Span { name, began: now() })
}

/// A span in the making.
#[derive(Debug)]
pub struct Span {
    name: &'static str,
    began: u64,
}

impl Drop for Span {
    fn drop(&mut self) {
        complete(self.name, self.began, json!({}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_of_another_process_is_begun_anew_and_that_of_this_one_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace.json");
        std::fs::write(&path, "[{\"of\":\"another process\"}").expect("it is written");
        let mut first = open(&path).expect("it can be written");
        append(&first, &json!({ "name": "one" }));
        let second = open(&path).expect("it can be written");
        append(&second, &json!({ "name": "two" }));
        first.flush().expect("it is written");
        let text = std::fs::read_to_string(&path).expect("it can be read") + "]";
        let events: Vec<Value> = serde_json::from_str(&text).expect("an array of events");
        let names: Vec<&str> = events.iter().filter_map(|event| event["name"].as_str()).collect();
        assert_eq!(names, ["process_name", "one", "two"]);
        assert!(open(&folder.path().join("nowhere/trace.json")).is_err());
    }
}
