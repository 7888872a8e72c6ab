//! The reports of the shards of one run become the report of that run. Pure.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::document::{Document, SchemaVersion, ShardEntry, SyncRun};
use super::outcome::common_exit;
use super::{Class, Failure};
use crate::exit::Exit;

/// Shards of one run begin within this time of each other, where nothing else says that they are of one run.
const LONGEST_START: SignedDuration = SignedDuration::from_hours(24);

/// A report, and the name of its file.
pub(crate) type NamedReport = (String, Document);

/// Joins the reports of the shards of one run.
///
/// # Errors
/// They are not the reports of one run, or two have one shard or one site.
pub(crate) fn merge(mut reports: Vec<NamedReport>) -> Result<Document, Failure> {
    reports.sort_by_key(|(_, report)| shard(report).map(|shard| shard.index));
    let shards = check_shards(&reports)?;
    check_run(&reports)?;
    check_sites(&reports)?;
    let missing: Vec<u32> = (0..shards.count).filter(|index| !shards.present.contains(index)).collect();
    let exit = |report: &Document| Exit::of_code(report.exit_code).unwrap_or(Exit::Incomplete);
    let mut exit = common_exit(reports.iter().map(|(_, report)| exit(report)));
    let mut reports = reports.into_iter().map(|(_, report)| report);
    let mut whole = reports.next().ok_or_else(|| Failure::usage("there are no reports to join"))?;
    reports.for_each(|report| add(&mut whole, report));
    if !missing.is_empty() {
        let indexes: Vec<String> = missing.iter().map(u32::to_string).collect();
        let (which, count) = (indexes.join(", "), shards.count);
        whole.notes.push(format!("of {count} shards these have no report: {which}"));
        if exit == Exit::Complete {
            exit = Exit::Incomplete;
            let message = format!("shard {which} of {count} has no report");
            whole.error.get_or_insert(Failure::new(Class::Missing, message));
        }
    }
    whole.exit_code = exit.code();
    if let Some(sync) = &mut whole.sync {
        sync.shard = None;
        sync.bundles.sort();
        sync.bundles.dedup();
    }
    whole.mirrors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(whole)
}

fn shard(report: &Document) -> Option<ShardEntry> {
    report.sync.as_ref().and_then(|sync| sync.shard)
}

struct Shards {
    count: u32,
    present: BTreeSet<u32>,
}

/// Each report is of another shard, of as many.
fn check_shards(reports: &[NamedReport]) -> Result<Shards, Failure> {
    let mut shards: Option<Shards> = None;
    for (name, report) in reports {
        let Some(ShardEntry { index, count }) = shard(report) else {
            return Err(Failure::usage(format!("{name} is not the report of a shard"))
                .hint("give the reports that `sync --shard` writes, and no others"));
        };
        let known = shards.get_or_insert_with(|| Shards { count, present: BTreeSet::new() });
        if known.count != count {
            let message = format!("{name} is of one of {count} shards, others are of {}", known.count);
            return Err(not_one_run(message));
        }
        if !known.present.insert(index) {
            return Err(not_one_run(format!("{name}: there is another report of shard {index}")));
        }
    }
    shards.ok_or_else(|| Failure::usage("there are no reports to join"))
}

/// All are of one version, one file and one run.
fn check_run(reports: &[NamedReport]) -> Result<(), Failure> {
    let sync = |report: &Document| report.sync.clone().unwrap_or_default();
    let Some((first_name, first)) = reports.first() else { return Ok(()) };
    let expected = sync(first);
    let start = |(name, report): &NamedReport| {
        let parsed = report.started.parse::<Timestamp>();
        parsed.map_err(|_| Failure::usage(format!("{name}: {:?} is no time", report.started)))
    };
    let begun = start(&reports[0])?;
    for named @ (name, report) in reports {
        let SyncRun { run, config_sha256, .. } = sync(report);
        if (&run, &config_sha256) != (&expected.run, &expected.config_sha256) {
            let what = if run == expected.run { "another sites file" } else { "another run" };
            return Err(not_one_run(format!("{name} is of {what} than {first_name}")));
        }
        let apart = start(named)?.duration_since(begun).abs();
        if run.is_none() && apart > LONGEST_START {
            return Err(not_one_run(format!(
                "{name} began at {}, {first_name} at {}: one of them is left from an earlier run",
                report.started, first.started
            )));
        }
    }
    Ok(())
}

fn check_sites(reports: &[NamedReport]) -> Result<(), Failure> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, report) in reports {
        let deferred = report.deferred.iter().map(|site| site.name.as_str());
        // A site that was begun and then deferred stands in both lists of its report.
        let sites: BTreeSet<&str> =
            report.mirrors.iter().map(|site| site.name.as_str()).chain(deferred).collect();
        for site in sites {
            if let Some(other) = owners.insert(site, name) {
                return Err(not_one_run(format!("site {site} is in {other} and in {name}")));
            }
        }
    }
    Ok(())
}

fn not_one_run(message: String) -> Failure {
    Failure::usage(message).hint("give the reports of one run, one of each shard")
}

/// Adds what a shard did to what others did.
fn add(whole: &mut Document, part: Document) {
    whole.schema_version = SchemaVersion::Two;
    whole.started = std::mem::take(&mut whole.started).min(part.started);
    whole.images = whole.images.max(part.images);
    let unknown = |known: &[String], more: Vec<String>| -> Vec<String> {
        more.into_iter().filter(|text| !known.contains(text)).collect()
    };
    let (sources, notes) = (unknown(&whole.sources, part.sources), unknown(&whole.notes, part.notes));
    whole.sources.extend(sources);
    whole.notes.extend(notes);
    for left_out in part.left_out {
        if !whole.left_out.contains(&left_out) {
            whole.left_out.push(left_out);
        }
    }
    whole.mirrors.extend(part.mirrors);
    whole.deferred.extend(part.deferred);
    whole.decode.bytes += part.decode.bytes;
    whole.decode.parts += part.decode.parts;
    whole.decode.spool_peak_bytes = whole.decode.spool_peak_bytes.max(part.decode.spool_peak_bytes);
    whole.decode.cpu_seconds += part.decode.cpu_seconds;
    whole.compress.cpu_seconds += part.compress.cpu_seconds;
    whole.stage = match (whole.stage.take(), part.stage) {
        (Some(whole), Some(part)) => Some(whole.and(&part)),
        (whole, part) => whole.or(part),
    };
    // The run hung on the shard that took longest.
    if part.elapsed_seconds > whole.elapsed_seconds {
        whole.utilisation = part.utilisation;
    }
    whole.elapsed_seconds = whole.elapsed_seconds.max(part.elapsed_seconds);
    whole.peak_rss_bytes = whole.peak_rss_bytes.max(part.peak_rss_bytes);
    whole.error = whole.error.take().or(part.error);
    if let (Some(whole), Some(part)) = (&mut whole.sync, part.sync) {
        whole.bundles.extend(part.bundles);
        whole.passed_over.extend(unknown(&whole.passed_over, part.passed_over));
    }
}
