//! Metrics of real runs, held against their reports and against Prometheus' own tool.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::build::Bundle;
use crate::support::registry::Registry;
use crate::support::{Push, bundle, eventually, folder, link};

/// The sum of all series of a metric whose labels have all of these.
fn sum(text: &str, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.strip_prefix(metric)?.strip_prefix('{')?.split_once("} ")?;
        wanted.iter().all(|label| series.contains(label.as_str())).then(|| value.parse::<f64>().unwrap())
    });
    let values: Vec<f64> = values.collect();
    assert!(!values.is_empty(), "no {metric} {labels:?} in\n{text}");
    values.iter().sum()
}

/// `promtool check metrics` says nothing against it.
#[track_caller]
fn lint(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool =
        promtool.spawn().unwrap_or_else(|error| panic!("promtool: {error}; scripts/test.sh installs it"));
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_textfile_says_what_the_report_says() {
    let folder = folder();
    let registry = Registry::docker();
    let bundle = bundle(
        folder.path(),
        "b.tar.xz",
        &["--preset", "tiny", "--format", "docker-legacy", "--outer", "xz"],
    );
    let file = folder.path().join("nightly.prom");
    let (whole, dead) = (format!("{}/ns", registry.host()), "127.0.0.1:1/ns".to_owned());
    let push = Push::to(whole.as_str()).and_to(dead.as_str()).source(&bundle).flag("--patience=0");
    let pushed = push.state(&folder.path().join("state")).flag("--metrics-textfile").flag(&file).run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    let text = std::fs::read_to_string(&file).unwrap();
    lint(&text);
    assert!(text.lines().filter(|line| line.contains('{')).all(|line| line.contains(r#"run="nightly""#)));
    let report = |number: usize, field: &str| pushed.mirror(number)[field].as_f64().unwrap();
    for (number, site) in [(0, whole.as_str()), (1, &dead)] {
        let site = ("site", site);
        let blobs = |outcome| sum(&text, "layercast_blobs_total", &[site, ("outcome", outcome)]);
        let said = [
            (sum(&text, "layercast_sent_bytes_total", &[site]), "bytes_sent"),
            (blobs("sent"), "blobs_sent"),
            (blobs("skipped"), "blobs_skipped"),
            (blobs("mounted"), "blobs_mounted"),
            (sum(&text, "layercast_site_duration_seconds", &[site]), "elapsed_seconds"),
        ];
        for (value, field) in said {
            assert!((value - report(number, field)).abs() < 1e-6, "{site:?} {field}: {value}\n{text}");
        }
    }
    let whole_site = ("site", whole.as_str());
    let requests = sum(&text, "layercast_requests_total", &[whole_site]);
    assert!((requests - report(0, "requests")).abs() < 0.5, "{requests} {}", pushed.report);
    assert!(sum(&text, "layercast_blobs_total", &[whole_site, ("outcome", "sent")]) > 0.0);
    let durations = sum(&text, "layercast_request_duration_seconds_count", &[]);
    let all = sum(&text, "layercast_requests_total", &[]);
    assert!((durations - all).abs() < 0.5, "{durations} of {all}");
    assert!((sum(&text, "layercast_site_images_missing", &[whole_site])).abs() < 0.5);
    assert!((sum(&text, "layercast_run_exit_code", &[]) - 3.0).abs() < 0.5);
    let decode = &pushed.report["decode"];
    assert!(
        (sum(&text, "layercast_decoded_bytes_total", &[]) - decode["bytes"].as_f64().unwrap()).abs() < 0.5
    );
    for (metric, value) in [
        ("layercast_decode_cpu_seconds", &decode["cpu_seconds"]),
        ("layercast_compress_cpu_seconds", &pushed.report["compress"]["cpu_seconds"]),
    ] {
        let value = value.as_f64().unwrap();
        assert!(value > 0.0 && (sum(&text, metric, &[]) - value).abs() < 1e-6, "{metric} {value}");
    }
    assert!(sum(&text, "layercast_site_last_complete_timestamp_seconds", &[whole_site]) > 1.7e9);
    assert!(sum(&text, "layercast_site_last_complete_timestamp_seconds", &[("site", &dead)]).abs() < 0.5);
}

#[test]
fn a_run_that_fails_says_when_its_mirror_was_last_complete() {
    let folder = folder();
    let registry = Registry::docker();
    let bundle = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let (file, state) = (folder.path().join("m.prom"), folder.path().join("state"));
    let push = |source: &Path| {
        Push::to(&registry).state(&state).source(source).flag("--metrics-textfile").flag(&file).run()
    };
    let last = || {
        let text = std::fs::read_to_string(&file).unwrap();
        lint(&text);
        let of = |metric: &str| sum(&text, metric, &[("site", &registry.host())]);
        (of("layercast_site_last_complete_timestamp_seconds"), of("layercast_site_complete"))
    };
    push(&bundle).complete();
    let complete = last();
    assert!(complete.0 > 1.7e9 && complete.1 > 0.5);
    let broken = folder.path().join("broken.tar");
    std::fs::write(&broken, "no archive").unwrap();
    assert_eq!(push(&broken).exit, 5);
    let failed = last();
    assert!((failed.0 - complete.0).abs() <= 2.0 && failed.1 < 0.5, "{failed:?} {complete:?}");
}

#[test]
fn metrics_are_given_out_while_the_run_lasts() {
    let folder = folder();
    let bundle = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let registry = Registry::docker();
    let slow = format!("http://127.0.0.1:{}/ns", link::slow(registry.port, 20_000));
    let push = Push::to(slow.as_str()).source(&bundle).flag("--metrics-listen=0");
    let mut child = push.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = said
        .into_iter()
        .find_map(|line| Some(line.split_once("http://")?.1.split_once("/metrics")?.0.to_owned()));
    let address = address.unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let scrape = || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        text.to_owned()
    };
    let mut text = String::new();
    // The run asks first whether an image is there. None is, and that is no "ok".
    eventually("a request has succeeded", || {
        text = scrape();
        text.lines().any(|line| line.starts_with("layercast_requests_total{") && line.contains("\"ok\""))
    });
    lint(&text);
    assert!(sum(&text, "layercast_requests_total", &[("run", "layercast"), ("outcome", "ok")]) > 0.0);
    assert!(!text.contains("layercast_run_end_timestamp_seconds{"), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_is_wrong_with_a_file_or_an_address_is_said_before_the_run() {
    let folder = folder();
    let registry = Registry::docker();
    let push =
        |flag: &str, value: &str| Push::to(&registry).source(Path::new("b.tar")).flag(flag).flag(value).run();
    let nowhere = folder.path().join("no/m.prom");
    let said = push("--metrics-textfile", nowhere.to_str().unwrap());
    assert!(said.exit == 2 && said.said().contains("there is no folder"), "{}", said.said());
    // A port that is taken costs a warning, and what there is to push is pushed.
    let source = Bundle::oci_layout().image("gcr.io/team/app:1", &["one"]).write(folder.path());
    let said = Push::to(&registry).source(&source).flag("--metrics-listen").flag(registry.host()).run();
    assert!(said.exit == 0 && said.said().contains("warning: --metrics-listen"), "{}", said.said());
    let said = push("--metrics-listen", "monitoring.example");
    assert!(said.exit == 2 && said.said().contains("loopback"), "{}", said.said());
}
