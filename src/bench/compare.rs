//! Two measurements of links, held against each other: which changes are real. Pure.

use super::link::statistics::ratio;
use crate::report::document::{
    ChangeVerdict, CompareDocument, Figure, FigureChange, LinkChange, LinkDocument, LinkTarget, SchemaVersion,
};

/// Whether more of a figure is better.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    More,
    Less,
}

/// Holds `after` against `before`, mirror by mirror.
pub(crate) fn compare(before: &LinkDocument, after: &LinkDocument) -> CompareDocument {
    let named = |document: &'_ LinkDocument, name: &str| -> Option<LinkTarget> {
        document.targets.iter().find(|target| target.name == name).cloned()
    };
    let lacks = |one: &LinkDocument, other: &LinkDocument| -> Vec<String> {
        let names = one.targets.iter().map(|target| target.name.clone());
        names.filter(|name| named(other, name).is_none()).collect()
    };
    let both = before.targets.iter().filter_map(|target| Some((target, named(after, &target.name)?)));
    CompareDocument {
        schema_version: SchemaVersion::One,
        targets: both.map(|(before, after)| change(before, &after)).collect(),
        only_before: lacks(before, after),
        only_after: lacks(after, before),
    }
}

fn change(before: &LinkTarget, after: &LinkTarget) -> LinkChange {
    let figures = figures(before).into_iter().zip(figures(after));
    let figures = figures.filter_map(|((name, wanted, before), (_, _, after))| {
        let (before, after) = (before?, after?);
        let ratio = ratio(&before.samples, &after.samples)?;
        let is_better = (ratio.median > 1.0) == (wanted == Wanted::More);
        let verdict = match (ratio.is_known(), ratio.is_real(), is_better) {
            (false, _, _) => ChangeVerdict::Unknown,
            (true, false, _) => ChangeVerdict::Same,
            (true, true, true) => ChangeVerdict::Better,
            (true, true, false) => ChangeVerdict::Worse,
        };
        Some(FigureChange {
            figure: name.to_owned(),
            before: before.median,
            after: after.median,
            ratio: ratio.median,
            ratio_low: ratio.low,
            ratio_high: ratio.high,
            verdict,
        })
    });
    LinkChange {
        name: before.name.clone(),
        figures: figures.collect(),
        limit_before: before.limit,
        limit_after: after.limit,
    }
}

/// The figures that are compared, by their fields.
fn figures(target: &LinkTarget) -> [(&'static str, Wanted, Option<&Figure>); 6] {
    [
        ("rtt_seconds", Wanted::Less, target.rtt_seconds.as_ref().map(|it| &it.median)),
        ("cold_seconds", Wanted::Less, target.cold_seconds.as_ref().map(|it| &it.median)),
        ("mount_seconds", Wanted::Less, target.mount_seconds.as_ref().map(|it| &it.median)),
        ("small_blobs_per_second", Wanted::More, target.small_blobs_per_second.as_ref()),
        ("upload", Wanted::More, target.upload.as_ref().map(|it| &it.rate)),
        ("download", Wanted::More, target.download.as_ref().map(|it| &it.rate)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::link::statistics::figure;
    use crate::report::document::LinkLimit;

    fn document(targets: Vec<LinkTarget>) -> LinkDocument {
        LinkDocument {
            schema_version: SchemaVersion::One,
            layercast_version: String::new(),
            started: String::new(),
            elapsed_seconds: 1.0,
            targets,
            exit_code: 0,
        }
    }

    fn target(name: &str, blobs: [f64; 5]) -> LinkTarget {
        LinkTarget {
            name: name.to_owned(),
            small_blobs_per_second: figure(&blobs),
            limit: Some(LinkLimit::RoundTrip),
            ..LinkTarget::default()
        }
    }

    #[test]
    fn mirrors_are_matched_by_name_and_only_real_changes_are_named() {
        let usual = [50.0, 51.0, 49.0, 50.0, 50.5];
        let before = document(vec![target("a", usual), target("b", usual), target("gone", usual)]);
        let noisy = [20.0, 80.0, 50.0, 49.0, 52.0];
        let after =
            document(vec![target("new", usual), target("b", noisy), target("a", usual.map(|n| n / 2.0))]);
        let compared = compare(&before, &after);
        assert_eq!(
            (compared.only_before, compared.only_after),
            (vec!["gone".to_owned()], vec!["new".to_owned()])
        );
        let verdicts: Vec<_> =
            compared.targets.iter().map(|it| (it.name.as_str(), it.figures[0].verdict)).collect();
        assert_eq!(verdicts, [("a", ChangeVerdict::Worse), ("b", ChangeVerdict::Same)]);
        assert_eq!(compared.targets[0].figures.len(), 1, "what was not measured is not compared");
        assert!((compared.targets[0].figures[0].ratio - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_document_comes_back_as_it_was_written() {
        let before = document(vec![target("a", [1.0, 2.0, 3.0, 4.0, 5.0])]);
        let text = serde_json::to_string(&before).unwrap();
        assert!(text.contains(r#""limit":"round-trip""#), "{text}");
        assert_eq!(serde_json::from_str::<LinkDocument>(&text).unwrap(), before);
        let newer = text.replacen("\"name\"", "\"added\":1,\"name\"", 1);
        assert_eq!(serde_json::from_str::<LinkDocument>(&newer).unwrap(), before);
    }
}
