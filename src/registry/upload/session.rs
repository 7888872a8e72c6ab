//! An upload session: a place at the registry that waits for the bytes of one blob.
//!
//! It is closed in one of four ways: it was committed, the registry has lost it, it is left for a later run, or it is
//! cancelled; what is dropped is cancelled in the background, unless it stands in the ledger.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::ledger::{KeptMark, StoredSession};
use crate::clock;
use crate::oci::Repository;
use crate::registry::client::{ApiRequest, Reply};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::quirks::Keeping;
use crate::registry::retry::Replay;
use crate::registry::transport::Payload;
use crate::registry::{Registry, headers, location};

/// How long a courtesy may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// The same where the registry has answered that more of the upload has arrived than its location says: what lies in the buffers on
/// the way is awaited.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is cancelled then.
const CANCEL_TRIES: u32 = 3;

/// A session that is no older than this has not expired at any registry.
const FRESH: Duration = Duration::from_secs(30 * 60);

/// Where an upload stands at the registry. Its location is a permission to write, and so a secret.
#[derive(Debug)]
struct SessionState {
    repository: Repository,
    location: SecretString,
    /// Bytes that the registry has acknowledged.
    acknowledged: u64,
    /// Bytes that may have arrived.
    sent: u64,
    opened_at: i64,
    /// Whether the ledger was asked to keep it.
    is_offered: bool,
    /// Whether a later run can go on with it.
    kept: KeptMark,
}

/// An upload that the registry waits for.
pub struct UploadSession {
    registry: Registry,
    /// None once it is closed.
    state: Option<SessionState>,
}

/// What says that a blob is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobProof {
    /// The registry has answered that it took it (201), and called it by no other digest.
    Confirmed,
    /// A HEAD, or an answer that leaves it open: it counts as a blob that was found.
    Claimed,
}

/// How a mount ended.
#[derive(Debug)]
pub(crate) enum Mount {
    /// The blob is there.
    Done(BlobProof),
    /// It must be sent; this session is open for it.
    Session(UploadSession),
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UploadSession").field(&self.state).finish()
    }
}

impl UploadSession {
    fn new(registry: &Registry, repository: &Repository, location: Url) -> Self {
        let state = SessionState {
            repository: repository.clone(),
            location: String::from(location).into(),
            acknowledged: 0,
            sent: 0,
            opened_at: clock::unix_seconds(),
            is_offered: false,
            kept: KeptMark::default(),
        };
        Self { registry: registry.clone(), state: Some(state) }
    }

    /// A session of an earlier run. Its location is judged as if the registry had just sent it.
    ///
    /// # Errors
    /// In words: it leads elsewhere.
    pub(super) fn reopened(
        registry: &Registry,
        repository: &Repository,
        stored: &StoredSession,
    ) -> Result<Self, String> {
        let base = registry.url("").map_err(|error| error.to_string())?;
        let text = stored.location.expose_secret();
        let at = location::upload(&base, text, registry.endpoint(), registry.upload_hosts())
            .map_err(|refused| refused.why)?;
        let mut session = Self::new(registry, repository, at);
        if let Some(state) = &mut session.state {
            state.acknowledged = stored.acknowledged;
            state.sent = stored.sent.max(stored.acknowledged);
            state.opened_at = stored.opened_at;
            state.is_offered = true;
            state.kept.set();
        }
        Ok(session)
    }

    /// The session for the ledger, as a later run finds it, and the mark that says when it stands in the ledger: from then on it is not cancelled
    /// when it is dropped.
    pub(super) fn offer(&mut self, size: u64, lifetime: Duration) -> Option<(StoredSession, KeptMark)> {
        let state = self.state.as_mut()?;
        state.is_offered = true;
        let stored = StoredSession {
            location: state.location.clone(),
            size,
            acknowledged: state.acknowledged,
            sent: state.sent,
            opened_at: state.opened_at,
            lifetime: u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX),
        };
        Some((stored, state.kept.clone()))
    }

    /// Whether the ledger was asked to keep it.
    pub(super) fn is_offered(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_offered)
    }

    /// Whether a later run can go on with it.
    pub(super) fn is_kept(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.kept.is_set())
    }

    /// Where the next request goes.
    pub(super) fn location(&self) -> Result<Url, RegistryError> {
        let state = self.state.as_ref().ok_or_else(|| RegistryError::internal("a session that is closed"))?;
        state.url()
    }

    /// From the bytes that the registry has acknowledged to those that may have arrived.
    pub(super) fn window(&self) -> RangeInclusive<u64> {
        self.state.as_ref().map_or(0..=0, |state| state.acknowledged..=state.sent)
    }

    /// The bytes that the registry has acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        *self.window().start()
    }

    /// Whether the registry can have lost it for no other reason than that its connection broke.
    pub(super) fn is_fresh(&self) -> bool {
        let limit = i64::try_from(FRESH.as_secs()).unwrap_or(i64::MAX);
        // A clock that was set back meanwhile makes every session look young.
        let age = |state: &SessionState| clock::unix_seconds().saturating_sub(state.opened_at);
        self.state.as_ref().is_some_and(|state| (0..limit).contains(&age(state)))
    }

    /// All bytes up to this one may have arrived from now on.
    pub(super) fn sends_up_to(&mut self, end: u64) {
        if let Some(state) = &mut self.state {
            state.sent = state.sent.max(end);
        }
    }

    /// The registry has the first bytes, this many, and no others. The next request goes elsewhere, if it says so: registries keep the state
    /// of a session in its location.
    pub(super) fn stands_at(&mut self, bytes: u64, location: Option<&Url>) {
        if let Some(state) = &mut self.state {
            (state.acknowledged, state.sent) = (bytes, bytes);
            if let Some(location) = location {
                state.location = location.as_str().into();
            }
        }
    }

    /// The next request goes there.
    pub(super) fn goes_on_at(&mut self, location: &Url) {
        if let Some(state) = &mut self.state {
            state.location = location.as_str().into();
        }
    }

    /// The blob is there: there is nothing left to cancel.
    pub(crate) fn finished(mut self) {
        self.state = None;
    }

    /// The registry has lost it, or cannot be reached: it expires there, or a later run goes on with it.
    pub(super) fn abandoned(&mut self) {
        self.state = None;
    }

    async fn delete_once(&self, repository: &Repository) -> Result<(), RegistryError> {
        let request =
            ApiRequest::new(Method::DELETE, self.location()?).payload(Payload::Empty, Replay::Never);
        self.registry.call(repository, &request).await.map(drop)
    }

    /// Asks where it stands until nothing more arrives, and deletes it there.
    async fn delete_settled(&mut self, repository: &Repository) -> Result<(), RegistryError> {
        let registry = self.registry.clone();
        for _ in 1..CANCEL_TRIES {
            registry.settled_status(repository, self).await?;
            match self.delete_once(repository).await {
                Err(error) if error.status() == Some(416) => {}
                deleted => return deleted,
            }
        }
        registry.settled_status(repository, self).await?;
        self.delete_once(repository).await
    }

    /// The same as [`Self::cancel`], for whoever does not wait for it.
    pub(super) fn cancel_aside(&mut self) {
        if let Some(state) = self.state.take() {
            state.cancel_aside(&self.registry);
        }
    }

    /// Tells the registry that nothing more will come. Best effort: most tokens do not allow it, and sessions expire. False
    /// if the registry does not take such requests from this account.
    pub(crate) async fn cancel(mut self) -> bool {
        match self.state.take() {
            Some(state) => state.cancel(&self.registry).await,
            None => true,
        }
    }
}

impl Drop for UploadSession {
    fn drop(&mut self) {
        let Some(state) = self.state.take().filter(|state| !state.kept.is_set()) else {
            return;
        };
        // The run was interrupted, and the next one begins this blob anew.
        let is_cut = state.sent > state.acknowledged;
        if is_cut && matches!(self.registry.keeping(), Keeping::NotPut | Keeping::Nothing) {
            self.registry.say_that_nothing_is_kept();
        }
        state.cancel_aside(&self.registry);
    }
}

impl SessionState {
    fn url(&self) -> Result<Url, RegistryError> {
        let url = Url::parse(self.location.expose_secret());
        url.map_err(|error| RegistryError::internal(format!("the location of a session: {error}")))
    }

    /// Where a body was cut off, more has arrived than the location says, or still arrives. docker-registry 3 cancels nothing then
    /// (416) before it has told where the session stands.
    async fn delete(self, registry: &Registry) -> Result<Result<(), RegistryError>, Elapsed> {
        // What is dropped on the way is not cancelled once more.
        self.kept.set();
        let repository = self.repository.clone();
        let mut session = UploadSession { registry: registry.clone(), state: Some(self) };
        match timeout(CANCEL_TIMEOUT, session.delete_once(&repository)).await? {
            Err(error) if error.status() == Some(416) => {
                timeout(ARRIVAL_TIMEOUT, session.delete_settled(&repository)).await
            }
            deleted => Ok(deleted),
        }
    }

    /// Cancels it in the background, unless it is known that the account may not.
    fn cancel_aside(self, registry: &Registry) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !registry.host().quirks().keeps_sessions {
            let (cancels, registry) = (registry.cancels().clone(), registry.clone());
            cancels.spawn_on(async move { self.cancel(&registry).await }, &runtime);
        }
    }

    async fn cancel(self, registry: &Registry) -> bool {
        match self.delete(registry).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the upload was not cancelled and will expire");
                let refused = matches!(error.status(), Some(401 | 403 | 405));
                registry.host().quirks().keeps_sessions |= refused;
                !refused
            }
            Err(_) => {
                tracing::debug!("the upload was not cancelled in time and will expire");
                true
            }
        }
    }
}

impl Registry {
    /// Waits until the sessions that were dropped are cancelled, or that is given up.
    pub(crate) async fn settle_cancels(&self) {
        self.cancels().close();
        self.cancels().wait().await;
    }

    /// Opens a session, to be used or cancelled. A repository that is not there is made first, where somebody can do that.
    pub(crate) async fn start_upload(&self, repository: &Repository) -> Result<UploadSession, RegistryError> {
        let missing = match self.open_session(repository).await {
            Err(error) if error.status() == Some(404) => error,
            opened => return opened,
        };
        let Some(maker) = self.repository_maker() else { return Err(missing) };
        match maker.make(repository).await {
            Ok(()) => self.open_session(repository).await,
            Err(why) => {
                self.observer().warning(&format!("{repository} is not there, and could not be made: {why}"));
                Err(missing)
            }
        }
    }

    async fn open_session(&self, repository: &Repository) -> Result<UploadSession, RegistryError> {
        let request = ApiRequest::new(Method::POST, self.url(&format!("{repository}/blobs/uploads/"))?);
        let reply = self.call(repository, &request).await?;
        // What it does not ask for any more holds no longer. A mount that opens a session need not say it.
        self.host().quirks().learn_least_chunk(headers::least_chunk(&reply.headers));
        self.session(repository, &request, &reply)
    }

    /// The session that an answer opened.
    pub(in crate::registry) fn session(
        &self,
        repository: &Repository,
        request: &ApiRequest<'_>,
        reply: &Reply,
    ) -> Result<UploadSession, RegistryError> {
        if let Some(bytes) = headers::least_chunk(&reply.headers) {
            self.host().quirks().learn_least_chunk(Some(bytes));
        }
        if headers::keeps_bytes(&reply.headers) {
            self.host().quirks().learn_told_bytes();
        }
        let location = self.location(request, reply)?;
        let missing =
            || self.failed(request, Cause::Protocol("an upload was opened without a Location".to_owned()));
        Ok(UploadSession::new(self, repository, location.ok_or_else(missing)?))
    }

    /// Where the next request of an upload goes, if an answer says so.
    pub(super) fn location(
        &self,
        request: &ApiRequest<'_>,
        reply: &Reply,
    ) -> Result<Option<Url>, RegistryError> {
        let Some(said) = headers::text(&reply.headers, LOCATION) else { return Ok(None) };
        let resolved = location::upload(&reply.url, said, self.endpoint(), self.upload_hosts());
        let url = resolved.map_err(|refused| {
            let why = format!("an upload location that is not used: {}", refused.why);
            let cause = match refused.allow {
                Some(host) => Cause::ForeignUpload { why, host },
                None => Cause::Protocol(why),
            };
            self.failed(request, cause)
        })?;
        let downgraded =
            reply.url.scheme() == "https" && said.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("http:"));
        let text = "calls itself http:// behind TLS (set its external URL or X-Forwarded-Proto)";
        if downgraded && self.host().is_news(text) {
            self.observer().warning(&format!("{} {text}", self.endpoint()));
        }
        let told = reply.url.join(said).ok().filter(|told| !downgraded && told.origin() != url.origin());
        let text = "names another scheme or port than its own in the Location of an upload, which is not heeded (set its external \
                    URL; nginx: proxy_set_header Host $http_host)";
        if told.is_some() && self.host().is_news(text) {
            self.observer().warning(&format!("{} {text}", self.endpoint()));
        }
        Ok(Some(url))
    }
}
