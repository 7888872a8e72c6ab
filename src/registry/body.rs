//! The body of a blob on its way out: exact length, counted as it is taken, and an error of the bundle kept apart from an
//! error of the network.

use crate::clock::Instant;
use crate::locks::Mutex;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use crate::error::{BundleError, Fault};
use crate::registry::bandwidth::Passage;
use crate::registry::flight::Flight;
use crate::registry::{FlightPhase, Observer};

/// The largest piece handed to the network at once: only what is taken in small pieces shows that something moves.
const MAX_PIECE_BYTES: usize = 256 << 10;

/// Bytes to send, or the error that ended them.
pub(crate) type BodyStream = BoxStream<'static, Result<Bytes, BundleError>>;

/// The bytes of a blob, as often as they are needed.
///
/// A stream produces nothing before it is first polled, and withholds its last bytes until it knows that the digest is
/// right: a wrong blob is then never complete on the wire.
pub trait BlobBody: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// The bytes of a range; may be called again to send them once more.
    fn open(&self, range: Range<u64>) -> BodyStream;

    /// Gets the bytes ready where that may take long, before a request is opened that would wait for them.
    fn prepare(&self) -> BoxFuture<'_, Result<(), BundleError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether [`BlobBody::prepare`] has nothing to wait for.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl BlobBody for Bytes {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn open(&self, range: Range<u64>) -> BodyStream {
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(self.as_ref().len());
        let part = self.slice(at(range.start)..at(range.end));
        Box::pin(futures_util::stream::once(std::future::ready(Ok(part))))
    }
}

/// The progress of a body that is being sent.
pub(super) struct BodyProgress {
    start: Instant,
    moved_millis: AtomicU64,
    waits_for_source: AtomicBool,
    is_complete: AtomicBool,
    fault: Mutex<Option<BundleError>>,
}

impl BodyProgress {
    fn new(is_complete: bool) -> Self {
        Self {
            start: Instant::now(),
            moved_millis: AtomicU64::new(0),
            waits_for_source: AtomicBool::new(false),
            is_complete: AtomicBool::new(is_complete),
            fault: Mutex::default(),
        }
    }

    fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_millis.store(millis, Ordering::Relaxed);
    }

    /// When bytes were last taken.
    pub(super) fn moved(&self) -> Instant {
        self.start + Duration::from_millis(self.moved_millis.load(Ordering::Relaxed))
    }

    /// Whether the body waits for the bundle, for an early refusal, or for a limit on bytes a second, and not for the network.
    pub(super) fn waits_for_source(&self) -> bool {
        self.waits_for_source.load(Ordering::Relaxed)
    }

    /// Whether all bytes were taken.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// The fault of the bundle, if that ended the body.
    pub(super) fn fault(&self) -> Option<BundleError> {
        self.fault.lock().clone()
    }
}

/// The bytes of a blob that the network took, in all attempts together.
#[derive(Debug, Default)]
pub(super) struct TransferredBytes {
    bytes: AtomicU64,
    /// Up to which byte of the blob.
    at: AtomicU64,
    /// When the last byte of the present attempt was taken.
    whole_since: Mutex<Option<Instant>>,
}

impl TransferredBytes {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The next byte to be taken is this one of the blob.
    pub(super) fn goes_on_at(&self, byte: u64, observer: &dyn Observer) {
        let from = self.at.swap(byte, Ordering::Relaxed);
        if from != byte {
            observer.body_repositioned(from, byte);
        }
    }

    fn took(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.at.fetch_add(bytes, Ordering::Relaxed);
    }

    /// When the network took the last byte of the last attempt, if it took all.
    pub(super) fn whole_since(&self) -> Option<Instant> {
        *self.whole_since.lock()
    }
}

/// A body with progress.
pub(super) struct Metered {
    // Never contended: the lock only makes the stream shareable, which the client asks of bodies and never uses.
    stream: Mutex<BodyStream>,
    /// What the stream gave and the network has not taken.
    piece: Bytes,
    left: u64,
    /// Nothing is given before this ends.
    hold: Option<Pin<Box<Sleep>>>,
    passage: Passage,
    progress: Arc<BodyProgress>,
    taken: Arc<TransferredBytes>,
    observer: Arc<dyn Observer>,
    flight: Arc<Flight>,
}

impl Metered {
    /// `taken` counts the bytes of all attempts. For `hold` nothing follows the head of the request, so that a server that
    /// refuses it can say so before bytes that it does not read make it reset the connection.
    pub(super) fn new(
        body: &dyn BlobBody,
        range: Range<u64>,
        taken: Arc<TransferredBytes>,
        hold: Duration,
        passage: Passage,
        observer: Arc<dyn Observer>,
        flight: Arc<Flight>,
    ) -> (Self, Arc<BodyProgress>) {
        let left = range.end - range.start;
        let progress = Arc::new(BodyProgress::new(left == 0));
        *taken.whole_since.lock() = None;
        let stream = Mutex::new(body.open(range));
        let hold = (!hold.is_zero()).then(|| Box::pin(tokio::time::sleep(hold)));
        (
            Self {
                stream,
                piece: Bytes::new(),
                left,
                hold,
                passage,
                progress: Arc::clone(&progress),
                taken,
                observer,
                flight,
            },
            progress,
        )
    }

    /// Takes in whether the network has to wait for this.
    fn waits_for(&self, phase: FlightPhase, is_pending: bool) {
        self.progress.waits_for_source.store(is_pending, Ordering::Relaxed);
        self.flight.turn_to(if is_pending { phase } else { FlightPhase::Network });
    }

    fn fail(&mut self, error: BundleError) -> Poll<Option<Result<Frame<Bytes>, BundleError>>> {
        *self.progress.fault.lock() = Some(error.clone());
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = BundleError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BundleError>>> {
        let wrong_length = |left: u64, what: &str| {
            let detail = format!("the content is {what} than its size, {left} bytes before its end");
            BundleError::new(Fault::SizeMismatch, detail)
        };
        if let Some(hold) = self.hold.as_mut() {
            let held = hold.as_mut().poll(cx);
            self.progress.waits_for_source.store(held.is_pending(), Ordering::Relaxed);
            ready!(held);
            self.hold = None;
        }
        while self.piece.is_empty() {
            let stream = self.stream.get_mut();
            let polled = stream.as_mut().poll_next(cx);
            self.waits_for(FlightPhase::Bytes, polled.is_pending());
            self.progress.touch();
            match ready!(polled) {
                Some(Ok(bytes)) if bytes.len() as u64 > self.left => {
                    let error = wrong_length(self.left, "longer");
                    return self.fail(error);
                }
                Some(Ok(bytes)) => self.piece = bytes,
                Some(Err(error)) => return self.fail(error),
                None if self.left > 0 => {
                    let error = wrong_length(self.left, "shorter");
                    return self.fail(error);
                }
                None => return Poll::Ready(None),
            }
        }
        let size = self.passage.slice(self.piece.len().min(MAX_PIECE_BYTES));
        let passed = self.passage.poll(size, cx);
        self.waits_for(FlightPhase::Limit, passed.is_pending());
        ready!(passed);
        let piece = self.piece.split_to(size);
        self.left -= size as u64;
        self.taken.took(size as u64);
        if self.left == 0 {
            self.flight.turn_to(FlightPhase::Answer);
            *self.taken.whole_since.lock() = Some(Instant::now());
        }
        self.progress.touch();
        self.progress.is_complete.store(self.left == 0, Ordering::Release);
        self.observer.body_sent(size as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
