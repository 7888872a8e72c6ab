//! Two processes do not harm each other.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use futures_util::FutureExt as _;

use super::super::layers::tests::layer;
use super::super::{LockError, Retention, RunLock, State};
use super::is_dying;
use crate::exit::Exit;
use crate::testing::eventually_blocking;

const CHILD: &str = "LAYERCAST_TEST_STATE_FOLDER";

/// This test once more, as another process that finds its folder in the environment.
fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("state::lock::tests::{test}"), "--nocapture"]);
    command.env(CHILD, folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn processes_write_at_once() {
    let write = |folder: &Path, process: &str| {
        let state = State::open(folder);
        for number in 0..50 {
            let run = state.begin_run(process, &[], Retention::default()).unwrap();
            state.remember_layers("gzip", &[layer(&format!("{process} {number}"))]);
            state.end_run(run, Exit::Complete, None, Vec::new());
        }
        assert_eq!(state.take_notes(), [""; 0]);
    };
    if let Some(folder) = std::env::var_os(CHILD) {
        return write(Path::new(&folder), &std::process::id().to_string());
    }
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<_> =
        (0..3).map(|_| child("processes_write_at_once", folder.path()).spawn().unwrap()).collect();
    write(folder.path(), "parent");
    let mut names = vec!["parent".to_owned()];
    for child in children {
        names.push(child.id().to_string());
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let state = State::open(folder.path());
    let runs = state.runs(None, 1000);
    assert_eq!(runs.len(), 200);
    assert!(runs.iter().all(|run| run.exit == Some(0)));
    let all: Vec<_> = names
        .iter()
        .flat_map(|name| (0..50).map(move |number| layer(&format!("{name} {number}")).0))
        .collect();
    assert_eq!(state.layers("gzip", &all).len(), 200);
}

#[test]
fn a_lock_holds_against_another_process_and_ends_with_it() {
    let mirrors = ["registry.example:5000/ns".to_owned()];
    if let Some(folder) = std::env::var_os(CHILD) {
        let _lock = RunLock::acquire(Path::new(&folder), &mirrors).unwrap();
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(b"\nlocked\n").unwrap();
        stdout.flush().unwrap();
        loop {
            std::thread::park(); // until it is killed
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut holder =
        child("a_lock_holds_against_another_process_and_ends_with_it", folder.path()).spawn().unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "locked"));
    let error = RunLock::acquire(folder.path(), &mirrors).unwrap_err();
    assert!(matches!(error, LockError::Held { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("process {}", holder.id())) && said.contains(&mirrors[0]), "{said}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let _lock = RunLock::acquire(folder.path(), &mirrors).unwrap();
}

#[test]
fn a_lock_is_waited_for_until_its_holder_gives_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let first = RunLock::acquire(folder.path(), &names(&["a.example"])).unwrap();
    let path = folder.path().to_owned();
    let (said, waits) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let mirrors = names(&["b.example", "a.example"]);
        let locks = wait_for_each(&path, &mirrors, |at, held| {
            said.send((at, held.to_string())).unwrap();
        });
        locks.into_iter().collect::<Result<Vec<_>, _>>().map(|locks| locks.len())
    });
    let (at, held) = waits.recv().unwrap();
    assert!(
        at == 1 && held.contains("another run (process ") && held.contains("is at a.example"),
        "{at} {held}"
    );
    drop(first);
    assert_eq!(waiting.join().unwrap().unwrap(), 2);
    assert!(waits.recv().is_err(), "it is said once");
}

#[test]
fn who_waits_for_one_lock_holds_no_other_and_waits_no_longer_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let _held = RunLock::acquire(folder.path(), &names(&["b.example"])).unwrap();
    let mut waited = Vec::new();
    let mirrors = names(&["c.example", "b.example", "a.example"]);
    let is_over = std::future::ready(());
    let locks = RunLock::wait_for_each(folder.path(), &mirrors, is_over, |at, _| {
        waited.push(at);
        let others = RunLock::acquire(folder.path(), &names(&["a.example", "c.example"]));
        assert!(others.is_ok(), "another run may have those meanwhile");
    });
    let locks = locks.now_or_never().unwrap();
    assert_eq!(waited, [1]);
    let held: Vec<bool> = locks.iter().map(|lock| matches!(lock, Err(LockError::Held { .. }))).collect();
    assert_eq!(held, [false, true, false]);
}

#[test]
fn two_runs_that_wait_for_the_same_mirrors_both_get_them() {
    let folder = tempfile::tempdir().unwrap();
    let first = RunLock::acquire(folder.path(), &names(&["a.example", "b.example"])).unwrap();
    let run = |mirrors: [&'static str; 2]| {
        let path = folder.path().to_owned();
        std::thread::spawn(move || {
            let locks = wait_for_each(&path, &names(&mirrors), |_, _| {});
            locks.iter().all(Result::is_ok)
        })
    };
    let runs = [run(["a.example", "b.example"]), run(["b.example", "a.example"])];
    drop(first);
    assert!(runs.into_iter().all(|run| run.join().unwrap()));
}

#[test]
fn a_process_that_was_killed_is_dying_until_it_is_gone() {
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    assert!(!is_dying(child.id()) && !is_dying(std::process::id()));
    child.kill().unwrap();
    // Nobody has waited for it yet: its entry is still there.
    eventually_blocking("it is dying", || is_dying(child.id()));
    let id = child.id();
    child.wait().unwrap();
    assert!(is_dying(id));
}

/// Waits as long as it takes.
fn wait_for_each(
    folder: &Path,
    mirrors: &[String],
    waits: impl FnMut(usize, &LockError),
) -> Vec<Result<RunLock, LockError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(RunLock::wait_for_each(folder, mirrors, std::future::pending(), waits))
}

fn names(mirrors: &[&str]) -> Vec<String> {
    mirrors.iter().map(|&mirror| mirror.to_owned()).collect()
}

#[test]
fn a_mirror_is_locked_once_and_says_by_whom() {
    let folder = tempfile::tempdir().unwrap();
    let first =
        RunLock::acquire(folder.path(), &names(&["a.example/ns", "b.example", "b.example/"])).unwrap();
    let error = RunLock::acquire(folder.path(), &names(&["c.example", "B.example"])).unwrap_err();
    let pid = std::process::id();
    assert!(matches!(&error, LockError::Held { holder: Some(holder), .. } if holder.pid == pid), "{error}");
    assert!(error.to_string().contains(&format!("(process {pid} since 2")), "{error}");
    // Neither another namespace nor what the second did not get in the end is locked.
    let _other = RunLock::acquire(folder.path(), &names(&["a.example", "c.example"])).unwrap();
    drop(first);
    let _second = RunLock::acquire(folder.path(), &names(&["a.example/ns"])).unwrap();
}

#[test]
fn a_folder_that_cannot_be_used_is_told_from_a_lock_that_is_held() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = RunLock::acquire(file.path(), &names(&["a.example"])).unwrap_err();
    assert!(matches!(error, LockError::Unusable { .. }), "{error}");
}

#[test]
fn who_waits_for_one_lock_leaves_the_others_free() {
    let folder = tempfile::tempdir().unwrap();
    let mirrors: Vec<String> = (0..50).map(|number| format!("registry.example/{number:02}")).collect();
    let last = RunLock::acquire(folder.path(), &mirrors[49..]).unwrap();
    std::thread::scope(|threads| {
        let (said, waits) = std::sync::mpsc::channel();
        let waiter =
            threads.spawn(|| wait_for_each(folder.path(), &mirrors, move |at, _| said.send(at).unwrap()));
        assert_eq!(waits.recv(), Ok(49));
        for round in 0..20 {
            for mirror in &mirrors[..49] {
                let lock = RunLock::acquire(folder.path(), std::slice::from_ref(mirror));
                assert!(lock.is_ok(), "round {round}: {lock:?}");
            }
        }
        drop(last);
        let locks = waiter.join().unwrap();
        assert!(locks.iter().all(Result::is_ok), "{locks:?}");
        assert!(waits.try_recv().is_err(), "it waits for one mirror only");
    });
}

#[test]
fn a_lock_without_room_for_the_holders_name_is_a_lock() {
    let mirrors = ["registry.example:5000/full".to_owned()];
    if let Some(folder) = std::env::var_os(CHILD) {
        // No file of this process may grow: what a full disk is to it.
        let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        let lock = RunLock::acquire(Path::new(&folder), &mirrors);
        assert!(lock.is_ok(), "{lock:?}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // SIGXFSZ is ignored there, so a write that is too large is an error.
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "state::lock::tests::a_lock_without_room_for_the_holders_name_is_a_lock"]);
    assert!(command.env(CHILD, folder.path()).stdout(Stdio::null()).status().unwrap().success());
}
