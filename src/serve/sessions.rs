//! The names of upload sessions, and what is kept of them in memory: which request has one, and a hasher.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::error::{Code, Refusal};
use crate::locks::Mutex;
use crate::oci::{Digest, Hasher};

/// The most sessions in memory. Sessions that are only on the disk do not count.
const MAX_SESSIONS: usize = 10_000;

/// How long a request waits for the one before it to let go of the session.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// The name of a session: 128 random bits, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SessionId(String);

impl SessionId {
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(format!("{:032x}", u128::from_ne_bytes(bytes))))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 32 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A hasher that has seen the first `len` bytes of a session. It is of no use for a file of another length.
#[derive(Debug)]
pub(super) struct HashedPrefix {
    pub(super) hasher: Hasher,
    pub(super) len: u64,
}

/// What the requests of one session share.
#[derive(Debug, Default)]
struct SharedSession {
    hashed: Arc<tokio::sync::Mutex<Option<HashedPrefix>>>,
    /// Of the request that has the session: cancelled when another one wants it.
    interrupt: Mutex<CancellationToken>,
    /// The blob that the session is for, once a request was to end it, and the file.
    meant: Mutex<Option<(Digest, PathBuf)>>,
}

/// A session that one request has, until it drops this.
#[derive(Debug)]
pub(super) struct SessionLock {
    pub(super) hashed: OwnedMutexGuard<Option<HashedPrefix>>,
    /// Cancelled when the next request wants the session.
    pub(super) interrupted: CancellationToken,
    /// Its count of references says that the session is in use.
    _state: Arc<SharedSession>,
}

/// The sessions that are known in memory.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    states: Mutex<HashMap<SessionId, Arc<SharedSession>>>,
    opened: AtomicUsize,
}

impl Sessions {
    /// Takes a session for one request, and interrupts the request that has it: a client that sends another one has given up
    /// the earlier connection, although its end may not have arrived. `None`: that request does not end in time.
    pub(super) async fn lock(&self, id: &SessionId) -> Result<Option<SessionLock>, Refusal> {
        let state = self.state(id)?;
        state.interrupt.lock().cancel();
        let hashed = tokio::time::timeout(BUSY_WAIT, Arc::clone(&state.hashed).lock_owned()).await;
        Ok(hashed.ok().map(|hashed| SessionLock::new(hashed, state)))
    }

    /// Takes a session that no request has.
    pub(super) fn try_lock(&self, id: &SessionId) -> Option<SessionLock> {
        let state = Arc::clone(self.states.lock().entry(id.clone()).or_default());
        let hashed = Arc::clone(&state.hashed).try_lock_owned().ok()?;
        Some(SessionLock::new(hashed, state))
    }

    /// A session is for this blob.
    pub(super) fn means(&self, id: &SessionId, digest: Digest, path: &Path) {
        if let Some(state) = self.states.lock().get(id) {
            *state.meant.lock() = Some((digest, path.to_owned()));
        }
    }

    /// The sessions that are known to be for this blob, with their files.
    pub(super) fn of_blob(&self, digest: &Digest) -> Vec<(SessionId, PathBuf)> {
        let states = self.states.lock();
        let path_of = |state: &SharedSession| {
            state.meant.lock().as_ref().filter(|(meant, _)| meant == digest).map(|(_, path)| path.clone())
        };
        states.iter().filter_map(|(id, state)| Some((id.clone(), path_of(state)?))).collect()
    }

    /// Counts a new session; gives the number of those since the start.
    pub(super) fn count_opened(&self) -> usize {
        self.opened.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn forget(&self, id: &SessionId) {
        self.states.lock().remove(id);
    }

    /// The state of a session, made if need be. When there are too many, idle ones are forgotten: their files are then hashed
    /// again at the end.
    fn state(&self, id: &SessionId) -> Result<Arc<SharedSession>, Refusal> {
        let mut states = self.states.lock();
        if states.len() >= MAX_SESSIONS && !states.contains_key(id) {
            states.retain(|_, state| Arc::strong_count(state) > 1);
            if states.len() >= MAX_SESSIONS {
                return Err(Refusal::new(
                    Code::TooManyRequests,
                    "too many uploads at the same time; try again later",
                ));
            }
        }
        Ok(Arc::clone(states.entry(id.clone()).or_default()))
    }
}

impl SessionLock {
    fn new(hashed: OwnedMutexGuard<Option<HashedPrefix>>, state: Arc<SharedSession>) -> Self {
        let interrupted = CancellationToken::new();
        *state.interrupt.lock() = interrupted.clone();
        Self { hashed, interrupted, _state: state }
    }
}
