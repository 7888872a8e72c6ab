//! What to expect of a mirror, from what it answered so far. Pure.
//!
//! A right expectation saves a request or a round trip; a wrong one costs no more than that. No blob stays unsent because of
//! an expectation.

use super::probe_heuristic::ProbeHeuristic;
use super::sampling::Sampling;

/// Images whose large blobs are begun as if a new mirror lacked them before it has said so of any. They fill a link until it
/// has.
const SPECULATIVE_IMAGES: u8 = 4;

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
    /// How many more images may be begun before the mirror has said that it lacks any.
    speculative: u8,
    sessions_end: bool,
}

/// Which blobs of an image are begun while it is not known whether the mirror has the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// None.
    Nothing,
    /// Those that take longer to send than to ask for. The session of one that is not needed has to be cancelled.
    LargeBlobs,
    /// All.
    AllBlobs,
}

impl Expectations {
    /// Of a mirror that no run has filled yet, or of any other. It `speculates` where the large blobs of a few images are
    /// begun before it is known whether any image is lacking.
    pub(crate) fn new(is_new: bool, speculates: bool) -> Self {
        Self {
            small_blobs: ProbeHeuristic::new(is_new),
            untagged_images: ProbeHeuristic::new(is_new),
            sampling: Sampling::default(),
            lacks_images: false,
            speculative: if speculates { SPECULATIVE_IMAGES } else { 0 },
            sessions_end: true,
        }
    }

    /// An image was asked for.
    pub(crate) fn asked_for_image(&mut self, found: bool) {
        self.lacks_images = !found;
        self.speculative = 0;
    }

    /// A needless upload session cannot be cancelled: not every account may. No more are opened ahead.
    pub(crate) fn sessions_stay(&mut self) {
        self.sessions_end = false;
    }

    /// What of the next image is to be begun before the mirror has said whether it lacks it: everything where it lacked the
    /// one before.
    pub(crate) fn of_next_image(&mut self) -> Ahead {
        let is_speculative = self.speculative > 0;
        self.speculative = self.speculative.saturating_sub(1);
        match (self.sessions_end, self.lacks_images, is_speculative) {
            (true, true, _) => Ahead::AllBlobs,
            (true, false, true) => Ahead::LargeBlobs,
            _ => Ahead::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_images_are_begun_ahead_and_then_as_long_as_images_are_lacking() {
        let mut new = Expectations::new(true, true);
        let ahead: Vec<Ahead> = (0..100).map(|_| new.of_next_image()).collect();
        let (speculative, others) = ahead.split_at(usize::from(SPECULATIVE_IMAGES));
        assert!(speculative.iter().all(|ahead| *ahead == Ahead::LargeBlobs));
        assert!(others.iter().all(|ahead| *ahead == Ahead::Nothing));
        new.asked_for_image(false);
        assert_eq!([new.of_next_image(), new.of_next_image()], [Ahead::AllBlobs; 2]);
        let mut full = Expectations::new(true, true);
        full.asked_for_image(true);
        assert_eq!(full.of_next_image(), Ahead::Nothing, "it has said that it lacks nothing");
    }

    #[test]
    fn nothing_is_opened_ahead_where_sessions_cannot_be_cancelled() {
        let mut expectations = Expectations::new(false, false);
        expectations.asked_for_image(false);
        expectations.sessions_stay();
        assert_eq!(expectations.of_next_image(), Ahead::Nothing);
    }
}
