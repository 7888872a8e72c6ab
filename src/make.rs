//! Writers of bundles: what a bundle, a stage or a registry holds becomes a bundle of many parts with the catalog first.
//!
//! In: opened bundles. Out: a tar of an OCI layout in zstd frames. [`Contents`] is what goes into one; [`write`] makes the file.
//! The same contents give the same bytes, on any machine. The first frame has the table of blobs, `index.json`, all manifests and
//! all configurations: to know what is in the bundle is to decode that. No frame has bytes of two large blobs, so to read a
//! blob is to decode little else.

mod contents;
mod folder;
mod frames;
mod layout;
mod pieces;
mod pull;
mod staged;
mod store;
#[cfg(test)]
mod tests;
mod write;

use tokio_util::sync::CancellationToken;

use crate::error::{BundleError, Fault};

pub(crate) use contents::Contents;
pub(crate) use folder::LayoutFolder;
pub(crate) use pieces::OutputFile;
pub(crate) use pull::{PullChoice, PullDepth, Pulled, WantedImage, pull};
pub(crate) use staged::keep;
pub(crate) use store::PullStore;
pub(crate) use write::{Written, write};

/// Whether the work goes on.
///
/// # Errors
/// [`Fault::Cancelled`]
fn go_on(cancel: &CancellationToken) -> Result<(), BundleError> {
    if cancel.is_cancelled() {
        return Err(BundleError::new(Fault::Cancelled, "interrupted: nothing was written"));
    }
    Ok(())
}
