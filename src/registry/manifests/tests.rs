//! What is there and what is not.

use super::ManifestHead;
use crate::oci::Digest;
use crate::registry::FailureKind;
use crate::registry::testing::{answer, connect, lines, options, registry, repository};

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
    let present = ManifestHead { digest: None, size: Some(3), media_type: "a/b".into() };
    assert_eq!(head("present").await, Some(present));
    assert_eq!(head("no-head").await.unwrap().digest, Some(Digest::of(br#"{"schemaVersion":2}"#)));
    let by_digest = Digest::of(br#"{"schemaVersion":2}"#).to_string();
    let error = registry.get_manifest(&repository(), &by_digest, 1000).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Integrity);
    let error = registry.get_manifest(&repository(), "no-head", 2).await.unwrap_err();
    assert!(error.to_string().contains("longer than 2 bytes"), "{error}");
    let error = registry.put_manifest(&repository(), "1", "a/b", "{}".into()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Integrity);
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
