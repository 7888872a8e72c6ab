//! The reading side of a run: opens the bundles, plans, and for a push hands on each image as it is found.
//!
//! An archive inside the bundle goes to the mirrors before the bundle has been read to its end. The backlog keeps the reader
//! from running far ahead of those who compress and send, so that an archive is read again while its decoded parts are still
//! in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::backlog::{Backlog, BacklogShare};
use super::prepare::Preparer;
use super::work::Work;
use crate::archive::{Catalog, Content, ContentKey, LeftOut};
use crate::bundle::{Accept, Bundle, Input, LayerKey, LayerRecall, OpenObserver, Opener};
use crate::error::{BundleError, Fault};
use crate::oci::Digest;
use crate::plan::{self, Groups, Plans};
use crate::report::{Event, Failure, Listeners};

/// What people should know of the bundles, however reading them ended.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// Entries that were not taken.
    pub left_out: Vec<LeftOut>,
    /// Other notes.
    pub notes: Vec<String>,
    /// Those of the notes that name mistyped flags: nobody should miss them.
    pub unmatched: Vec<String>,
}

/// Bundles that were read, and what goes where.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub bundle: Arc<Bundle>,
    pub plans: Plans,
}

/// How bundles are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadSettings {
    pub(super) accept: Accept,
    pub(super) allow_damaged: bool,
    /// Mirrors do not wait for the first image to connect.
    pub(super) connect_early: bool,
    /// Mirrors may begin when all has been read.
    pub(super) mirrors_come_later: bool,
}

/// Opens bundles and plans them for all mirrors. Blocks. `listeners` hear of each note at once, and `met` has them all.
pub(super) fn read(
    inputs: &[Input],
    opener: &Opener,
    groups: &Groups,
    settings: ReadSettings,
    listeners: &Listeners,
    observer: &dyn OpenObserver,
    met: &mut Met,
) -> Result<Read, BundleError> {
    let ReadSettings { accept, allow_damaged, .. } = settings;
    let mut bundle = opener.open(inputs, listeners, observer)?;
    met.notes.clone_from(&bundle.catalog.notes);
    met.left_out.clone_from(&bundle.catalog.left_out);
    let note = |met: &mut Met, notes: Vec<String>| {
        for note in &notes {
            listeners.note(note);
        }
        met.notes.extend(notes);
    };
    note(met, bundle.settle(accept, allow_damaged)?);
    let plans = groups.plan(&bundle.catalog, accept);
    let damaged = bundle.catalog.broken.iter();
    let damaged = damaged
        .map(|broken| LeftOut::unreadable(&broken.name, "a damaged image", broken.error.to_string()))
        .collect::<Vec<_>>();
    met.left_out = [bundle.catalog.left_out.as_slice(), &plans.left_out(), &damaged].concat();
    met.unmatched = plans.unmatched();
    met.notes.extend(met.unmatched.clone());
    let plans = plans.check()?;
    note(met, plans.notes());
    Ok(Read { bundle: Arc::new(bundle), plans })
}

/// The same for commands that only ask the mirrors, on a thread that may block.
pub(super) async fn read_for_questions(
    inputs: Vec<Input>,
    opener: Opener,
    groups: Groups,
    accept: Accept,
    listeners: Listeners,
) -> Result<(Read, Met), BundleError> {
    let reading = tokio::task::spawn_blocking(move || {
        let settings =
            ReadSettings { accept, allow_damaged: false, connect_early: false, mirrors_come_later: false };
        let mut met = Met::default();
        let read = read(&inputs, &opener, &groups, settings, &listeners, &(), &mut met)?;
        Ok((read, met))
    });
    reading.await.unwrap_or_else(|error| Err(panicked(&error)))
}

/// The thread that read the bundle is gone.
pub(super) fn panicked(error: &tokio::task::JoinError) -> BundleError {
    BundleError::new(Fault::Io, format!("reading the bundle: {error}"))
}

/// Reads for a push.
pub(super) struct BundleReader {
    pub(super) inputs: Vec<Input>,
    pub(super) opener: Opener,
    pub(super) groups: Groups,
    pub(super) settings: ReadSettings,
    pub(super) listeners: Listeners,
    /// The list of each group of mirrors.
    pub(super) works: Vec<Arc<Work>>,
    pub(super) preparer: Arc<Preparer>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) recall: LayerRecall,
    pub(super) cancel: CancellationToken,
}

impl BundleReader {
    /// Reads everything and lets the mirrors know what there is, at last what each one's plan holds. Blocks.
    pub(super) fn read(self) -> (Met, Result<Read, BundleError>) {
        let mut met = Met::default();
        let Self { inputs, opener, groups, settings, listeners, .. } = &self;
        let read = read(inputs, opener, groups, *settings, listeners, &self, &mut met);
        if let Ok(read) = &read {
            self.preparer.layers.know(self.recall.layers(&read.bundle.catalog, read.bundle.identities()));
            self.agree(read);
            // Those who have begun have said what they need.
            self.opener.decoder.settle(settings.mirrors_come_later);
        }
        (met, read)
    }

    fn agree(&self, Read { bundle, plans }: &Read) {
        let images = plans.by_mirror().map(|plan| plan.as_ref().map_or(0, |plan| plan.images.len()));
        let images: Vec<usize> = images.collect();
        // Mirrors with the same rules share a plan: each is counted once.
        let of_group = |plan: &Result<Arc<plan::Plan>, _>| {
            plan.as_ref().map_or(0, |plan| self.blob_bytes(plan, &bundle.catalog))
        };
        let of_groups: Vec<u64> = plans.by_group().iter().map(of_group).collect();
        let mirrors = (0..images.len()).map(|mirror| of_groups[self.groups.of_mirror(mirror)]);
        self.listeners.emit(&Event::Planned { bytes: mirrors.collect(), images });
        let unreadable = bundle.lacks_something() && !self.settings.accept.unreadable;
        for (work, plan) in self.works.iter().zip(plans.by_group()) {
            match plan {
                Ok(plan) => work.agree(plan, bundle, unreadable),
                Err(error) => work.refuse(Failure::from(error)),
            }
        }
    }

    /// Bytes of the blobs of a plan, each blob once. What a layer is compressed to may be an estimate.
    fn blob_bytes(&self, plan: &plan::Plan, catalog: &Catalog) -> u64 {
        let mut blobs: HashMap<Digest, u64> = HashMap::new();
        let mut layers: HashMap<LayerKey, u64> = HashMap::new();
        for image in &plan.images {
            match &image.content {
                Content::Manifest(root) => {
                    let closure = plan::Closure::of(catalog, root).blobs.into_iter();
                    blobs.extend(closure.map(|blob| (blob.digest, blob.size)));
                }
                Content::Unpacked(image) => {
                    blobs.insert(image.config_digest, image.config.len() as u64);
                    let known = &self.preparer.layers;
                    let sized = image.layers.iter().map(|it| (LayerKey::of(it), known.estimated_bytes(it)));
                    layers.extend(sized);
                }
            }
        }
        blobs.into_values().sum::<u64>() + layers.into_values().sum::<u64>()
    }

    /// The images of an archive go to the mirrors from now on. Waits while too much is found and unread.
    fn offer(&self, part: &Catalog) {
        let order: HashMap<ContentKey, usize> =
            part.images.iter().enumerate().map(|(at, image)| (image.content.key(), at)).collect();
        let mut images: Vec<(&Arc<Work>, plan::PlannedImage)> = Vec::new();
        for (work, rules) in self.works.iter().zip(self.groups.rules()) {
            let early = plan::early(part, rules, self.settings.accept);
            images.extend(early.into_iter().map(|planned| (work, planned)));
        }
        if images.is_empty() {
            return;
        }
        // Nobody waits for an image until others have all of the archive.
        images.sort_by_key(|(_, planned)| order.get(&planned.content.key()).copied());
        let part = Arc::new(part.clone());
        let mut shares: HashMap<ContentKey, BacklogShare> = HashMap::new();
        for (work, planned) in images {
            let share = match shares.entry(planned.content.key()) {
                Entry::Occupied(entered) => entered.get().clone(),
                Entry::Vacant(place) => {
                    let bytes = bytes(&planned.content, &part);
                    let entered = self.backlog.enter(bytes, &self.cancel, || self.mirrors_are_busy());
                    let Some(entered) = entered else { return };
                    place.insert(entered).clone()
                }
            };
            work.add(planned, &part, share);
        }
    }

    /// Whether mirrors have begun and all of them have something to do. Otherwise waiting for them helps nobody.
    fn mirrors_are_busy(&self) -> bool {
        let busy: Vec<bool> = self.works.iter().filter_map(|work| work.is_busy()).collect();
        !busy.is_empty() && busy.iter().all(|busy| *busy)
    }
}

impl OpenObserver for BundleReader {
    fn reads(&self) {
        if self.settings.connect_early {
            self.works.iter().for_each(|work| work.takes_time());
        }
    }

    fn found(&self, part: &Catalog) {
        self.preparer.layers.know(self.recall.layers(part, &[]));
        self.offer(part);
    }
}

/// What must be read for an image.
fn bytes(content: &Content, catalog: &Catalog) -> u64 {
    match content {
        Content::Unpacked(image) => image.layers.iter().map(|layer| layer.size).sum(),
        Content::Manifest(root) => plan::Closure::of(catalog, root).blobs.iter().map(|blob| blob.size).sum(),
    }
}
