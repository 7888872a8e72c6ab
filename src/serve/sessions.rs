//! The names of upload sessions, and what is kept of them in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use super::error::{Code, Refusal};
use crate::oci::Hasher;
use crate::sync::Mutex;

/// Sessions known in memory; those that only lie on the disk are not counted.
const MAX_SESSIONS: usize = 10_000;

/// The name of a session: 128 bits of chance, in hexadecimal.
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

/// A hasher that has seen the first `len` bytes of a session. Worth nothing for a file of another length.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) hasher: Hasher,
    pub(super) len: u64,
}

pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Hashed>>>;

/// What is known of sessions beyond their files.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<SessionId, Slot>>);

impl Sessions {
    /// The slot of a session, made if need be. When there are too many, those that nobody holds are forgotten; they will
    /// be hashed again from their files.
    pub(super) fn slot(&self, id: &SessionId) -> Result<Slot, Refusal> {
        let mut slots = self.0.lock();
        if slots.len() >= MAX_SESSIONS && !slots.contains_key(id) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            if slots.len() >= MAX_SESSIONS {
                return Err(Refusal::new(Code::TooManyRequests, "too many uploads at once"));
            }
        }
        Ok(Arc::clone(slots.entry(id.clone()).or_default()))
    }

    /// Whether a request has the session now.
    pub(super) fn is_held(&self, id: &SessionId) -> bool {
        self.0.lock().get(id).is_some_and(|slot| Arc::strong_count(slot) > 1)
    }

    pub(super) fn forget(&self, id: &SessionId) {
        self.0.lock().remove(id);
    }
}
