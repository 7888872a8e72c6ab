//! The retry budget of one host: retries must not amplify an overload. Pure.

/// Retries that a host has to begin with.
const INITIAL: f64 = 100.0;
/// Retries that it can have at most.
const MAX: f64 = 200.0;
/// Retries that each new request adds: an overloaded registry gets at most half as many requests again.
const PER_REQUEST: f64 = 0.5;

/// A token bucket of retries, which requests fill.
#[derive(Debug)]
pub(in crate::registry) struct RetryBudget(f64);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(INITIAL)
    }
}

impl RetryBudget {
    /// A request begins.
    pub(in crate::registry) fn deposit(&mut self) {
        self.0 = (self.0 + PER_REQUEST).min(MAX);
    }

    /// Takes one retry; false, if none is left.
    pub(in crate::registry) fn withdraw(&mut self) -> bool {
        let enough = self.0 >= 1.0;
        if enough {
            self.0 -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_pay_for_one_retry() {
        let mut budget = RetryBudget::default();
        let granted =
            std::iter::repeat_with(|| budget.withdraw()).take(150).filter(|&granted| granted).count();
        assert_eq!(granted, 100);
        budget.deposit();
        assert!(!budget.withdraw());
        budget.deposit();
        assert!(budget.withdraw() && !budget.withdraw());
    }

    #[test]
    fn there_is_a_most() {
        let mut budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(std::iter::repeat_with(|| budget.withdraw()).take_while(|&granted| granted).count(), 200);
    }
}
