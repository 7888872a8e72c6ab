//! Sends the blobs of images to one mirror, step by step.

mod prefetch;
mod step;

use std::sync::Arc;

use futures_util::future::join_all;

pub(super) use self::prefetch::Prefetch;
use self::prefetch::{OpenSession, PrefetchedBlob};
pub(super) use self::step::Trust;
use self::step::{BlobPresence, BlobProgress, BlobStep};
use super::SMALL_BYTES;
use super::counts::Counts;
use super::inbox::Outbox;
use super::knowledge::{Knowledge, LocationGuard, note};
use super::link::MirrorLink;
use crate::clock::Instant;
use crate::engine::image::{Lease, LeaseBranch};
use crate::engine::ordered_semaphore::OrderedSemaphore;
use crate::engine::prepared::ReadyBlob;
use crate::locks::Mutex;
use crate::oci::{Digest, Repository};
use crate::registry::{BlobProof, BlobSource, Mount, Sampled};
use crate::report::event::UploadTimes;
use crate::report::{Class, Event, Failure, Listeners};

/// The bytes of a blob that was not met on this mirror yet; 0 of one that was.
fn new_bytes(location: &LocationGuard, blob: &ReadyBlob) -> u64 {
    if location.is_empty() { blob.size } else { 0 }
}

/// A blob that is brought, as one of the things that are done for its image.
struct OutgoingBlob<'a> {
    blob: &'a ReadyBlob,
    branch: LeaseBranch,
}

/// Sends blobs to one mirror.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) link: MirrorLink,
    pub(super) knowledge: Mutex<Knowledge>,
    /// Requests count as well, on whatever thread they are.
    pub(super) counts: Arc<Counts>,
    /// The task of the mirror hears of what images leave behind.
    pub(super) outbox: Outbox,
    pub(super) listeners: Listeners,
    /// Whether each blob is asked for, whatever is to be expected.
    pub(super) asks_for_each: bool,
    /// Blobs that wait for their turn to be sent, in the order of the bundle. The first of them waits for a permit.
    pub(super) small_queue: Arc<OrderedSemaphore>,
    pub(super) body_queue: Arc<OrderedSemaphore>,
}

impl Transfer {
    /// Sends blobs of an image that a repository lacks.
    pub(super) async fn blobs(
        &self,
        lease: &Lease,
        repository: &Repository,
        blobs: &[ReadyBlob],
        trust: Trust,
        prefetch: &mut Prefetch<'_>,
    ) -> Result<(), Failure> {
        // What is under way is finished even when another blob has failed: it need not be sent again.
        let outgoing = |blob| (OutgoingBlob { blob, branch: lease.branch() }, prefetch.take(&blob.digest));
        let sends: Vec<_> = blobs.iter().map(outgoing).collect();
        let _branches_go_on = lease.suspend();
        let sends = sends.into_iter().map(|(sent, begun)| async move {
            let begun = match begun {
                Some(begun) => begun,
                None => {
                    PrefetchedBlob { location: self.location(&sent).await?, presence: None, session: None }
                }
            };
            Box::pin(self.blob(repository, &sent, trust, begun)).await
        });
        join_all(sends).await.into_iter().collect()
    }

    async fn location(&self, sent: &OutgoingBlob<'_>) -> Result<LocationGuard, Failure> {
        let location = self.knowledge.lock().blobs.location(&sent.blob.digest);
        self.link.unless_lost(sent.branch.lock(location)).await
    }

    /// Goes from step to step. A session that is left in the end was not needed.
    async fn blob(
        &self,
        repository: &Repository,
        sent: &OutgoingBlob<'_>,
        trust: Trust,
        begun: PrefetchedBlob<'_>,
    ) -> Result<(), Failure> {
        let blob = sent.blob;
        let PrefetchedBlob { mut location, presence, mut session } = begun;
        let mut progress = BlobProgress::new(trust, presence);
        let registry = &self.link.registry;
        loop {
            let other_mirror = self.other_mirror(repository, blob);
            let from = other_mirror.as_ref().map(|source| &source.repository);
            match progress.next(repository, &location, from) {
                BlobStep::Known => {
                    let bytes = new_bytes(&location, blob);
                    if note(&mut location, repository) {
                        self.counts.skipped(1, bytes);
                        registry.note_source(blob.digest, repository, false);
                    }
                    return Ok(());
                }
                BlobStep::Mount(from) => {
                    // Into however many repositories: on a long way none waits for the other.
                    drop(location);
                    let mounted = self.mount(repository, blob, &from).await?;
                    location = self.location(sent).await?;
                    match mounted {
                        Mount::Done(proof) => {
                            note(&mut location, repository);
                            let evidence = &mut self.knowledge.lock().evidence;
                            if proof == BlobProof::Confirmed && evidence.is_proven(&from, blob.digest) {
                                evidence.prove(repository, blob.digest);
                            }
                            self.counts.mounted(0);
                            return Ok(());
                        }
                        Mount::Session(opened) => {
                            session = Some(self.opened(opened, None));
                            progress.mount_was_declined();
                        }
                    }
                }
                // Its location stays locked meanwhile: what else of this mirror wants the blob has it from here then.
                BlobStep::MountFromOtherMirror(from) => match self.mount(repository, blob, &from).await? {
                    Mount::Done(proof) => {
                        let bytes = new_bytes(&location, blob);
                        note(&mut location, repository);
                        if proof == BlobProof::Confirmed
                            && other_mirror.is_some_and(|source| source.is_proven)
                        {
                            self.knowledge.lock().evidence.prove(repository, blob.digest);
                        }
                        self.counts.mounted(bytes);
                        return Ok(());
                    }
                    Mount::Session(opened) => {
                        registry.forget_source(&blob.digest, &from);
                        session = Some(self.opened(opened, None));
                        progress.mount_was_declined();
                    }
                },
                BlobStep::Ask => {
                    let found = self.ask(repository, blob).await?;
                    if found == BlobPresence::Blob {
                        registry.forget_sessions(repository, &blob.digest);
                    }
                    progress.found(found);
                }
                BlobStep::Upload => {
                    let proof = self.upload(repository, blob, session).await?;
                    if let Some(bytes) = progress.other_size() {
                        self.check_mended(repository, blob, bytes).await?;
                    }
                    note(&mut location, repository);
                    let is_proven = proof == BlobProof::Confirmed;
                    if is_proven {
                        self.knowledge.lock().evidence.prove(repository, blob.digest);
                    }
                    registry.note_source(blob.digest, repository, is_proven);
                    return Ok(());
                }
            }
        }
    }

    /// The mirror proved not to have a blob of an image, whatever it had answered.
    pub(super) async fn forget(&self, lease: &Lease, repository: &Repository, digest: &Digest) {
        self.link.registry.forget_source(digest, repository);
        let location = self.knowledge.lock().blobs.location(digest);
        lease.lock(location).await.retain(|known| known != repository);
    }

    /// Where another mirror on the same host has a blob. Who asks for each blob means this one.
    pub(super) fn other_mirror(&self, repository: &Repository, blob: &ReadyBlob) -> Option<BlobSource> {
        let source = self.link.registry.source_of(&blob.digest, repository)?;
        (!self.asks_for_each).then_some(source)
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        from: &Repository,
    ) -> Result<Mount, Failure> {
        let _permit = self.link.question().await?;
        let mounted = self.link.registry.mount(repository, &blob.digest, from).await;
        mounted.map_err(|error| self.link.judge(&error))
    }

    /// What the mirror has of a blob; nothing, without a question, of a small one that it is not expected to have.
    async fn ask(&self, repository: &Repository, blob: &ReadyBlob) -> Result<BlobPresence, Failure> {
        let is_small = blob.size <= SMALL_BYTES;
        if is_small && !self.asks_for_each && !self.knowledge.lock().expectations.small_blobs.should_ask() {
            return Ok(BlobPresence::Nothing);
        }
        let _permit = self.link.question().await?;
        if !self.knowledge.lock().expectations.sampling.trusts_heads() {
            match self.link.registry.sample_blob(repository, &blob.digest, blob.size).await {
                Sampled::There => {
                    self.knowledge.lock().evidence.prove(repository, blob.digest);
                    return Ok(BlobPresence::Blob);
                }
                Sampled::Lost => return Ok(BlobPresence::Nothing),
                Sampled::Unknown(_) => {}
            }
        }
        let found = self.link.registry.head_blob(repository, &blob.digest).await;
        let presence = match found.map_err(|error| self.link.judge(&error))? {
            None => BlobPresence::Nothing,
            Some(bytes) if bytes == blob.size => BlobPresence::Blob,
            Some(bytes) => BlobPresence::OtherSize(bytes),
        };
        if is_small {
            self.knowledge.lock().expectations.small_blobs.record(presence != BlobPresence::Nothing);
        }
        Ok(presence)
    }

    async fn upload(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        session: Option<OpenSession<'_>>,
    ) -> Result<BlobProof, Failure> {
        let (mirror, bytes) = (self.counts.mirror, blob.size);
        self.listeners.emit(&Event::Wanted { mirror, bytes });
        let uploaded = Box::pin(self.upload_wanted(repository, blob, session)).await;
        self.listeners.emit(&match &uploaded {
            Ok((_, took)) => Event::Acknowledged { mirror, digest: blob.digest, bytes, took: *took },
            Err(_) => Event::NotSent { mirror, bytes },
        });
        uploaded.map(|(proof, _)| proof)
    }

    async fn upload_wanted(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        mut session: Option<OpenSession<'_>>,
    ) -> Result<(BlobProof, UploadTimes), Failure> {
        let wanted = Instant::now();
        if let Some(open) = session.as_mut().filter(|_| !blob.body.is_ready()) {
            open.return_permit();
        }
        let prepared = self.link.unless_lost(blob.body.prepare()).await?;
        prepared.map_err(|error| Failure::from(&error))?;
        let prepared = wanted.elapsed();
        let (session, permit) = session.map_or((None, None), OpenSession::into_parts);
        let pushing = self.link.registry.push_blob(repository, &blob.digest, &blob.body, session);
        let (queued, pushed) = if blob.size <= SMALL_BYTES {
            let first = self.link.unless_lost(self.small_queue.acquire(blob.offset)).await?;
            let _memory = self.link.small(blob.size).await?;
            let _permit = self.link.question().await?;
            drop(first);
            (wanted.elapsed(), pushing.await)
        } else {
            let _permit = if let Some(permit) = permit {
                permit
            } else {
                let _first = self.link.unless_lost(self.body_queue.acquire(blob.offset)).await?;
                self.link.body().await?
            };
            (wanted.elapsed(), pushing.await)
        };
        let pushed = pushed.map_err(|error| self.link.judge(&error))?;
        self.counts.resumed(pushed.resumed, pushed.bytes_found);
        self.counts.sent();
        let times = UploadTimes {
            prepared,
            queued: queued.saturating_sub(prepared),
            sent: wanted.elapsed().saturating_sub(queued),
        };
        Ok((pushed.proof, times))
    }

    /// A registry may take an upload of a blob that it has already and keep its own, damaged copy.
    async fn check_mended(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        before: u64,
    ) -> Result<(), Failure> {
        let found = {
            let _permit = self.link.question().await?;
            let found = self.link.registry.head_blob(repository, &blob.digest).await;
            found.map_err(|error| self.link.judge(&error))?
        };
        if found == Some(blob.size) {
            return Ok(());
        }
        let now = found.map_or_else(|| "nothing".to_owned(), |bytes| format!("{bytes} bytes"));
        let ReadyBlob { digest, size, .. } = blob;
        let message = format!(
            "{repository}@{digest}: the registry had {before} bytes under this digest, was sent all {size}, and still \
             says that it has {now}"
        );
        Err(Failure::new(Class::Integrity, message)
            .hint("delete the blob at the registry, or its file, and push again with --recheck"))
    }
}
