//! The closing table of a run.

use std::fmt::Write as _;
use std::time::Duration;

use crate::error::printable;
use crate::report::alike::alike;
use crate::report::document::Staged;
use crate::report::{Class, Document, Failure, Outcome};
use crate::units::{ByteCount, count, human_duration};

/// Causes that are shown; the report has all failures.
const MAX_SHOWN: usize = 20;
const MAX_HINTS: usize = 3;

/// A line for each mirror. What failed stands on standard error.
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
    out
}

/// A line for each mirror that was verified, then what is not complete and why.
pub(super) fn verified(document: &Document, deep: bool) -> String {
    let how = if deep { "read back" } else { "asked for" };
    let mut out = String::new();
    for mirror in &document.mirrors {
        let (name, complete, images) = (&mirror.name, mirror.images_complete, mirror.images);
        let _ = writeln!(
            out,
            "{name}: {complete}/{images} images complete, {} {how}",
            count(mirror.blobs_skipped, "blob")
        );
        for line in images_failed(mirror) {
            let _ =
                if line.starts_with(' ') { writeln!(out, "{line}") } else { writeln!(out, "{name}: {line}") };
        }
    }
    out
}

/// A line for each site that was left for a later run.
pub(super) fn deferred(document: &Document) -> String {
    document.deferred.iter().fold(String::new(), |mut out, site| {
        let _ = writeln!(out, "{}: deferred: {}", site.name, printable(&site.message));
        out
    })
}

/// How the stage was used, if there was one.
pub(super) fn stage(document: &Document) -> String {
    let Some(stage) = &document.stage else { return String::new() };
    let Staged { dir, images, images_left_out, blobs_written, bytes_written, blobs_read, bytes_read, .. } =
        stage;
    let left_out = match images_left_out {
        0 => String::new(),
        many => format!(", {many} not"),
    };
    format!(
        "stage {}: {} whole{left_out}; {} ({}) put there, {} ({}) read there\n",
        printable(dir),
        count(*images, "image"),
        count(*blobs_written, "blob"),
        ByteCount(*bytes_written),
        count(*blobs_read, "blob"),
        ByteCount(*bytes_read),
    )
}

fn row(mirror: &Outcome) -> [String; 8] {
    [
        mirror.name.clone(),
        format!("{}/{}", mirror.images_complete, mirror.images),
        mirror.images_unchanged.to_string(),
        count(mirror.blobs_sent, "blob"),
        ByteCount(mirror.bytes_sent).to_string(),
        mirror.blobs_skipped.to_string(),
        mirror.blobs_mounted.to_string(),
        human_duration(Duration::from_secs_f64(mirror.elapsed_seconds)),
    ]
}

/// Why a mirror failed, and what to do.
pub(super) fn mirror_failed(failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!("{} [{}]", printable(&failure.message), failure.class)];
    lines.extend(failure.hint.as_deref().map(next));
    lines
}

/// Which images of a mirror are not complete, a line for each cause, with indented lines that say more.
pub(super) fn images_failed(mirror: &Outcome) -> Vec<String> {
    let (mut lines, mut hints) = (Vec::new(), Vec::new());
    // What the mirror as a whole was stopped for is said once; the report names the images all the same.
    let said = |failure: &Failure| {
        // What was stopped has not failed.
        failure.class == Class::Interrupted
            || mirror.error.as_ref().is_some_and(|whole| whole.class == failure.class)
    };
    let groups = alike(mirror.images_failed.iter().filter(|failed| !said(&failed.failure)));
    for group in groups.iter().take(MAX_SHOWN) {
        let failure = &group.first.failure;
        lines.push(format!("{} [{}]", printable(&group.in_words()), failure.class));
        lines.extend(group.details().iter().map(|detail| format!("  {}", printable(detail))));
        hints.extend(failure.hint.as_deref().map(next));
    }
    if groups.len() > MAX_SHOWN {
        let more: usize = groups[MAX_SHOWN..].iter().map(|group| group.images.len()).sum();
        lines.push(format!("and {more} more (--report has all)"));
    }
    hints.dedup();
    lines.extend(hints.into_iter().take(MAX_HINTS));
    lines
}

/// What was done on mirrors that a run left because it was interrupted, and what to do next; nothing where there is none.
pub(super) fn interrupted<'a>(mirrors: impl Iterator<Item = &'a Outcome>) -> Vec<String> {
    let (mut count_of_mirrors, mut complete, mut images, mut bytes) = (0_usize, 0, 0, 0);
    let mut hints: Vec<&str> = Vec::new();
    for mirror in mirrors {
        let hint = mirror.interrupted().and_then(|failure| failure.hint.as_deref());
        hints.extend(hint.filter(|hint| !hints.contains(hint)));
        count_of_mirrors += 1;
        complete += mirror.images_complete;
        images += mirror.images;
        bytes += mirror.bytes_sent;
    }
    if count_of_mirrors == 0 {
        return Vec::new();
    }
    let where_to = match count_of_mirrors {
        1 => String::new(),
        many => format!(" on {}", count(many, "mirror")),
    };
    let of =
        if images > 0 { format!("{complete} of {}", count(images, "image")) } else { "no image".to_owned() };
    let is = if images > 1 { "are" } else { "is" };
    let done = format!("interrupted: {of} {is} complete{where_to}; {} were sent", ByteCount(bytes));
    std::iter::once(done).chain(hints.into_iter().map(next)).collect()
}

fn next(hint: &str) -> String {
    format!("  next: {}", printable(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::{ImageFailure, Phase};

    #[test]
    fn what_stopped_a_mirror_is_not_told_again_for_each_of_its_images() {
        let failed = |class| ImageFailure {
            image: "a".into(),
            place: "a".into(),
            digest: None,
            phase: Phase::Upload,
            failure: Failure::new(class, "why"),
        };
        let images = vec![failed(Class::Deadline), failed(Class::Denied)];
        let mirror = Outcome {
            images_failed: images,
            error: Some(Failure::new(Class::Deadline, "the run reached its deadline")),
            ..Outcome::new("m".into())
        };
        assert_eq!(images_failed(&mirror).len(), 1);
        assert_eq!(images_failed(&Outcome { error: None, ..mirror }).len(), 2);
    }
}
