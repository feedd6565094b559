//! A key that this process never sees: a command signs, which asks a hardware module (PKCS#11), a key service, or
//! somebody.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::public::PublicKey;
use super::refused;
use crate::ProvenanceError;

/// How long a command may take.
const TIME: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const STEP: Duration = Duration::from_millis(2);
/// Longest answer that is read, in bytes: signatures have 64, or 72 as DER.
const ANSWER: u64 = 4096;

pub(crate) struct SignCommand {
    line: String,
    public: PublicKey,
}

impl SignCommand {
    /// Takes a line for the shell, and has it sign something: whether it is there and has the certificate's key shall
    /// show before there is a clip.
    pub(super) fn new(line: &str, public: PublicKey) -> Result<Self, ProvenanceError> {
        if line.trim().is_empty() {
            return Err(refused("the sign command is empty"));
        }
        let command = Self { line: line.to_owned(), public };
        command.sign(b"sora-gst: a test of the sign command")?;
        Ok(command)
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Gives the command `data` on its standard input and takes the signature from its standard output.
    pub(crate) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, ProvenanceError> {
        let line = &self.line;
        let failed = |what: String| refused(format!("the sign command {line:?} {what}"));
        let mut child = shell(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("cannot be run: {error}")))?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (answer, said, in_time) = std::thread::scope(|scope| {
            scope.spawn(move || {
                // One that does not read has its answer judged all the same.
                input.map(|mut input| input.write_all(data))
            });
            let answer = scope.spawn(move || read(output));
            let said = scope.spawn(move || read(errors));
            let in_time = wait(&mut child);
            // What a thread read is gone only if it panicked, and reading does not.
            (answer.join().unwrap_or_default(), said.join().unwrap_or_default(), in_time)
        });
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        match in_time {
            Err(error) => return Err(failed(format!("cannot be waited for: {error}"))),
            Ok(None) => return Err(failed(format!("took more than {} s", TIME.as_secs()))),
            Ok(Some(status)) if !status.success() => {
                return Err(failed(format!("failed ({status}): {said}")));
            }
            Ok(Some(_)) => {}
        }
        self.public.signature(data, &answer).ok_or_else(|| {
            failed(format!(
                "gave {} bytes that are no signature of the certificate's key ({}); the bare signature on standard output is wanted",
                answer.len(),
                self.public.algorithm()
            ))
        })
    }
}

#[cfg(unix)]
fn shell(line: &str) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("sh");
    // A group of its own: all of it can be ended.
    command.args(["-c", line]).process_group(0);
    command
}

#[cfg(not(unix))]
fn shell(line: &str) -> Command {
    let mut command = Command::new("cmd");
    command.args(["/C", line]);
    command
}

fn read(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read until it failed is judged.
    let _ = from.map(|from| from.take(ANSWER).read_to_end(&mut bytes));
    bytes
}

/// Waits for its end; `None` where it was ended because it took too long.
fn wait(child: &mut Child) -> std::io::Result<Option<std::process::ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > TIME {
            end(child)?;
            return Ok(None);
        }
        std::thread::sleep(STEP);
    }
}

/// Ends it, and what it started: its answer is waited for until all of them have gone.
fn end(child: &mut Child) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    }
    child.kill()?;
    child.wait().map(drop)
}
