//! Programs that answer, fail, hang, talk without end, and leave something behind.

use super::*;
use crate::testing::eventually_blocking;

fn shell(script: &str, terms: &Terms) -> Result<Finished, String> {
    run(Command::new("sh").args(["-c", script]), b"question\n", terms)
}

fn patient() -> Terms {
    Terms::new(Duration::from_secs(20), Keep::AtMost(1 << 20))
}

fn is_running(pid: i32) -> bool {
    // An orphan that nobody has waited for yet is dead all the same.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

fn await_end(pid: i32) {
    eventually_blocking("what it started has ended", || !is_running(pid));
}

#[test]
fn what_it_says_is_heard_and_how_it_ends() {
    let good = shell("read line; echo \"got $line\"; echo noise >&2", &patient()).unwrap();
    assert!(good.status.success());
    assert_eq!(good.stdout, b"got question\n");
    let bad =
        shell("echo secret; echo first >&2; echo 'the store is locked' >&2; exit 3", &patient()).unwrap();
    assert_eq!(bad.failure(), "it ended with exit code 3: the store is locked");
    assert_eq!(shell("exit 1", &patient()).unwrap().failure(), "it ended with exit code 1, and said nothing");
    let silent = shell("echo secret; exit 1", &patient()).unwrap();
    assert_eq!(silent.failure(), "it ended with exit code 1, and said nothing");
    assert_eq!(silent.failure_with_output(), "it ended with exit code 1: secret");
    assert!(shell("head -c 3000000 /dev/zero", &patient()).is_err(), "endless output");
    let missing = run(&mut Command::new("no-such-helper"), b"", &patient()).err().unwrap();
    assert!(missing.contains("not installed"), "{missing}");
}

#[test]
fn of_one_that_talks_much_the_end_is_kept() {
    let terms = Terms::new(Duration::from_secs(20), Keep::Last(64));
    let done = shell("head -c 3000000 /dev/zero; echo; echo 'CVE-1: fatal'; exit 1", &terms).unwrap();
    assert!(done.stdout.len() == 64 && done.failure_with_output().ends_with("CVE-1: fatal"), "{done:?}");
}

#[test]
fn one_that_hangs_is_stopped_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", mark.display());
    let terms = Terms::new(Duration::from_millis(500), Keep::AtMost(1 << 20));
    let error = shell(&script, &terms).err().unwrap();
    assert!(error.contains("did not answer within 0.5 s"), "{error}");
    await_end(std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap());
}

#[test]
fn it_is_stopped_with_what_it_started_when_nobody_wants_it_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", mark.display());
    let (stop, stopped) = bounded(0);
    let running = thread::spawn(move || shell(&script, &patient().until(stopped)));
    eventually_blocking("it has started something", || mark.exists());
    drop(stop);
    let error = running.join().unwrap().err().unwrap();
    assert!(error.contains("interrupted"), "{error}");
    await_end(std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap());
}

#[test]
fn one_that_leaves_something_running_is_not_waited_for() {
    let terms = Terms::new(Duration::from_secs(60), Keep::AtMost(1 << 20));
    let done = shell("echo answer; sleep 3 & exit 0", &terms).unwrap();
    assert!(done.status.success());
    assert_eq!(done.stdout, b"answer\n");
}

#[test]
fn no_answer_is_waited_for_beyond_the_end_of_the_run() {
    let (now, most) = (Instant::now(), Duration::from_secs(60));
    assert_eq!(patience_at(now, None, most), most);
    assert_eq!(patience_at(now, Some(now + most * 2), most), most);
    assert_eq!(patience_at(now, Some(now + most / 2), most), most / 2);
    assert_eq!(patience_at(now + most, Some(now), most), Duration::ZERO);
}
