//! `soraverify --store`.

use crate::bench::{Bench, HALF, ID, OURS, THEIRS, run};

#[test]
fn a_clip_that_lost_its_manifest_gets_it_back() {
    let bench = Bench::new();
    let ours = bench.ours();
    let id = bench.manifest_id(&ours);
    let store = bench.text("store");
    assert_eq!(bench.check(&ours, &["--store", &store]).1["verdict"], "authentic");
    for (name, change) in [
        ("half.mp4", HALF),
        ("cropped.mp4", "videocrop left=60 right=20 top=30 bottom=20"),
        ("mirrored.mp4", "videoflip method=horizontal-flip"),
    ] {
        let clip = bench.again(name, &ours, change);
        let (code, found) = bench.check(&clip, &["--store", &store]);
        assert_eq!((code, &found["verdict"]), (11, &"recovered".into()), "{name}: {found:#}");
        let recovery = &found["recovery"];
        assert_eq!(recovery["manifest"]["id"], id.as_str(), "{name}: the right one");
        assert_eq!(recovery["manifest"]["location"], "store");
        assert_eq!((&recovery["watermark"], &recovery["resemblance"]), (&ID.into(), &"agrees".into()));
        assert!(recovery["likeness"].as_f64() > Some(0.6), "{name}: {recovery}");
        assert_eq!(found["manifest"]["credentials"]["state"], "absent");
        // Without a store, and without an anchor, it is less.
        let (code, found) = bench.check(&clip, &[]);
        assert_eq!(
            (code, &found["verdict"], found["recovery"].is_null()),
            (12, &"watermark_only".into(), true)
        );
    }
    let half = bench.text("half.mp4");
    let output = run(&["--store", &store, &half]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(12), "{said}");
    assert!(
        said.contains("signer is not trusted") && said.contains(&format!("{id}, in the store")),
        "{said}"
    );
}

#[test]
fn a_mark_that_was_copied_onto_another_clip_recovers_nothing() {
    let bench = Bench::new();
    bench.ours();
    let store = bench.text("store");
    let foreign = bench.encode("foreign.mp4", THEIRS);
    let (code, found) = bench.check(&foreign, &["--store", &store]);
    assert_eq!((code, &found["verdict"]), (20, &"no_evidence".into()), "{found:#}");
    let copied = bench.encode("copied.mp4", &format!("{THEIRS} ! sorawatermark id={ID}"));
    let (code, found) = bench.check(&copied, &["--store", &store]);
    assert_eq!((code, &found["verdict"]), (31, &"conflict".into()), "{found:#}");
    assert_eq!(found["recovery"]["resemblance"], "differs");
    // A mark that the store does not know is a mark, and no more.
    let unknown = bench.encode("unknown.mp4", &format!("{OURS} ! sorawatermark"));
    let (code, found) = bench.check(&unknown, &["--store", &store]);
    assert_eq!((code, &found["recovery"]["manifest"]), (12, &serde_json::Value::Null), "{found:#}");
}

#[test]
fn a_manifest_of_somebody_else_on_our_clip_is_a_conflict() {
    let bench = Bench::new();
    let ours = bench.ours();
    let store = bench.text("store");
    let frames = format!("filesrc location={} ! decodebin ! {HALF}", ours.display());
    let silent = bench.signed("silent.mp4", &frames, "others", "");
    let (code, found) = bench.check(&silent, &["--store", &store]);
    assert_eq!(
        (code, &found["verdict"]),
        (31, &"conflict".into()),
        "it does not mention the mark: {found:#}"
    );
    // It claims the mark; only the store knows better.
    let claiming = bench.signed("claiming.mp4", &frames, "others", &format!("watermark-id={ID}"));
    assert_eq!(bench.check(&claiming, &[]).0, 10);
    let (code, found) = bench.check(&claiming, &["--store", &store]);
    assert_eq!((code, &found["verdict"]), (31, &"conflict".into()), "{found:#}");
    let reasons = found["reasons"].to_string();
    assert!(reasons.contains("another manifest, stored by a trusted signer"), "{reasons}");
}

#[test]
fn of_several_clips_with_one_id_the_right_one_is_found() {
    let bench = Bench::new();
    let store = format!("store={}", bench.text("store"));
    let mark = format!("sorawatermark id={ID}");
    let first = bench.signed("first.mp4", &format!("{OURS} ! {mark}"), "own", &store);
    let second = bench.signed("second.mp4", &format!("{THEIRS} ! {mark}"), "own", &store);
    for clip in [first, second] {
        let id = bench.manifest_id(&clip);
        let again = bench.again("again.mp4", &clip, HALF);
        let (code, found) = bench.check(&again, &["--store", &bench.text("store")]);
        assert_eq!((code, &found["recovery"]["manifest"]["id"]), (11, &id.into()), "{found:#}");
    }
}

#[test]
fn a_store_that_cannot_be_read_is_named() {
    let bench = Bench::new();
    let clip = bench.text("clip.mp4");
    std::fs::write(&clip, b"any").expect("it is written");
    std::fs::write(bench.at("words"), "no database\n".repeat(100)).expect("it is written");
    for (store, part) in
        [(bench.text("missing"), "cannot be opened"), (bench.text("words"), "no store at all")]
    {
        for arguments in
            [vec!["--store", &store, &clip], vec!["serve", "--listen", "127.0.0.1:0", "--store", &store]]
        {
            let output = run(&arguments);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
            assert!(said.contains(part) && said.contains(&store), "{said}");
        }
    }
    let output = run(&["--store", &bench.text("missing"), "--watermark-only", &clip]);
    assert_eq!(output.status.code(), Some(2), "the store is of no use there: {output:?}");
}
