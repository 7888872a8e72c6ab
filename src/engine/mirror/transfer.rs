//! Sends the blobs of images to one mirror, step by step.

mod prefetch;
mod step;

use std::sync::Arc;

use futures_util::future::join_all;

pub(super) use self::prefetch::Prefetch;
use self::prefetch::{OpenSession, PrefetchedBlob};
pub(super) use self::step::Trust;
use self::step::{BlobPresence, BlobStep};
use super::SMALL_BYTES;
use super::counts::Counts;
use super::knowledge::{Knowledge, LocationGuard, note};
use super::link::MirrorLink;
use crate::clock::Instant;
use crate::engine::image::{Lease, LeaseBranch};
use crate::engine::line::WorkerLine;
use crate::engine::prepared::ReadyBlob;
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
    pub(super) link: Arc<MirrorLink>,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) counts: Arc<Counts>,
    pub(super) listeners: Listeners,
    /// Whether each blob is asked for, whatever is to be expected.
    pub(super) asks_for_each: bool,
    /// Blobs that wait for their turn to be sent, in the order of the bundle. The first of them waits for a permit.
    pub(super) small_line: Arc<WorkerLine>,
    pub(super) body_line: Arc<WorkerLine>,
}

impl Transfer {
    /// Sends blobs of an image that a repository lacks.
    pub(super) async fn blobs(
        &self,
        lease: &Lease,
        repository: &Repository,
        blobs: &[ReadyBlob],
        trust: Trust,
        prefetch: &Prefetch<'_>,
    ) -> Result<(), Failure> {
        // What is under way is finished even when another blob has failed: it need not be sent again.
        let sent: Vec<OutgoingBlob<'_>> =
            blobs.iter().map(|blob| OutgoingBlob { blob, branch: lease.branch() }).collect();
        let _branches_go_on = lease.aside();
        let sends = sent.into_iter().map(|sent| async move {
            let PrefetchedBlob { location, held, mut session } = match prefetch.take(&sent.blob.digest) {
                Some(begun) => begun,
                None => PrefetchedBlob { location: self.location(&sent).await?, held: None, session: None },
            };
            let brought = Box::pin(self.blob(repository, &sent, trust, location, held, &mut session)).await;
            if let Some(needless) = session {
                self.cancel_one(needless).await;
            }
            brought
        });
        join_all(sends).await.into_iter().collect()
    }

    async fn location(&self, sent: &OutgoingBlob<'_>) -> Result<LocationGuard, Failure> {
        let location = self.knowledge.blobs.location(&sent.blob.digest);
        self.link.unless_lost(sent.branch.lock(location)).await
    }

    /// Goes from step to step. A session that is left in the end was not needed.
    async fn blob<'a>(
        &'a self,
        repository: &Repository,
        sent: &OutgoingBlob<'_>,
        trust: Trust,
        mut location: LocationGuard,
        mut held: Option<BlobPresence>,
        session: &mut Option<OpenSession<'a>>,
    ) -> Result<(), Failure> {
        let blob = sent.blob;
        let mut declined = false;
        let registry = &self.link.registry;
        loop {
            let elsewhere = self.elsewhere(repository, blob);
            let from = elsewhere.as_ref().map(|source| &source.repository);
            match BlobStep::next(repository, &location, from, trust, declined, held) {
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
                            if proof == BlobProof::Confirmed && self.knowledge.is_proven(&from, blob.digest) {
                                self.knowledge.prove(repository, blob.digest);
                            }
                            self.counts.mounted(0);
                            return Ok(());
                        }
                        Mount::Session(opened) => {
                            *session = Some(OpenSession { session: opened, permit: None });
                            declined = true;
                        }
                    }
                }
                // Its place is kept meanwhile: what else of this mirror wants the blob has it from here then.
                BlobStep::Borrow(from) => match self.mount(repository, blob, &from).await? {
                    Mount::Done(proof) => {
                        let bytes = new_bytes(&location, blob);
                        note(&mut location, repository);
                        if proof == BlobProof::Confirmed && elsewhere.is_some_and(|source| source.is_proven) {
                            self.knowledge.prove(repository, blob.digest);
                        }
                        self.counts.mounted(bytes);
                        return Ok(());
                    }
                    Mount::Session(opened) => {
                        registry.forget_source(&blob.digest, &from);
                        *session = Some(OpenSession { session: opened, permit: None });
                        declined = true;
                    }
                },
                BlobStep::Ask => held = Some(self.ask(repository, blob).await?),
                BlobStep::Upload => {
                    let proof = self.upload(repository, blob, session).await?;
                    if let Some(BlobPresence::OtherSize(bytes)) = held {
                        self.check_mended(repository, blob, bytes).await?;
                    }
                    note(&mut location, repository);
                    let is_proven = proof == BlobProof::Confirmed;
                    if is_proven {
                        self.knowledge.prove(repository, blob.digest);
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
        let mut location = lease.lock(self.knowledge.blobs.location(digest)).await;
        location.retain(|known| known != repository);
    }

    /// Where another mirror on the same host has a blob. Who asks for each blob means this one.
    pub(super) fn elsewhere(&self, repository: &Repository, blob: &ReadyBlob) -> Option<BlobSource> {
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
        if is_small && !self.asks_for_each && !self.knowledge.expectations().small_blobs.should_ask() {
            return Ok(BlobPresence::Nothing);
        }
        let _permit = self.link.question().await?;
        if !self.knowledge.expectations().sampling.trusts_heads() {
            match self.link.registry.sample_blob(repository, &blob.digest, blob.size).await {
                Sampled::There => {
                    self.knowledge.prove(repository, blob.digest);
                    return Ok(BlobPresence::Blob);
                }
                Sampled::Lost => return Ok(BlobPresence::Nothing),
                Sampled::Unknown(_) => {}
            }
        }
        let found = self.link.registry.head_blob(repository, &blob.digest).await;
        let held = match found.map_err(|error| self.link.judge(&error))? {
            None => BlobPresence::Nothing,
            Some(bytes) if bytes == blob.size => BlobPresence::Blob,
            Some(bytes) => BlobPresence::OtherSize(bytes),
        };
        if is_small {
            self.knowledge.expectations().small_blobs.record(held != BlobPresence::Nothing);
        }
        Ok(held)
    }

    async fn upload<'a>(
        &'a self,
        repository: &Repository,
        blob: &ReadyBlob,
        session: &mut Option<OpenSession<'a>>,
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

    async fn upload_wanted<'a>(
        &'a self,
        repository: &Repository,
        blob: &ReadyBlob,
        session: &mut Option<OpenSession<'a>>,
    ) -> Result<(BlobProof, UploadTimes), Failure> {
        let wanted = Instant::now();
        let (session, mut permit) =
            session.take().map_or((None, None), |open| (Some(open.session), open.permit));
        // Others can use the permit while there is nothing to send.
        if !blob.body.is_ready()
            && let Some(early) = permit.take()
        {
            early.unused();
        }
        let prepared = self.link.unless_lost(blob.body.prepare()).await?;
        prepared.map_err(|error| Failure::from(&error))?;
        let prepared = wanted.elapsed();
        let pushing = self.link.registry.push_blob(repository, &blob.digest, &blob.body, session);
        let (queued, pushed) = if blob.size <= SMALL_BYTES {
            let first = self.link.unless_lost(self.small_line.worker(blob.offset)).await?;
            let _memory = self.link.small(blob.size).await?;
            let _permit = self.link.question().await?;
            drop(first);
            (wanted.elapsed(), pushing.await)
        } else {
            let _permit = if let Some(permit) = permit {
                permit
            } else {
                let _first = self.link.unless_lost(self.body_line.worker(blob.offset)).await?;
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
