//! Uploads whose connection breaks: what has arrived is not sent again, where the registry keeps it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use bytes::Bytes;

use crate::locks::Mutex;
use crate::oci::Digest;
use crate::registry::quirks::{Keeping, Quirks};
use crate::registry::testing::{Log, SeenRequest, answer, connect, lines, options, registry, repository};
use crate::registry::{BlobBody, Registry};

const SIZE: usize = 1 << 20;

pub(super) fn content() -> Bytes {
    let mut bytes = vec![0; SIZE];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes.into()
}

/// What happens to a request with bytes.
#[derive(Clone, Copy)]
enum Fate {
    /// Its answer gets lost. So many of its bytes are kept, and the session.
    Kept(usize),
    /// Its answer gets lost, and the session with it.
    Lost,
    /// It is answered with this status.
    Refused(u16),
    /// It is answered as by a registry that does not know its own signature any more.
    Unsigned,
}
use Fate::{Kept, Lost, Refused, Unsigned};

/// What is scripted of a registry.
struct Script {
    /// What happens to the first, second, … request with bytes; all is well with those that come after.
    fates: Vec<Option<Fate>>,
    /// The range of so many bytes, in the registry's own words.
    range: fn(usize) -> String,
    /// Added to the location of sessions.
    query: &'static str,
}

impl Default for Script {
    fn default() -> Self {
        Self { fates: Vec::new(), range: |bytes| format!("0-{}", bytes.saturating_sub(1)), query: "" }
    }
}

#[derive(Default)]
struct Sessions {
    opened: usize,
    /// The bytes of the only session.
    bytes: Option<Vec<u8>>,
    with_bytes: usize,
    is_there: bool,
}

/// A registry that holds chunks against where it stands.
async fn keeper(script: Script) -> (Registry, Log) {
    let sessions = Mutex::new(Sessions::default());
    let (here, log) = registry(move |seen, _| sessions.lock().answer(seen, &script)).await;
    (connect(&here, options()).await.unwrap(), log)
}

impl Sessions {
    fn answer(&mut self, seen: &SeenRequest, script: &Script) -> Response<Body> {
        let location = format!("/v2/team/app/blobs/uploads/{}", self.opened);
        match seen.method.as_str() {
            "POST" => {
                (self.opened, self.bytes) = (self.opened + 1, Some(Vec::new()));
                let location = format!("/v2/team/app/blobs/uploads/{}{}", self.opened, script.query);
                answer(202, &[("location", &location)], "")
            }
            "HEAD" if self.is_there => answer(200, &[("content-length", &SIZE.to_string())], ""),
            "HEAD" => answer(404, &[], ""),
            "GET" if seen.target == "/v2/" => answer(200, &[], ""),
            "DELETE" => answer(405, &[], ""),
            _ => {
                let Some(bytes) = self.bytes.as_mut().filter(|_| seen.target.starts_with(&location)) else {
                    return answer(404, &[], "");
                };
                let stands = |bytes: &[u8]| {
                    let query = if bytes.is_empty() {
                        script.query.to_owned()
                    } else {
                        format!("?at={}", bytes.len())
                    };
                    [("location", format!("{location}{query}")), ("range", (script.range)(bytes.len()))]
                };
                if seen.method == "GET" {
                    let [(a, at), (b, range)] = stands(bytes);
                    return answer(204, &[(a, &at), (b, &range)], "");
                }
                let from = seen.header("content-range").split('-').next().and_then(|from| from.parse().ok());
                if from.is_some_and(|from: usize| from != bytes.len()) {
                    return answer(416, &[], "");
                }
                let fate = if seen.body.is_empty() {
                    None
                } else {
                    script.fates.get(self.with_bytes).copied().flatten()
                };
                self.with_bytes += usize::from(!seen.body.is_empty());
                match fate {
                    Some(Kept(some)) => bytes.extend_from_slice(&seen.body[..some]),
                    Some(Lost) => {
                        self.bytes = None;
                        return answer(0, &[], "");
                    }
                    Some(Refused(status)) => return answer(status, &[], ""),
                    Some(Unsigned) => {
                        return answer(404, &[], r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#);
                    }
                    None => bytes.extend_from_slice(&seen.body),
                }
                if fate.is_some() {
                    return answer(0, &[], "");
                }
                let [(a, at), (b, range)] = stands(bytes);
                if seen.method == "PATCH" {
                    return answer(202, &[(a, &at), (b, &range)], "");
                }
                let digest = Digest::of(bytes).to_string().replace(':', "%3A");
                self.is_there = seen.target.contains(&digest);
                self.bytes = None;
                answer(if self.is_there { 201 } else { 400 }, &[], "")
            }
        }
    }
}

async fn push(registry: &Registry) -> Result<super::super::Pushed, crate::registry::RegistryError> {
    let body: Arc<dyn BlobBody> = Arc::new(content());
    registry.push_blob(&repository(), &Digest::of(&content()), &body, None).await
}

/// The requests with bytes: method, `Content-Range`, length.
fn sent(log: &Log) -> Vec<(String, String, usize)> {
    let log = log.lock();
    let with_bytes = log.iter().filter(|seen| !seen.body.is_empty());
    with_bytes
        .map(|seen| (seen.method.clone(), seen.header("content-range").to_owned(), seen.body.len()))
        .collect()
}

fn request(method: &str, range: &str, bytes: usize) -> (String, String, usize) {
    (method.to_owned(), range.to_owned(), bytes)
}

fn count(log: &Log, method: &str) -> usize {
    lines(log).iter().filter(|line| line.starts_with(method)).count()
}

/// Blobs of a mebibyte go in chunks of 256 KiB.
fn in_chunks(quirks: &mut Quirks) {
    quirks.learn_refused(1 << 20);
}

#[tokio::test]
async fn what_arrived_of_a_body_that_broke_is_not_sent_again() {
    let (registry, log) = keeper(Script { fates: vec![Some(Kept(700_000))], ..Script::default() }).await;
    let pushed = push(&registry).await.unwrap();
    let rest = SIZE - 700_000;
    let whole = request("PUT", "", SIZE);
    assert_eq!(sent(&log), [whole, request("PUT", "700000-1048575", rest)]);
    assert_eq!((pushed.bytes_sent, pushed.resumed), ((SIZE + rest) as u64, 1));
    assert_eq!(registry.host().quirks().keeping, Keeping::Bytes);
    let lines = lines(&log);
    assert!(
        lines[3].starts_with("HEAD") && lines[4].starts_with("GET"),
        "the commit is asked about first: {lines:?}"
    );
    let log = log.lock();
    let commit = log.iter().rev().find(|seen| seen.method == "PUT").unwrap();
    assert!(commit.target.contains("/1?at=700000&"), "the newest location is used");
}

#[tokio::test]
async fn an_upload_that_gets_on_bears_any_number_of_breaks() {
    let fates = vec![Some(Kept(270_000)); 3];
    let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
    let registry_without = {
        let mut quirks = registry.host().quirks();
        quirks.keeping = Keeping::Bytes;
        drop(quirks);
        registry
    };
    assert_eq!(push(&registry_without).await.unwrap().resumed, 3);
    assert_eq!(count(&log, "POST"), 1);
}

/// What was on its way may arrive after the registry was asked.
#[tokio::test]
async fn a_commit_that_is_not_where_the_session_is_by_then_goes_on_where_it_is() {
    let (whole, late) = (Mutex::new(Sessions::default()), Mutex::new(false));
    let script = Script { fates: vec![Some(Kept(300_000))], ..Script::default() };
    let (here, log) = registry(move |seen, _| {
        let mut sessions = whole.lock();
        let is_rest = seen.header("content-range").starts_with("300000-");
        if is_rest && !std::mem::replace(&mut late.lock(), true) {
            sessions.bytes.as_mut().unwrap().extend_from_slice(&content()[300_000..400_000]);
        }
        sessions.answer(seen, &script)
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    push(&registry).await.unwrap();
    assert_eq!(count(&log, "POST"), 1, "{:?}", sent(&log));
    assert_eq!(sent(&log).last().unwrap().1, "400000-1048575");
}

#[tokio::test]
async fn an_upload_that_gets_nowhere_ends() {
    let (registry, log) = keeper(Script { fates: vec![Some(Kept(1)); 50], ..Script::default() }).await;
    push(&registry).await.unwrap_err();
    assert!(sent(&log).len() <= 6, "{:?}", sent(&log));
}

#[tokio::test]
async fn a_chunk_whose_answer_got_lost_is_not_sent_again() {
    let fates = vec![None, Some(Kept(256 << 10))];
    let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
    in_chunks(&mut registry.host().quirks());
    assert_eq!(push(&registry).await.unwrap().bytes_sent, SIZE as u64);
    let ranges: Vec<_> = sent(&log).into_iter().map(|(method, range, _)| (method, range)).collect();
    let chunk = |range: &str| ("PATCH".to_owned(), range.to_owned());
    let all = ["0-262143", "262144-524287", "524288-786431", "786432-1048575"];
    assert_eq!(ranges, all.map(chunk));
    assert_eq!((count(&log, "HEAD"), count(&log, "POST")), (1, 1), "its size is asked for in the end");
}

#[tokio::test]
async fn where_broken_chunks_are_dropped_the_upload_goes_on_at_the_last_whole_one() {
    // As Quay says it: with a unit, and one byte too many.
    let range = |bytes| if bytes == 0 { "bytes=0--1".to_owned() } else { format!("bytes=0-{bytes}") };
    let fates = vec![None, None, Some(Kept(0))];
    let (registry, log) = keeper(Script { fates, range, ..Script::default() }).await;
    in_chunks(&mut registry.host().quirks());
    let pushed = push(&registry).await.unwrap();
    assert_eq!(pushed.bytes_sent, (SIZE + (256 << 10)) as u64);
    assert_eq!(sent(&log)[3], request("PATCH", "524288-786431", 256 << 10));
}

/// A proxy that takes a request whole before it hands it on delivers nothing of one that is cut, whatever the mirror keeps.
#[tokio::test]
async fn a_session_that_stands_where_a_cut_chunk_began_says_nothing_of_the_mirror() {
    let fates = vec![None, Some(Kept(0)), Some(Kept(0)), None, Some(Kept(0))];
    let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
    in_chunks(&mut registry.host().quirks());
    push(&registry).await.unwrap();
    assert_eq!((count(&log, "POST"), registry.host().quirks().keeping), (1, Keeping::Unknown));
}

#[tokio::test]
async fn a_mirror_that_says_that_it_keeps_every_byte_is_known_for_it_before_anything_breaks() {
    let whole = Mutex::new(Sessions::default());
    let (here, _) = registry(move |seen, _| {
        let mut answer = whole.lock().answer(seen, &Script::default());
        if seen.method == "POST" {
            answer.headers_mut().insert("layercast-upload-keeps", "bytes".parse().unwrap());
        }
        answer
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    push(&registry).await.unwrap();
    assert_eq!(registry.host().quirks().keeping, Keeping::Bytes);
}

/// What a server refuses for its own reasons says nothing of how it takes blobs.
#[tokio::test]
async fn nothing_is_learned_from_a_mirror_whose_disk_is_full() {
    for (status, bare) in [(500, false), (507, false), (500, true)] {
        let whole = Mutex::new(Sessions::default());
        let (here, _) = registry(move |seen, _| {
            // Where the disk is full by the time of the commit, all bytes have arrived.
            let is_refused = if bare { seen.method == "PUT" } else { !seen.body.is_empty() };
            if is_refused {
                answer(status, &[], "no space left on device")
            } else {
                whole.lock().answer(seen, &Script::default())
            }
        })
        .await;
        let registry = connect(&here, options()).await.unwrap();
        registry.host().quirks().bytes_per_second = Some(10_000);
        push(&registry).await.unwrap_err();
        let quirks = registry.host().quirks().clone();
        // That it lets nobody cancel an upload is no refusal of bytes.
        let (needs_no_state, keeps_sessions) = (quirks.needs_no_state, quirks.keeps_sessions);
        let expected = Quirks {
            bytes_per_second: quirks.bytes_per_second,
            needs_no_state,
            keeps_sessions,
            ..Quirks::default()
        };
        assert!(!quirks.differ_from(&expected), "{status}: {quirks:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_lost_begins_anew_and_the_mirror_is_known_for_it() {
    for (times, keeping) in [(1, Keeping::Unknown), (2, Keeping::NotPut)] {
        let (registry, log) = keeper(Script { fates: vec![Some(Lost); times], ..Script::default() }).await;
        push(&registry).await.unwrap();
        assert_eq!((count(&log, "POST"), sent(&log).len()), (times + 1, times + 1));
        assert_eq!(registry.host().quirks().keeping, keeping, "it may still keep chunks");
    }
    for (times, keeping) in [(1, Keeping::Unknown), (2, Keeping::Nothing)] {
        let fates = [None, Some(Lost)].repeat(times);
        let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
        in_chunks(&mut registry.host().quirks());
        push(&registry).await.unwrap();
        assert_eq!((count(&log, "POST"), sent(&log).len()), (times + 1, 2 * times + 4));
        assert_eq!(registry.host().quirks().keeping, keeping);
    }
}

#[tokio::test]
async fn a_range_that_cannot_be_true_is_not_believed() {
    for range in [
        (|_| "0-2000000".to_owned()) as fn(usize) -> String,
        |_| "0-100".to_owned(),
        |_| "lots".to_owned(),
        |_| "5-9".to_owned(),
    ] {
        let fates = vec![None, Some(Kept(100_000))];
        let (registry, log) = keeper(Script { fates, range, ..Script::default() }).await;
        in_chunks(&mut registry.host().quirks());
        push(&registry).await.unwrap();
        assert_eq!(count(&log, "POST"), 2, "it begins anew");
    }
}

#[tokio::test]
async fn a_registry_that_judges_sessions_by_their_state_gets_blobs_in_one_request() {
    for (status, chunks) in [(404, false), (204, true)] {
        let whole = Mutex::new(Sessions::default());
        let script = Script { query: "?_state=abc", ..Script::default() };
        let (here, log) = registry(move |seen, _| {
            if seen.method == "GET" && seen.target.ends_with("/uploads/1") {
                return answer(status, &[("range", "0-0")], "");
            }
            whole.lock().answer(seen, &script)
        })
        .await;
        let registry = connect(&here, options()).await.unwrap();
        registry.host().quirks().bytes_per_second = Some(10_000);
        push(&registry).await.unwrap();
        let keeping = registry.host().quirks().keeping;
        assert_eq!(keeping == Keeping::Nothing, !chunks, "{status}");
        assert_eq!(sent(&log).len() > 1, chunks, "{status}");
    }
}

#[tokio::test]
async fn what_is_refused_as_too_large_is_cut_smaller_and_that_is_remembered() {
    // As a proxy that takes 256 KiB, whatever the method.
    let whole = Mutex::new(Sessions::default());
    let (here, log) = registry(move |seen, _| {
        if seen.body.len() > 256 << 10 {
            return answer(413, &[], "");
        }
        whole.lock().answer(seen, &Script::default())
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    push(&registry).await.unwrap();
    let refused = |log: &Log| sent(log).iter().filter(|(_, _, bytes)| *bytes > 256 << 10).count();
    assert_eq!(refused(&log), 2, "{:?}", sent(&log));
    let before = sent(&log).len();
    let other: Arc<dyn BlobBody> = Arc::new(content().slice(1..));
    let digest = Digest::of(&content()[1..]);
    registry.push_blob(&repository(), &digest, &other, None).await.unwrap();
    assert_eq!((refused(&log), sent(&log).len() - before), (2, 4));
}

#[tokio::test]
async fn a_416_at_the_right_place_is_about_the_size() {
    let whole = Mutex::new(Sessions::default());
    let (here, log) = registry(move |seen, _| {
        if !seen.header("content-range").is_empty() && seen.body.len() > 64 << 10 {
            return answer(416, &[], r#"{"errors":[{"code":"REQUESTED_RANGE_NOT_SATISFIABLE"}]}"#);
        }
        whole.lock().answer(seen, &Script::default())
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    registry.host().quirks().bytes_per_second = Some(20_000);
    push(&registry).await.unwrap();
    assert_eq!(count(&log, "POST"), 1, "{:?}", sent(&log));
    assert!(sent(&log)[2..].iter().all(|(_, _, bytes)| *bytes <= 64 << 10));
}

#[tokio::test]
async fn a_registry_that_refuses_chunks_twice_gets_blobs_whole() {
    for times in [1, 2] {
        let fates = vec![Some(Refused(400)); times];
        let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
        registry.host().quirks().bytes_per_second = Some(20_000);
        push(&registry).await.unwrap();
        assert_eq!(count(&log, "POST"), times + 1);
        let is_whole = sent(&log).last().unwrap() == &request("PUT", "", SIZE);
        assert_eq!((is_whole, registry.host().quirks().refuses_chunks), (times == 2, times == 2));
    }
}

/// There is a limit on size, so whole blobs would be refused for ever.
#[tokio::test]
async fn where_only_chunks_get_in_no_stray_refusal_ends_them() {
    let fates = [None, Some(Refused(400))].repeat(3);
    let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
    in_chunks(&mut registry.host().quirks());
    push(&registry).await.unwrap();
    assert_eq!((count(&log, "POST"), registry.host().quirks().refuses_chunks), (4, false));
}

/// An answer without a range may mean no byte or all of them.
#[tokio::test]
async fn a_session_that_does_not_say_how_much_it_has_is_not_gone_on_with() {
    for times in [1, 3] {
        let whole = Mutex::new(Sessions::default());
        let script = Script { fates: vec![Some(Kept(300_000)); times], ..Script::default() };
        let (here, log) = registry(move |seen, _| {
            if seen.method == "GET" && seen.target.contains("/uploads/") {
                return answer(204, &[], "");
            }
            let is_cancelled = seen.method == "DELETE";
            if is_cancelled { answer(204, &[], "") } else { whole.lock().answer(seen, &script) }
        })
        .await;
        let registry = connect(&here, options()).await.unwrap();
        let pushed = push(&registry).await.unwrap();
        registry.settle_cancels().await;
        let expected = (times + 1, times, 0);
        assert_eq!(
            (count(&log, "POST"), count(&log, "DELETE"), pushed.resumed),
            expected,
            "{:?}",
            lines(&log)
        );
        assert_eq!(
            pushed.bytes_sent,
            ((times + 1) * SIZE) as u64,
            "each session has the blob from its first byte"
        );
        assert_eq!(registry.host().quirks().keeping, Keeping::Unknown, "it has not lost the session");
    }
}

/// The storage of the registry stumbles over the commit, and has all bytes.
#[tokio::test]
async fn a_commit_that_fails_for_a_moment_costs_no_byte() {
    for times in [1, 2, 3] {
        let (whole, failed) = (Mutex::new(Sessions::default()), Mutex::new(0));
        let (here, log) = registry(move |seen, _| {
            if seen.method == "PUT" && seen.body.is_empty() && *failed.lock() < times {
                *failed.lock() += 1;
                return answer(500, &[], "");
            }
            whole.lock().answer(seen, &Script::default())
        })
        .await;
        let registry = connect(&here, options()).await.unwrap();
        in_chunks(&mut registry.host().quirks());
        assert_eq!(push(&registry).await.unwrap().bytes_sent, SIZE as u64, "{times}");
        assert_eq!((count(&log, "POST"), count(&log, "DELETE")), (1, 0), "{times}");
        assert!(!registry.host().quirks().refuses_empty_commit, "{times}");
    }
}

#[tokio::test]
async fn what_is_sent_again_in_a_new_session_is_not_reported_as_found() {
    let fates = vec![Some(Kept(400_000)), Some(Lost)];
    let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
    let pushed = push(&registry).await.unwrap();
    assert_eq!(count(&log, "POST"), 2);
    assert_eq!((pushed.bytes_found, pushed.resumed), (0, 0));
}

#[tokio::test]
async fn a_registry_that_has_another_secret_since_its_restart_is_asked_once_where_the_upload_stands() {
    let fates = vec![None, None, Some(Unsigned)];
    let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
    in_chunks(&mut registry.host().quirks());
    assert_eq!(push(&registry).await.unwrap().resumed, 1);
    assert_eq!((count(&log, "POST"), sent(&log).len()), (1, 5), "{:?}", sent(&log));

    let fates = vec![None, None, Some(Unsigned), Some(Unsigned)];
    let (registry, log) = keeper(Script { fates, ..Script::default() }).await;
    in_chunks(&mut registry.host().quirks());
    push(&registry).await.unwrap();
    assert_eq!(count(&log, "POST"), 2, "it begins anew: {:?}", sent(&log));
}

#[tokio::test]
async fn a_registry_that_commits_nothing_without_bytes_gets_the_last_ones_with_the_commit() {
    let whole = Mutex::new(Sessions::default());
    let (here, log) = registry(move |seen, _| {
        if seen.method == "PUT" && seen.body.is_empty() {
            return answer(500, &[], "");
        }
        whole.lock().answer(seen, &Script::default())
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    in_chunks(&mut registry.host().quirks());
    push(&registry).await.unwrap();
    assert_eq!(sent(&log).last().unwrap(), &request("PUT", "786432-1048575", 256 << 10));
}

#[tokio::test]
async fn an_upload_that_goes_on_is_not_led_to_another_host() {
    let (evil, stolen) = registry(|_, _| answer(202, &[], "")).await;
    let elsewhere = evil.replace("127.0.0.1", "localhost");
    let whole = Mutex::new(Sessions::default());
    let script = Script { fates: vec![Some(Kept(500_000))], ..Script::default() };
    let (here, log) = registry(move |seen, _| {
        if seen.method == "GET" && seen.target.contains("/uploads/") {
            let location = format!("http://{elsewhere}/v2/x");
            return answer(204, &[("location", &location), ("range", "0-499999")], "");
        }
        whole.lock().answer(seen, &script)
    })
    .await;
    let registry = connect(&here, options()).await.unwrap();
    push(&registry).await.unwrap();
    assert_eq!((count(&log, "POST"), stolen.lock().len()), (2, 0));
}
