//! What pages say, and that they stay small.

use super::*;
use crate::report::document::{
    CommitTime, Figure, HttpVersion, LatencyFigures, LinkDocument, LinkLimit, LinkRecommendation, LinkTarget,
    SchemaVersion, SoakSecond, ThroughputFigures, TransferMethod, TrialEntry,
};
use crate::report::outcome::{ImageFailure, OutcomeState, Phase, Verified, VerifiedImage};
use crate::report::timeline::{BytesPoint, MirrorStage, StageSpan, Timeline};
use crate::report::{Class, Outcome};

fn complete(name: &str, images: usize) -> Outcome {
    let digest = format!("sha256:{}", "5".repeat(64)).parse().unwrap();
    let verified = |number| VerifiedImage {
        image: format!("images.example/{number}:1"),
        place: format!("ns/{number}:1"),
        digest: Some(digest),
        verified: if name.ends_with('0') { Verified::Head } else { Verified::Sample },
    };
    Outcome {
        images,
        images_complete: images,
        images_verified: (0..images).map(verified).collect(),
        state: OutcomeState::Complete,
        ..Outcome::new(name.to_owned())
    }
}

fn failed(name: &str, message: &str) -> Outcome {
    let failure = Failure::new(Class::Denied, message);
    let image = ImageFailure {
        image: "images.example/<b>:1".into(),
        place: "ns/b:1".into(),
        digest: None,
        phase: Phase::Upload,
        failure,
    };
    Outcome { images: 2, images_complete: 1, images_failed: vec![image], ..Outcome::new(name.to_owned()) }
}

fn page(mirrors: Vec<Outcome>, exit_code: u8) -> String {
    let mut document = Document::begin(vec!["b.tar.xz".into()]);
    (document.images, document.elapsed_seconds, document.exit_code) = (2, 10.0, exit_code);
    document.mirrors = mirrors;
    run_page(&document, &[]).unwrap()
}

#[test]
fn the_outcome_comes_first_and_words_of_servers_are_text() {
    let text = page(vec![complete("a", 2), failed("b", "<script>alert(1)</script> & more")], 3);
    let (headline, why) = (text.find("1 of 2 mirrors is not complete"), text.find("alert(1)"));
    assert!(headline.unwrap() < why.unwrap());
    assert!(!text.contains("<script") && !text.contains("example/<b>"), "{text}");
    assert!(text.find("mirror-1").unwrap() < text.find("mirror-2").unwrap());
    let rows: Vec<&str> = text.split("<tr><th scope=\"row\">").skip(1).collect();
    assert!(rows[0].contains(">b</a>") && rows[1].contains(">a</a>"), "the worst comes first");
}

#[test]
fn a_run_of_two_thousand_sites_has_a_page_that_can_be_read() {
    let mut mirrors: Vec<Outcome> = (0..2000).map(|number| complete(&format!("site-{number}"), 30)).collect();
    mirrors[1234] = failed("site-1234", "no");
    let text = page(mirrors, 3);
    assert!(text.len() < 1 << 20, "{} bytes", text.len());
    assert!(text.contains("1000 mirrors are not on this page; the JSON report has all."));
    assert!(text.contains("Of 1960 other mirrors there is no more on this page"));
    assert!(text.contains("on 1999 of 2000 mirrors, the first: site-0/ns/0:1"));
    assert!(text.contains("the registry says so"), "what holds for all of them");
    assert!(text.find("site-1234").unwrap() < text.find("site-0<").unwrap());
}

#[test]
fn plots_say_in_words_what_they_show() {
    let point = |at_seconds: f64, sent| BytesPoint { at_seconds, sent, acknowledged: sent / 2 };
    let span = |stage, from_seconds, to_seconds| StageSpan { stage, from_seconds, to_seconds };
    let timeline = Timeline {
        stages: vec![span(MirrorStage::Connect, 0.0, 1.0), span(MirrorStage::Send, 1.0, 9.0)],
        limit_bytes_per_second: Some(1 << 20),
        bytes: vec![point(1.0, 0), point(5.0, 4 << 20), point(9.0, 8 << 20)],
        ..Timeline::default()
    };
    let text = page(vec![Outcome { timeline: Some(timeline), ..complete("a", 2) }], 0);
    assert!(text.contains(r#"aria-label="Time line: connecting 1.0 s, sending 8.0 s""#), "{text}");
    assert!(text.contains(r#"aria-label="Bytes over time: 8.0 MiB sent and 4.0 MiB confirmed in 8.0 s""#));
    assert!(text.contains(r#"d="M0.0 1000.0L500.0 500.0L1000.0 0.0""#), "{text}");
    assert!(text.contains("the limit: 1.0 MiB/s"));
}

#[test]
fn a_report_of_an_early_version_has_a_page() {
    let document: Document = serde_json::from_str(include_str!("../document/tests/push.json")).unwrap();
    let text = run_page(&document, &[]).unwrap();
    assert!(text.contains("1 of 2 mirrors is not complete") && text.contains("Connection refused"));
    let sync: Document = serde_json::from_str(include_str!("../document/tests/sync.json")).unwrap();
    let text = run_page(&sync, &[]).unwrap();
    assert!(text.contains("its window opens at 2026-11-27T21:00:00Z") && text.contains("groups: emea"));
}

/// A link that was measured, and one that could not be.
fn links() -> LinkDocument {
    let figure =
        |median: f64| Figure { median, low: median * 0.9, high: median * 1.1, samples: vec![median] };
    let trial = |streams, request_bytes, rate: f64| TrialEntry {
        streams,
        request_bytes,
        method: TransferMethod::Put,
        protocol: HttpVersion::Http1,
        bytes_per_second: vec![rate * 0.9, rate, rate * 1.1],
    };
    let samples: Vec<f64> = (0..60).map(|number| 0.08 + f64::from(number % 7) * 0.001).collect();
    let upload = ThroughputFigures {
        best_bytes_per_second: 2.5e6,
        rate: figure(2.5e6),
        streams: 4,
        request_bytes: 8 << 20,
        method: TransferMethod::Put,
        protocol: HttpVersion::Http1,
        one_stream_bytes_per_second: Some(9e5),
        busy_cores: None,
        trials: vec![trial(1, 1 << 20, 9e5), trial(4, 1 << 20, 2e6), trial(4, 8 << 20, 2.5e6)],
    };
    let soak = |second: u32| SoakSecond {
        at_seconds: f64::from(second),
        bytes_per_second: 2e6 + f64::from(second % 5) * 1e5,
    };
    let measured = LinkTarget {
        name: "berlin".into(),
        place: "registry.example/mirror/layercast-bench".into(),
        rtt_seconds: Some(LatencyFigures {
            least: 0.08,
            p50: 0.083,
            p90: 0.086,
            p99: 0.086,
            median: Figure { samples, ..figure(0.083) },
        }),
        upload: Some(upload),
        commit_seconds: vec![CommitTime { bytes: 1 << 20, seconds: 0.1 }],
        soak: (0..30).map(soak).collect(),
        limit: Some(LinkLimit::Bandwidth),
        evidence: vec!["8 streams brought no more than 4".into()],
        recommendation: Some(LinkRecommendation {
            threads: 4,
            request_bytes: None,
            method: TransferMethod::Put,
            site: "  threads: 4\n".into(),
            equivalent_threads: vec![8],
        }),
        notes: vec!["<b>said by the server</b>".into()],
        ..LinkTarget::default()
    };
    let error = Some(Failure::new(Class::Unreachable, "GET https://lyon.example/v2/: no connection"));
    let failed = LinkTarget { name: "lyon".into(), error, ..LinkTarget::default() };
    LinkDocument {
        schema_version: SchemaVersion::One,
        layercast_version: "0.1.0".into(),
        started: "2026-11-28T02:00:00Z".into(),
        elapsed_seconds: 90.0,
        targets: vec![measured, failed],
        exit_code: 3,
    }
}

#[test]
fn the_page_of_links_says_what_holds_them_back_and_what_to_write() {
    let text = link_page(&links()).unwrap();
    for says in [
        "The links to 2 mirrors",
        "20.0 Mbit/s to the mirror. The bandwidth holds uploads back",
        "Use 4 uploads at a time, each blob in one PUT; requests of any size are taken.",
        "As good, as far as can be measured: 8 at a time.",
        "threads: 4",
        "It was not measured.",
        r#"<td class="number h4">20.0 Mbit/s</td>"#,
        r#"<td class="number quiet">–</td>"#,
        r#"aria-label="Round trip over a connection that stands: 60 requests, from 80.0 ms to 86.0 ms""#,
        "from 16.0 Mbit/s to 19.2 Mbit/s over 29.0 s",
    ] {
        assert!(text.contains(says), "{says:?} is not in {text}");
    }
    assert!(!text.contains("<b>said"), "words of servers are text");
}
