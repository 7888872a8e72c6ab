//! Decides which of the blobs that a mirror claims to have are read by one byte. Pure.
//!
//! The first blobs of a run are all read, then one in `ONE_IN` and at least one of each image. After one wrong answer all are.

/// This many blobs are read before any is passed over.
const FIRST: usize = 64;
/// After that, one in this many is.
const ONE_IN: usize = 16;

/// What is asked of one mirror.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    asked: usize,
    wrong: bool,
    closed: bool,
}

impl Sampling {
    /// Which of the `found` blobs of an image are asked for, by their places. Another image has others.
    pub(crate) fn pick(&mut self, found: usize) -> Vec<usize> {
        if self.closed || found == 0 {
            return Vec::new();
        }
        let first = if self.wrong { found } else { FIRST.saturating_sub(self.asked).min(found) };
        let count = first.max(found.div_ceil(ONE_IN));
        let start = self.asked;
        self.asked += count;
        (0..count).map(|step| (start + step * found / count) % found).collect()
    }

    /// The mirror claimed to have a blob, and does not.
    pub(crate) fn was_wrong(&mut self) {
        self.wrong = true;
    }

    /// Whether an answer to a HEAD is still trusted.
    pub(crate) fn trusts_heads(&self) -> bool {
        !self.wrong || self.closed
    }

    /// Whether blobs can be read from here, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed
    }

    /// Blobs cannot be read from here, so no more are. Returns whether that is news.
    pub(crate) fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_first_blobs_are_all_asked_for_then_one_in_sixteen_and_one_of_each_image() {
        let mut sampling = Sampling::default();
        assert_eq!(sampling.pick(0), [0; 0]);
        assert_eq!(sampling.pick(40).len(), 40);
        assert_eq!(sampling.pick(40).len(), 24);
        assert_eq!(sampling.pick(40).len(), 3);
        assert_eq!(sampling.pick(2).len(), 1);
    }

    #[test]
    fn no_blob_of_an_image_is_asked_for_twice_and_each_in_its_turn() {
        let mut sampling = Sampling::default();
        for found in [1, 7, 50, 33, 100] {
            let picked: HashSet<usize> = sampling.pick(found).into_iter().collect();
            assert!(picked.iter().all(|place| *place < found));
        }
        let firsts: HashSet<usize> = (0..5).flat_map(|_| sampling.pick(5)).collect();
        assert_eq!(firsts.len(), 5, "five images of five blobs are asked for five different ones");
        sampling.was_wrong();
        let all: HashSet<usize> = sampling.pick(500).into_iter().collect();
        assert_eq!(all.len(), 500);
    }

    #[test]
    fn what_cannot_be_read_is_asked_for_once() {
        let mut sampling = Sampling::default();
        sampling.was_wrong();
        assert!(!sampling.trusts_heads());
        assert_eq!([sampling.close(), sampling.close()], [true, false]);
        assert!(sampling.pick(5).is_empty() && sampling.trusts_heads());
    }
}
