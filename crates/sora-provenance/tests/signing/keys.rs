//! Keys from files.

use sora_provenance::*;

use crate::common::*;

#[test]
fn keys_come_from_files_that_only_their_owner_reads() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, &signer.made.chain).unwrap();
    for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o660, false)] {
        write_mode(&key, signer.made.key.as_bytes(), 0o600);
        write_mode(&key, signer.made.key.as_bytes(), mode);
        let result = SigningKeys::from_files(&chain, &key);
        assert_eq!(result.is_ok(), accepted, "{mode:o}");
        if let Err(error) = result {
            let text = error.to_string();
            assert!(text.contains("key.pem") && text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.contains("chmod 600"), "{text}");
        }
        std::fs::remove_file(&key).unwrap();
    }
    let error = SigningKeys::from_files(&chain, &key).unwrap_err().to_string();
    assert!(error.contains("key.pem cannot be read"), "{error}");
}

#[test]
fn a_request_for_a_certificate_names_who_asks() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::Es256] {
        let (request, key) = signing_request(algorithm, "Example Pictures", "Signer 1", "SE").unwrap();
        assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{request}");
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.pem");
        std::fs::write(&path, &request).unwrap();
        let output = std::process::Command::new("openssl")
            .args(["req", "-verify", "-noout", "-subject", "-in"])
            .arg(&path)
            .output();
        let Ok(output) = output else {
            eprintln!("skipped: no openssl");
            continue;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(
            text.contains("Example Pictures") && text.contains("Signer 1") && text.contains("SE"),
            "{text}"
        );
    }
    for country in ["", "se", "SWE", "S1"] {
        let error = signing_request(KeyAlgorithm::Ed25519, "A", "B", country).unwrap_err().to_string();
        assert!(error.contains("two capital letters"), "{error}");
    }
    assert!(signing_request(KeyAlgorithm::Ed25519, "", "B", "SE").is_err());
    assert!(development_chain(KeyAlgorithm::Ed25519, &"x".repeat(65)).is_err());
}

#[test]
fn anchors_that_are_none_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anchors.pem");
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        TrustAnchors::from_pem_files(std::slice::from_ref(&path)).unwrap_err().to_string()
    };
    assert!(refused("").contains("anchors.pem holds no certificate"));
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let key = refused(&signer.made.key);
    assert!(key.contains("PRIVATE KEY") && key.contains("no certificate"), "{key}");
    std::fs::remove_file(&path).unwrap();
    let missing = TrustAnchors::from_pem_files(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert!(missing.contains("cannot be read"), "{missing}");
}

/// A command that signs with a key in a file, as one would that asks a hardware module.
fn openssl(algorithm: KeyAlgorithm, key: &std::path::Path) -> String {
    let key = key.display();
    match algorithm {
        KeyAlgorithm::Es256 => format!("openssl dgst -sha256 -sign '{key}'"),
        // It wants a file that it can ask for its length.
        _ => format!(
            "t=$(mktemp) && cat >$t && openssl pkeyutl -sign -rawin -inkey '{key}' -in $t; rc=$?; rm $t; exit $rc"
        ),
    }
}

#[test]
fn a_key_that_is_elsewhere_signs_by_a_command() {
    if std::process::Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: no openssl");
        return;
    }
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::Es256] {
        let (signer, other) = (Chain::new(algorithm), Chain::new(algorithm));
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("chain.pem"), &signer.made.chain).unwrap();
        write_mode(&at("key.pem"), signer.made.key.as_bytes(), 0o600);
        write_mode(&at("other.pem"), other.made.key.as_bytes(), 0o600);
        let keys = SigningKeys::from_command(&at("chain.pem"), &openssl(algorithm, &at("key.pem"))).unwrap();
        assert!(!keys.is_ephemeral());
        let bytes = signed_file("progressive.mp4", &claim(), &keys);
        assert_eq!(verdict(&verify(&bytes, &signer.anchors)), Verdict::Authentic);
        for (command, part) in [
            (openssl(algorithm, &at("other.pem")), "no signature of the certificate's key"),
            ("printf nonsense".to_owned(), "8 bytes that are no signature"),
            ("echo the token is gone >&2; exit 3".to_owned(), "the token is gone"),
            ("/nowhere/sign".to_owned(), "failed"),
            ("  ".to_owned(), "empty"),
            // More than a pipe holds, of which it reads nothing.
            ("true".to_owned(), "0 bytes that are no signature"),
        ] {
            let error = SigningKeys::from_command(&at("chain.pem"), &command).unwrap_err().to_string();
            assert!(error.contains(part), "{command}: {error}");
        }
    }
}

#[test]
fn a_command_that_fails_later_leaves_no_signed_clip() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    if std::process::Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: no openssl");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("chain.pem"), &signer.made.chain).unwrap();
    write_mode(&at("key.pem"), signer.made.key.as_bytes(), 0o600);
    let keys =
        SigningKeys::from_command(&at("chain.pem"), &openssl(KeyAlgorithm::Ed25519, &at("key.pem"))).unwrap();
    std::fs::remove_file(at("key.pem")).unwrap();
    let error = sign_file(&fixture("progressive.mp4"), &at("signed.mp4"), &claim(), &keys).unwrap_err();
    assert!(error.to_string().contains("sign command"), "{error}");
    assert!(!at("signed.mp4").exists());
}
