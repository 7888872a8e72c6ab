//! What to expect of a mirror, from what it answered so far. Pure.
//!
//! A right expectation saves a request or a round trip; a wrong one costs no more than that. No blob stays unsent because of
//! an expectation.

use super::probe_heuristic::ProbeHeuristic;
use super::sampling::Sampling;

/// What to expect of a mirror.
#[derive(Debug)]
pub(crate) struct Expectations {
    /// Whether small blobs are there before they are sent.
    pub(crate) small_blobs: ProbeHeuristic,
    /// Whether images are there that none of their tags names.
    pub(crate) untagged_images: ProbeHeuristic,
    /// Which of the blobs that it claims to have are read.
    pub(crate) sampling: Sampling,
    lacks_images: bool,
    scouts: bool,
    sessions_end: bool,
}

impl Expectations {
    /// Of a mirror that no run has filled yet, or of any other. A scout is an image that is sent as if it were lacking before it
    /// is known whether any image is.
    pub(crate) fn new(is_new: bool, scouts: bool) -> Self {
        Self {
            small_blobs: ProbeHeuristic::new(is_new),
            untagged_images: ProbeHeuristic::new(is_new),
            sampling: Sampling::default(),
            lacks_images: false,
            scouts,
            sessions_end: true,
        }
    }

    /// An image was asked for.
    pub(crate) fn asked_for_image(&mut self, found: bool) {
        self.lacks_images = !found;
    }

    /// A needless upload session cannot be cancelled: not every account may. No more are opened ahead.
    pub(crate) fn sessions_stay(&mut self) {
        self.sessions_end = false;
    }

    /// Whether the next image is to be brought as if the mirror lacked it: as it lacked the one before, or because one
    /// image must be the first.
    pub(crate) fn next_image_is_lacking(&mut self) -> bool {
        let scouts = std::mem::take(&mut self.scouts);
        (scouts || self.lacks_images) && self.sessions_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_is_brought_ahead_and_then_as_long_as_images_are_lacking() {
        let mut new = Expectations::new(true, true);
        assert_eq!([new.next_image_is_lacking(), new.next_image_is_lacking()], [true, false]);
        new.asked_for_image(false);
        assert_eq!([new.next_image_is_lacking(), new.next_image_is_lacking()], [true, true]);
        new.asked_for_image(true);
        assert!(!new.next_image_is_lacking());
    }

    #[test]
    fn nothing_is_opened_ahead_where_sessions_cannot_be_cancelled() {
        let mut expectations = Expectations::new(false, false);
        expectations.asked_for_image(false);
        expectations.sessions_stay();
        assert!(!expectations.next_image_is_lacking());
    }
}
