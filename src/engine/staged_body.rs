//! A blob that is read from the stage while the stage has it, and from the bundle otherwise.

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::body::{Buffering, SpaceBody};
use crate::error::BundleError;
use crate::oci::Digest;
use crate::registry::{BlobBody, BodyStream};
use crate::stage::{Stage, StagedBlob};

/// Looks into the stage each time when it is opened: a mirror that comes late, or sends the blob once more, need not wait for
/// the bundle.
pub(super) struct StagedBody {
    place: BlobInStage,
    bundle: Arc<dyn BlobBody>,
    buffering: Buffering,
}

#[derive(Clone)]
struct BlobInStage {
    stage: Arc<Stage>,
    digest: Digest,
    size: u64,
}

impl BlobInStage {
    /// The blob, if the stage has it and it is right.
    async fn look(self) -> Option<Arc<StagedBlob>> {
        if !self.stage.has(&self.digest) {
            return None;
        }
        let look = tokio::task::spawn_blocking(move || self.stage.blob(&self.digest, self.size));
        look.await.ok().flatten()
    }

    /// The blob was right when it was looked at, and cannot be read any more.
    async fn give_up(self, error: BundleError) {
        let give_up = move || self.stage.discard(&self.digest, &error);
        // Where the thread panicked, its hook has reported it.
        drop(tokio::task::spawn_blocking(give_up).await);
    }
}

impl StagedBody {
    pub(super) fn new(
        stage: &Arc<Stage>,
        (digest, size): (Digest, u64),
        bundle: Arc<dyn BlobBody>,
        buffering: Buffering,
    ) -> Self {
        Self { place: BlobInStage { stage: Arc::clone(stage), digest, size }, bundle, buffering }
    }
}

impl BlobBody for StagedBody {
    fn len(&self) -> u64 {
        self.place.size
    }

    fn is_ready(&self) -> bool {
        self.place.stage.is_checked(&self.place.digest) || self.bundle.is_ready()
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), BundleError>> {
        async {
            if self.place.clone().look().await.is_some() {
                return Ok(());
            }
            self.bundle.prepare().await
        }
        .boxed()
    }

    fn open(&self, range: Range<u64>) -> BodyStream {
        let (place, bundle, buffering) = (self.place.clone(), Arc::clone(&self.bundle), self.buffering);
        let start = async move {
            let stage = Arc::clone(&place.stage);
            let size = place.size;
            match place.clone().look().await {
                // It was hashed before its first byte is given out.
                Some(blob) => {
                    stage.was_read(range.end - range.start);
                    let given = SpaceBody::made(blob, size, buffering).open(range.clone());
                    or_bundle(given, place, bundle, range)
                }
                None => bundle.open(range),
            }
        };
        start.into_stream().flatten().boxed()
    }
}

/// A blob on its way out, and where the rest of it can be had when what gives it fails.
struct Given {
    stream: BodyStream,
    at: u64,
    other: Option<(BlobInStage, Arc<dyn BlobBody>)>,
}

/// What the stage gives. Where it can be read no further, the bundle gives the rest.
fn or_bundle(
    staged: BodyStream,
    place: BlobInStage,
    bundle: Arc<dyn BlobBody>,
    range: Range<u64>,
) -> BodyStream {
    let given = Given { stream: staged, at: range.start, other: Some((place, bundle)) };
    let next = move |mut given: Given| async move {
        let mut chunk = given.stream.next().await?;
        if let Err(error) = &chunk
            && let Some((place, bundle)) = given.other.take()
        {
            place.give_up(error.clone()).await;
            given.stream = bundle.open(given.at..range.end);
            chunk = given.stream.next().await?;
        }
        given.at += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Some((chunk, given))
    };
    stream::unfold(given, next).boxed()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use bytes::Bytes;

    use super::*;
    use crate::error::Fault;

    const SIZE: usize = 4 << 20;

    struct Staged {
        _folder: tempfile::TempDir,
        stage: Arc<Stage>,
        bytes: Bytes,
        digest: Digest,
    }

    impl Staged {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let bytes =
                Bytes::from((0..SIZE / 4).flat_map(|at| at.to_le_bytes()[..4].to_vec()).collect::<Vec<_>>());
            let digest = Digest::of(&bytes);
            let stage = Stage::open(folder.path(), None, None).unwrap();
            let mut writer = stage.write(&digest, SIZE as u64).unwrap().unwrap();
            writer.append(&bytes).unwrap();
            stage.put(writer).unwrap();
            Self { _folder: folder, stage: Arc::new(stage), bytes, digest }
        }

        fn body(&self, bundle: Arc<dyn BlobBody>) -> StagedBody {
            StagedBody::new(&self.stage, (self.digest, SIZE as u64), bundle, Buffering::new(32 << 20, 1))
        }

        fn path(&self) -> std::path::PathBuf {
            self.stage.folder().join("blobs/sha256").join(self.digest.hex())
        }

        /// Reads the body from a place on, and cuts the file once the first chunk has come.
        async fn read_cut(&self, bundle: Arc<dyn BlobBody>, from: usize) -> Result<Vec<u8>, BundleError> {
            let mut stream = self.body(bundle).open(from as u64..SIZE as u64);
            let mut read = stream.next().await.unwrap()?.to_vec();
            File::options().write(true).open(self.path()).unwrap().set_len(0).unwrap();
            while let Some(chunk) = stream.next().await {
                read.extend_from_slice(&chunk?);
            }
            Ok(read)
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_any_more_comes_from_the_bundle_and_leaves_the_stage() {
        for from in [0, 1_000_001] {
            let staged = Staged::new();
            let bundle: Arc<dyn BlobBody> = Arc::new(staged.bytes.clone());
            let read = staged.read_cut(Arc::clone(&bundle), from).await.unwrap();
            assert!(read == staged.bytes[from..], "from {from}");
            assert!(!staged.path().exists() && !staged.stage.has(&staged.digest));
            let notes = staged.stage.take_notes();
            assert!(notes.len() == 1 && notes[0].contains("the bundle is read instead"), "{notes:?}");
            assert_eq!(staged.stage.figures().wrong, 1);
            let again =
                staged.body(bundle).open(0..SIZE as u64).map(Result::unwrap).collect::<Vec<_>>().await;
            assert!(again.concat() == staged.bytes);
        }
    }

    #[tokio::test]
    async fn a_bundle_that_cannot_be_read_either_says_why() {
        struct Gone;
        impl BlobBody for Gone {
            fn len(&self) -> u64 {
                SIZE as u64
            }

            fn open(&self, _: Range<u64>) -> BodyStream {
                stream::iter([Err(BundleError::new(Fault::Truncated, "the bundle ends"))]).boxed()
            }
        }
        let staged = Staged::new();
        let error = staged.read_cut(Arc::new(Gone), 0).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Truncated);
    }
}
