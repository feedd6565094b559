//! `soraverify serve`: the check over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | a page with a form |
//! | `POST /check` | the form's clip is checked: a page, or JSON with `Accept: application/json` |
//! | `GET`, `POST /matches/byBinding` | ids of the manifests for a watermark's value |
//! | `POST /matches/byContent` | the same for a clip |
//! | `GET /manifests/{id}` | a manifest, `application/c2pa` |
//! | `GET /services/supportedAlgorithms` | which watermark is known |
//!
//! The last four are C2PA's soft binding resolution API, version 1. Nothing is ever written to the store. A clip that is sent
//! goes into a file without a name, which is gone when the answer is; it is checked by another process of this program, which
//! is ended when it takes too long or the sender leaves. Bodies, rates, connections and times are limited. There is no TLS: put
//! a proxy before it where others are to reach it.

mod answer;
mod api;
mod inspect;
mod limiter;
mod page;
mod upload;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Extension, Router};
use clap::Args;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sora_provenance::TrustAnchors;
use sora_store::{Access, Store};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::cli::{Depth, USAGE, anchor_set, key_list, stop};
use crate::run::INTERNAL;
use limiter::Limiter;

/// Most connections at a time; others wait.
const CONNECTIONS: usize = 64;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(10);

/// Answers over HTTP: a page on which people check clips, and C2PA's soft binding resolution API.
///
/// No clip that is sent is kept, and nothing is written to the store. There is no TLS: put a proxy before it
/// where others are to reach it. Ends at SIGINT or SIGTERM.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The manifest store, as sorasign store=FILE fills it.
    #[arg(long, value_name = "FILE")]
    pub store: PathBuf,
    /// Address and port; port 0 takes a free one. The address in use is the first line on standard output.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// A PEM file with root certificates of signers that you trust; may be given several times
    /// [default: $SORA_TRUST_ANCHORS].
    #[arg(long, value_name = "PEM")]
    pub anchors: Vec<PathBuf>,
    /// A file with the 32 bytes of a key to look for, or "public"; may be given several times
    /// [default: $SORA_WATERMARK_KEY, else public].
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// How far to look for frames that were scaled, cropped, stretched, rotated, or play at another speed.
    #[arg(long, value_enum, default_value_t = Depth::Full)]
    pub search: Depth,
    /// Largest clip that is taken, in megabytes (2^20 bytes).
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub max_megabytes: u64,
    /// Longest that the check of one clip may take, in seconds.
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub max_seconds: u64,
    /// Clips that one address may send in a minute.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub checks_per_minute: u32,
    /// Other requests that one address may make in a minute.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests_per_minute: u32,
    /// Clips that are checked at the same time; others wait.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: u32,
}

/// What every request needs.
pub(crate) struct Shared {
    pub(crate) settings: Serve,
    pub(crate) store: Arc<Store>,
    pub(crate) anchors: TrustAnchors,
    pub(crate) checks: Limiter,
    pub(crate) requests: Limiter,
    /// Checks that may run.
    pub(crate) jobs: Semaphore,
    /// Clips that may be here at all, waiting ones among them.
    pub(crate) guests: Semaphore,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Serve {
    /// Serves until it is told to end. The code is 0, 64 where the arguments do not allow it, or 70.
    pub fn run(&self) -> ExitCode {
        let anchors = match key_list(&self.key).and_then(|_| anchor_set(&self.anchors)) {
            Ok(anchors) => anchors,
            Err(text) => return stop(USAGE, &text),
        };
        let store = match Store::open(&self.store, Access::Read) {
            Ok(store) => Arc::new(store),
            Err(error) => return stop(USAGE, &error.to_string()),
        };
        let jobs = self.jobs as usize;
        let shared = Arc::new(Shared {
            settings: self.clone(),
            store,
            anchors,
            checks: Limiter::per_minute(self.checks_per_minute),
            requests: Limiter::per_minute(self.requests_per_minute),
            jobs: Semaphore::new(jobs),
            guests: Semaphore::new(4 * jobs + 4),
        });
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => return stop(INTERNAL, &format!("no threads to serve with: {error}")),
        };
        let served = runtime.block_on(serve(self.listen, shared));
        // A check that still runs is ended.
        runtime.shutdown_background();
        match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => stop(USAGE, &format!("cannot listen on {}: {error}", self.listen)),
        }
    }
}

async fn serve(address: SocketAddr, shared: Arc<Shared>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    announce(listener.local_addr()?);
    let router = router(shared);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let end = ended();
    tokio::pin!(end);
    loop {
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return Ok(()) };
        let accepted = futures_either(&mut end, listener.accept()).await;
        let Some(accepted) = accepted else { return Ok(()) };
        let Ok((stream, peer)) = accepted else {
            // Too many open files, or a connection that was gone again: others may do better.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = router.clone().layer(Extension(Peer(peer.ip())));
        tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD);
            // What goes wrong with a connection is the other side's to know.
            let _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
            drop(place);
        });
    }
}

/// The second, or nothing where the first is done before.
async fn futures_either<T>(
    end: &mut (impl Future<Output = ()> + Unpin),
    other: impl Future<Output = T>,
) -> Option<T> {
    let mut other = std::pin::pin!(other);
    std::future::poll_fn(|context| {
        use std::task::Poll;
        if std::pin::Pin::new(&mut *end).poll(context).is_ready() {
            return Poll::Ready(None);
        }
        other.as_mut().poll(context).map(Some)
    })
    .await
}

/// Waits for SIGINT or SIGTERM.
async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Then the system ends it by itself.
        return std::future::pending().await;
    };
    std::future::poll_fn(|context| {
        if interrupt.poll_recv(context).is_ready() {
            return std::task::Poll::Ready(());
        }
        terminate.poll_recv(context).map(|_| ())
    })
    .await;
}

fn announce(address: SocketAddr) {
    use std::io::Write as _;
    // Who started it may have closed the pipe; it serves all the same.
    let _ = writeln!(std::io::stdout().lock(), "http://{address}/");
    let _ = std::io::stdout().flush();
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::form))
        .route("/style.css", get(page::style))
        .route("/check", get(page::to_form).post(page::check))
        .route("/matches/byBinding", get(api::by_binding).post(api::by_binding_in_body))
        .route("/matches/byContent", post(api::by_content))
        .route("/manifests/{id}", get(api::manifest))
        .route("/services/supportedAlgorithms", get(api::supported))
        .fallback(api::nothing_here)
        // Bodies are counted as they come in, by whoever reads them.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::map_response(answer::guarded))
        .with_state(shared)
}
