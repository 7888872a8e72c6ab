//! Contents become a file.

use std::io::Write;

use tokio_util::sync::CancellationToken;

use super::contents::{ContentBlob, Contents, check};
use super::frames::FrameWriter;
use super::layout::{self, ENDING};
use super::pieces::{OutputFile, PieceWriter, WrittenFile};
use crate::archive::blob_table::{BlobTable, OCI_LAYOUT, TABLE_NAME, blob_path, padded};
use crate::bundle::Opener;
use crate::error::{BundleError, Fault};
use crate::report::event::WorkStep;
use crate::report::{Event, Listeners};

const CHUNK_BYTES: usize = 256 << 10;

/// What was written.
#[derive(Debug)]
pub(crate) struct Written {
    /// The file, or its pieces in order.
    pub(crate) files: Vec<WrittenFile>,
    /// How many parts of it decode alone.
    pub(crate) frames: u64,
    /// How many blobs it has, manifests and configurations among them.
    pub(crate) blobs: usize,
    /// How many bytes they are.
    pub(crate) blob_bytes: u64,
}

/// Writes a bundle. It takes its name when it is whole and `sound` says that what it was made from is still what it was.
/// `listeners` hear how far it has come. Blocks.
///
/// # Errors
/// Content is damaged, the disk refuses, or `cancel` was cancelled: nothing is left then.
pub(crate) fn write(
    contents: &Contents,
    output: &OutputFile,
    opener: &Opener,
    cancel: &CancellationToken,
    listeners: &Listeners,
    sound: &dyn Fn() -> Result<(), BundleError>,
) -> Result<Written, BundleError> {
    let mut frames = FrameWriter::new(PieceWriter::new(output), opener, cancel);
    let index = layout::index(&contents.entries, contents.base());
    let documents = contents.documents.iter().map(|(digest, bytes)| (blob_path(digest), &bytes[..]));
    let fixed = [("oci-layout".to_owned(), OCI_LAYOUT), ("index.json".to_owned(), &index[..])];
    let table = BlobTable::new(fixed.len() + contents.documents.len(), places(&contents.blobs));
    // Digests and numbers cannot fail to be written.
    let table = serde_json::to_vec(&table).unwrap_or_default();
    let head = [(TABLE_NAME.to_owned(), &table[..])].into_iter().chain(fixed).chain(documents);
    for (name, bytes) in head {
        frames.write(&layout::header(&name, bytes.len() as u64))?;
        frames.write(bytes)?;
        frames.write(&vec![0; layout::pad(bytes.len() as u64)])?;
    }
    frames.separate()?;
    let (mut bytes, of) = (0, Some(contents.blobs.iter().map(|blob| blob.size).sum()));
    let mut wrote = |chunk: u64| {
        bytes += chunk;
        listeners.emit(&Event::Advanced { step: WorkStep::Write, bytes, of });
    };
    for blob in &contents.blobs {
        frames.begin(blob.size)?;
        copy(blob, &mut frames, &mut wrote)?;
        frames.end(blob.size)?;
    }
    frames.write(&ENDING)?;
    let (pieces, frames) = frames.finish()?;
    sound()?;
    let documents = contents.documents.values().map(|bytes| bytes.len() as u64);
    let blob_bytes = documents.chain(contents.blobs.iter().map(|blob| blob.size)).sum();
    let blobs = contents.documents.len() + contents.blobs.len();
    Ok(Written { files: pieces.persist()?, frames, blobs, blob_bytes })
}

/// Where blobs lie from the end of the head on.
fn places(blobs: &[ContentBlob]) -> Vec<(crate::oci::Digest, u64, u64)> {
    let mut at = 0;
    let place = |blob: &ContentBlob| {
        let offset = at + layout::header(&blob_path(&blob.digest), blob.size).len() as u64;
        at = offset + padded(blob.size);
        (blob.digest, offset, blob.size)
    };
    blobs.iter().map(place).collect()
}

/// A blob with its header, hashed on its way. `wrote` hears of each chunk.
fn copy(
    blob: &ContentBlob,
    frames: &mut FrameWriter<'_, impl Write>,
    wrote: &mut impl FnMut(u64),
) -> Result<(), BundleError> {
    let ContentBlob { digest, size, space } = blob;
    frames.write(&layout::header(&blob_path(digest), *size))?;
    let (mut hasher, mut offset) = (digest.hasher(), 0);
    while offset < *size {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
        let chunk = space.chunk_at(offset, left.min(CHUNK_BYTES))?;
        if chunk.is_empty() {
            let what = format!("{digest} ends after {offset} of its {size} bytes");
            return Err(BundleError::new(Fault::Truncated, what));
        }
        hasher.update(&chunk);
        frames.write(&chunk)?;
        offset += chunk.len() as u64;
        wrote(chunk.len() as u64);
    }
    space.release(0..*size);
    check(digest, hasher.finish()).or_else(|error| space.check_intact().and(Err(error)))?;
    frames.write(&vec![0; layout::pad(*size)])
}
