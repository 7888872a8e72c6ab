//! Bytes become zstd frames that decode alone, compressed by all cores and written in order.
//!
//! A frame ends where a large blob begins or ends, and after [`FRAME_BYTES`]. Small blobs share a frame until it is worth a part of its own.
//! Where frames end depends on the content alone, and so do the bytes that come out.

use std::collections::VecDeque;
use std::io::Write;

use crossbeam::channel::{Receiver, bounded};
use tokio_util::sync::CancellationToken;

use crate::bundle::Opener;
use crate::compress::{Method, compress_member};
use crate::error::{BundleError, Fault};

/// Most bytes of a frame. Larger ones do not decode with little memory; smaller ones cost more headers.
pub(super) const FRAME_BYTES: usize = 4 << 20;
/// A blob from this size on shares no frame with another. Readers put what is smaller together.
const ALONE_BYTES: u64 = 1 << 20;
/// Of the memory that reading may cost, frames that wait take this part.
const SHARE_OF_MEMORY: u64 = 8;
/// An empty skippable frame: what follows it is never read together with what precedes it.
const SEPARATOR: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];

/// Writes frames to `out`.
pub(super) struct FrameWriter<'a, W> {
    out: W,
    opener: &'a Opener,
    cancel: &'a CancellationToken,
    frame: Vec<u8>,
    /// Frames that are being compressed, in their order.
    pending: VecDeque<Receiver<Result<Vec<u8>, BundleError>>>,
    most_pending: usize,
    frames: u64,
}

impl<'a, W: Write> FrameWriter<'a, W> {
    pub(super) fn new(out: W, opener: &'a Opener, cancel: &'a CancellationToken) -> Self {
        let frames = opener.resources.memory_bytes / SHARE_OF_MEMORY / FRAME_BYTES as u64;
        let most_pending = usize::try_from(frames).unwrap_or(usize::MAX);
        let most_pending = most_pending.clamp(1, 2 * opener.pool.current_num_threads());
        let (frame, pending) = (Vec::new(), VecDeque::new());
        Self { out, opener, cancel, frame, pending, most_pending, frames: 0 }
    }

    /// Something of this size begins: a blob with its header.
    pub(super) fn begin(&mut self, size: u64) -> Result<(), BundleError> {
        if size >= ALONE_BYTES || self.frame.len() as u64 >= ALONE_BYTES { self.cut() } else { Ok(()) }
    }

    /// It ends.
    pub(super) fn end(&mut self, size: u64) -> Result<(), BundleError> {
        if size >= ALONE_BYTES { self.cut() } else { Ok(()) }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), BundleError> {
        while !bytes.is_empty() {
            let room = FRAME_BYTES - self.frame.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.frame.extend_from_slice(now);
            if self.frame.len() == FRAME_BYTES {
                self.cut()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// What was written so far is never decoded together with what follows.
    pub(super) fn separate(&mut self) -> Result<(), BundleError> {
        self.cut()?;
        self.flush(0)?;
        self.put(&SEPARATOR)
    }

    /// Writes what is left. Gives back where it went, and how many frames there are.
    pub(super) fn finish(mut self) -> Result<(W, u64), BundleError> {
        self.cut()?;
        self.flush(0)?;
        Ok((self.out, self.frames))
    }

    fn cut(&mut self) -> Result<(), BundleError> {
        if self.frame.is_empty() {
            return Ok(());
        }
        super::go_on(self.cancel)?;
        self.flush(self.most_pending - 1)?;
        let frame = std::mem::take(&mut self.frame);
        let (done, compressed) = bounded(1);
        self.opener.pool.spawn(move || {
            // Whoever waits for it may have given up.
            let _ = done.send(compress_member(&frame, Method::Zstd));
        });
        self.pending.push_back(compressed);
        self.frames += 1;
        Ok(())
    }

    /// Writes frames until no more than `left` are under way.
    fn flush(&mut self, left: usize) -> Result<(), BundleError> {
        while self.pending.len() > left {
            let Some(compressed) = self.pending.pop_front() else { break };
            let lost = |_| BundleError::new(Fault::Io, "internal error while compressing a frame");
            let frame = compressed.recv().map_err(lost)??;
            self.put(&frame)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        self.out.write_all(bytes).map_err(|error| BundleError::io("writing the bundle", &error))
    }
}
