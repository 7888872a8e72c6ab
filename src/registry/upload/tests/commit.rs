//! What an answer to a commit says, and what it leaves open.

use std::sync::Arc;

use super::broken::content;
use crate::oci::Digest;
use crate::registry::testing::{answer, blob, connect, lines, options, registry, repository};
use crate::registry::upload::BlobProof;
use crate::registry::{BlobBody, FailureKind};

fn count(log: &crate::registry::testing::Log, method: &str) -> usize {
    lines(log).iter().filter(|line| line.starts_with(method)).count()
}

#[tokio::test]
async fn what_is_not_201_is_asked_about_and_sent_in_another_way_where_nothing_is_there() {
    for status in [200, 202, 204, 206] {
        for is_there in [true, false] {
            let (here, log) = registry(move |seen, _| match seen.method.as_str() {
                "POST" | "PATCH" => answer(202, &[("location", "1")], ""),
                "PUT" if seen.body.is_empty() => answer(201, &[], ""),
                "PUT" => answer(status, &[], ""),
                "HEAD" if is_there => answer(200, &[("content-length", "10")], ""),
                "HEAD" => answer(404, &[], ""),
                _ => answer(200, &[], ""),
            })
            .await;
            let registry = connect(&here, options()).await.unwrap();
            let (digest, body) = blob("some layer");
            let pushed = registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
            let proof = if is_there { BlobProof::Claimed } else { BlobProof::Confirmed };
            assert_eq!((pushed.proof, count(&log, "HEAD")), (proof, 1), "{status}");
            assert_eq!(count(&log, "PATCH"), usize::from(!is_there), "{status}: {:?}", lines(&log));
        }
    }
}

#[tokio::test]
async fn a_registry_that_stored_something_else_is_believed_and_one_that_counts_in_another_algorithm_too() {
    let (digest, body) = blob("some layer");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for (told, is_wrong) in [
        (digest.to_string(), false),
        ("nonsense".to_owned(), false),
        (sha512, false),
        (Digest::of(b"some other layer").to_string(), true),
    ] {
        let named = told.clone();
        let (here, log) = registry(move |seen, _| match seen.method.as_str() {
            "POST" => answer(202, &[("location", "1")], ""),
            "PUT" => answer(201, &[("docker-content-digest", &named)], ""),
            "HEAD" => answer(200, &[("content-length", "10")], ""),
            _ => answer(200, &[], ""),
        })
        .await;
        let registry = connect(&here, options()).await.unwrap();
        let pushed = registry.push_blob(&repository(), &digest, &body, None).await;
        assert_eq!(count(&log, "HEAD") + count(&log, "DELETE"), 0, "{told}");
        match pushed {
            Ok(pushed) => assert_eq!((is_wrong, pushed.proof), (false, BlobProof::Confirmed), "{told}"),
            Err(error) => {
                assert_eq!((is_wrong, error.kind()), (true, FailureKind::Integrity), "{told}");
                assert!(error.to_string().contains(&told), "{error}");
                assert_eq!(count(&log, "PUT"), 1, "it would be the same once more");
            }
        }
    }
}

/// A registry that checks nothing takes whatever has come together in a session.
#[tokio::test]
async fn an_upload_that_went_on_is_asked_for_its_size() {
    let size = content().len() as u64;
    for (stored, is_right) in [(size, true), (size + 1, false)] {
        let (here, log) = registry(move |seen, _| match seen.method.as_str() {
            "POST" => answer(202, &[("location", "1")], ""),
            "PUT" if seen.nth == 0 => answer(0, &[], ""),
            "PUT" => answer(201, &[], ""),
            "HEAD" if seen.nth == 0 => answer(404, &[], ""),
            "HEAD" => answer(200, &[("content-length", &stored.to_string())], ""),
            "GET" if seen.target.contains("/uploads/") => answer(204, &[("range", "0-499999")], ""),
            _ => answer(202, &[], ""),
        })
        .await;
        let registry = connect(&here, options()).await.unwrap();
        registry.host().quirks().keeping = crate::registry::Keeping::Bytes;
        let body: Arc<dyn BlobBody> = Arc::new(content());
        let pushed = registry.push_blob(&repository(), &Digest::of(&content()), &body, None).await;
        assert_eq!(pushed.is_ok(), is_right, "{stored}: {pushed:?} {:?}", lines(&log));
        if let Err(error) = pushed {
            assert_eq!(error.kind(), FailureKind::Integrity, "{error}");
            assert!(error.to_string().contains("has stored 1048577 bytes"), "{error}");
        }
    }
}
