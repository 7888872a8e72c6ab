//! Tags and manifests that are removed
//! ([distribution-spec, content management](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#content-management)).

use reqwest::Method;

use crate::oci::{Digest, Repository, Tag};
use crate::registry::Registry;
use crate::registry::auth::Scopes;
use crate::registry::client::ApiRequest;
use crate::registry::error::RegistryError;

/// The result of a request to remove something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// It is gone.
    Done,
    /// It was not there.
    Absent,
    /// The registry does not support that.
    Unsupported,
}

impl Registry {
    /// Removes a tag and nothing else. Not every registry can: distribution up to 2.8 refuses.
    pub(crate) async fn delete_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Deleted, RegistryError> {
        self.delete(repository, tag.as_str()).await
    }

    /// Removes a manifest. **Every tag that stands for it goes with it.**
    pub(crate) async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deleted, RegistryError> {
        self.delete(repository, &digest.to_string()).await
    }

    async fn delete(&self, repository: &Repository, reference: &str) -> Result<Deleted, RegistryError> {
        let url = self.url(&format!("{repository}/manifests/{reference}"))?;
        let request = ApiRequest::new(Method::DELETE, url).also(&[400, 404, 405, 501]);
        let reply = self.call_with(repository, &Scopes::deleting(repository), &request).await?;
        Ok(match reply.status {
            404 => Deleted::Absent,
            400 | 405 | 501 => Deleted::Unsupported,
            _ => Deleted::Done,
        })
    }
}
