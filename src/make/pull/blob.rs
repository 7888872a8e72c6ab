//! A blob: fetched once, and gone on with where the connection breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::{BlobRole, ImagePuller, PullDepth, RemoteBlob};
use crate::make::folder::{BlobFault, MAX_DOCUMENT_BYTES};
use crate::make::store::IncomingBlob;
use crate::oci::{Descriptor, Repository};
use crate::registry::{BlobStream, Registry};
use crate::report::{Class, Failure};

/// How often in a row a blob breaks off with hardly any progress before it is given up.
const MAX_TRIES: u32 = 5;
/// What counts as progress.
const PROGRESS_BYTES: u64 = 1 << 20;

impl ImagePuller<'_> {
    /// Brings a blob, unless it is there. Who asks for one that is on its way waits for it.
    pub(super) async fn blob(
        &self,
        registry: &Registry,
        repository: &Repository,
        blob: &Descriptor,
        role: BlobRole,
    ) -> Result<(), Failure> {
        let claim = Arc::clone(self.claims.lock().entry(blob.digest).or_default());
        let _claim = claim.lock().await;
        let place = || RemoteBlob {
            registry: registry.clone(),
            repository: repository.clone(),
            descriptor: blob.clone(),
        };
        self.places.lock().entry(blob.digest).or_insert_with(place);
        let is_document = role == BlobRole::Configuration && blob.size <= MAX_DOCUMENT_BYTES;
        match self.choice.depth {
            PullDepth::Documents if is_document && self.document(&blob.digest).await.is_none() => {}
            PullDepth::Everything if !self.store.has(&blob.digest, blob.size) => {}
            _ => return Ok(()),
        }
        let _permit = self.permits.acquire().await;
        if self.choice.depth == PullDepth::Documents {
            let bytes = self.unless_cancelled(self.small(registry, repository, blob)).await??;
            self.documents.lock().insert(blob.digest, bytes);
        } else {
            self.unless_cancelled(self.fetch(registry, repository, blob)).await??;
        }
        self.blobs_fetched.fetch_add(1, Relaxed);
        Ok(())
    }

    /// A blob that is no larger than a document, into memory.
    async fn small(
        &self,
        registry: &Registry,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<Bytes, Failure> {
        let mut stream = registry.get_blob(repository, &blob.digest, blob.size).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        self.progress.received(bytes.len() as u64);
        if blob.digest.matches(&bytes) {
            return Ok(bytes.freeze());
        }
        let what = format!("what the registry gives for {repository}@{} is something else", blob.digest);
        Err(Failure::new(Class::Integrity, what))
    }

    /// Fetches a blob. Where the connection breaks it goes on from what came.
    async fn fetch(
        &self,
        registry: &Registry,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<(), Failure> {
        let Descriptor { digest, size, .. } = blob;
        let Some(mut incoming) = self.store.begin(digest, *size, false).await? else { return Ok(()) };
        let (mut is_of_before, mut tries) = (incoming.received() > 0, 0);
        loop {
            let from = incoming.received();
            if from < *size {
                let (begins, bytes) = registry.get_blob_from(repository, digest, *size, from).await?;
                if let Some(failure) = self.receive(bytes, from - begins, blob, &mut incoming).await? {
                    tries = if incoming.received() - from >= PROGRESS_BYTES { 1 } else { tries + 1 };
                    if tries == MAX_TRIES {
                        return Err(failure);
                    }
                    tokio::time::sleep(Duration::from_millis(250 << tries)).await;
                    continue;
                }
            }
            match incoming.end().await {
                Ok(()) => return Ok(()),
                Err(BlobFault::Here(failure)) => return Err(failure),
                // What an earlier run left may be damaged.
                Err(BlobFault::Cut | BlobFault::Wrong) if is_of_before => {
                    let Some(anew) = self.store.begin(digest, *size, true).await? else { return Ok(()) };
                    (incoming, is_of_before) = (anew, false);
                }
                Err(BlobFault::Cut | BlobFault::Wrong) => {
                    let what = format!("what the registry gives for {repository}@{digest} is something else");
                    return Err(Failure::new(Class::Integrity, what));
                }
            }
        }
    }

    /// Takes the bytes of an answer, but for the first `known`, which came before. Gives what ended it too early.
    ///
    /// # Errors
    /// Another try does not help.
    async fn receive(
        &self,
        mut bytes: BlobStream,
        mut known: u64,
        blob: &Descriptor,
        incoming: &mut IncomingBlob,
    ) -> Result<Option<Failure>, Failure> {
        while let Some(chunk) = bytes.next().await {
            let mut chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) if error.is_retryable() => return Ok(Some(error.into())),
                Err(error) => return Err(error.into()),
            };
            self.progress.received(chunk.len() as u64);
            let passed = usize::try_from(known).unwrap_or(usize::MAX).min(chunk.len());
            known -= passed as u64;
            if !incoming.append(chunk.split_off(passed)).await {
                return Ok(None);
            }
        }
        let (received, Descriptor { digest, size, .. }) = (incoming.received(), blob);
        let cut = || {
            let what = format!("{digest} ended after {received} of its {size} bytes");
            Failure::new(Class::BrokenConnection, what)
        };
        Ok((received < *size).then(cut))
    }
}
