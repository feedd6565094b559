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
