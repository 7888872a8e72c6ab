//! The gate of a mirror judges each complete image before its tags move.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};

use super::tags::Checked;
use super::withheld::Withheld;
use super::{Actor, IMAGES_AT_ONCE, Results, Untagged};
use crate::engine::image::WorkImage;
use crate::hook::Hook;
use crate::hook::gate::GatedImage;
use crate::report::Failure;
use crate::report::outcome::Phase;

impl Actor {
    /// Has the gate judge every image whose tags are to move. An image that it refuses has failed.
    pub(super) async fn judge_all(
        &self,
        withheld: &Withheld,
        checked: &mut HashMap<usize, Checked>,
        results: &mut Results,
    ) {
        let Some(gate) = &self.policy.gate else { return };
        let candidate = |at: &usize| {
            let (untagged, image) = (results.untagged.get(at)?, self.run.work.image(*at)?);
            let waits = !untagged.tags_to_move.is_empty() && withheld.of(Some(&image)).is_none();
            waits.then(|| (*at, self.candidate(&image, untagged)))
        };
        let mut candidates: Vec<(usize, GatedImage)> = checked.keys().filter_map(candidate).collect();
        candidates.sort_by_key(|(at, _)| *at);
        let judging = candidates.into_iter().map(|(at, candidate)| async move {
            self.enter(at, Phase::Gate);
            (at, self.judge(gate, candidate).await)
        });
        let mut judging = stream::iter(judging).buffer_unordered(IMAGES_AT_ONCE);
        while let Some((at, judged)) = judging.next().await {
            self.enter(at, Phase::Tag);
            if let (Err(failure), Some(image)) = (judged, self.run.work.image(at)) {
                checked.remove(&at);
                results.untagged.remove(&at);
                self.fail(results, at, &image, Phase::Gate, failure);
            }
        }
    }

    fn candidate(&self, image: &WorkImage, untagged: &Untagged) -> GatedImage {
        let digest = untagged.root.digest;
        GatedImage {
            image: image.planned.name.clone(),
            reference: self.place.reference(&untagged.repository, &digest),
            digest,
            tags: untagged.tags_to_move.iter().map(|moved| moved.tag.to_string()).collect(),
            site: self.place.site.clone(),
            mirror: self.place.key.clone(),
        }
    }

    async fn judge(&self, gate: &Hook, candidate: GatedImage) -> Result<(), Failure> {
        let stop = self.stop.token();
        let judged = self.run.gates.judge(gate, candidate, stop).await;
        judged.map_err(|failure| if stop.is_cancelled() { self.stop.why() } else { failure })
    }
}
