//! Reports of shards, joined or refused.

use super::*;
use crate::report::Outcome;
use crate::report::document::{BundleEntry, DeferralCause, DeferredSite};

fn report(index: u32, exit: Exit, sites: &[&str]) -> NamedReport {
    let mut report = Document::begin(vec!["/srv/b.tar".to_owned()]);
    report.schema_version = SchemaVersion::Two;
    report.started = format!("2026-11-27T03:0{index}:00Z");
    report.exit_code = exit.code();
    report.decode.bytes = 100;
    report.elapsed_seconds = f64::from(10 + index);
    report.mirrors = sites.iter().map(|site| Outcome::new((*site).to_owned())).collect();
    report.sync = Some(SyncRun {
        config: "layercast.yaml".to_owned(),
        config_sha256: "c0ffee".to_owned(),
        run: None,
        shard: Some(ShardEntry { index, count: 3 }),
        bundles: vec![BundleEntry { path: "/srv/b.tar".to_owned(), sha256: None }],
        passed_over: Vec::new(),
    });
    (format!("shard-{index}.json"), report)
}

fn three() -> Vec<NamedReport> {
    vec![
        report(2, Exit::Complete, &["c"]),
        report(0, Exit::Complete, &["b", "d"]),
        report(1, Exit::Complete, &["a"]),
    ]
}

#[test]
fn shards_of_one_run_become_its_report() {
    let mut reports = three();
    reports[0].1.deferred.push(DeferredSite {
        name: "e".to_owned(),
        why: DeferralCause::Window,
        message: "its window opens at 22:00".to_owned(),
        closing: None,
    });
    let whole = merge(reports).unwrap();
    let names: Vec<&str> = whole.mirrors.iter().map(|site| site.name.as_str()).collect();
    assert_eq!((whole.exit_code, names), (0, vec!["a", "b", "c", "d"]));
    assert_eq!((whole.started.as_str(), whole.decode.bytes), ("2026-11-27T03:00:00Z", 300));
    assert!((whole.elapsed_seconds - 12.0).abs() < 1e-9);
    assert_eq!((whole.sources.len(), whole.deferred.len()), (1, 1));
    let sync = whole.sync.unwrap();
    assert_eq!((sync.shard, sync.bundles.len()), (None, 1));
}

#[test]
fn the_exit_code_is_what_all_unfinished_shards_have_in_common() {
    let exit = |codes: [Exit; 3]| {
        let mut reports = three();
        reports.iter_mut().zip(codes).for_each(|(report, exit)| report.1.exit_code = exit.code());
        merge(reports).unwrap().exit_code
    };
    assert_eq!(exit([Exit::Complete, Exit::Unreachable, Exit::Unreachable]), 6);
    assert_eq!(exit([Exit::Complete, Exit::Unreachable, Exit::Incomplete]), 3);
    assert_eq!(exit([Exit::Complete, Exit::Credentials, Exit::Locked]), 3);
    assert_eq!(exit([Exit::Incomplete, Exit::Bundle, Exit::Complete]), 5);
    assert_eq!(exit([Exit::Interrupted, Exit::Bundle, Exit::Complete]), 130);
}

#[test]
fn a_shard_without_a_report_leaves_the_run_incomplete() {
    let mut reports = three();
    reports.remove(2);
    let whole = merge(reports).unwrap();
    assert_eq!(whole.exit_code, 3);
    assert!(whole.error.unwrap().message.contains("shard 1 of 3"), "{:?}", whole.notes);
}

fn sync(report: &mut NamedReport) -> &mut SyncRun {
    report.1.sync.as_mut().unwrap()
}

#[test]
fn what_is_not_of_one_run_is_refused() {
    let refused = |change: fn(&mut Vec<NamedReport>), words: &str| {
        let mut reports = three();
        change(&mut reports);
        let failure = merge(reports).unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains(words), "{failure:?}");
    };
    refused(
        |reports| reports[2] = report(1, Exit::Complete, &["d"]),
        "site d is in shard-0.json and in shard-1.json",
    );
    refused(
        |reports| sync(&mut reports[1]).shard = Some(ShardEntry { index: 1, count: 3 }),
        "another report of shard 1",
    );
    refused(|reports| sync(&mut reports[1]).shard = Some(ShardEntry { index: 0, count: 4 }), "of one of");
    refused(|reports| sync(&mut reports[1]).config_sha256 = "other".to_owned(), "another sites file");
    refused(|reports| sync(&mut reports[0]).run = Some("job-2".to_owned()), "another run");
    refused(|reports| reports[0].1.started = "2026-11-25T03:00:00Z".to_owned(), "left from an earlier run");
    refused(|reports| sync(&mut reports[0]).shard = None, "not the report of a shard");
    refused(Vec::clear, "no reports");
}
