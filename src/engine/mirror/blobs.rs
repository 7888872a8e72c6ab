//! The blobs of an image: known elsewhere → mount; else, or when that is declined → HEAD → upload.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

use futures_util::future::{join, join_all};

use super::{Actor, Failure};
use crate::engine::blob_locations::{LocationGuard, note};
use crate::engine::concurrency::{ByRate, Permit};
use crate::engine::ready::ReadyBlob;
use crate::exit::Exit;
use crate::oci::{Digest, Repository};
use crate::registry::{Kind, Mount, UploadSession};
use crate::report::Event;

/// A blob up to this size may be sent without a probe, and counts as a question: its bytes cost less than the
/// round trip.
pub(in crate::engine) const SMALL_BYTES: u64 = 64 << 10;

/// Whether the mirror is asked for a blob before it is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trust<'a, 'p> {
    /// It is, unless the prefetch did that.
    Ask(&'a Prefetch<'p>),
    Nothing,
}

/// Probes and sessions for the blobs of an image, made while it is not yet known whether the mirror has the image.
#[derive(Debug, Default)]
pub(super) struct Prefetch<'a>(Mutex<HashMap<Digest, PrefetchedBlob<'a>>>);

/// A blob that was probed, and the session opened for it, if any.
#[derive(Debug)]
struct PrefetchedBlob<'a> {
    location: LocationGuard,
    has: Option<Held>,
    opened: Option<OpenSession<'a>>,
}

/// What a repository has under the digest of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    /// The blob.
    Blob,
    /// Something of another size, which is not this blob.
    OtherSize(u64),
}

/// A session that waits for the bytes, and the permit of a large body.
#[derive(Debug)]
struct OpenSession<'a> {
    session: UploadSession,
    place: Option<Permit<'a, ByRate>>,
}

impl<'a> Prefetch<'a> {
    fn take(&self, digest: &Digest) -> Option<PrefetchedBlob<'a>> {
        self.0.lock().remove(digest)
    }
}

impl Actor {
    /// Asks for blobs of which nothing is known yet, and opens sessions for them meanwhile as far as their bytes could go
    /// out at once. Where the mirror says nothing, nothing is known.
    pub(super) async fn prefetch(&self, repository: &Repository, blobs: &[ReadyBlob]) -> Prefetch<'_> {
        let begun = blobs.iter().map(|blob| async {
            let location = self.blob_locations.location(&blob.digest).try_lock_owned().ok()?;
            if !location.is_empty() {
                return None;
            }
            let (has, opened) = join(self.has(repository, blob), self.open_session(repository, blob)).await;
            Some((blob.digest, PrefetchedBlob { location, has: has.ok(), opened }))
        });
        Prefetch(Mutex::new(join_all(begun).await.into_iter().flatten().collect()))
    }

    async fn open_session(&self, repository: &Repository, blob: &ReadyBlob) -> Option<OpenSession<'_>> {
        // A session would wait, and a place with it, while the bytes are made.
        if !blob.body.is_ready() {
            return None;
        }
        let place = if blob.size > SMALL_BYTES { Some(self.limiter.spare_body()?) } else { None };
        let _permit = self.question().await.ok()?;
        let session = self.registry.start_upload(repository).await.ok()?;
        Some(OpenSession { session, place })
    }

    /// Sessions that nobody needs.
    pub(super) async fn cancel(&self, repository: &Repository, prefetch: Prefetch<'_>) {
        let prefetch = prefetch.0.into_inner();
        let opened = prefetch.into_values().filter_map(|begun| begun.opened);
        join_all(opened.map(|opened| self.cancel_one(repository, opened))).await;
    }

    async fn drop_unused(&self, repository: &Repository, opened: Option<OpenSession<'_>>) {
        if let Some(opened) = opened {
            self.cancel_one(repository, opened).await;
        }
    }

    async fn cancel_one(&self, repository: &Repository, opened: OpenSession<'_>) {
        if let Some(place) = opened.place {
            place.unused();
        }
        let Ok(_permit) = self.question().await else { return };
        if !self.registry.cancel_upload(repository, opened.session).await {
            self.cancels.store(false, Ordering::Relaxed);
        }
    }

    pub(super) async fn blobs(
        &self,
        repository: &Repository,
        blobs: &[ReadyBlob],
        trust: Trust<'_, '_>,
    ) -> Result<(), Failure> {
        // What is under way is finished even when another blob has failed: it need not be sent again.
        let sends = blobs.iter().map(|blob| self.blob(repository, blob, trust));
        join_all(sends).await.into_iter().collect()
    }

    async fn blob(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        trust: Trust<'_, '_>,
    ) -> Result<(), Failure> {
        let begun = match trust {
            Trust::Ask(prefetch) => prefetch.take(&blob.digest),
            Trust::Nothing => None,
        };
        let PrefetchedBlob { location: mut repositories, mut has, mut opened } = if let Some(begun) = begun {
            begun
        } else {
            let location = self.blob_locations.location(&blob.digest).lock_owned().await;
            PrefetchedBlob { location, has: None, opened: None }
        };
        if matches!(trust, Trust::Ask(_)) {
            if repositories.contains(repository) {
                return Ok(());
            }
            if has != Some(Held::Blob)
                && let Some(from) = repositories.first().cloned()
            {
                // Into how many repositories ever: on a long way none waits for the other.
                drop(repositories);
                let mounted = self.mount(repository, blob, &from).await?;
                repositories = self.blob_locations.location(&blob.digest).lock_owned().await;
                match mounted {
                    Mount::Done => {
                        note(&mut repositories, repository);
                        self.counts.mounted();
                        return Ok(());
                    }
                    Mount::Session(session) => opened = Some(OpenSession { session, place: None }),
                }
                if repositories.contains(repository) {
                    self.drop_unused(repository, opened).await;
                    return Ok(());
                }
            }
            // Not every registry mounts; it may have the blob here all the same.
            if has.is_none() {
                match self.has(repository, blob).await {
                    Ok(answer) => has = Some(answer),
                    Err(failure) => {
                        self.drop_unused(repository, opened).await;
                        return Err(failure);
                    }
                }
            }
            if has == Some(Held::Blob) {
                self.drop_unused(repository, opened).await;
                note(&mut repositories, repository);
                self.counts.skipped(1);
                return Ok(());
            }
        }
        self.upload(repository, blob, opened).await?;
        if let Some(Held::OtherSize(bytes)) = has {
            self.check_mended(repository, blob, bytes).await?;
        }
        note(&mut repositories, repository);
        Ok(())
    }

    /// A registry may take an upload of a blob that it has already and keep its own, damaged copy.
    async fn check_mended(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        before: u64,
    ) -> Result<(), Failure> {
        let found = {
            let _permit = self.question().await?;
            self.registry.head_blob(repository, &blob.digest).await.map_err(|error| self.judge(&error))?
        };
        if found == Some(blob.size) {
            return Ok(());
        }
        let now = found.map_or_else(|| "nothing".to_owned(), |bytes| format!("{bytes} bytes"));
        let ReadyBlob { digest, size, .. } = blob;
        Err(Failure {
            class: Kind::Integrity.class(),
            message: format!(
                "{repository}@{digest}: the registry had {before} bytes under this digest, was sent all {size}, and \
                 still says that it has {now}"
            ),
            hint: Some(
                "delete the blob at the registry, or its file, and push again with --recheck".to_owned(),
            ),
            exit: Exit::Incomplete,
        })
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        from: &Repository,
    ) -> Result<Mount, Failure> {
        let _permit = self.question().await?;
        self.registry.mount(repository, &blob.digest, from).await.map_err(|error| self.judge(&error))
    }

    /// Whether the mirror has a blob; "no" without a question for a small one that it will not have by all experience.
    async fn has(&self, repository: &Repository, blob: &ReadyBlob) -> Result<Held, Failure> {
        let is_small = blob.size <= SMALL_BYTES;
        // Who is told to ask for each asks for each.
        if is_small && !self.run.settings.recheck && !self.has_small_blobs.should_ask() {
            return Ok(Held::Nothing);
        }
        let _permit = self.question().await?;
        let found =
            self.registry.head_blob(repository, &blob.digest).await.map_err(|error| self.judge(&error))?;
        let held = match found {
            None => Held::Nothing,
            Some(bytes) if bytes == blob.size => Held::Blob,
            Some(bytes) => Held::OtherSize(bytes),
        };
        if is_small {
            self.has_small_blobs.record(held != Held::Nothing);
        }
        Ok(held)
    }

    async fn upload(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        opened: Option<OpenSession<'_>>,
    ) -> Result<(), Failure> {
        let mirror = self.counts.mirror;
        self.run.listeners.emit(&Event::Wanted { mirror, bytes: blob.size });
        if let Err(error) = blob.body.prepare().await {
            self.drop_unused(repository, opened).await;
            return Err(Failure::from(&error));
        }
        let (session, place) = opened.map_or((None, None), |opened| (Some(opened.session), opened.place));
        let pushing = self.registry.push_blob(repository, &blob.digest, &blob.body, session);
        let pushed = if blob.size <= SMALL_BYTES {
            let _permit = self.question().await?;
            pushing.await
        } else {
            let _permit = match place {
                Some(place) => place,
                None => self.body().await?,
            };
            pushing.await
        };
        pushed.map_err(|error| self.judge(&error))?;
        self.counts.sent();
        self.run.listeners.emit(&Event::Acknowledged { mirror, digest: blob.digest, bytes: blob.size });
        Ok(())
    }
}
