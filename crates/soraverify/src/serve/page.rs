//! The page for people. It works without scripts, and has none.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Extension;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{Multipart, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde_json::Value;

use super::answer::Refusal;
use super::api::{admitted, paced};
use super::upload::{FIELD, of_form};
use super::{Peer, Shared, inspect};

pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css"))
}

pub(crate) async fn form(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
) -> Result<Html<String>, Refusal> {
    paced(&shared.requests, peer)?;
    Ok(Html(page(&shared, "")))
}

/// Somebody went back to an answer, or typed its address.
pub(crate) async fn to_form() -> Redirect {
    Redirect::to("/")
}

/// Checks the form's clip.
pub(crate) async fn check(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    let json = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    match checked(&shared, peer, &headers, form).await {
        Ok(found) if json => axum::Json(found).into_response(),
        Ok(found) => Html(page(&shared, &findings(&found))).into_response(),
        Err(refusal) if json => refusal.into_response(),
        Err(refusal) => {
            refusal.dated((refusal.status, Html(page(&shared, &refused(&refusal)))).into_response())
        }
    }
}

async fn checked(
    shared: &Shared,
    peer: Peer,
    headers: &HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Value, Refusal> {
    paced(&shared.checks, peer)?;
    let form = form.map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("There is no form: {}", error.body_text()))
    })?;
    let _guest = admitted(shared)?;
    let upload = of_form(shared, headers, form).await?;
    inspect::inspect(shared, upload).await
}

/// The page, with what was found above the form.
fn page(shared: &Shared, found: &str) -> String {
    let most = shared.settings.max_megabytes;
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What is known of a clip</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<h1>What is known of a clip</h1>
<p>A clip may carry a signed manifest that says how it was made, and an invisible mark that leads back to the manifest
where somebody took it out. This page looks for both.</p>
{found}<form action="/check" method="post" enctype="multipart/form-data">
<label class="drop"><span>A video, up to {most} MB</span>
<input type="file" name="{FIELD}" required></label>
<button type="submit">Check the clip</button>
</form>
<p class="quiet">Choose a file, or drop one on the field. A check takes some seconds. The clip is deleted when the answer is
ready; nothing of it is kept.</p>
</main>
</body>
</html>
"#
    )
}

fn refused(refusal: &Refusal) -> String {
    format!(
        "<section class=\"verdict\" role=\"alert\"><h2>No answer</h2>\n<p>{}</p></section>\n",
        escaped(&refusal.text)
    )
}

/// What a verdict means, in a line and in a sentence.
fn meaning(verdict: &str) -> (&'static str, &'static str) {
    match verdict {
        "authentic" => (
            "Signed, and unchanged since",
            "The clip is bit for bit what a signer whom this site trusts has signed.",
        ),
        "authentic_other" => (
            "Signed, and unchanged since",
            "The clip is bit for bit what a signer has signed whom others vouch for.",
        ),
        "valid_untrusted" => (
            "Unchanged since it was signed, by somebody unknown",
            "The signature fits the clip. Nobody here vouches for the signer, who can have written anything.",
        ),
        "recovered" => (
            "Its manifest was found again",
            "The clip came without a manifest. Its invisible mark led to a stored one of a trusted signer, and the clip looks like the one that was signed. It was changed since, at least by taking the manifest out.",
        ),
        "watermark_only" => (
            "It carries our mark, and no manifest",
            "The invisible mark was found. No manifest of a trusted signer could be matched with the clip.",
        ),
        "no_evidence" => (
            "Nothing was found",
            "There is neither a manifest nor our mark. That says nothing about where the clip comes from.",
        ),
        "tampered" => (
            "The manifest does not fit the clip",
            "There is a manifest, and the clip is not what was signed, or the manifest itself is broken.",
        ),
        "conflict" => (
            "What it carries contradicts itself",
            "The mark, the manifest and what is stored do not belong together. A mark can be copied from one clip onto another.",
        ),
        _ => ("Not enough to say anything", "The clip is too short, incomplete, or cannot be decoded here."),
    }
}

fn findings(found: &Value) -> String {
    let verdict = found["verdict"].as_str().unwrap_or("inconclusive");
    let (title, sentence) = meaning(verdict);
    let mut html = format!(
        "<section class=\"verdict\" role=\"status\"><p class=\"quiet\">{}</p>\n<h2>{title}</h2>\n<p>{sentence}</p>\n<p class=\"name\">{}</p>\n",
        escaped(found["file"].as_str().unwrap_or_default()),
        escaped(verdict)
    );
    let reasons: Vec<&str> = texts(&found["reasons"]);
    if !reasons.is_empty() {
        html.push_str("<ul>\n");
        for reason in reasons {
            let _ = writeln!(html, "<li>{}</li>", escaped(reason));
        }
        html.push_str("</ul>\n");
    }
    let rows = rows(found);
    if !rows.is_empty() {
        html.push_str("<table>\n");
        for (name, value) in rows {
            let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escaped(&value));
        }
        html.push_str("</table>\n");
    }
    let whole = serde_json::to_string_pretty(found).unwrap_or_default();
    let _ = writeln!(
        html,
        "<details><summary>Everything, as JSON</summary><pre>{}</pre></details></section>",
        escaped(&whole)
    );
    html
}

/// What is told of the manifest, the stored one where there is none in the clip, and of marks.
fn rows(found: &Value) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let own = &found["manifest"]["credentials"];
    let stored = &found["recovery"]["manifest"];
    let (manifest, place) = match own["id"].is_string() {
        true => (own, "in the clip, or beside it"),
        false => (stored, "in the store"),
    };
    if let Some(id) = manifest["id"].as_str() {
        rows.push(("Manifest", format!("{id}, {place}")));
        let signer = &manifest["signer"];
        let name = [&signer["organization"], &signer["common_name"]].into_iter().filter_map(Value::as_str);
        let mut name = name.collect::<Vec<_>>().join(", ");
        if signer["development"] == true {
            name.push_str(" (a development certificate: proves integrity, not who made it)");
        }
        rows.push(("Signer", name));
        let kinds = texts(&manifest["digital_source_types"]);
        if !kinds.is_empty() {
            rows.push(("Says of itself", kinds.into_iter().map(kind).collect::<Vec<_>>().join("; ")));
        }
        let made = &manifest["generation"];
        if let Some(software) = made["software"]["name"].as_str() {
            let model =
                made["model"]["id"].as_str().map(|model| format!(", model {model}")).unwrap_or_default();
            rows.push((
                "Made by",
                format!("{software} {}{model}", made["software"]["version"].as_str().unwrap_or_default()),
            ));
        }
    }
    for mark in found["watermark"]["marks"].as_array().into_iter().flatten() {
        let (id, chance) = (mark["id"].as_str().unwrap_or_default(), mark["log10_p"].as_f64().unwrap_or(0.0));
        rows.push(("Mark", format!("{id}; by chance at most once in 10^{:.0} clips", (-chance).floor())));
    }
    if let Some(likeness) = found["recovery"]["likeness"].as_f64() {
        rows.push((
            "Likeness",
            format!("{:.0} % to the clip that the stored manifest is of", likeness * 100.0),
        ));
    }
    rows
}

/// IPTC's digital source types, in words.
fn kind(uri: &str) -> String {
    match uri.rsplit('/').next().unwrap_or(uri) {
        "trainedAlgorithmicMedia" => "made by a trained model (AI)".into(),
        "compositeWithTrainedAlgorithmicMedia" => "footage changed by a trained model (AI)".into(),
        other => other.into(),
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A stranger's text as a part of a page.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_strangers_text_stays_text() {
        let found = json!({
            "file": "<script>alert(1)</script>.mp4", "verdict": "no_evidence", "reasons": ["a \"b\" & 'c'"],
        });
        let html = findings(&found);
        assert!(
            !html.contains("<script>") && html.contains("&lt;script&gt;alert(1)&lt;/script&gt;.mp4"),
            "{html}"
        );
        assert!(html.contains("a &quot;b&quot; &amp; &#39;c&#39;"), "{html}");
    }

    #[test]
    fn every_verdict_has_words_and_none_calls_a_clip_real_or_fake() {
        let mut seen = std::collections::BTreeSet::new();
        for verdict in sora_provenance::Verdict::ALL {
            let (title, sentence) = meaning(verdict.name());
            let words = format!("{title} {sentence}").to_lowercase();
            for word in ["real", "fake", "genuine"] {
                assert!(!words.split(|c: char| !c.is_alphabetic()).any(|found| found == word), "{words}");
            }
            seen.insert(sentence);
        }
        assert_eq!(seen.len(), sora_provenance::Verdict::ALL.len());
    }
}
