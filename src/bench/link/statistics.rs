//! Medians, how far they can be trusted, and whether two of them differ. Pure: the same samples give the same words.

use crate::report::document::Figure;

/// Samples that are drawn anew from those that were measured
/// ([Efron, 1979](https://doi.org/10.1214/aos/1176344552)).
const RESAMPLES: usize = 1000;
/// Fixed, so that the same samples have the same interval.
const SEED: u64 = 14;
/// Fewer samples say nothing of how far they spread.
const LEAST_SAMPLES: usize = 3;
/// A change of less than this is none, however certain.
const LEAST_CHANGE: f64 = 0.02;

/// A ratio of two medians, and its confidence interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::bench) struct Ratio {
    /// The second by the first.
    pub(in crate::bench) median: f64,
    pub(in crate::bench) low: f64,
    pub(in crate::bench) high: f64,
    /// Whether there are enough samples to tell.
    is_known: bool,
}

impl Ratio {
    /// Whether the two differ.
    pub(in crate::bench) fn is_real(&self) -> bool {
        let leaves_one_out = self.low > 1.0 || self.high < 1.0;
        self.is_known && leaves_one_out && (self.median - 1.0).abs() >= LEAST_CHANGE
    }

    /// Whether there are enough samples to tell.
    pub(in crate::bench) const fn is_known(&self) -> bool {
        self.is_known
    }
}

/// The median of samples with its confidence interval; none of no samples.
pub(in crate::bench) fn figure(samples: &[f64]) -> Option<Figure> {
    let median = median(samples)?;
    let mut drawn = fastrand::Rng::with_seed(SEED);
    let mut medians: Vec<f64> = (0..RESAMPLES).filter_map(|_| redrawn(samples, &mut drawn)).collect();
    medians.sort_by(f64::total_cmp);
    let (low, high) = interval(&medians)?;
    Some(Figure { median, low, high, samples: samples.to_vec() })
}

/// The median of `after` by that of `before`; none where one of them has no samples, or is nothing.
pub(in crate::bench) fn ratio(before: &[f64], after: &[f64]) -> Option<Ratio> {
    let first = median(before).filter(|median| *median > 0.0)?;
    let second = median(after)?;
    let mut drawn = fastrand::Rng::with_seed(SEED);
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let first = redrawn(before, &mut drawn).filter(|median| *median > 0.0)?;
            Some(redrawn(after, &mut drawn)? / first)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (low, high) = interval(&ratios)?;
    let is_known = before.len().min(after.len()) >= LEAST_SAMPLES;
    Some(Ratio { median: second / first, low, high, is_known })
}

/// The middle of samples; none of no samples.
pub(in crate::bench) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// A number of things, without its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is out of range is cut")]
pub(super) const fn whole(number: f64) -> u64 {
    number as u64
}

fn redrawn(samples: &[f64], drawn: &mut fastrand::Rng) -> Option<f64> {
    let again: Vec<f64> = samples.iter().map(|_| samples[drawn.usize(..samples.len())]).collect();
    median(&again)
}

/// Where nineteen of twenty lie.
fn interval(sorted: &[f64]) -> Option<(f64, f64)> {
    let last = sorted.len().checked_sub(1)?;
    Some((sorted[last / 40], sorted[last - last / 40]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_its_interval_and_the_interval_in_the_samples() {
        let samples = [9.0, 10.0, 10.5, 11.0, 30.0];
        let figure = figure(&samples).unwrap();
        assert!((figure.median - 10.5).abs() < 1e-9);
        assert!(figure.low >= 9.0 && figure.low < 10.5 && figure.high > 10.5 && figure.high <= 30.0);
        assert_eq!(figure, super::figure(&samples).unwrap(), "the seed is fixed");
        assert_eq!(super::figure(&[]), None);
        assert!((median(&[1.0, 2.0, 3.0, 10.0]).unwrap() - 2.5).abs() < 1e-9);
    }

    #[test]
    fn only_what_is_larger_than_the_noise_is_a_change() {
        let before = [100.0, 101.0, 99.0, 100.5, 99.5];
        for (after, is_real) in [
            ([120.0, 121.0, 119.0, 118.0, 122.0], true),
            ([80.0, 81.0, 79.0, 80.0, 80.0], true),
            // Half of them lie on each side.
            ([90.0, 120.0, 101.0, 99.0, 100.0], false),
            // Certain, and too little to matter.
            ([101.6, 101.5, 101.4, 101.5, 101.6], false),
        ] {
            let ratio = ratio(&before, &after).unwrap();
            assert_eq!(ratio.is_real(), is_real, "{after:?}: {ratio:?}");
        }
        assert!(!ratio(&[100.0], &[200.0]).unwrap().is_real(), "one sample says nothing of the spread");
        assert_eq!(ratio(&[0.0], &[1.0]), None);
        assert_eq!(ratio(&[], &[1.0]), None);
    }
}
