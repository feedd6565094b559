//! C2PA's soft binding resolution API, version 1.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sora_provenance::WATERMARK_ALG;
use sora_store::{Checked, StoreError};

use super::answer::Refusal;
use super::limiter::Limiter;
use super::upload::{of_body, small};
use super::{Peer, Shared, inspect};
use crate::clip::digits;

/// Least, default and most results.
const RESULTS: (usize, usize, usize) = (1, 10, 100);
/// Longest value of a soft binding, in bytes of base64.
const VALUE: usize = 4096;

/// What a query says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    alg: Option<String>,
    value: Option<String>,
    max_results: Option<usize>,
}

/// What a query says in its body.
#[derive(Debug, Deserialize)]
pub(crate) struct AskedInBody {
    alg: String,
    value: String,
}

type Asking = Result<Query<Asked>, QueryRejection>;

pub(crate) async fn by_binding(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    asked: Asking,
) -> Result<Json<Value>, Refusal> {
    paced(&shared.requests, peer)?;
    let asked = readable(asked)?;
    let (Some(alg), Some(value)) = (&asked.alg, &asked.value) else {
        return Err(Refusal::bad("alg and value are needed: the algorithm, and its value in base64"));
    };
    let ids = resolve(shared, alg.clone(), value.clone(), results(asked.max_results)?).await?;
    Ok(matches(ids.into_iter().map(|id| (id, None))))
}

pub(crate) async fn by_binding_in_body(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    asked: Asking,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    paced(&shared.requests, peer)?;
    let most = results(readable(asked)?.max_results)?;
    let body = small(body, 2 * VALUE).await?;
    let asked: AskedInBody = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad(format!("the body is to be JSON with alg and value: {error}")))?;
    let ids = resolve(shared, asked.alg, asked.value, most).await?;
    Ok(matches(ids.into_iter().map(|id| (id, None))))
}

/// Manifests for a clip: those of its watermark, and of these not the ones whose clip looks different.
pub(crate) async fn by_content(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    asked: Asking,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    paced(&shared.checks, peer)?;
    let asked = readable(asked)?;
    let most = results(asked.max_results)?;
    if let Some(other) = asked.alg.as_deref().filter(|alg| *alg != WATERMARK_ALG) {
        return Err(Refusal::bad(format!("alg is {}; clips are looked at for {WATERMARK_ALG}", cut(other))));
    }
    let _guest = admitted(&shared)?;
    let upload = of_body(&shared, &headers, body).await?;
    let found = inspect::inspect(&shared, upload).await?;
    let recovery = &found["recovery"];
    if let Some(id) = recovery["manifest"]["id"].as_str() {
        let score = recovery["likeness"].as_f64().map(|score| (score.clamp(0.0, 1.0) * 100.0).round() as u8);
        let looks = recovery["resemblance"] != "differs";
        return Ok(matches(looks.then(|| (id.to_owned(), score))));
    }
    // Of a clip with a manifest that is trusted, nobody asked the store yet.
    let mut ids = Vec::new();
    for mark in found["watermark"]["marks"].as_array().into_iter().flatten() {
        let Some(id) = mark["id"].as_str() else { continue };
        let value = BASE64_STANDARD.encode(digits(id));
        ids.extend(resolve(Arc::clone(&shared), WATERMARK_ALG.into(), value, most).await?);
    }
    ids.truncate(most);
    Ok(matches(ids.into_iter().map(|id| (id, None))))
}

pub(crate) async fn manifest(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    paced(&shared.requests, peer)?;
    let asked = id.clone();
    let found = reading(shared, move |shared| shared.store.checked(&asked, None, &shared.anchors)).await?;
    match found {
        Some(Checked { manifest, .. }) => {
            Ok(([(header::CONTENT_TYPE, "application/c2pa")], manifest).into_response())
        }
        None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no manifest {}", cut(&id)))),
    }
}

pub(crate) async fn supported(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<Value>, Refusal> {
    paced(&shared.requests, peer)?;
    Ok(Json(json!({ "watermarks": [{ "alg": WATERMARK_ALG }], "fingerprints": [] })))
}

pub(crate) async fn nothing_here(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
) -> Refusal {
    match paced(&shared.requests, peer) {
        Ok(()) => Refusal::new(StatusCode::NOT_FOUND, "there is nothing here"),
        Err(refusal) => refusal,
    }
}

/// Refuses who asks too often.
pub(crate) fn paced(limiter: &Limiter, peer: Peer) -> Result<(), Refusal> {
    limiter.take(peer.0, Instant::now()).map_err(|wait| {
        let text = format!("Too many requests from this address; try again in {} s.", wait.as_secs() + 1);
        Refusal::later(StatusCode::TOO_MANY_REQUESTS, text, wait)
    })
}

/// A place for a clip, where there is one.
pub(crate) fn admitted(shared: &Shared) -> Result<tokio::sync::SemaphorePermit<'_>, Refusal> {
    shared.guests.try_acquire().map_err(|_| {
        let text = "Too many clips are waiting; try again in a minute.";
        Refusal::later(StatusCode::SERVICE_UNAVAILABLE, text, Duration::from_secs(60))
    })
}

fn readable(asked: Asking) -> Result<Asked, Refusal> {
    asked.map(|Query(asked)| asked).map_err(|error| Refusal::bad(error.body_text()))
}

fn results(asked: Option<usize>) -> Result<usize, Refusal> {
    let (least, default, most) = RESULTS;
    match asked.unwrap_or(default) {
        number if (least..=most).contains(&number) => Ok(number),
        other => Err(Refusal::bad(format!("maxResults is {other}; it is {least} to {most}"))),
    }
}

/// Ids of manifests that pass their check and name the value.
async fn resolve(
    shared: Arc<Shared>,
    alg: String,
    value: String,
    most: usize,
) -> Result<Vec<String>, Refusal> {
    if value.len() > VALUE || alg.len() > VALUE {
        return Err(Refusal::bad(format!("alg and value have at most {VALUE} characters")));
    }
    let value = BASE64_STANDARD
        .decode(&value)
        .map_err(|error| Refusal::bad(format!("value is no base64: {error}")))?;
    reading(shared, move |shared| {
        let mut ids = shared.store.find(&alg, &value, most)?;
        ids.retain(|id| {
            let checked = shared.store.checked(id, Some((&alg, &value)), &shared.anchors);
            matches!(checked, Ok(Some(_)))
        });
        Ok(ids)
    })
    .await
}

/// Reads the store, on a thread that may wait.
async fn reading<T: Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    let internal = |text: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text);
    let read = tokio::task::spawn_blocking(move || read(&shared)).await;
    read.map_err(|_| internal("the store could not be read".into()))?.map_err(|error| match error {
        StoreError::Manifest(text) => internal(text),
        // Where the store lies is nobody's business.
        StoreError::Locked { .. } => {
            let text = "the store is locked; try again";
            Refusal::later(StatusCode::SERVICE_UNAVAILABLE, text, Duration::from_secs(5))
        }
        _ => internal("the store could not be read".into()),
    })
}

fn matches(found: impl IntoIterator<Item = (String, Option<u8>)>) -> Json<Value> {
    let one = |(id, score): (String, Option<u8>)| match score {
        Some(score) => json!({ "manifestId": id, "similarityScore": score }),
        None => json!({ "manifestId": id }),
    };
    Json(json!({ "matches": found.into_iter().map(one).collect::<Vec<_>>() }))
}

/// A stranger's text, not too long.
fn cut(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}
