//! The thread that owns the database. SQLite waits for disks and for other processes; callers send jobs and go on.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::database::{self, Database, DatabaseFile};
use crate::locks::Mutex;

/// A job for the thread. Jobs are done in the order in which they were sent.
type Job = Box<dyn FnOnce(&mut JobContext) + Send>;

/// How long an answer is waited for. It is a hint: a disk that hangs holds up nobody for longer, nor a second time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was out of the ordinary, for people.
pub(super) type Notes = Arc<Mutex<Vec<String>>>;

/// The thread, from outside.
pub(super) struct DatabaseThread {
    /// None once the thread is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    patience: Arc<Patience>,
}

/// How long the thread is waited for, and whether it still is.
struct Patience {
    limit: Duration,
    is_over: AtomicBool,
    file: DatabaseFile,
    notes: Notes,
}

impl Patience {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// An answer did not come in time. Nothing is asked any more.
    fn end(&self) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            let DatabaseFile { name, missed, .. } = self.file;
            let limit = self.limit.as_secs();
            let why = "is its disk slow, or away?";
            self.notes
                .lock()
                .push(format!("{missed}, from now on: {name} has not answered for {limit} s; {why}"));
        }
    }

    fn wait<T>(&self, answer: &Receiver<T>) -> Option<T> {
        match answer.recv_timeout(self.limit) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.end();
                None
            }
        }
    }
}

/// What a job works with.
struct JobContext {
    /// None where nothing is remembered, from the start or since an error.
    database: Option<Database>,
    file: DatabaseFile,
    notes: Notes,
}

impl DatabaseThread {
    /// Starts the thread, which opens a database in a folder.
    pub(super) fn start(file: DatabaseFile, folder: &Path, notes: &Notes) -> std::io::Result<Self> {
        let (jobs, queue) = unbounded::<Job>();
        let (folder, notes) = (folder.to_owned(), Arc::clone(notes));
        let is_over = AtomicBool::new(false);
        let patience = Arc::new(Patience { limit: PATIENCE, is_over, file, notes: Arc::clone(&notes) });
        let thread = Builder::new().name("state".to_owned()).spawn(move || {
            let opened = database::open(file, &folder);
            notes.lock().extend(opened.notes);
            let mut context = JobContext { database: opened.database, file, notes };
            for job in queue {
                // A panic closes the channel of the caller that waits.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(&mut context))) {
                    context.give_up_after(panic.as_ref());
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), patience })
    }

    /// Sends work, and waits for nothing.
    pub(super) fn submit<T: 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) {
        self.send(Box::new(move |context| {
            let _ = context.work(work);
        }));
    }

    /// Sends work at once. Its result comes later; none where that would be too late.
    pub(super) fn later<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |context| {
            // Whoever asked may be gone.
            let _ = reply.send(context.work(work));
        }));
        let patience = Arc::clone(&self.patience);
        async move {
            if let Ok(answer) = tokio::time::timeout(patience.limit, answer).await {
                answer.ok().flatten()
            } else {
                patience.end();
                None
            }
        }
        .boxed()
    }

    /// Sends work, and waits for its result; none where that would come too late. Call it from threads that may wait.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.send(Box::new(move |context| {
            let _ = reply.send(context.work(work));
        }));
        self.patience.wait(&answer).flatten()
    }

    /// Waits until all jobs are done, as long as that may take; says whether anything is remembered.
    pub(super) fn is_kept(&self) -> bool {
        let (reply, answer) = bounded(1);
        self.send(Box::new(move |context| {
            let _ = reply.send(context.database.is_some());
        }));
        self.patience.wait(&answer).unwrap_or(false)
    }

    fn send(&self, job: Job) {
        // What is not sent is dropped, and so whoever waits for it hears of it.
        if let Some(jobs) = self.jobs.as_ref().filter(|_| !self.patience.is_over()) {
            // It fails only when the thread has ended, and then the caller's own channel is closed too.
            let _ = jobs.send(job);
        }
    }
}

impl JobContext {
    /// Does work with the database. After an error the database is not used again in this run.
    fn work<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let error = match work(&mut self.database.as_mut()?.connection) {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        let database = self.database.take()?;
        let note = if database::is_damage(&error) {
            database.give_up(&error.to_string())
        } else {
            format!("{}, from now on: {}: {error}", self.file.missed, self.file.name)
        };
        self.notes.lock().push(note);
        None
    }

    /// After a panic nobody knows what the connection was doing. The transaction that was open is rolled back.
    fn give_up_after(&mut self, panic: &(dyn Any + Send)) {
        drop(self.database.take());
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        tracing::error!(panic = said, "a job of the state panicked");
        let note = format!("{}, from now on: internal error in the state: {said}", self.file.missed);
        self.notes.lock().push(note);
    }
}

impl Drop for DatabaseThread {
    /// What was sent is written before the process ends, unless the disk hangs.
    fn drop(&mut self) {
        let (reply, closed) = bounded(1);
        self.send(Box::new(move |context| {
            drop(context.database.take());
            let _ = reply.send(());
        }));
        drop(self.jobs.take());
        self.patience.wait(&closed);
        if self.patience.is_over() {
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the state panicked");
        }
    }
}

impl fmt::Debug for DatabaseThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseThread").finish_non_exhaustive()
    }
}
