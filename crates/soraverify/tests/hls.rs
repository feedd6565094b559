//! HLS over HTTP, watched while it is served. The server is a thread of the test and answers on the loopback only.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Output;

use common::{Folder, check_lines, code, soraverify, split, text};

const CLIP: &str = "videotestsrc num-buffers=50 pattern=ball ! video/x-raw,format=I420,width=160,height=128,framerate=25/1 \
                    ! x264enc key-int-max=10 bframes=0 bitrate=500 ! mp4mux streamable=true fragment-duration=400";

/// Serves the files of a folder until the process ends.
fn serve(folder: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(stream, &folder));
        }
    });
    address
}

/// One request, one answer.
fn answer(mut stream: TcpStream, folder: &std::path::Path) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let request = lines.next()?.ok()?;
    let name = request.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    while lines.next()?.ok().is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match std::fs::read(folder.join(&name)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let kind = if name.ends_with(".m3u8") { "application/vnd.apple.mpegurl" } else { "video/mp4" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

/// A playlist of a finished stream (RFC 8216): a beginning, and these fragments.
fn playlist(fragments: &[String]) -> String {
    let mut text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n\
                    #EXT-X-MAP:URI=\"init.mp4\"\n"
        .to_owned();
    for name in fragments {
        text += &format!("#EXTINF:0.4,\n{name}\n");
    }
    text + "#EXT-X-ENDLIST\n"
}

fn watch(root: &str, address: SocketAddr, name: &str) -> Output {
    let uri = format!("http://{address}/{name}");
    let mut command = soraverify(&["--live", "--json", "--anchors", root, &uri]);
    // Whatever proxy there is, it is not for the loopback.
    command.env("no_proxy", "127.0.0.1").output().expect("it runs")
}

#[test]
fn a_stream_over_http_is_judged_fragment_by_fragment() {
    let folder = Folder::new();
    let at = |name: &str| folder.at(name).to_str().expect("UTF-8").to_owned();
    let output = soraverify(&["keygen", "--out", &at("keys")]).output().expect("it runs");
    assert_eq!(code(&output), 0, "{output:?}");
    let (root, keys) = (at("keys/root.pem"), at("keys"));
    let signed = folder.make(
        "live.mp4",
        &format!("{CLIP} ! sorasign mode=live certificates={keys}/chain.pem key={keys}/key.pem"),
    );
    let (init, fragments) = split(&std::fs::read(signed).expect("it can be read"), b"styp");
    assert_eq!(fragments.len(), 5, "fragments");
    folder.write("init.mp4", &init);
    let names: Vec<String> = (0..fragments.len()).map(|number| format!("{number}.m4s")).collect();
    for (name, fragment) in names.iter().zip(&fragments) {
        folder.write(name, fragment);
    }
    let mut changed = fragments[2].clone();
    *changed.last_mut().expect("bytes") ^= 1;
    folder.write("changed.m4s", &changed);
    let address = serve(folder.at(""));

    let judged = |name: &str, fragments: &[String]| {
        folder.write(name, playlist(fragments).as_bytes());
        let output = watch(&root, address, name);
        let told = check_lines(&text(&output.stdout));
        let last = told.last().unwrap_or_else(|| panic!("{name}: nothing was told: {output:?}")).clone();
        (code(&output), last)
    };
    let (exit, last) = judged("whole.m3u8", &names);
    assert_eq!((exit, &last["verdict"]), (0, &"authentic".into()), "{last:#}");
    assert_eq!(last["manifest"]["credentials"]["live"]["good"], 5);
    let with = |at: usize, name: &str| {
        let mut names = names.clone();
        names[at] = name.into();
        names
    };
    let (exit, last) = judged("changed.m3u8", &with(2, "changed.m4s"));
    assert_eq!((exit, &last["verdict"], &last["recent"]), (30, &"tampered".into(), &"authentic".into()));
    let missing: Vec<String> = names.iter().filter(|name| *name != "3.m4s").cloned().collect();
    let (exit, last) = judged("missing.m3u8", &missing);
    assert_eq!((exit, &last["verdict"]), (30, &"tampered".into()), "{last:#}");

    // A playlist that is not there.
    let output = watch(&root, address, "nowhere.m3u8");
    assert_eq!(code(&output), 66, "{output:?}");
    assert!(text(&output.stderr).contains("nowhere.m3u8"), "{output:?}");
}
