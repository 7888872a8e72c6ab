//! The closing table of a run.

use std::fmt::Write as _;
use std::time::Duration;

use crate::error::printable;
use crate::report::alike::alike;
use crate::report::{Document, Outcome};
use crate::units::{ByteCount, human_duration};

/// Causes that are shown; the report has all failures.
const MAX_SHOWN: usize = 20;

/// A line for each mirror, then what failed and why.
pub(super) fn table(document: &Document) -> String {
    let rows = document.mirrors.iter().map(row);
    let header =
        ["MIRROR", "IMAGES", "UNCHANGED", "SENT", "BYTES", "SKIPPED", "MOUNTED", "TIME"].map(str::to_owned);
    let rows: Vec<[String; 8]> = std::iter::once(header).chain(rows).collect();
    let mut out = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let _ = if column == 0 { write!(out, "{cell:width$}") } else { write!(out, "  {cell:>width$}") };
        }
        out.push('\n');
    }
    for mirror in &document.mirrors {
        failures(mirror, &mut out);
    }
    out
}

/// A line for each mirror that was verified, then what is not complete and why.
pub(super) fn verified(document: &Document) -> String {
    let mut out = String::new();
    for mirror in &document.mirrors {
        let (name, complete, images) = (&mirror.name, mirror.images_complete, mirror.images);
        let _ = writeln!(
            out,
            "{name}: {complete}/{images} images complete, {} blobs checked",
            mirror.blobs_skipped
        );
        failures(mirror, &mut out);
    }
    out
}

fn row(mirror: &Outcome) -> [String; 8] {
    [
        mirror.name.clone(),
        format!("{}/{}", mirror.images_complete, mirror.images),
        mirror.images_unchanged.to_string(),
        format!("{} blobs", mirror.blobs_sent),
        ByteCount(mirror.bytes_sent).to_string(),
        mirror.blobs_skipped.to_string(),
        mirror.blobs_mounted.to_string(),
        human_duration(Duration::from_secs_f64(mirror.elapsed_seconds)),
    ]
}

fn failures(mirror: &Outcome, out: &mut String) {
    let name = &mirror.name;
    let mut hints = Vec::new();
    if let Some(error) = &mirror.error {
        let _ = writeln!(out, "{name}: {} [{}]", printable(&error.message), error.class);
        hints.extend(error.hint.clone());
    }
    let groups = alike(&mirror.images_failed);
    for group in groups.iter().take(MAX_SHOWN) {
        let failure = &group.first.failure;
        let _ = writeln!(out, "{name}: {} [{}]", printable(&group.in_words()), failure.class);
        for detail in group.details() {
            let _ = writeln!(out, "  {}", printable(&detail));
        }
        hints.extend(failure.hint.clone());
    }
    if groups.len() > MAX_SHOWN {
        let more: usize = groups[MAX_SHOWN..].iter().map(|group| group.images.len()).sum();
        let _ = writeln!(out, "{name}: and {more} more (--report has all)");
    }
    hints.dedup();
    hints.iter().take(3).for_each(|hint| {
        let _ = writeln!(out, "  next: {}", printable(hint));
    });
}
