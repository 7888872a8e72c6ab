//! The history of runs.

use super::super::State;
use super::*;

fn incomplete() -> MirrorResult {
    MirrorResult {
        end: Some(MirrorEnd::Incomplete),
        why: Some(RecordedFailure { class: "denied".to_owned(), message: "no right to push".to_owned() }),
        images: 4,
        images_complete: 3,
        images_incomplete: 1,
        blobs_sent: 9,
        bytes_sent: 1 << 40,
        seconds: 1.5,
    }
}

#[test]
fn runs_are_told_latest_first_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let mirrors = ["a.example/ns".to_owned(), "b.example".to_owned()];
    let run = state.begin_run("bundle.tar", &mirrors, Retention::default()).unwrap();
    state.end_run(run, Exit::Incomplete, None, vec![(mirrors[0].clone(), incomplete())]);
    state.begin_run("other.tar", &mirrors[1..], Retention::default()).unwrap();
    let runs = state.runs(None, 10);
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].bundle.as_str(), runs[0].ended_at, runs[0].exit), ("other.tar", None, None));
    let nothing = MirrorResult::default();
    assert_eq!((&runs[0].mirrors, runs[1].exit), (&vec![(mirrors[1].clone(), nothing.clone())], Some(3)));
    assert_eq!(runs[1].mirrors, [(mirrors[0].clone(), incomplete()), (mirrors[1].clone(), nothing)]);
    assert!(runs[1].ended_at >= Some(runs[1].started_at));
    // Of one mirror, only the runs that were at it, and only what they came to there.
    let of_a = state.runs(Some("a.example/ns"), 10);
    assert_eq!((of_a.len(), &of_a[0].mirrors), (1, &vec![(mirrors[0].clone(), incomplete())]));
    // A name that is a part of another one is another name.
    let asked = ["a.example/ns", "a.example", "b.example", "ns"].map(str::to_owned);
    assert_eq!(state.filled(&asked), HashSet::from(["a.example/ns".to_owned()]));
    state.write(|t| t.execute("UPDATE runs SET id = 5000 WHERE bundle = 'other.tar'", []));
    state.begin_run("third.tar", &mirrors, Retention::default()).unwrap();
    assert_eq!(state.runs(None, 10).len(), 2, "the first is more than a thousand runs ago");
    assert!(state.filled(&asked).is_empty());
}

#[test]
fn a_run_that_begins_again_with_another_bundle_stays_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let mirrors = ["a.example".to_owned()];
    let run = state.begin_run("newest.tar", &mirrors, Retention::default()).unwrap();
    state.end_run(run, Exit::Bundle, None, Vec::new());
    state.begin_again(run, "older.tar");
    let runs = state.runs(None, 10);
    assert_eq!((runs.len(), runs[0].bundle.as_str(), runs[0].exit), (1, "older.tar", None));
}

#[test]
fn a_run_that_failed_as_a_whole_says_why_and_old_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let kept = Retention { runs: 100, days: Some(30) };
    let run = state.begin_run("old.tar", &[], kept).unwrap();
    let why =
        RecordedFailure { class: "truncated".to_owned(), message: "the file ends too early".to_owned() };
    state.end_run(run, Exit::Bundle, Some(why.clone()), Vec::new());
    state.begin_run("new.tar", &[], kept).unwrap();
    assert_eq!(state.runs(None, 9)[1].why, Some(why));
    let days_ago = |days: i64| now() - days * SECONDS_PER_DAY;
    state.write(move |t| {
        t.execute("UPDATE runs SET started_at = ?1 WHERE bundle = 'new.tar'", [days_ago(29)])
    });
    state.write(move |t| {
        t.execute("UPDATE runs SET started_at = ?1 WHERE bundle = 'old.tar'", [days_ago(31)])
    });
    state.begin_run("newest.tar", &[], kept).unwrap();
    let left: Vec<String> = state.runs(None, 9).into_iter().map(|run| run.bundle).collect();
    assert_eq!(left, ["newest.tar", "new.tar"]);
}

#[test]
fn when_a_mirror_was_last_complete_is_known_by_the_runs_that_left_it_so() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let mirrors = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let complete = MirrorResult { end: Some(MirrorEnd::Complete), ..MirrorResult::default() };
    for (ended_at, first, second) in
        [(100, complete.clone(), incomplete()), (200, incomplete(), incomplete())]
    {
        let run = state.begin_run("bundle.tar", &mirrors, Retention::default()).unwrap();
        let results = vec![(mirrors[0].clone(), first), (mirrors[1].clone(), second)];
        state.end_run(run, Exit::Incomplete, None, results);
        state.write(move |t| t.execute("UPDATE runs SET ended_at = ?1 WHERE id = ?2", [ended_at, run.0]));
    }
    let last: Vec<Option<i64>> = state.last_complete(&mirrors).into_iter().map(|(_, last)| last).collect();
    assert_eq!(last, [Some(100), None, None]);
    assert_eq!(State::none().last_complete(&mirrors[..1]), [("a".to_owned(), None)]);
}
