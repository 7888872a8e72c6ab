//! What a mirror is called, and where images are on it. Pure.

use crate::engine::MirrorSettings;
use crate::oci::{Digest, Repository, Tag};
use crate::plan::PlannedImage;
use crate::report::Failure;

/// What a mirror is called, and where it is.
#[derive(Debug)]
pub(in crate::engine::mirror) struct MirrorPlace {
    /// Its name in reports.
    pub(super) site: String,
    /// The registry, as references begin.
    host: String,
    /// Under which what is remembered of it is filed.
    pub(super) key: String,
    namespace: Option<Repository>,
}

impl MirrorPlace {
    pub(in crate::engine::mirror) fn of(settings: &MirrorSettings) -> Self {
        Self {
            site: settings.name.clone(),
            host: settings.target.endpoint.authority(),
            key: settings.target.lock_key(),
            namespace: settings.target.namespace.clone(),
        }
    }

    /// The repository of an image.
    ///
    /// # Errors
    /// Its name is too long below the namespace.
    pub(super) fn repository(&self, planned: &PlannedImage) -> Result<Repository, Failure> {
        Ok(planned.repository.below(self.namespace.as_ref())?)
    }

    /// An image below the registry, as reports name it.
    pub(super) fn of_image(&self, planned: &PlannedImage) -> String {
        planned.place(self.namespace.as_ref())
    }

    /// One tag of an image below the registry, as reports name it.
    pub(super) fn of_tag(&self, planned: &PlannedImage, tag: &Tag) -> String {
        planned.place_of(self.namespace.as_ref(), tag)
    }

    /// How clients name what is in a repository of it under a digest.
    pub(super) fn reference(&self, repository: &Repository, digest: &Digest) -> String {
        format!("{}/{repository}@{digest}", self.host)
    }
}
