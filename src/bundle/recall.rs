//! Which blobs layers became in earlier runs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::archive::{Catalog, Image, Stored, UnpackedLayer};
use crate::compress::{LayerFacts, Method};
use crate::oci::{Digest, media_type};
use crate::stage::{Stage, StagedLayer};
use crate::state::{BundleIdentity, KnownLayer, State};

/// The same layer may be stored in several ways, and each makes another blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LayerKey {
    /// The digest of its plain tar.
    pub diff_id: Digest,
    /// How the bundle stores it.
    pub stored: Stored,
    /// In how many bytes.
    pub size: u64,
}

impl LayerKey {
    /// The key of a layer.
    pub(crate) const fn of(layer: &UnpackedLayer) -> Self {
        Self { diff_id: layer.diff_id, stored: layer.stored, size: layer.size }
    }
}

/// What is known of the blobs that layers become.
pub(crate) type KnownLayers = HashMap<LayerKey, LayerFacts>;

/// What the state and the stage recall of layers that are compressed with one method.
#[derive(Debug, Clone)]
pub(crate) struct LayerRecall {
    state: Arc<State>,
    stage: Option<Arc<Stage>>,
    method: Method,
}

impl LayerRecall {
    pub(crate) fn new(state: &Arc<State>, stage: Option<&Arc<Stage>>, method: Method) -> Self {
        Self { state: Arc::clone(state), stage: stage.map(Arc::clone), method }
    }

    /// What is known of the blobs that the layers of a catalog become. Where a layer is compressed already, its blob is
    /// what this very bundle holds, so it is known by the bundle as well.
    pub(crate) fn layers(&self, catalog: &Catalog, bundles: &[BundleIdentity]) -> KnownLayers {
        let mut wanted: HashMap<String, Vec<&UnpackedLayer>> = HashMap::new();
        for layer in catalog.images.iter().flat_map(Image::unpacked_layers) {
            if let Some(recipe) = self.recipe(LayerKey::of(layer), bundles) {
                wanted.entry(recipe).or_default().push(layer);
            }
        }
        let mut known = KnownLayers::new();
        for (recipe, layers) in wanted {
            let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
            let found = self.state.layers(&recipe, &diff_ids);
            let staged = |layer: &UnpackedLayer| {
                let StagedLayer { digest, size, media_type, .. } =
                    self.stage.as_ref()?.layer(&recipe, &layer.diff_id)?;
                Some(KnownLayer { digest, size, media_type })
            };
            for layer in layers {
                let became = found.get(&layer.diff_id).cloned().or_else(|| staged(layer));
                let Some(KnownLayer { digest, size, media_type }) = &became else { continue };
                let Some(media_type) = media_type::known_layer(media_type) else { continue };
                known.insert(LayerKey::of(layer), LayerFacts { digest: *digest, size: *size, media_type });
            }
        }
        known
    }

    /// Keeps what a run found out.
    pub(crate) fn remember(&self, learned: &KnownLayers, bundles: &[BundleIdentity]) {
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

    /// What decides which blob a layer becomes. One diff_id may be stored in several ways in one bundle.
    pub(crate) fn recipe(&self, layer: LayerKey, bundles: &[BundleIdentity]) -> Option<String> {
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
}
