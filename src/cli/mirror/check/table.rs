//! The verdicts as a table for people.

use std::fmt::Write as _;

use crate::error::printable;
use crate::node::check::{CheckedImage, PullDecision};
use crate::units;

/// Reasons that are shown for one image; JSON has all.
const MAX_REASONS: usize = 3;

/// A line for each name, its reasons below it, and the sum.
pub(super) fn table(checked: &[CheckedImage]) -> String {
    let mut out = String::new();
    let width = checked.iter().map(|checked| says(&checked.verdict).chars().count()).max().unwrap_or(0);
    for CheckedImage { image, verdict } in checked {
        let _ = writeln!(out, "{:<width$}  {}", says(verdict), printable(image));
        if let PullDecision::OtherImage { from, found, wanted } = verdict {
            let _ = writeln!(
                out,
                "    {} has {found}, the bundle {wanted}: what a mirror has wins, also when it is old",
                printable(from)
            );
        }
        let reasons: &[String] = match verdict {
            PullDecision::FailOver { because, .. } | PullDecision::Fail { because } => because,
            _ => &[],
        };
        for reason in reasons.iter().take(MAX_REASONS) {
            let _ = writeln!(out, "    because {}", printable(reason));
        }
        if reasons.len() > MAX_REASONS {
            let _ = writeln!(out, "    and {} more (--json has all)", reasons.len() - MAX_REASONS);
        }
    }
    let count = |name: &str| checked.iter().filter(|checked| checked.verdict.name() == name).count();
    let sums = [
        ("mirror", "from the mirror"),
        ("not-mirrored", "not mirrored"),
        ("fail-over", "would fail over"),
        ("other-image", "another image than the bundle's"),
        ("fail", "would fail"),
    ];
    let parts: Vec<String> = sums
        .iter()
        .map(|(name, words)| (count(name), words))
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    let _ = writeln!(out, "{}: {}", units::count(checked.len(), "name"), parts.join(", "));
    out
}

fn says(verdict: &PullDecision) -> String {
    match verdict {
        PullDecision::Mirror { from } => format!("mirror {}", from.join(", ")),
        PullDecision::NotMirrored { .. } => "not mirrored".to_owned(),
        PullDecision::FailOver { to, .. } => format!("would fail over to {to}"),
        PullDecision::OtherImage { .. } => "another image".to_owned(),
        PullDecision::Fail { .. } => "would fail".to_owned(),
    }
}
