//! The thread that owns the database. SQLite waits for disks and for other processes; callers send jobs and go on.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam::channel::{Sender, bounded, unbounded};
use rusqlite::Connection;

use super::database::{self, Database, DatabaseFile};
use crate::locks::Mutex;

/// A job for the thread. Jobs are done in the order in which they were sent.
type Job = Box<dyn FnOnce(&mut JobContext) + Send>;

/// What was out of the ordinary, for people.
pub(super) type Notes = Arc<Mutex<Vec<String>>>;

/// The thread, from outside.
pub(super) struct DatabaseThread {
    /// None once the thread is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
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
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
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

    /// Sends work, and waits for its result. Call it from threads that may wait.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.send(Box::new(move |context| {
            let _ = reply.send(context.work(work));
        }));
        answer.recv().ok().flatten()
    }

    /// Waits until all jobs are done; says whether anything is remembered.
    pub(super) fn is_kept(&self) -> bool {
        let (reply, answer) = bounded(1);
        self.send(Box::new(move |context| {
            let _ = reply.send(context.database.is_some());
        }));
        answer.recv().unwrap_or(false)
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
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
    /// What was sent is written before the process ends.
    fn drop(&mut self) {
        drop(self.jobs.take());
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
