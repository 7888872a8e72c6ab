//! What a job can do to the thread that does it.

use super::super::database::STATE;
use super::*;

/// As a mistake in a query would be: everybody hears of it, and nobody waits for ever.
#[test]
fn a_job_that_panics_is_an_error_and_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let notes = Notes::default();
    let thread = DatabaseThread::start(STATE, folder.path(), &notes).unwrap();
    let one = |connection: &mut Connection| connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0));
    assert_eq!(thread.ask(one), Some(1));
    let failed: Option<i64> = thread.ask(|_| panic!("a mistake in query {}", 7));
    assert_eq!(failed, None);
    assert!(!thread.is_kept());
    assert_eq!(thread.ask(one), None);
    let said = notes.lock().join("\n");
    assert!(
        said.contains("nothing is remembered between runs, from now on")
            && said.contains("a mistake in query 7"),
        "{said}"
    );
    drop(thread);
    // The file is as good as before.
    let thread = DatabaseThread::start(STATE, folder.path(), &notes).unwrap();
    assert_eq!(thread.ask(one), Some(1));
}

/// As on a disk that hangs: whoever asks goes on without an answer, and is not held up a second time.
#[tokio::test]
async fn a_database_that_does_not_answer_is_waited_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let notes = Notes::default();
    let mut thread = DatabaseThread::start(STATE, folder.path(), &notes).unwrap();
    Arc::get_mut(&mut thread.patience).unwrap().limit = Duration::from_millis(1);
    let (go_on, hangs) = bounded::<()>(0);
    thread.submit(move |_| {
        let _ = hangs.recv();
        Ok(())
    });
    let one = |connection: &mut Connection| connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0));
    assert_eq!(thread.later(one).await, None);
    assert_eq!((thread.ask(one), thread.is_kept()), (None, false));
    assert_eq!(thread.later(one).await, None);
    let said = notes.lock().join("\n");
    assert!(said.contains("from now on: state.sqlite has not answered for"), "{said}");
    drop(thread);
    drop(go_on);
}
