//! What a push remembers of earlier ones: which blobs its layers will become, and that no other run is at the same mirrors.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::archive::{Catalog, Stored, UnpackedLayer};
use crate::compress::{LayerFacts, Method};
use crate::engine::{KnownLayers, LayerKey};
use crate::exit::Exit;
use crate::oci::{Digest, media_type};
use crate::report::Failure;
use crate::report::Listeners;
use crate::report::Outcome;
use crate::state::{BundleIdentity, KnownLayer, LockError, RunCounts, RunId, RunLock, State};

/// Locks the mirrors of a run. Where the state's folder cannot be used the run goes on without: two at once waste time.
pub(super) fn lock(
    folder: Option<&Path>,
    mirrors: &[String],
    listeners: &Listeners,
) -> Result<Option<RunLock>, Failure> {
    let Some(folder) = folder else { return Ok(None) };
    match RunLock::acquire(folder, mirrors) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ LockError::Held { .. }) => {
            Err(Failure { class: "locked", ..Failure::new(error.exit(), error.to_string()) })
        }
        Err(error) => {
            listeners.note(error.to_string());
            Ok(None)
        }
    }
}

/// The memory of one push.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    state: Arc<State>,
    method: Method,
}

impl Memory {
    pub(super) fn new(state: &Arc<State>, method: Method) -> Self {
        Self { state: Arc::clone(state), method }
    }

    /// What is known of the blobs that the layers of a catalog become. Where a layer is compressed already, its blob is
    /// what this very bundle holds, so it is known by the bundle as well.
    pub(super) fn layers(&self, catalog: &Catalog, bundles: &[BundleIdentity]) -> KnownLayers {
        let mut wanted: HashMap<String, Vec<&UnpackedLayer>> = HashMap::new();
        for layer in catalog.images.iter().flat_map(crate::archive::Image::unpacked_layers) {
            if let Some(recipe) = self.recipe(LayerKey::of(layer), bundles) {
                wanted.entry(recipe).or_default().push(layer);
            }
        }
        let mut known = KnownLayers::new();
        for (recipe, layers) in wanted {
            let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
            let found = self.state.layers(&recipe, &diff_ids);
            for layer in layers {
                let Some(KnownLayer { digest, size, media_type }) = found.get(&layer.diff_id) else {
                    continue;
                };
                let Some(media_type) = media_type::known_layer(media_type) else { continue };
                known.insert(LayerKey::of(layer), LayerFacts { digest: *digest, size: *size, media_type });
            }
        }
        known
    }

    /// Keeps what a run found out.
    pub(super) fn remember(&self, learned: &KnownLayers, bundles: &[BundleIdentity]) {
        let mut lists: HashMap<String, Vec<(Digest, KnownLayer)>> = HashMap::new();
        for (key, facts) in learned {
            let Some(recipe) = self.recipe(*key, bundles) else { continue };
            let layer = KnownLayer {
                digest: facts.digest,
                size: facts.size,
                media_type: facts.media_type.to_owned(),
            };
            lists.entry(recipe).or_default().push((key.diff_id, layer));
        }
        for (recipe, layers) in &lists {
            self.state.remember_layers(recipe, layers);
        }
    }

    /// What is in these bundles is not what was remembered, or they are damaged: the next run looks again.
    pub(super) fn doubt(&self, bundles: &[BundleIdentity]) {
        for bundle in bundles {
            self.state.forget_catalog(bundle);
        }
    }

    /// What decides which blob a layer becomes. One diff_id may be stored in several ways in one bundle.
    fn recipe(&self, layer: LayerKey, bundles: &[BundleIdentity]) -> Option<String> {
        let LayerKey { stored, size, .. } = layer;
        match stored {
            Stored::Plain => Some(self.method.recipe().to_owned()),
            Stored::Gzip | Stored::Zstd if bundles.is_empty() => None,
            Stored::Gzip | Stored::Zstd => {
                let bundles: Vec<String> = bundles.iter().map(ToString::to_string).collect();
                Some(format!("as stored, {stored:?}, {size} bytes, in {}", bundles.join(" ")))
            }
        }
    }

    /// Whether nothing was ever brought to this mirror, as far as is remembered.
    pub(super) fn is_new(&self, mirror: &str) -> bool {
        self.state.is_kept() && !self.state.has_filled(mirror)
    }

    pub(super) fn begin(&self, bundles: &[String], mirrors: &[String]) -> Option<RunId> {
        self.state.begin_run(&bundles.join(" "), &mirrors.join(" "))
    }

    pub(super) fn end(&self, run: Option<RunId>, exit: Exit, outcomes: &[Outcome], listeners: &Listeners) {
        let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum();
        let counts = RunCounts {
            images_complete: sum(|outcome| outcome.images_complete as u64),
            images_incomplete: sum(|outcome| outcome.images_failed.len() as u64),
            blobs_sent: sum(|outcome| outcome.blobs_sent),
            bytes_sent: sum(|outcome| outcome.bytes_sent),
        };
        if let Some(run) = run {
            self.state.end_run(run, exit, counts);
        }
        self.state.take_notes().iter().for_each(|note| listeners.note(note));
    }
}
