//! Referrers as a client sees them.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::tests::{header, with_registry};
use crate::oci::{Digest, media_type};

#[tokio::test]
async fn referrers_are_found_by_their_subject() {
    let (_folder, registry) = with_registry().await;
    let image = registry.image("a", "v1").await;
    let subject = Digest::of(image.to_string().as_bytes());
    let path = format!("a/referrers/{subject}");
    let list = async |path: &str| {
        let response = registry.send(Method::GET, path).await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "content-type")),
            (200, media_type::OCI_INDEX)
        );
        let filtered = header(&response, "oci-filters-applied").to_owned();
        let index: Value = response.json().await.unwrap();
        (filtered, index["manifests"].as_array().unwrap().clone())
    };
    assert_eq!(list(&path).await, (String::new(), vec![]));
    let config = registry.blob("a", b"{}").await;
    let about =
        json!({ "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": image.to_string().len() });
    let mut signature = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "x/signature+json",
        "config": config, "layers": [], "subject": about, "annotations": { "k": "v" },
    });
    registry.manifest("a", "s1", &signature).await;
    signature.as_object_mut().unwrap().remove("artifactType");
    let response = registry.manifest("a", "s2", &signature).await;
    let second = header(&response, "docker-content-digest").to_owned();
    assert_eq!(list(&path).await.1.len(), 2);
    let (filtered, found) = list(&format!("{path}?artifactType=x/signature%2Bjson")).await;
    assert_eq!((filtered.as_str(), found.len()), ("artifactType", 1));
    assert_eq!(found[0]["annotations"], json!({ "k": "v" }));
    // Without a type of its own it is found by its configuration's.
    let (_, found) = list(&format!("{path}?artifactType={}", media_type::OCI_LAYER)).await;
    assert_eq!(found[0]["digest"], *second);
    registry.send(Method::DELETE, &format!("a/manifests/{second}")).await;
    assert_eq!(list(&path).await.1.len(), 1);
    registry.stop().await;
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let (_folder, registry) = with_registry().await;
    let image = registry.image("a", "v1").await;
    let subject = Digest::of(image.to_string().as_bytes());
    let config = registry.blob("a", b"{}").await;
    for number in 0..5 {
        let kind = if number == 0 { "x/other" } else { "x/sig" };
        let signature = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [], "artifactType": kind,
            "subject": { "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 1 },
            "annotations": { "number": number.to_string(), "long": "x".repeat(400_000) },
        });
        assert_eq!(registry.manifest("a", &format!("s{number}"), &signature).await.status(), 201);
    }
    for (query, pages) in [("n=2", &[2, 2, 1][..]), ("n=2&artifactType=x/sig", &[2, 2]), ("", &[3, 2])] {
        let (mut path, mut seen) = (format!("a/referrers/{subject}?{query}"), Vec::new());
        let mut numbers = Vec::new();
        loop {
            let response = registry.send(Method::GET, &path).await;
            let link = header(&response, "link").to_owned();
            let index: Value = response.json().await.unwrap();
            let manifests = index["manifests"].as_array().unwrap();
            seen.push(manifests.len());
            numbers
                .extend(manifests.iter().map(|it| it["annotations"]["number"].as_str().unwrap().to_owned()));
            let Some(next) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else { break };
            path = next.0.to_owned();
        }
        // The last page may turn out to be empty: what follows is not looked at beforehand.
        seen.retain(|len| *len > 0);
        assert_eq!(seen, pages, "{query}");
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), pages.iter().sum::<usize>(), "{query}");
    }
    registry.stop().await;
}
