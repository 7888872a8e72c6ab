//! What the mirrors of a run share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::RunSettings;
use super::checksums::Sums;
use super::image::WorkImage;
use super::prepare::Preparer;
use super::work::{Agreed, Work};
use crate::archive::{ContentKey, Unit};
use crate::exit::Exit;
use crate::hook::gate::Gates;
use crate::locks::Mutex;
use crate::report::{Failure, Listeners};
use crate::state::State;

/// What the mirrors of one plan share. All but `work` is shared with the mirrors of other plans too.
pub(super) struct Context {
    /// The images of the plan.
    pub(super) work: Arc<Work>,
    pub(super) preparer: Arc<Preparer>,
    pub(super) listeners: Listeners,
    pub(super) settings: RunSettings,
    pub(super) damage: Arc<Damage>,
    pub(super) sums: Sums,
    pub(super) gates: Arc<Gates>,
    pub(super) state: Arc<State>,
}

/// Damage that was found while images were read. No tag moves on a mirror whose plan has one of them.
#[derive(Debug, Default)]
pub(super) struct Damage {
    content: Mutex<HashMap<ContentKey, Failure>>,
    /// A file of the bundle changed while a mirror still lacked something.
    changed: AtomicBool,
}

impl Damage {
    pub(super) fn is_empty(&self) -> bool {
        self.content.lock().is_empty()
    }

    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }
}

impl Context {
    /// A full disk or the like is not the bundle's fault: it fails an image, not the run.
    pub(super) fn note_damage(&self, image: &WorkImage, failure: &Failure) {
        if failure.exit == Exit::Bundle {
            let mut damage = self.damage.content.lock();
            damage.entry(image.planned.content.key()).or_insert_with(|| failure.clone());
        }
    }

    /// A mirror has everything. If the files are unchanged now, a later change does not matter to it.
    pub(super) async fn note_change(&self, agreed: &Agreed) {
        let bundle = Arc::clone(&agreed.bundle);
        // A file server may not answer.
        let unchanged = tokio::task::spawn_blocking(move || bundle.check_unchanged().is_ok()).await;
        if !unchanged.unwrap_or(false) {
            self.damage.changed.store(true, Ordering::Relaxed);
        }
    }

    /// The damage of these images, by the archive that it is confined to: the first fault of each.
    pub(super) fn damage(&self, images: &[usize]) -> HashMap<Unit, Failure> {
        let damage = self.damage.content.lock();
        let mut units = HashMap::new();
        for image in images.iter().filter_map(|at| self.work.image(*at)) {
            if let Some(failure) = damage.get(&image.planned.content.key()) {
                units.entry(image.planned.unit.clone()).or_insert_with(|| failure.clone());
            }
        }
        units
    }
}
