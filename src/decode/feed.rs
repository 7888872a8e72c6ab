//! Stored bytes on their way into a decoder, window by window, from a space or from a pipe.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::BundleError;
use crate::source::ByteSpace;

const WINDOW_BYTES: usize = 1 << 20;
const PIPE_BYTES: usize = 256 << 10;

/// Stored bytes in order. Where a decoder stops inside a window, the rest stays for the next call.
pub(super) trait Feed: Send {
    /// The next bytes, empty at the end.
    fn window(&mut self) -> Result<&[u8], BundleError>;

    /// The first `len` bytes of the window are used.
    fn advance(&mut self, len: usize);

    /// How many bytes were used: the offset of the next one.
    fn position(&self) -> u64;
}

/// Feeds a range of a space, with a few bytes before it and after it where a format needs a frame around a part.
#[derive(Debug)]
pub(super) struct SpaceFeed<S> {
    space: S,
    next: u64,
    end: u64,
    window: Bytes,
    tail: Bytes,
}

impl SpaceFeed<Arc<dyn ByteSpace>> {
    /// The whole space.
    pub(super) fn all(space: Arc<dyn ByteSpace>) -> Self {
        Self::framed(space, Bytes::new(), 0..u64::MAX, Bytes::new())
    }
}

impl<S: AsSpace> SpaceFeed<S> {
    /// `head`, the range, `tail`.
    pub(super) fn framed(space: S, head: Bytes, range: Range<u64>, tail: Bytes) -> Self {
        Self { space, next: range.start, end: range.end, window: head, tail }
    }
}

/// A space, owned or borrowed.
pub(super) trait AsSpace: Send {
    fn as_space(&self) -> &dyn ByteSpace;
}

impl AsSpace for Arc<dyn ByteSpace> {
    fn as_space(&self) -> &dyn ByteSpace {
        &**self
    }
}

impl AsSpace for &dyn ByteSpace {
    fn as_space(&self) -> &dyn ByteSpace {
        *self
    }
}

impl<S: AsSpace> Feed for SpaceFeed<S> {
    fn window(&mut self) -> Result<&[u8], BundleError> {
        if self.window.is_empty() && self.next < self.end {
            let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
            self.window = self.space.as_space().chunk_at(self.next, left.min(WINDOW_BYTES))?;
            self.next += self.window.len() as u64;
            if self.window.is_empty() {
                self.end = self.next;
            }
        }
        if self.window.is_empty() {
            self.window = std::mem::take(&mut self.tail);
        }
        Ok(&self.window)
    }

    fn advance(&mut self, len: usize) {
        self.window = self.window.slice(len..);
    }

    fn position(&self) -> u64 {
        self.next.saturating_sub(self.window.len() as u64)
    }
}

/// Feeds what a reader gives.
#[derive(Debug)]
pub(super) struct PipeFeed<R> {
    reader: R,
    buffer: Vec<u8>,
    filled: Range<usize>,
    used: u64,
}

impl<R: Read> PipeFeed<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; PIPE_BYTES], filled: 0..0, used: 0 }
    }

    /// The first `len` bytes, fewer only if there are no more; they stay in the feed.
    pub(super) fn head(&mut self, len: usize) -> Result<&[u8], BundleError> {
        while self.filled.len() < len && self.read()? {}
        let head = &self.buffer[self.filled.clone()];
        Ok(&head[..head.len().min(len)])
    }

    /// Reads once more behind what is there; false at the end.
    fn read(&mut self) -> Result<bool, BundleError> {
        loop {
            match self.reader.read(&mut self.buffer[self.filled.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BundleError::io("reading the pipe", &error)),
                Ok(read) => {
                    self.filled.end += read;
                    return Ok(read > 0);
                }
            }
        }
    }
}

impl<R: Read + Send> Feed for PipeFeed<R> {
    fn window(&mut self) -> Result<&[u8], BundleError> {
        if self.filled.is_empty() {
            self.filled = 0..0;
            self.read()?;
        }
        Ok(&self.buffer[self.filled.clone()])
    }

    fn advance(&mut self, len: usize) {
        self.filled.start += len;
        self.used += len as u64;
    }

    fn position(&self) -> u64 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(feed: &mut dyn Feed) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let window = feed.window().unwrap();
            if window.is_empty() {
                return all;
            }
            let used = window.len().min(3);
            all.extend_from_slice(&window[..used]);
            feed.advance(used);
        }
    }

    #[test]
    fn a_framed_range_comes_between_its_head_and_tail() {
        let space = Bytes::from_static(b"0123456789");
        let space: &dyn ByteSpace = &space;
        let mut feed = SpaceFeed::framed(space, Bytes::from_static(b"<"), 2..6, Bytes::from_static(b">"));
        assert_eq!(drain(&mut feed), b"<2345>");
    }

    #[test]
    fn a_space_and_a_pipe_give_the_same() {
        let content = b"some bytes of a bundle".as_slice();
        let mut pipe = PipeFeed::new(content);
        assert_eq!(pipe.head(4).unwrap(), b"some");
        assert_eq!(pipe.head(99).unwrap(), content);
        assert_eq!(drain(&mut pipe), content);
        assert_eq!(pipe.position(), content.len() as u64);
        let mut feed = SpaceFeed::all(Arc::new(Bytes::from_static(content)));
        assert_eq!(drain(&mut feed), content);
        assert_eq!(feed.position(), content.len() as u64);
    }
}
