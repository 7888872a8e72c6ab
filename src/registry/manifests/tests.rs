//! What is there and what is not.

use std::sync::Arc;

use super::ManifestHead;
use crate::oci::Digest;
use crate::registry::testing::{Told, answer, connect, lines, options, registry, repository};
use crate::registry::{ClientOptions, FailureKind};

#[tokio::test]
async fn what_is_there_and_what_is_not() {
    let (here, _) = registry(|seen, _| {
        let found = [
            ("content-length", "3"),
            ("content-type", "a/b; charset=x"),
            ("docker-content-digest", "nonsense"),
        ];
        match (seen.method.as_str(), seen.target.rsplit('/').next().unwrap_or_default()) {
            ("HEAD", "no-head") => answer(405, &[], ""),
            ("HEAD" | "GET", "missing") => answer(404, &[], ""),
            ("HEAD", "present") => answer(200, &found, ""),
            ("GET", "no-head") => answer(200, &[("content-type", "a/b")], r#"{"schemaVersion":2}"#),
            ("GET", part) if part.starts_with("sha256") => answer(200, &[], "not what was asked for"),
            ("PUT", _) => answer(201, &[("docker-content-digest", &Digest::of(b"other").to_string())], ""),
            _ => answer(200, &[], ""),
        }
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let head = async |reference: &str| registry.head_manifest(&repository(), reference).await.unwrap();
    assert_eq!(head("missing").await, None);
    let present = ManifestHead { size: Some(3), media_type: "a/b".into(), ..ManifestHead::default() };
    assert_eq!(head("present").await, Some(present));
    assert_eq!(head("no-head").await.unwrap().digest, Some(Digest::of(br#"{"schemaVersion":2}"#)));
    let by_digest = Digest::of(br#"{"schemaVersion":2}"#).to_string();
    let error = registry.get_manifest(&repository(), &by_digest, 1000).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Integrity);
    let error = registry.get_manifest(&repository(), "no-head", 2).await.unwrap_err();
    assert!(error.to_string().contains("longer than 2 bytes"), "{error}");
    let put = registry.put_manifest(&repository(), "1", "a/b", "{}".into()).await.unwrap();
    assert!(!put.confirmed, "a wrong digest in the answer: what it stored is to be read back");
    let error = registry.head_manifest(&repository(), "../x").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Internal);
}

#[tokio::test]
async fn a_head_by_digest_counts_only_with_that_digest() {
    let content = r#"{"schemaVersion":2}"#;
    let (right, wrong) = (Digest::of(content.as_bytes()), Digest::of(b"wrong"));
    // What the HEAD says, what the GET gives, what follows.
    for (told, given, expected) in [
        (Some(right), None, Ok(true)),
        (None, Some(content), Ok(true)),
        (None, None, Ok(false)),
        (Some(wrong), Some(content), Ok(true)),
        (Some(wrong), None, Ok(false)),
        (Some(wrong), Some("{}"), Err(FailureKind::Integrity)),
    ] {
        let told_text = told.map(|told| told.to_string());
        let (here, log) = registry(move |seen, _| match (seen.method.as_str(), given) {
            ("HEAD", _) => {
                let headers = told_text.as_deref().map(|told| ("docker-content-digest", told));
                answer(200, headers.as_slice(), "")
            }
            ("GET", None) if seen.target.contains("manifests") => answer(404, &[], ""),
            ("GET", given) => answer(200, &[], given.unwrap_or_default()),
            _ => answer(404, &[], ""),
        })
        .await;
        let registry = connect(&here, options()).await.unwrap();
        let found = registry.head_manifest(&repository(), &right.to_string()).await;
        let found = found.map(|head| head.is_some()).map_err(|error| error.kind());
        assert_eq!(found, expected, "{told:?} {given:?}");
        assert_eq!(lines(&log).len(), if told == Some(right) { 2 } else { 3 });
    }
}

#[tokio::test]
async fn what_a_policy_keeps_from_being_read_is_there() {
    let words = r#"{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"a vulnerable image"}]}"#;
    let (here, _) = registry(move |seen, _| match seen.method.as_str() {
        "HEAD" | "GET" if seen.target.contains("/manifests/") => answer(412, &[], words),
        _ => answer(200, &[], ""),
    })
    .await;
    let told = Arc::new(Told::default());
    let registry = connect(&here, ClientOptions { observer: told.clone(), ..options() }).await.unwrap();
    assert!(!registry.withholds_manifests());
    for reference in ["1".to_owned(), Digest::of(b"x").to_string()] {
        let head = registry.head_manifest(&repository(), &reference).await.unwrap().unwrap();
        assert!(head.withheld && head.digest.is_none());
    }
    assert!(registry.withholds_manifests());
    let warnings = told.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("PROJECTPOLICYVIOLATION"), "{warnings:?}");
    let error = registry.get_manifest(&repository(), "1", 1000).await.unwrap_err();
    assert!(error.is_withheld() && error.hint().unwrap().contains("policy"), "{error}");
}

#[tokio::test]
async fn a_registry_that_refuses_layers_from_elsewhere_is_asked_once() {
    let codes = ["UNKNOWN", "UNKNOWN", "MANIFEST_BLOB_UNKNOWN"].map(|code| format!(r#"{{"code":"{code}"}}"#));
    let refusal = format!(r#"{{"errors":[{}]}}"#, codes.join(","));
    let (here, log) = registry(move |seen, _| match seen.method.as_str() {
        "PUT" => answer(500, &[], &refusal),
        _ => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    let manifest = r#"{"schemaVersion":2,"layers":[{"urls":["https://elsewhere.example/layer"]}]}"#;
    let error = registry.put_manifest(&repository(), "1", "a/b", manifest.into()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("validation.manifests.urls.allow"), "{error}");
    assert!(error.manifest_blob_unknown().is_none());
    assert_eq!(lines(&log).iter().filter(|line| line.starts_with("PUT")).count(), 1);
}
