//! The history of runs.

use super::super::{RunCounts, State};
use crate::exit::Exit;

#[test]
fn runs_are_told_latest_first_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let mirrors = ["a.example/ns".to_owned(), "b.example".to_owned()];
    let run = state.begin_run("bundle.tar", &mirrors).unwrap();
    let counts = RunCounts { images_complete: 3, images_incomplete: 1, blobs_sent: 9, bytes_sent: 1 << 40 };
    state.end_run(run, Exit::Incomplete, vec![(mirrors[0].clone(), counts)]);
    state.begin_run("other.tar", &mirrors[1..]).unwrap();
    let runs = state.runs(10);
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].bundle.as_str(), runs[0].ended_at, runs[0].exit), ("other.tar", None, None));
    let nothing = RunCounts::default();
    assert_eq!((&runs[0].mirrors, runs[1].exit), (&vec![(mirrors[1].clone(), nothing)], Some(3)));
    assert_eq!(runs[1].mirrors, [(mirrors[0].clone(), counts), (mirrors[1].clone(), nothing)]);
    assert!(runs[1].ended_at >= Some(runs[1].started_at));
    // A name that is a part of another one is another name.
    let filled = ["a.example/ns", "a.example", "b.example", "ns"].map(|mirror| state.has_filled(mirror));
    assert_eq!(filled, [true, false, false, false]);
    state.write(|t| t.execute("UPDATE runs SET id = 5000 WHERE bundle = 'other.tar'", []));
    state.begin_run("third.tar", &mirrors).unwrap();
    assert_eq!(state.runs(10).len(), 2, "the first is more than a thousand runs ago");
    assert!(!state.has_filled("a.example/ns"));
}
