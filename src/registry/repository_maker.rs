//! Creates repositories that a registry does not create by itself (ECR, projects of Harbor, organizations of Quay). A callback
//! creates each missing repository once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::locks::Mutex;
use crate::oci::Repository;

/// Creates a repository. The error is for people.
type Make = dyn Fn(Repository) -> BoxFuture<'static, Result<(), String>> + Send + Sync;
/// The result, once it is known.
type MadeOnce = Arc<OnceCell<Result<(), String>>>;

/// Creates missing repositories.
pub(crate) struct RepositoryMaker {
    make: Box<Make>,
    made: Mutex<HashMap<Repository, MadeOnce>>,
}

impl RepositoryMaker {
    pub(crate) fn new(
        make: impl Fn(Repository) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        Self { make: Box::new(make), made: Mutex::default() }
    }

    /// Creates a repository, unless that was tried before. All callers wait for the same attempt.
    ///
    /// # Errors
    /// Why it could not be created.
    pub(super) async fn make(&self, repository: &Repository) -> Result<(), String> {
        let made = Arc::clone(self.made.lock().entry(repository.clone()).or_default());
        made.get_or_init(|| (self.make)(repository.clone())).await.clone()
    }
}

impl fmt::Debug for RepositoryMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryMaker({} made)", self.made.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn each_repository_is_made_once_whoever_wants_it() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let maker = RepositoryMaker::new(move |repository| {
            counted.fetch_add(1, Ordering::Relaxed);
            let fails = repository.as_str() == "b";
            async move { if fails { Err("no".to_owned()) } else { Ok(()) } }.boxed()
        });
        let (a, b): (Repository, Repository) = ("a".parse().unwrap(), "b".parse().unwrap());
        let all =
            futures_util::future::join_all([maker.make(&a), maker.make(&a), maker.make(&b), maker.make(&b)]);
        assert_eq!(all.await, [Ok(()), Ok(()), Err("no".to_owned()), Err("no".to_owned())]);
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }
}
