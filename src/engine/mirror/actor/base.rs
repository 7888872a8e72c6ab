//! Asks, before anything is sent, whether a mirror has the blobs that a delta leaves to its base.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use tokio::sync::OnceCell;

use super::Actor;
use crate::archive::Content;
use crate::engine::image::Lease;
use crate::engine::work::Agreed;
use crate::oci::{Digest, Repository};
use crate::plan::Closure;
use crate::report::{Class, Failure};
use crate::units::count;

/// Blobs asked for at once; the limiter bounds the requests in flight.
const BLOBS_AT_ONCE: usize = 64;
/// Missing blobs that a message names.
const MAX_NAMED: usize = 5;

/// A blob of the base, and where it is needed.
struct NeededBlob {
    digest: Digest,
    size: u64,
    repositories: BTreeSet<Repository>,
    image: String,
}

/// Whether a mirror has what deltas leave to their bases; asked once.
#[derive(Debug, Default)]
pub(in crate::engine::mirror) struct BaseCheck(OnceCell<Result<(), Failure>>);

impl BaseCheck {
    /// Asks before the first image of a delta is sent. The answer holds for all its images.
    ///
    /// # Errors
    /// The mirror lacks some of it, or cannot be asked.
    pub(super) async fn holds(&self, actor: &Actor, lease: &Lease) -> Result<(), Failure> {
        if lease.image.catalog.left_to_base.is_empty() {
            return Ok(());
        }
        let asking = async { actor.ask_for_base(&actor.run.work.settled().await?).await };
        self.0.get_or_init(|| asking).await.clone()
    }
}

impl Actor {
    /// Asks for every blob that the images of the mirror need and the bundles leave to their bases. Then the location of each is
    /// known, and it can be mounted from there.
    async fn ask_for_base(&self, agreed: &Agreed) -> Result<(), Failure> {
        let catalog = &agreed.bundle.catalog;
        if catalog.left_to_base.is_empty() {
            return Ok(());
        }
        let (mut needed, mut places) = (BTreeMap::<Digest, NeededBlob>::new(), BTreeSet::new());
        for &at in agreed.images.iter() {
            let Some(image) = self.run.work.image(at) else { continue };
            let repository = self.place.repository(&image.planned)?;
            places.insert(repository.clone());
            let Content::Manifest(root) = &image.planned.content else { continue };
            for blob in Closure::of(catalog, root).blobs {
                if catalog.left_to_base.contains_key(&blob.digest) {
                    let (digest, size, image) = (blob.digest, blob.size, image.planned.name.clone());
                    let first = || NeededBlob { digest, size, repositories: BTreeSet::new(), image };
                    needed.entry(digest).or_insert_with(first).repositories.insert(repository.clone());
                }
            }
        }
        let asked = stream::iter(needed.into_values()).map(|blob| self.ask_for(blob, &places));
        let missing: Vec<Result<Option<NeededBlob>, Failure>> = asked.buffered(BLOBS_AT_ONCE).collect().await;
        let missing: Vec<Option<NeededBlob>> = missing.into_iter().collect::<Result<_, _>>()?;
        let missing: Vec<NeededBlob> = missing.into_iter().flatten().collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let named: Vec<String> =
            missing.iter().take(MAX_NAMED).map(|blob| format!("{} of {}", blob.digest, blob.image)).collect();
        let more = missing.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let base = catalog.left_to_base.get(&first.digest).map_or("its base", |base| base);
        let message = format!(
            "the bundle is a delta, and the mirror lacks {} that it leaves to {base}: {}{more}; nothing was sent",
            count(missing.len(), "blob"),
            named.join(", ")
        );
        Err(Failure::new(Class::BaseMissing, message.clone())
            .cause(message)
            .hint("push the base first, or with it (--source BASE --source DELTA)"))
    }

    /// The blob, if the mirror has it nowhere.
    async fn ask_for(
        &self,
        blob: NeededBlob,
        places: &BTreeSet<Repository>,
    ) -> Result<Option<NeededBlob>, Failure> {
        let others = places.iter().filter(|place| !blob.repositories.contains(*place));
        for repository in blob.repositories.iter().chain(others) {
            let found = {
                let _permit = self.transfer.link.question().await?;
                self.transfer.link.registry.head_blob(repository, &blob.digest).await
            };
            if found.map_err(|error| self.transfer.link.judge(&error))? == Some(blob.size) {
                self.transfer.knowledge.lock().blobs.note(repository, std::iter::once(blob.digest));
                return Ok(None);
            }
        }
        Ok(Some(blob))
    }
}
