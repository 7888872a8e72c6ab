//! The blobs of an image: known elsewhere → mount; else, or when that is declined → HEAD → upload.

use std::collections::HashMap;

use futures_util::future::join_all;

use super::{Actor, Failure};
use crate::engine::book::note;
use crate::engine::prepare::ReadyBlob;
use crate::oci::{Digest, Repository};
use crate::registry::{Mount, UploadSession};
use crate::report::Event;

/// A blob up to this size may be sent without asking, and travels in the lane of questions: its bytes cost less than
/// the way there and back.
pub(in crate::engine) const SMALL_BYTES: u64 = 64 << 10;

/// Whether the mirror is asked for a blob before it is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trust<'a> {
    /// It is, unless this is its answer.
    Ask(&'a HashMap<Digest, bool>),
    Nothing,
}

impl Actor {
    /// What the mirror says of blobs that nothing is known of yet; where it says nothing, nothing.
    pub(super) async fn ask_ahead(
        &self,
        repository: &Repository,
        blobs: &[ReadyBlob],
    ) -> HashMap<Digest, bool> {
        let unknown = blobs.iter().filter(|blob| self.book.is_blank(&blob.digest));
        let asked = unknown.map(|blob| async {
            let answer = self.has(repository, blob).await.ok()?;
            Some((blob.digest, answer))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    pub(super) async fn blobs(
        &self,
        repository: &Repository,
        blobs: &[ReadyBlob],
        trust: Trust<'_>,
    ) -> Result<(), Failure> {
        // What is under way is finished even when another blob has failed: it need not be sent again.
        let sends = blobs.iter().map(|blob| self.blob(repository, blob, trust));
        join_all(sends).await.into_iter().collect()
    }

    async fn blob(&self, repository: &Repository, blob: &ReadyBlob, trust: Trust<'_>) -> Result<(), Failure> {
        let page = self.book.page(&blob.digest);
        let mut repositories = page.lock().await;
        let mut session = None;
        if let Trust::Ask(known) = trust {
            if repositories.contains(repository) {
                return Ok(());
            }
            let mut has = known.get(&blob.digest).copied();
            if has != Some(true)
                && let Some(from) = repositories.first()
            {
                let _permit = self.question().await?;
                let mounted = self.registry.mount(repository, &blob.digest, from).await;
                match mounted.map_err(|error| self.judge(&error))? {
                    Mount::Done => {
                        note(&mut repositories, repository);
                        self.counts.mounted();
                        return Ok(());
                    }
                    Mount::Session(opened) => session = Some(opened),
                }
            }
            // Not every registry mounts; it may have the blob here all the same.
            if has.is_none() {
                has = Some(self.has(repository, blob).await?);
            }
            if has == Some(true) {
                if let Some(opened) = session {
                    self.registry.cancel_upload(repository, opened).await;
                }
                note(&mut repositories, repository);
                self.counts.skipped(1);
                return Ok(());
            }
        }
        self.upload(repository, blob, session).await?;
        note(&mut repositories, repository);
        Ok(())
    }

    /// Whether the mirror has a blob; "no" without a question for a small one that it will not have by all experience.
    async fn has(&self, repository: &Repository, blob: &ReadyBlob) -> Result<bool, Failure> {
        let is_small = blob.size <= SMALL_BYTES;
        if is_small && !self.has_small_blobs.asks() {
            return Ok(false);
        }
        let _permit = self.question().await?;
        let found =
            self.registry.head_blob(repository, &blob.digest).await.map_err(|error| self.judge(&error))?;
        // A blob of another size under this digest is not this blob.
        let has = found == Some(blob.size);
        if is_small {
            self.has_small_blobs.learn(has);
        }
        Ok(has)
    }

    async fn upload(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        session: Option<UploadSession>,
    ) -> Result<(), Failure> {
        let mirror = self.counts.mirror;
        self.run.listeners.tell(&Event::Wanted { mirror, bytes: blob.size });
        blob.body.prepare().await.map_err(|error| Failure::from(&error))?;
        let pushing = self.registry.push_blob(repository, &blob.digest, &blob.body, session);
        let pushed = if blob.size <= SMALL_BYTES {
            let _permit = self.question().await?;
            pushing.await
        } else {
            let _permit = self.body().await?;
            pushing.await
        };
        pushed.map_err(|error| self.judge(&error))?;
        self.counts.sent();
        self.run.listeners.tell(&Event::Acknowledged { mirror, digest: blob.digest, bytes: blob.size });
        Ok(())
    }
}
