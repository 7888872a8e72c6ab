//! Sums that files of a bundle must have. A thread of their own computes them from the first byte to the last, and no tag moves
//! before they are right. What a run has sent until then has no tag, so nobody pulls it.

use std::path::PathBuf;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::sync::CancellationToken;

use crate::bundle::Opener;
use crate::error::{BundleError, Fault};
use crate::oci::Digest;
use crate::report::Failure;
use crate::source::Source;

/// Bytes of one read.
const CHUNK_BYTES: usize = 1 << 20;

/// A file, and the sum that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedSum {
    /// The file.
    pub path: PathBuf,
    /// Its sum.
    pub sum: Digest,
}

/// The sums of a run. Clones wait for the same sums.
#[derive(Debug, Clone)]
pub(super) struct Sums(Shared<BoxFuture<'static, Result<(), Untrue>>>);

/// A sum that is wrong, or could not be computed.
#[derive(Debug, Clone)]
struct Untrue {
    /// The file, if it is wrong.
    wrong: Option<PathBuf>,
    failure: Failure,
}

impl Sums {
    /// Begins to compute them, on a thread of its own.
    pub(super) fn begin(expected: Vec<ExpectedSum>, opener: &Opener, cancel: CancellationToken) -> Self {
        if expected.is_empty() {
            return Self(futures_util::future::ready(Ok(())).boxed().shared());
        }
        let opener = opener.clone();
        let taking = tokio::task::spawn_blocking(move || {
            expected.iter().try_for_each(|expected| check(expected, &opener, &cancel))
        });
        let taken = taking.map(|taken| {
            let lost = |error| Failure::internal(format!("taking a sum: {error}"));
            taken.unwrap_or_else(|error| Err(Untrue { wrong: None, failure: lost(error) }))
        });
        Self(taken.boxed().shared())
    }

    /// Waits for the end of it.
    ///
    /// # Errors
    /// The first sum that is wrong, or could not be computed.
    pub(super) async fn are_right(&self) -> Result<(), Failure> {
        self.0.clone().await.map_err(|untrue| untrue.failure)
    }

    /// Whether all are computed and right.
    pub(super) fn are_known_to_be_right(&self) -> bool {
        self.0.clone().now_or_never().is_some_and(|taken| taken.is_ok())
    }

    /// Waits for the end of it, and gives the file whose sum is wrong.
    pub(super) async fn wrong(&self) -> Option<PathBuf> {
        self.0.clone().await.err()?.wrong
    }
}

/// Takes these sums now, as far as they are not remembered.
///
/// # Errors
/// The first sum that is wrong, or could not be taken.
pub(crate) fn check_sums(expected: &[ExpectedSum], opener: &Opener) -> Result<(), Failure> {
    let cancel = CancellationToken::new();
    expected.iter().try_for_each(|expected| check(expected, opener, &cancel)).map_err(|untrue| untrue.failure)
}

fn check(expected: &ExpectedSum, opener: &Opener, cancel: &CancellationToken) -> Result<(), Untrue> {
    let sum = take(expected, opener, cancel);
    let sum =
        sum.map_err(|error| Untrue { wrong: None, failure: error.at(expected.path.display()).into() })?;
    if sum == expected.sum {
        return Ok(());
    }
    let what = format!("its sum is {}, and the file beside it says {}", sum.hex(), expected.sum.hex());
    let error = BundleError::new(Fault::DigestMismatch, what).at(expected.path.display());
    let failure = error.hint("fetch the bundle and its .sha256 again").into();
    Err(Untrue { wrong: Some(expected.path.clone()), failure })
}

/// The sum that the state remembers of this very file; otherwise the file is read, and its sum remembered.
fn take(expected: &ExpectedSum, opener: &Opener, cancel: &CancellationToken) -> Result<Digest, BundleError> {
    let file = opener.file(&expected.path)?;
    let identity = opener.identity(&file);
    let state = &opener.state;
    if let Some(known) = identity.as_ref().and_then(|identity| state.sum(identity))
        && known.algorithm() == expected.sum.algorithm()
    {
        return Ok(known);
    }
    let sum = read(expected, &file, cancel)?;
    if let Some(identity) = identity {
        state.remember_sum(&identity, sum);
    }
    Ok(sum)
}

fn read(expected: &ExpectedSum, file: &Source, cancel: &CancellationToken) -> Result<Digest, BundleError> {
    let (space, mut hasher, mut at) = (file.space(), expected.sum.hasher(), 0);
    loop {
        if cancel.is_cancelled() {
            return Err(BundleError::new(Fault::Cancelled, "the sum was not taken to its end"));
        }
        let chunk = space.chunk_at(at, CHUNK_BYTES)?;
        if chunk.is_empty() {
            // That it is the file that was opened for reading is what both compare it with in the end.
            return file.check_unchanged().map(|()| hasher.finish());
        }
        hasher.update(&chunk);
        at += chunk.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::bundle::Resources;
    use crate::source::IoMode;
    use crate::state::State;

    #[tokio::test]
    async fn a_sum_that_is_remembered_is_not_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let resources = Resources {
            memory_bytes: 64 << 20,
            decode_memory_bytes: 64 << 20,
            spool_folder: folder.path().to_owned(),
            spool_limit_bytes: u64::MAX,
            threads: 1,
            io: IoMode::Auto,
        };
        let opener = Opener::new(resources, State::open(&folder.path().join("state"))).unwrap();
        let path = folder.path().join("bundle");
        fs::write(&path, "content").unwrap();
        let (right, other) = (Digest::of(b"content"), Digest::of(b"other"));
        let is_right = |sum| {
            let expected = vec![ExpectedSum { path: path.clone(), sum }];
            let sums = Sums::begin(expected, &opener, CancellationToken::new());
            async move { sums.are_right().await.is_ok() }
        };
        // Once the moment is over at which a change might not show.
        crate::testing::eventually("a later change would show", || {
            opener.identity(&opener.file(&path).unwrap()).is_some()
        })
        .await;
        assert!(!is_right(other).await && is_right(right).await);
        assert_eq!(opener.known_sum(&path), Some(right));
        // As if it had been another one: nobody reads the file to know it better.
        let identity = opener.identity(&opener.file(&path).unwrap()).unwrap();
        opener.state.remember_sum(&identity, other);
        assert!(is_right(other).await && !is_right(right).await);
        fs::write(&path, "changed").unwrap();
        assert!(!is_right(other).await && is_right(Digest::of(b"changed")).await);
    }
}
