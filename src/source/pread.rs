//! A file as a space of bytes by positioned reads: for network file systems, where a map could lose its pages.
//!
//! In: a held file. Out: copies of its bytes, at most 1 MiB at a time.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::ByteSpace;
use super::held::HeldFile;
use crate::error::BundleError;

const CHUNK_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct PositionedFile(Arc<HeldFile>);

impl PositionedFile {
    pub(super) fn new(held: Arc<HeldFile>) -> Self {
        Self(held)
    }
}

impl ByteSpace for PositionedFile {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.0.identity.size_bytes)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let left = self.0.identity.size_bytes.saturating_sub(offset);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(max).min(CHUNK_BYTES);
        if want == 0 {
            return Ok(Bytes::new());
        }
        let mut chunk = vec![0; want];
        let read = loop {
            match self.0.file.read_at(&mut chunk, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    break other.map_err(|e| self.0.refused(&format!("reading at byte {offset}"), &e))?;
                }
            }
        };
        // After the read: what was read is of the file that was opened.
        self.0.check()?;
        if read == 0 {
            return Err(self.0.changed(&format!("nothing can be read at byte {offset}")));
        }
        chunk.truncate(read);
        Ok(chunk.into())
    }
}
