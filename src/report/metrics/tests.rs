//! Metrics as they are listed, rendered and given out.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::list::{ALL, MetricKind};
use super::*;
use crate::report::Failure;

/// `docs/metrics.md`.
fn documentation() -> String {
    let mut page = include_str!("list.md").to_owned();
    page.push_str("| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for list::Description { name, kind, unit, labels, help } in ALL {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {labels} | {help} |", unit.as_str());
    }
    let buckets = list::BUCKETS_SECONDS.map(|bound| bound.to_string()).join(", ");
    let _ = writeln!(page, "\nHistograms have these upper bounds, in seconds: {buckets}.");
    page
}

/// `UPDATE=1 cargo test` writes the page anew.
#[test]
fn the_page_is_what_the_list_makes_of_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = documentation();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, &page).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == page, "write {path} anew: UPDATE=1 cargo test the_page_is");
}

#[test]
fn names_say_the_kind_and_the_unit_and_only_small_families_have_a_site() {
    for metric in ALL {
        let name = metric.name;
        assert!(name.starts_with("layercast_") && !metric.help.is_empty(), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}");
        let base = name.trim_end_matches("_total");
        match metric.unit {
            metrics::Unit::Count => {
                assert!(!base.ends_with("_seconds") && !base.ends_with("_bytes"), "{name}");
            }
            unit => assert!(base.ends_with(unit.as_str()), "{name}"),
        }
        assert!(metric.kind != MetricKind::Histogram || !metric.labels.contains(&list::SITE), "{name}");
    }
}

fn heard() -> Metrics {
    let metrics = Metrics::new("nightly");
    metrics.expect("one", Some(1_000));
    metrics.expect("two", None);
    let answered = |status, seconds| Sample::Answered {
        method: "HEAD",
        status,
        after: Duration::from_secs_f64(seconds),
    };
    let measured = |mirror, sample| Event::Measured { mirror, sample };
    for event in [
        Event::Started { mirrors: vec!["one".to_owned(), "two".to_owned()], limits: vec![None, None] },
        measured(0, answered(Some(404), 0.02)),
        measured(0, answered(Some(503), 3.0)),
        measured(1, answered(None, 10.0)),
        measured(0, Sample::Sent { bytes: 70 }),
        measured(0, Sample::Sent { bytes: 7 }),
        measured(0, Sample::Skipped { blobs: 4, bytes: 9 }),
        measured(1, Sample::Mounted { bytes: 0 }),
        Event::Planned { images: vec![5, 3], bytes: vec![0, 0] },
        Event::Tagged { mirror: 0, tags: 6 },
    ] {
        metrics.hear(&event);
    }
    metrics
}

#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[test]
fn what_is_heard_is_counted_by_site() {
    let text = heard().render();
    for (series, expected) in [
        (r#"layercast_requests_total{run="nightly",site="one",outcome="not_found",status="4xx"}"#, 1.0),
        (r#"layercast_requests_total{run="nightly",site="two",outcome="no_answer",status="none"}"#, 1.0),
        (r#"layercast_throttled_total{run="nightly",site="one"}"#, 1.0),
        (r#"layercast_throttled_total{run="nightly",site="two"}"#, 0.0),
        (r#"layercast_sent_bytes_total{run="nightly",site="one"}"#, 77.0),
        (r#"layercast_blobs_total{run="nightly",site="one",outcome="skipped"}"#, 4.0),
        (r#"layercast_blobs_total{run="nightly",site="two",outcome="mounted"}"#, 1.0),
        (r#"layercast_site_images_missing{run="nightly",site="two"}"#, 3.0),
        (r#"layercast_tags_moved_total{run="nightly",site="one"}"#, 6.0),
        (r#"layercast_request_duration_seconds_bucket{run="nightly",method="HEAD",le="2.5"}"#, 1.0),
        (r#"layercast_request_duration_seconds_count{run="nightly",method="HEAD"}"#, 3.0),
        (r#"layercast_site_last_complete_timestamp_seconds{run="nightly",site="one"}"#, 1000.0),
        (r#"layercast_site_last_complete_timestamp_seconds{run="nightly",site="two"}"#, 0.0),
    ] {
        assert!((value(&text, series) - expected).abs() < f64::EPSILON, "{series}\n{text}");
    }
    assert!(!text.contains("layercast_run_exit_code{"), "the run has not ended");
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let name = line.split(' ').next().unwrap();
        assert!(ALL.iter().any(|metric| metric.name == name), "{name}");
    }
}

#[test]
fn a_site_is_complete_only_if_the_run_says_so() {
    let complete = |error| {
        let metrics = heard();
        let mut document = Document::begin(Vec::new());
        document.mirrors = vec![Outcome { images: 5, images_complete: 5, ..Outcome::new("one".into()) }];
        document.error = error;
        metrics.end(&document);
        let text = metrics.render();
        let last =
            value(&text, r#"layercast_site_last_complete_timestamp_seconds{run="nightly",site="one"}"#);
        (value(&text, r#"layercast_site_complete{run="nightly",site="one"}"#) > 0.0, last > 1000.0)
    };
    assert_eq!(complete(None), (true, true));
    assert_eq!(complete(Some(Failure::internal("the bundle changed"))), (false, false));
}

#[tokio::test]
async fn they_are_given_out_to_whoever_asks_for_them_and_nothing_else_is() {
    let endpoint = MetricsEndpoint::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.address().unwrap();
    let serving = tokio::spawn(endpoint.serve(std::sync::Arc::new(heard())));
    let ask = move |request: &'static str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for (request, head, body) in [
        (
            "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200",
            "layercast_build_info{",
        ),
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 404", "/metrics"),
        ("PUT /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 405", "read only"),
    ] {
        let answer = tokio::task::spawn_blocking(move || ask(request)).await.unwrap();
        assert!(answer.starts_with(head) && answer.contains(body), "{answer}");
    }
    serving.abort();
}

/// What is written beside the program about its metrics.
#[test]
fn alerts_and_the_dashboard_name_only_metrics_that_there_are() {
    let rules = include_str!("../../../config/prometheus/layercast.rules.yaml");
    let dashboard = include_str!("../../../config/grafana/layercast.json");
    let parsed: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = parsed["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    assert!(queries.map(|query| query["expr"].as_str().unwrap()).all(|query| query.contains("layercast_")));
    let mut numbers: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), panels.len());

    let mentions = regex::Regex::new("layercast_[a-z_]+").unwrap();
    let family = |name: &str| {
        let suffixes = ["_bucket", "_sum", "_count"];
        let stem = suffixes.into_iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        ALL.iter()
            .find(|metric| metric.name == name || metric.kind == MetricKind::Histogram && metric.name == stem)
    };
    for (what, text) in [("rules", rules), ("dashboard", dashboard)] {
        let mut met = 0;
        for mention in mentions.find_iter(text).map(|found| found.as_str()) {
            met += 1;
            assert!(family(mention).is_some(), "{what}: there is no metric {mention}");
        }
        assert!(met > 5, "{what}");
    }
    let shown: Vec<_> = mentions.find_iter(dashboard).filter_map(|found| family(found.as_str())).collect();
    for metric in ALL.iter().filter(|metric| {
        !["layercast_build_info", "layercast_run_images", "layercast_site_images"].contains(&metric.name)
    }) {
        let is_shown = shown.iter().any(|shown| shown.name == metric.name)
            || metric.name.ends_with("run_end_timestamp_seconds");
        assert!(is_shown, "the dashboard does not show {}", metric.name);
    }
}
