//! Taking in a clip: into a file without a name.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Multipart;
use axum::http::{HeaderMap, StatusCode, header};
use tokio::io::AsyncWriteExt as _;

use super::Shared;
use super::answer::Refusal;

/// How long a sender may take to send nothing.
const SILENCE: Duration = Duration::from_secs(15);
/// The field of the form that the clip is in.
pub(crate) const FIELD: &str = "clip";

/// A clip that was sent. It is in no folder: when this goes, it is gone, also where the program is killed.
pub(crate) struct Upload {
    pub(crate) file: std::fs::File,
    /// What the sender calls it.
    pub(crate) name: String,
}

/// A clip on its way in.
struct Incoming<'s> {
    file: tokio::fs::File,
    length: u64,
    shared: &'s Shared,
}

impl<'s> Incoming<'s> {
    fn new(shared: &'s Shared, headers: &HeaderMap) -> Result<Self, Refusal> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let incoming = tempfile::tempfile().map_err(|error| failed(&error)).map(tokio::fs::File::from_std)?;
        let incoming = Self { file: incoming, length: 0, shared };
        // A form is a little longer than what is in it.
        incoming.bounded(announced.unwrap_or(0u64).saturating_sub(64 << 10))?;
        Ok(incoming)
    }

    fn bounded(&self, length: u64) -> Result<(), Refusal> {
        let most = self.shared.settings.max_megabytes;
        if length <= most << 20 {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The clip is larger than {most} MB; that is the most."),
        ))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.length += bytes.len() as u64;
        self.bounded(self.length)?;
        self.file.write_all(bytes).await.map_err(|error| failed(&error))
    }

    async fn finish(mut self, name: String) -> Result<Upload, Refusal> {
        if self.length == 0 {
            return Err(Refusal::bad("No clip came with it: choose a file first."));
        }
        self.file.flush().await.map_err(|error| failed(&error))?;
        Ok(Upload { file: self.file.into_std().await, name })
    }
}

/// The clip in a form.
pub(crate) async fn of_form(
    shared: &Shared,
    headers: &HeaderMap,
    mut form: Multipart,
) -> Result<Upload, Refusal> {
    let mut incoming = Incoming::new(shared, headers)?;
    let broken = |error: axum::extract::multipart::MultipartError| {
        Refusal::bad(format!("The form is broken: {error}"))
    };
    while let Some(mut field) = timely(form.next_field()).await?.map_err(broken)? {
        if field.name() != Some(FIELD) {
            continue;
        }
        let name = shown(field.file_name().unwrap_or_default());
        while let Some(bytes) = timely(field.chunk()).await?.map_err(broken)? {
            incoming.write(&bytes).await?;
        }
        return incoming.finish(name).await;
    }
    Err(Refusal::bad(format!("The form has no field called {FIELD:?}.")))
}

/// The clip that is the whole body.
pub(crate) async fn of_body(shared: &Shared, headers: &HeaderMap, mut body: Body) -> Result<Upload, Refusal> {
    let mut incoming = Incoming::new(shared, headers)?;
    while let Some(bytes) = timely(next(&mut body)).await? {
        let bytes = bytes.map_err(|error| Refusal::bad(format!("The clip broke off: {error}")))?;
        incoming.write(&bytes).await?;
    }
    incoming.finish("the clip that was sent".into()).await
}

/// A body that is held in memory.
pub(crate) async fn small(mut body: Body, most: usize) -> Result<Vec<u8>, Refusal> {
    let mut whole = Vec::new();
    while let Some(bytes) = timely(next(&mut body)).await? {
        whole.extend_from_slice(
            &bytes.map_err(|error| Refusal::bad(format!("The request broke off: {error}")))?,
        );
        if whole.len() > most {
            let text = format!("The request is longer than {most} bytes; that is the most.");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
    }
    Ok(whole)
}

/// The next bytes of a body.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        let mut body = std::pin::Pin::new(&mut *body);
        match std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await? {
            Ok(frame) => match frame.into_data() {
                Ok(bytes) => return Some(Ok(bytes)),
                Err(_trailers) => continue,
            },
            Err(error) => return Some(Err(error)),
        }
    }
}

async fn timely<T>(next: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::time::timeout(SILENCE, next)
        .await
        .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "Nothing more came for 15 s."))
}

fn failed(error: &std::io::Error) -> Refusal {
    Refusal::new(StatusCode::INSUFFICIENT_STORAGE, format!("The clip cannot be taken in: {error}"))
}

/// A stranger's name of a file, without folders, not too long.
fn shown(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last.chars().filter(|char| !char.is_control()).take(100).collect();
    if shown.is_empty() { "the clip that was sent".into() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_folders_and_no_control_characters() {
        assert_eq!(shown("C:\\clips\\a\u{7}b.mp4"), "ab.mp4");
        assert_eq!(shown("../../etc/passwd"), "passwd");
        assert_eq!(shown(""), "the clip that was sent");
        assert_eq!(shown(&"x".repeat(500)).len(), 100);
    }
}
