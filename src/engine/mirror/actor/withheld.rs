//! Why tags of one mirror may not be moved although their images are there.

use std::collections::HashMap;

use super::{Actor, Results};
use crate::archive::Unit;
use crate::engine::image::WorkImage;
use crate::engine::work::Agreed;
use crate::plan::PlannedImage;
use crate::report::{Class, Failure};

/// Why tags may not be moved.
pub(super) struct Withheld {
    /// By the archive that is damaged.
    damaged: HashMap<Unit, Failure>,
    incomplete: Option<Failure>,
}

impl Withheld {
    pub(super) fn of(&self, image: Option<&WorkImage>) -> Option<Failure> {
        let damaged = image.and_then(|image| self.damaged.get(&image.planned.unit));
        damaged.or(self.incomplete.as_ref()).cloned()
    }
}

impl Actor {
    /// No tag of an archive that is damaged moves, and with `--atomic-tags` none of an incomplete mirror.
    pub(super) fn withheld(&self, agreed: &Agreed, results: &Results) -> Withheld {
        let accepted = self.run.settings.accept.digest_lost;
        let loses = |at: &usize, planned: &PlannedImage| {
            !accepted
                && results
                    .untagged
                    .get(at)
                    .is_some_and(|untagged| planned.lost(&untagged.manifests).is_some())
        };
        let mut demanding = agreed.demanding.iter();
        let cannot_be = demanding.any(|(at, planned)| planned.shortfall.is_some() || loses(at, planned));
        let failed = agreed.images.iter().any(|at| results.failed.contains_key(at));
        let incomplete = agreed.left_out || cannot_be || failed;
        let allowed = self.run.settings.allow_damaged;
        let damaged = if allowed { HashMap::new() } else { self.run.damage(&agreed.images) };
        let of_unit = |(unit, failure): (Unit, Failure)| {
            let what = unit.as_deref().unwrap_or("the bundle");
            let message = format!("not tagged, because {what} is damaged: {}", failure.message);
            let hint = Some("--allow-damaged tags the images that are pushed".to_owned());
            (unit, Failure { message, hint, ..failure })
        };
        let damaged = damaged.into_iter().map(of_unit).collect();
        let incomplete = (incomplete && self.policy.atomic_tags).then(|| {
            let message = "not tagged, because other images of this mirror are not complete";
            Failure::new(Class::Withheld, message)
                .hint("run again when the others can be completed, or without --atomic-tags")
        });
        Withheld { damaged, incomplete }
    }
}
