//! Checking a clip that was sent, in a process of its own: a stranger's file can break or stall that one only.

use std::process::Stdio;
use std::time::Duration;

use axum::http::StatusCode;
use clap::ValueEnum as _;
use serde_json::Value;
use tokio::process::Command;

use super::Shared;
use super::answer::Refusal;
use super::upload::Upload;

/// Exit codes from which on there is no verdict.
const ERRORS: i32 = 64;
/// A file that is no video.
const FORMAT: i32 = 65;

/// Checks a clip as the program on the command line does; gives its line of JSON, with the clip's name in it.
pub(crate) async fn inspect(shared: &Shared, upload: Upload) -> Result<Value, Refusal> {
    let internal = |text: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text);
    let _job = shared.jobs.acquire().await.map_err(|_| internal("It is ending.".into()))?;
    let settings = &shared.settings;
    let program = std::env::current_exe().map_err(|error| internal(format!("It cannot check: {error}")))?;
    let mut command = Command::new(program);
    command.args(["--json", "--quiet", "--store"]).arg(&settings.store);
    for anchors in &settings.anchors {
        command.arg("--anchors").arg(anchors);
    }
    for key in &settings.key {
        command.arg("--key").arg(key);
    }
    if let Some(search) = settings.search.to_possible_value() {
        command.arg("--search").arg(search.get_name());
    }
    // The file has no name but this one.
    command
        .arg("/dev/stdin")
        .stdin(upload.file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let limit = Duration::from_secs(settings.max_seconds);
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(output) => output.map_err(|error| internal(format!("It cannot check: {error}")))?,
        Err(_) => {
            let text = format!("The check took longer than {} s, and was ended.", settings.max_seconds);
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
    };
    let found: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let Some(mut found) = found else {
        return Err(internal("The check ended without an answer.".into()));
    };
    let code = output.status.code().unwrap_or(ERRORS);
    if code >= ERRORS {
        let why = found["error"].as_str().unwrap_or("it cannot be read").to_owned();
        let status =
            if code == FORMAT { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::INTERNAL_SERVER_ERROR };
        return Err(Refusal::new(status, format!("{} cannot be checked: {why}.", upload.name)));
    }
    found["file"] = upload.name.into();
    Ok(found)
}
