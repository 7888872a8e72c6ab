//! What was pulled into the stage is a bundle of it: it stays there for its sites file, whether sites take all of it or not.

use std::collections::HashSet;
use std::sync::Arc;

use crate::bundle::{Input, Opener, PulledBundle};
use crate::engine::entries;
use crate::error::BundleError;
use crate::plan::Closure;
use crate::report::Listeners;
use crate::stage::{StagedImage, StagedRoot};

/// Lists the images of a bundle whose blobs are all in the stage of the opener.
///
/// # Errors
/// The documents of the bundle make no sense.
pub(crate) fn keep(pulled: &Arc<PulledBundle>, opener: &Opener) -> Result<(), BundleError> {
    let Some(stage) = &opener.stage else { return Ok(()) };
    let bundle = opener.open(&[Input::Pulled(Arc::clone(pulled))], &Listeners::default(), &())?;
    let catalog = &bundle.catalog;
    let image = |content| {
        let manifest = catalog.manifests.get(&content)?;
        let (entries, subject) = entries::of(catalog, content);
        let Closure { manifests, blobs, .. } = Closure::of(catalog, &content);
        let blobs = blobs.iter().filter(|blob| !blob.is_foreign()).map(|blob| blob.digest);
        Some(StagedImage {
            content,
            root: StagedRoot {
                media_type: manifest.media_type.clone(),
                digest: manifest.digest,
                size: manifest.bytes.len() as u64,
            },
            entries,
            subject,
            blobs: manifests.into_iter().chain(blobs).collect(),
            layers: Vec::new(),
        })
    };
    let mut known = HashSet::new();
    let contents = catalog.images.iter().map(|image| image.content.key().digest());
    let images: Vec<StagedImage> =
        contents.filter(|content| known.insert(*content)).filter_map(image).collect();
    stage.keep(&images);
    Ok(())
}
