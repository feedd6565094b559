//! `soraverify serve`, over HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, HALF, ID, OURS, THEIRS, soraverify};

const ALG: &str = "org.sora-gst.watermark.1";

/// A server that ends with this.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(bench: &Bench, arguments: &[&str]) -> Self {
        let (store, root) = (bench.text("store"), bench.text("own/root.pem"));
        let mut command =
            soraverify(&["serve", "--store", &store, "--anchors", &root, "--listen", "127.0.0.1:0"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        output.read_line(&mut line).expect("it says where it is");
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/');
        let address = address.parse().unwrap_or_else(|_| panic!("an address: {line:?}"));
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a socket");
        stream
    }

    fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!("{head}\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it takes requests");
        // Who is refused early need not read on.
        let _ = stream.write_all(body);
        Answer::read(stream)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1"), b"")
    }

    /// Sends a clip as a browser does.
    fn check(&self, name: &str, clip: &[u8], headers: &str) -> Answer {
        let before = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"clip\"; filename=\"{name}\"\r\nContent-Type: video/mp4\r\n\r\n"
        );
        let body = [before.as_bytes(), clip, b"\r\n--edge--\r\n"].concat();
        let head =
            format!("POST /check HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=edge{headers}");
        self.send(&head, &body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A connection that is reset after the answer has still answered.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn base64(id: &str) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> =
        (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).expect("digits")).collect();
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

fn escaped(value: &str) -> String {
    value.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("it can be read")
}

#[test]
fn the_resolution_api_leads_from_a_mark_to_a_manifest() {
    let bench = Bench::new();
    let ours = bench.ours();
    let id = bench.manifest_id(&ours);
    let server = Server::start(&bench, &[]);

    let supported = server.get("/services/supportedAlgorithms");
    assert_eq!((supported.status, &supported.json()["watermarks"][0]["alg"]), (200, &ALG.into()));

    let value = base64(ID);
    let found = server.get(&format!("/matches/byBinding?alg={ALG}&value={}&maxResults=5", escaped(&value)));
    assert_eq!((found.status, &found.json()["matches"][0]["manifestId"]), (200, &id.as_str().into()));
    let body = format!(r#"{{"alg": "{ALG}", "value": "{value}"}}"#);
    let posted =
        server.send("POST /matches/byBinding HTTP/1.1\r\nContent-Type: application/json", body.as_bytes());
    assert_eq!((posted.status, posted.json()), (200, found.json()));
    let other = server
        .get(&format!("/matches/byBinding?alg={ALG}&value={}", escaped(&base64("10ffeeddccbbaa9988776655"))));
    assert_eq!((other.status, other.json()), (200, serde_json::json!({ "matches": [] })));

    let manifest = server.get(&format!("/manifests/{id}"));
    assert_eq!(manifest.status, 200);
    assert!(manifest.head.contains("content-type: application/c2pa"), "{}", manifest.head);
    // What is given out verifies beside the clip that it was taken out of.
    let embedded = sora_provenance::embedded_manifest(&mut std::fs::File::open(&ours).expect("a clip"));
    assert!(embedded.expect("an MP4").expect("a manifest") == manifest.body);

    // What is kept later is found at once.
    let mark = format!("{THEIRS} ! sorawatermark id=10ffeeddccbbaa9988776655");
    let later = bench.signed("later.mp4", &mark, "own", &format!("store={}", bench.text("store")));
    let other = server
        .get(&format!("/matches/byBinding?alg={ALG}&value={}", escaped(&base64("10ffeeddccbbaa9988776655"))));
    assert_eq!(other.json()["matches"][0]["manifestId"], bench.manifest_id(&later).as_str());

    let half = bench.again("half.mp4", &ours, HALF);
    let by_content = server.send("POST /matches/byContent HTTP/1.1\r\nContent-Type: video/mp4", &read(&half));
    let found = &by_content.json()["matches"][0];
    assert_eq!(
        (by_content.status, &found["manifestId"]),
        (200, &id.as_str().into()),
        "{}",
        by_content.text()
    );
    assert!(found["similarityScore"].as_u64() > Some(60), "{found}");
    let whole = server.send("POST /matches/byContent HTTP/1.1", &read(&ours));
    assert_eq!(whole.json()["matches"][0]["manifestId"], id.as_str(), "also of a clip that has it still");
    for frames in [THEIRS.to_owned(), format!("{THEIRS} ! sorawatermark id={ID}")] {
        let foreign = bench.encode("foreign.mp4", &frames);
        let none = server.send("POST /matches/byContent HTTP/1.1", &read(&foreign));
        assert_eq!((none.status, none.json()), (200, serde_json::json!({ "matches": [] })), "{frames}");
    }
}

#[test]
fn a_person_gets_a_page_with_the_verdict() {
    let bench = Bench::new();
    let ours = bench.ours();
    let id = bench.manifest_id(&ours);
    let server = Server::start(&bench, &[]);
    let page = server.get("/");
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(
        text.contains("<form action=\"/check\" method=\"post\" enctype=\"multipart/form-data\">"),
        "{text}"
    );
    assert!(!text.contains("<script") && !text.contains("http://") && !text.contains("https://"), "{text}");
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    assert!(server.get("/style.css").head.contains("text/css"));
    assert_eq!(server.get("/check").status, 303, "who goes there by hand is led to the form");

    let half = bench.again("half.mp4", &ours, HALF);
    for (clip, words) in [
        (&ours, ["Signed, and unchanged since", "authentic", &id]),
        (&half, ["Its manifest was found again", "recovered", &id]),
        (&bench.encode("plain.mp4", OURS), ["Nothing was found", "no_evidence", "says nothing about where"]),
    ] {
        let answer = server.check("<b>clip</b>.mp4", &read(clip), "");
        let text = answer.text();
        assert_eq!(answer.status, 200, "{text}");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(text.contains("&lt;b&gt;clip&lt;/b&gt;.mp4") || text.contains("b&gt;.mp4"), "{text}");
        assert!(!text.contains("<b>clip"), "{text}");
    }
    let json = server.check("half.mp4", &read(&half), "\r\nAccept: application/json").json();
    assert_eq!((&json["verdict"], &json["file"]), (&"recovered".into(), &"half.mp4".into()));
}

#[test]
fn what_makes_no_sense_is_refused_and_said() {
    let bench = Bench::new();
    bench.ours();
    let server = Server::start(&bench, &[]);
    let form = "POST /check HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=edge";
    let json = "POST /matches/byBinding HTTP/1.1\r\nContent-Type: application/json";
    let long = "A".repeat(5000);
    for (status, part, answer) in [
        (400, "alg and value are needed", server.get("/matches/byBinding?alg=x")),
        (400, "no base64", server.get("/matches/byBinding?alg=x&value=!")),
        (
            400,
            "maxResults is 0; it is 1 to 100",
            server.get("/matches/byBinding?alg=x&value=AA%3D%3D&maxResults=0"),
        ),
        (400, "maxResults", server.get("/matches/byBinding?alg=x&value=AA%3D%3D&maxResults=many")),
        (400, "at most 4096", server.get(&format!("/matches/byBinding?alg=x&value={long}"))),
        (400, "JSON with alg and value", server.send(json, b"{}")),
        (
            413,
            "that is the most",
            server.send(json, format!("{{\"alg\": \"{}\"", "x".repeat(20_000)).as_bytes()),
        ),
        (404, "no manifest", server.get("/manifests/urn:c2pa:none")),
        (404, "nothing here", server.get("/manifests")),
        (404, "nothing here", server.get("/../etc/passwd")),
        (405, "", server.send("DELETE /manifests/urn:c2pa:none HTTP/1.1", b"")),
        (400, "alg is", server.send("POST /matches/byContent?alg=another HTTP/1.1", b"clip")),
        (400, "choose a file", server.send("POST /matches/byContent HTTP/1.1", b"")),
        (422, "cannot be checked", server.send("POST /matches/byContent HTTP/1.1", &[7; 5000])),
        (400, "no form", server.send("POST /check HTTP/1.1", b"clip")),
        (
            400,
            "no field",
            server
                .send(form, b"--edge\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n--edge--\r\n"),
        ),
        (
            400,
            "broken",
            server.send(
                form,
                b"--edge\r\nContent-Disposition: form-data; name=\"clip\"; filename=\"a\"\r\n\r\ny",
            ),
        ),
        (400, "choose a file", server.check("", b"", "")),
        (
            422,
            "words.mp4 cannot be checked",
            server.check("words.mp4", "no video at all\n".repeat(50).as_bytes(), ""),
        ),
    ] {
        let text = answer.text();
        assert_eq!(answer.status, status, "{part}: {text}");
        assert!(text.contains(part) || answer.json()["error"].to_string().contains(part), "{part}: {text}");
        assert!(!text.contains(&bench.text("")), "nothing of this machine: {text}");
    }
    assert_eq!(server.get("/").status, 200, "it goes on");
}

#[test]
fn a_file_of_addresses_has_nothing_fetched() {
    let bench = Bench::new();
    bench.ours();
    let server = Server::start(&bench, &[]);
    let bait = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    bait.set_nonblocking(true).expect("a socket");
    let address = bait.local_addr().expect("an address");
    let playlist = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\nhttp://{address}/a.ts\n#EXT-X-ENDLIST\n"
    );
    let answer = server.check("list.m3u8", playlist.as_bytes(), "");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("no video"), "{}", answer.text());
    let fetched = bait.accept().map(|(_, from)| from);
    assert!(fetched.is_err(), "somebody asked: {fetched:?}");
}

#[test]
fn sizes_rates_and_times_are_limited() {
    let bench = Bench::new();
    bench.ours();
    let server = Server::start(&bench, &["--max-megabytes", "1", "--checks-per-minute", "4"]);
    let large = vec![0; (1 << 20) + (100 << 10)];
    let refused = server.check("large.mp4", &large, "");
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.text().contains("larger than 1 MB"), "{}", refused.text());
    // It does not say how long it is.
    let mut stream = server.connect();
    stream
        .write_all(b"POST /matches/byContent HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("it takes requests");
    for piece in large.chunks(64 << 10) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(Answer::read(stream).status, 413);
    for _ in 0..2 {
        assert_eq!(server.check("words.mp4", b"no video at all", "").status, 422);
    }
    let often = server.check("words.mp4", b"no video at all", "");
    assert_eq!(often.status, 429, "{}", often.text());
    assert!(often.head.contains("retry-after: ") && often.text().contains("try again in"), "{}", often.head);
    assert_eq!(server.get("/").status, 200, "looking is another matter");

    let slow = Server::start(&bench, &["--max-seconds", "1"]);
    // Without a mark all there is is searched, which takes several seconds.
    let long =
        "videotestsrc num-buffers=250 pattern=smpte ! video/x-raw,width=1280,height=720,framerate=25/1";
    let long = bench.make("long.mp4", &format!("{long} ! x264enc speed-preset=ultrafast ! mp4mux"));
    let ended = slow.check("long.mp4", &read(&long), "");
    assert_eq!(ended.status, 422, "{}", ended.text());
    assert!(ended.text().contains("took longer than 1 s"), "{}", ended.text());
}

#[test]
fn nothing_of_a_clip_is_kept_and_it_ends_when_told() {
    let bench = Bench::new();
    let ours = bench.ours();
    let temporary = bench.at("temporary");
    std::fs::create_dir(&temporary).expect("a folder");
    let (store, root) = (bench.text("store"), bench.text("own/root.pem"));
    let mut command =
        soraverify(&["serve", "--store", &store, "--anchors", &root, "--listen", "127.0.0.1:0"]);
    let mut child = command.env("TMPDIR", &temporary).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("an address");
    let address =
        line.trim().trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let mut server = Server { child, address };
    let before = read(&bench.at("store"));
    assert_eq!(server.check("ours.mp4", &read(&ours), "").status, 200);
    assert_eq!(std::fs::read_dir(&temporary).expect("a folder").count(), 0, "no file is left");
    assert!(read(&bench.at("store")) == before, "the store is as it was");
    let pid = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
}
