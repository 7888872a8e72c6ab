//! The thread that has the database. SQLite waits for disks and for other processes; callers send it work and go on.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam::channel::{Sender, bounded, unbounded};
use rusqlite::Connection;

use super::store::{self, Store};
use crate::sync::Mutex;

/// Work for the thread, done in the order in which it was sent.
type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// What was out of the ordinary, for people.
pub(super) type Notes = Arc<Mutex<Vec<String>>>;

/// The thread, from outside.
pub(super) struct Worker {
    /// None once the thread is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What lies before the thread.
struct Desk {
    /// None where nothing is remembered, from the start or since an error.
    store: Option<Store>,
    notes: Notes,
}

impl Worker {
    /// Starts the thread and has it open the database in a folder.
    pub(super) fn start(folder: &Path, notes: &Notes) -> std::io::Result<Self> {
        let (jobs, queue) = unbounded::<Job>();
        let (folder, notes) = (folder.to_owned(), Arc::clone(notes));
        let thread = Builder::new().name("state".to_owned()).spawn(move || {
            let opened = store::open(&folder);
            notes.lock().extend(opened.notes);
            let mut desk = Desk { store: opened.store, notes };
            for job in queue {
                job(&mut desk);
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has work done, and waits for nothing.
    pub(super) fn tell<T: 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) {
        self.send(Box::new(move |desk| {
            let _ = desk.work(work);
        }));
    }

    /// Has work done, and waits for what comes of it: from threads that may wait.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.send(Box::new(move |desk| {
            let _ = reply.send(desk.work(work));
        }));
        answer.recv().ok().flatten()
    }

    /// Waits until all that was sent is done; says whether anything is remembered.
    pub(super) fn is_kept(&self) -> bool {
        let (reply, answer) = bounded(1);
        self.send(Box::new(move |desk| {
            let _ = reply.send(desk.store.is_some());
        }));
        answer.recv().unwrap_or(false)
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // A thread that has ended remembers nothing more, and has said so.
            let _ = jobs.send(job);
        }
    }
}

impl Desk {
    /// After an error nothing more is asked in this run.
    fn work<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let error = match work(&mut self.store.as_mut()?.connection) {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        let store = self.store.take()?;
        let note = if store::is_damage(&error) {
            store.give_up(&error.to_string())
        } else {
            format!("nothing more is remembered in this run: the state says: {error}")
        };
        self.notes.lock().push(note);
        None
    }
}

impl Drop for Worker {
    /// What was sent is written before the process ends.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
