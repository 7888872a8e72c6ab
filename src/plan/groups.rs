//! Each mirror has a plan of its own; mirrors with the same rules share one.

use std::sync::Arc;

use super::{Plan, Rules};
use crate::archive::{Catalog, LeftOut};
use crate::bundle::Accept;
use crate::error::BundleError;

/// Which mirrors share a plan.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    rules: Vec<Arc<Rules>>,
    /// The place in `rules` of each mirror.
    of_mirrors: Vec<usize>,
}

impl Groups {
    /// Groups mirrors by their rules, given in the order of the mirrors.
    pub(crate) fn by_rules<'r>(mirrors: impl IntoIterator<Item = &'r Arc<Rules>>) -> Self {
        let mut groups = Self { rules: Vec::new(), of_mirrors: Vec::new() };
        for rules in mirrors {
            let known = groups.rules.iter().position(|known| Arc::ptr_eq(known, rules) || known == rules);
            let at = known.unwrap_or(groups.rules.len());
            if known.is_none() {
                groups.rules.push(Arc::clone(rules));
            }
            groups.of_mirrors.push(at);
        }
        groups
    }

    /// The rules of each group.
    pub(crate) fn rules(&self) -> &[Arc<Rules>] {
        &self.rules
    }

    /// The number of the group that a mirror is in.
    pub(crate) fn of_mirror(&self, mirror: usize) -> usize {
        self.of_mirrors[mirror]
    }

    /// Plans a bundle for each group.
    pub(crate) fn plan(&self, catalog: &Catalog, accept: Accept) -> Plans {
        let plan = |rules: &Arc<Rules>| Plan::new(catalog, rules, accept).map(Arc::new);
        Plans { by_group: self.rules.iter().map(plan).collect(), of_mirrors: self.of_mirrors.clone() }
    }
}

/// The plans of all mirrors. One whose rules do not fit the bundle has an error in the place of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Plans {
    by_group: Vec<Result<Arc<Plan>, BundleError>>,
    of_mirrors: Vec<usize>,
}

impl Plans {
    /// The plan of each group.
    pub(crate) fn by_group(&self) -> &[Result<Arc<Plan>, BundleError>] {
        &self.by_group
    }

    /// The plan of each mirror.
    pub(crate) fn by_mirror(&self) -> impl Iterator<Item = &Result<Arc<Plan>, BundleError>> {
        self.of_mirrors.iter().map(|at| &self.by_group[*at])
    }

    /// The plan of one mirror.
    pub(crate) fn of_mirror(&self, mirror: usize) -> Result<&Arc<Plan>, &BundleError> {
        self.by_group[self.of_mirrors[mirror]].as_ref()
    }

    /// Images for the mirror that gets most.
    pub(crate) fn most_images(&self) -> usize {
        self.whole().map(|plan| plan.images.len()).max().unwrap_or(0)
    }

    /// What any of them leaves out, once.
    pub(crate) fn left_out(&self) -> Vec<LeftOut> {
        union(self.whole().map(|plan| &plan.left_out))
    }

    /// What people should know of any of them, once.
    pub(crate) fn notes(&self) -> Vec<String> {
        union(self.whole().map(|plan| &plan.notes))
    }

    /// Flags that change nothing in any of them, once.
    pub(crate) fn unmatched(&self) -> Vec<String> {
        union(self.whole().map(|plan| &plan.unmatched))
    }

    /// Gives up the plans that have no image.
    ///
    /// # Errors
    /// What is wrong with the first of them, if no plan is left.
    pub(crate) fn check(mut self) -> Result<Self, BundleError> {
        for plan in &mut self.by_group {
            if let Ok(some) = plan
                && let Err(error) = some.check_not_empty()
            {
                *plan = Err(error);
            }
        }
        match self.by_group.first() {
            Some(Err(error)) if self.by_group.iter().all(Result::is_err) => Err(error.clone()),
            _ => Ok(self),
        }
    }

    fn whole(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.by_group.iter().filter_map(|plan| plan.as_ref().ok())
    }
}

/// All of the first list, and what the others have besides.
fn union<'t, T: Clone + PartialEq + 't>(mut lists: impl Iterator<Item = &'t Vec<T>>) -> Vec<T> {
    let first = lists.next().cloned().unwrap_or_default();
    lists.flatten().fold(first, |mut known, it| {
        if !known.contains(it) {
            known.push(it.clone());
        }
        known
    })
}
