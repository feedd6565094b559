//! The store, as those who use the crate see it.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use sora_provenance::{
    Claim, KeyAlgorithm, SigningKeys, TrustAnchors, Validity, WATERMARK_ALG, development_chain,
    embedded_manifest, sign_file,
};
use sora_store::{Access, Limits, Store, StoreError};

const ID: &str = "10112233445566778899aabb";
const KIND: &str = "test.fingerprint";

fn value(id: &str) -> Vec<u8> {
    (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).expect("digits")).collect()
}

/// A folder, and keys whose root is an anchor.
struct Bench {
    folder: tempfile::TempDir,
    keys: SigningKeys,
    anchors: TrustAnchors,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = development_chain(KeyAlgorithm::Ed25519, "A studio").expect("a chain");
        let root = folder.path().join("root.pem");
        std::fs::write(&root, &chain.root).expect("it is written");
        let anchors = TrustAnchors::from_pem_files(&[root]).expect("anchors");
        let keys = SigningKeys::from_pem(chain.chain.as_bytes(), chain.key.as_bytes(), None).expect("keys");
        Self { folder, keys, anchors }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> Store {
        Store::open(&self.at("store"), Access::Write).expect("a store")
    }

    /// The manifest of a clip with this watermark.
    fn manifest(&self, watermark: Option<&str>) -> Vec<u8> {
        let clip =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../sora-provenance/tests/fixtures/progressive.mp4");
        let signed = self.at("signed.mp4");
        let claim = Claim { watermark_id: watermark.map(str::to_owned), ..Claim::default() };
        sign_file(&clip, &signed, &claim, &self.keys).expect("it is signed");
        let bytes = std::fs::read(signed).expect("it is there");
        embedded_manifest(&mut Cursor::new(bytes)).expect("an MP4").expect("a manifest")
    }
}

#[test]
fn a_manifest_is_found_by_its_watermark_and_checked() {
    let bench = Bench::new();
    let (store, manifest) = (bench.store(), bench.manifest(Some(ID)));
    let other = bench.manifest(Some("10ffeeddccbbaa9988776655"));
    let id = store.put(&manifest, Some((KIND, b"what it looks like"))).expect("it is kept");
    let other_id = store.put(&other, None).expect("it is kept");
    drop(store);
    // Another program, another day.
    let store = Store::open(&bench.at("store"), Access::Read).expect("it is there");
    assert_eq!(store.find(WATERMARK_ALG, &value(ID), 10).expect("it reads"), std::slice::from_ref(&id));
    assert!(store.find("another.alg", &value(ID), 10).expect("it reads").is_empty());
    let binding = (WATERMARK_ALG, value(ID));
    let binding = Some((binding.0, binding.1.as_slice()));
    let found = store.checked(&id, binding, &bench.anchors).expect("it passes").expect("it is there");
    assert!(found.manifest == manifest && found.report.validity == Validity::TrustedOwn);
    let unknown =
        store.checked(&id, binding, &TrustAnchors::none()).expect("it passes").expect("it is there");
    assert_eq!(unknown.report.validity, Validity::Untrusted);
    assert_eq!(
        store.fingerprint(&id, KIND).expect("it reads").as_deref(),
        Some(b"what it looks like".as_slice())
    );
    assert_eq!(store.fingerprint(&other_id, KIND).expect("it reads"), None);
    assert!(store.checked("urn:c2pa:none", None, &bench.anchors).expect("it reads").is_none());
    // What it does not name it is not given out for.
    let wrong = store.checked(&other_id, binding, &bench.anchors).expect_err("another id").to_string();
    assert!(wrong.contains("does not name the watermark"), "{wrong}");
}

#[test]
fn one_id_may_have_several_manifests_the_newest_first() {
    let bench = Bench::new();
    let store = bench.store();
    let ids: Vec<String> =
        (0..3).map(|_| store.put(&bench.manifest(Some(ID)), None).expect("it is kept")).collect();
    let found = store.find(WATERMARK_ALG, &value(ID), 10).expect("it reads");
    assert_eq!(found, ids.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(store.find(WATERMARK_ALG, &value(ID), 2).expect("it reads").len(), 2);
    assert!(store.remove(&ids[1]).expect("it writes") && !store.remove(&ids[1]).expect("it writes"));
    assert_eq!(store.find(WATERMARK_ALG, &value(ID), 10).expect("it reads").len(), 2);
}

#[test]
fn what_is_no_manifest_or_could_not_be_found_again_is_not_kept() {
    let bench = Bench::new();
    let store = bench.store();
    let mut changed = bench.manifest(Some(ID));
    let at = changed.windows(8).position(|bytes| bytes == b"sora-gst").expect("the name of the program");
    changed[at] ^= 1;
    for (manifest, part) in [
        (b"nonsense".to_vec(), "no manifest"),
        (changed, "mismatch"),
        (bench.manifest(None), "names no watermark"),
        (vec![0; sora_store::MANIFEST_BYTES + 1], "at most"),
    ] {
        let error = store.put(&manifest, None).expect_err(part).to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(store.count().expect("it reads"), 0);
}

#[test]
fn what_was_changed_in_the_file_is_not_given_out() {
    let bench = Bench::new();
    let store = bench.store();
    let (first, second) = (bench.manifest(Some(ID)), bench.manifest(Some("10ffeeddccbbaa9988776655")));
    let (first_id, second_id) =
        (store.put(&first, None).expect("it is kept"), store.put(&second, None).expect("it is kept"));
    let file = Connection::open(bench.at("store")).expect("a database");
    // Somebody puts a manifest under another's id, or turns a bit of one.
    file.execute("UPDATE manifest SET jumbf = ?1 WHERE id = ?2", rusqlite::params![second, first_id])
        .expect("SQL");
    let error = store.checked(&first_id, None, &bench.anchors).expect_err("another manifest").to_string();
    assert!(error.contains(&first_id) && error.contains(&second_id), "{error}");
    let mut turned = second;
    let at = turned.windows(8).position(|bytes| bytes == b"sora-gst").expect("the name of the program");
    turned[at] ^= 1;
    file.execute("UPDATE manifest SET jumbf = ?1 WHERE id = ?2", rusqlite::params![turned, second_id])
        .expect("SQL");
    let error = store.checked(&second_id, None, &bench.anchors).expect_err("a turned bit").to_string();
    assert!(error.contains("was changed"), "{error}");
}

#[test]
fn a_locked_store_says_so_and_a_reader_goes_on() {
    let bench = Bench::new();
    let store = bench.store();
    let id = store.put(&bench.manifest(Some(ID)), None).expect("it is kept");
    let manifest = bench.manifest(Some(ID));
    let limits = Limits { wait: Duration::from_millis(50), ..Limits::default() };
    let hasty = Store::with_limits(&bench.at("store"), Access::Write, limits).expect("it opens");
    let other = Connection::open(bench.at("store")).expect("a database");
    other.execute_batch("BEGIN IMMEDIATE").expect("it is free");
    let error = hasty.put(&manifest, None).expect_err("locked");
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("locked by another program") && text.contains("0.05 s") && text.contains("store"),
        "{text}"
    );
    assert!(hasty.checked(&id, None, &bench.anchors).expect("readers need not wait").is_some());
    other.execute_batch("COMMIT").expect("it ends");
    hasty.put(&manifest, None).expect("it is free again");
}

#[test]
fn a_read_only_store_is_read_and_not_written() {
    let bench = Bench::new();
    let manifest = bench.manifest(Some(ID));
    let id = bench.store().put(&manifest, None).expect("it is kept");
    let store = Store::open(&bench.at("store"), Access::Read).expect("it opens");
    assert!(store.checked(&id, None, &bench.anchors).expect("it reads").is_some());
    let error = store.put(&manifest, None).expect_err("read-only");
    assert!(
        matches!(error, StoreError::ReadOnly { .. }) && error.to_string().contains("read-only"),
        "{error:?}"
    );
    let missing = Store::open(&bench.at("missing"), Access::Read).expect_err("there is none");
    assert!(
        matches!(missing, StoreError::Open { .. }) && missing.to_string().contains("missing"),
        "{missing:?}"
    );
    assert!(!bench.at("missing").exists(), "reading makes no file");
}

#[test]
fn a_damaged_file_or_one_of_another_kind_is_refused() {
    let bench = Bench::new();
    let refused = |name: &str, bytes: &[u8], part: &str| {
        let path = bench.at(name);
        std::fs::write(&path, bytes).expect("it is written");
        for access in [Access::Read, Access::Write] {
            let error = Store::open(&path, access).expect_err(name);
            assert!(matches!(error, StoreError::Corrupt { .. }), "{name}: {error:?}");
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        assert!(std::fs::read(&path).expect("it is there") == bytes, "{name} stays as it was");
    };
    refused("words", "no database at all\n".repeat(500).as_bytes(), "not a database");
    let other = Connection::open(bench.at("other")).expect("a database");
    other.execute_batch("CREATE TABLE plants (name TEXT)").expect("SQL");
    drop(other);
    refused("other", &std::fs::read(bench.at("other")).expect("it is there"), "another program");

    let store = bench.store();
    let id = store.put(&bench.manifest(Some(ID)), None).expect("it is kept");
    drop(store);
    let newer = Connection::open(bench.at("store")).expect("a database");
    newer.pragma_update(None, "user_version", 7).expect("SQL");
    drop(newer);
    let error = Store::open(&bench.at("store"), Access::Write).expect_err("newer").to_string();
    assert!(error.contains("version 7"), "{error}");

    let older = Connection::open(bench.at("store")).expect("a database");
    older.pragma_update(None, "user_version", 1).expect("SQL");
    older.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("SQL");
    drop(older);
    let mut bytes = std::fs::read(bench.at("store")).expect("it is there");
    // All but the first page, which says what the file is.
    bytes[4096..].fill(0x5a);
    std::fs::write(bench.at("store"), bytes).expect("it is written");
    let store = Store::open(&bench.at("store"), Access::Read).expect("its first page is whole");
    let error = store.checked(&id, None, &bench.anchors).expect_err("damaged");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[test]
fn a_full_store_keeps_what_it_has() {
    let bench = Bench::new();
    let limits = Limits { bytes: Some(256 << 10), ..Limits::default() };
    let store = Store::with_limits(&bench.at("store"), Access::Write, limits).expect("it opens");
    let mut kept = Vec::new();
    let error = loop {
        match store.put(&bench.manifest(Some(ID)), Some((KIND, &[7; 20_000]))) {
            Ok(id) => kept.push(id),
            Err(error) => break error,
        }
        assert!(kept.len() < 100, "it fills up");
    };
    assert!(matches!(error, StoreError::Full { .. }) && error.to_string().contains("full"), "{error:?}");
    assert!(!kept.is_empty());
    for id in &kept {
        assert!(store.checked(id, None, &bench.anchors).expect("it reads").is_some());
        assert_eq!(store.fingerprint(id, KIND).expect("it reads").map(|data| data.len()), Some(20_000));
    }
    assert_eq!(store.count().expect("it reads"), kept.len() as u64);
}

/// Whoever opens a store while another makes it finds an empty file or a store, nothing between.
#[test]
fn a_store_is_opened_while_others_make_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..60 {
        let path = folder.path().join(format!("{round}"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope
                    .spawn(|| Store::open(&path, Access::Write).expect("a store").count().expect("it reads"));
            }
        });
    }
}

#[test]
fn two_that_make_the_same_store_make_one() {
    let bench = Bench::new();
    let manifests = [bench.manifest(Some(ID)), bench.manifest(Some(ID))];
    std::thread::scope(|scope| {
        for manifest in &manifests {
            scope.spawn(|| bench.store().put(manifest, None).expect("it is kept"));
        }
    });
    assert_eq!(bench.store().count().expect("it reads"), 2);
}
