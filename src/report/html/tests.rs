//! What pages say, and that they stay small.

use super::*;
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
