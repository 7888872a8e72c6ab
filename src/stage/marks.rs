//! Finds and writes the marks of bundles, holds them while a run uses them, and removes them when nobody needs them or room is
//! short.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::eviction::{self, StagedBundle};
use super::folder::{ChangeLock, Runs, StageFolder, found, remove, sync_folder};
use super::layout;
use super::mark::{CatalogFile, Mark, StagedImage, StagedLayer};
use super::{NotStaged, Stage};
use crate::clock;
use crate::oci::Digest;
use crate::state::BundleIdentity;

/// A mark takes some hundred bytes for each blob of its bundle.
const MAX_MARK_BYTES: u64 = 256 << 20;
/// As the state has it.
const MAX_CATALOG_BYTES: u64 = 64 << 20;
/// The room of a disk that is left to others.
const LEFT_FREE: u64 = 64 << 20;

/// A bundle that this run uses.
#[derive(Debug)]
pub(super) struct Used {
    stem: String,
    mark: Mark,
    /// The digests of its images, as [`StagedImage::content`] has them.
    contents: HashSet<Digest>,
    /// Locked as long as this lives.
    _hold: File,
}

/// A bundle that was opened.
#[derive(Debug)]
pub(crate) struct OpenedBundle<'a> {
    /// Which one it is; none of one that cannot be known again.
    pub(crate) identity: Option<&'a BundleIdentity>,
    /// What it is called.
    pub(crate) path: &'a str,
    /// The digests of its images: of the manifest, or of the configuration where there is none.
    pub(crate) contents: HashSet<Digest>,
    /// Who writes the catalog.
    pub(crate) reader: &'a str,
}

impl Stage {
    /// What was in this bundle when an earlier run read it, as that run wrote it down; none where that was another `reader`.
    pub(crate) fn catalog(&self, bundle: &BundleIdentity, reader: &str) -> Option<Vec<u8>> {
        let read = || {
            let _change = self.folder.change()?;
            let marks = self.marks()?;
            let remembered =
                marks.iter().filter_map(|(stem, mark)| Some((mark.bundle.as_ref()?, (stem, mark))));
            let Some((stem, mark)) = bundle.known_among(remembered) else { return Ok(None) };
            let Some(catalog) = mark.catalog.as_ref().filter(|it| it.reader == reader) else {
                return Ok(None);
            };
            let text = StageFolder::read_small(&self.folder.of_bundle(stem, "catalog"), MAX_CATALOG_BYTES)?;
            let text = text.filter(|text| catalog.digest.matches(text));
            Ok(text.and_then(|text| STANDARD.decode(text).ok()))
        };
        self.noted("reading the mark of a bundle", read()).flatten()
    }

    /// A bundle was opened: its mark is made where there is none, and held until the run ends. `catalog` is asked for where the
    /// stage has none of it.
    pub(crate) fn enter(&self, bundle: OpenedBundle<'_>, catalog: impl FnOnce() -> Option<Vec<u8>>) {
        let entered = self.enter_or_fail(bundle, catalog);
        if self.noted("writing the mark of a bundle", entered).is_none() {
            self.is_use_unknown.store(true, Relaxed);
        }
    }

    fn enter_or_fail(
        &self,
        bundle: OpenedBundle<'_>,
        catalog: impl FnOnce() -> Option<Vec<u8>>,
    ) -> io::Result<()> {
        let OpenedBundle { identity, path, contents, reader } = bundle;
        let change = self.folder.change()?;
        let marks = self.marks()?;
        let remembered = marks.iter().filter_map(|(stem, mark)| Some((mark.bundle.as_ref()?, (stem, mark))));
        let known = identity.and_then(|identity| identity.known_among(remembered));
        let (stem, mut mark) = match (known, identity) {
            (Some((stem, mark)), _) => (stem.clone(), mark.clone()),
            (None, Some(identity)) => {
                (identity.file_stem(), Mark::new(Some(identity.clone()), path.to_owned()))
            }
            // Of the same images it is the same.
            (None, None) => {
                let mut all: Vec<String> = contents.iter().map(ToString::to_string).collect();
                all.sort_unstable();
                let stem = Digest::of(all.join("\n").as_bytes()).hex()[..32].to_owned();
                let known = marks.iter().find(|(known, _)| *known == stem).map(|(_, mark)| mark.clone());
                (stem, known.unwrap_or_else(|| Mark::new(None, path.to_owned())))
            }
        };
        let hold = self.folder.hold(&change, &stem)?;
        path.clone_into(&mut mark.path);
        mark.used_at = clock::unix_millis();
        mark.owners.extend(self.owner.clone());
        let mut entered = Used { stem, mark, contents, _hold: hold };
        let written = self.write_entered(&mut entered, identity.is_some(), reader, catalog);
        // It is used all the same where the disk takes no more.
        let mut used = self.used.lock();
        used.retain(|used| used.stem != entered.stem);
        used.push(entered);
        written
    }

    fn write_entered(
        &self,
        Used { stem, mark, .. }: &mut Used,
        may_be_known_again: bool,
        reader: &str,
        catalog: impl FnOnce() -> Option<Vec<u8>>,
    ) -> io::Result<()> {
        let is_there = mark.catalog.as_ref().is_some_and(|it| it.reader == reader);
        if may_be_known_again && !is_there {
            mark.catalog = None;
            // Text, because whoever reads the stage as a bundle asks what compressed bytes are.
            let text = catalog().map(|bytes| STANDARD.encode(bytes).into_bytes());
            if let Some(text) = text.filter(|text| text.len() as u64 <= MAX_CATALOG_BYTES) {
                self.folder.write_whole(&self.folder.of_bundle(stem, "catalog"), &text)?;
                mark.catalog = Some(CatalogFile { digest: Digest::of(&text), reader: reader.to_owned() });
            }
        }
        self.write_mark(stem, mark)
    }

    /// Forgets the catalog of a bundle whose bytes do not match it: the next run reads the bundle.
    pub(crate) fn forget_catalog(&self, bundle: &BundleIdentity) {
        let forget = || {
            let _change = self.folder.change()?;
            for (stem, mut mark) in self.marks()? {
                if mark.bundle.as_ref().is_some_and(|it| bundle.known_among([(it, ())]).is_some()) {
                    mark.catalog = None;
                    self.write_mark(&stem, &mark)?;
                }
            }
            for used in &mut *self.used.lock() {
                if used.mark.bundle.as_ref().is_some_and(|it| bundle.known_among([(it, ())]).is_some()) {
                    used.mark.catalog = None;
                }
            }
            Ok(())
        };
        self.noted("forgetting what is in a bundle", forget());
    }

    /// What a layer with this plain tar became by this recipe, in the runs before this one.
    pub(crate) fn layer(&self, recipe: &str, diff_id: &Digest) -> Option<StagedLayer> {
        let layers = self.layers.get_or_init(|| {
            let marks = self.folder.change().and_then(|_change| self.marks());
            let marks = self.noted("reading the marks of bundles", marks).unwrap_or_default();
            let layers = marks.into_iter().flat_map(|(_, mark)| mark.images).flat_map(|image| image.layers);
            layers.map(|layer| ((layer.recipe.clone(), layer.diff_id), layer)).collect()
        });
        layers.get(&(recipe.to_owned(), *diff_id)).cloned()
    }

    /// These images are whole now. They are listed under the bundles of this run that they are of.
    pub(crate) fn list(&self, images: &[StagedImage]) {
        let listed = self.keep(images);
        for image in images {
            if listed.contains(&image.root.digest) {
                self.figures.images.fetch_add(1, Relaxed);
            } else {
                self.left_image_out(&image.root.digest.to_string(), &"it could not be listed");
            }
        }
    }

    /// Lists images, and gives the digests of all that are listed now. Not of this run's images alone.
    pub(crate) fn keep(&self, images: &[StagedImage]) -> HashSet<Digest> {
        let list = || {
            self.folder.sync_blobs()?;
            let change = self.folder.change()?;
            let mut used = self.used.lock();
            let mut listed = HashSet::new();
            for Used { stem, mark, contents, .. } in &mut *used {
                for image in images.iter().filter(|image| contents.contains(&image.content)) {
                    mark.add(image.clone());
                }
                // Other runs may have changed what this one did not.
                if let Some(written) = self.mark(stem)? {
                    mark.owners.extend(written.owners);
                    let ours: HashSet<Digest> = mark.images.iter().map(|image| image.root.digest).collect();
                    for image in written.images.into_iter().filter(|it| !ours.contains(&it.root.digest)) {
                        mark.images.insert(0, image);
                    }
                }
                mark.keep_whole(|digest| self.folder.blob(digest).is_file());
                self.write_mark(stem, mark)?;
                listed.extend(mark.images.iter().map(|image| image.root.digest));
            }
            drop(used);
            self.write_index(&change)?;
            Ok(listed)
        };
        self.noted("listing images", list()).unwrap_or_default()
    }

    /// The run ends. What this run's sites file does not need any more is not its own any more, and what nobody owns then goes,
    /// unless another run uses it. So do blobs that no bundle needs.
    pub(crate) fn collect(&self) {
        let collect = || {
            let change = self.folder.change()?;
            let used: HashSet<String> = self.used.lock().iter().map(|used| used.stem.clone()).collect();
            if let Some(owner) = self.owner.as_ref().filter(|_| !self.is_use_unknown.load(Relaxed)) {
                let mut gone = Vec::new();
                for (stem, mut mark) in self.marks()? {
                    if used.contains(&stem) || !mark.owners.remove(owner) {
                        continue;
                    }
                    if mark.owners.is_empty() && !self.folder.is_held(&change, &stem) {
                        gone.push(stem);
                    } else {
                        self.write_mark(&stem, &mark)?;
                    }
                }
                self.remove_bundles(&change, &gone)?;
            }
            let needed = self.marks()?.iter().flat_map(|(_, mark)| mark.blobs()).collect();
            self.remove_orphans(&change, &needed, Runs::Others)
        };
        self.noted("collecting what no bundle needs", collect());
    }

    /// Makes room for `size` more bytes.
    pub(super) fn make_room(&self, change: &ChangeLock<'_>, size: u64) -> Result<(), NotStaged> {
        let over = |stage: &Self| -> io::Result<u64> {
            let taken = stage.limit.map_or(Ok(0), |_| stage.taken())?;
            Ok(stage.limit.map_or(0, |limit| taken.saturating_add(size).saturating_sub(limit)))
        };
        let lacks = |stage: &Self| (size + LEFT_FREE).saturating_sub(stage.folder.free_bytes());
        let wanted = over(self)?.max(lacks(self));
        if wanted == 0 {
            return Ok(());
        }
        let marks = self.marks()?;
        let mut needed: HashSet<Digest> = marks.iter().flat_map(|(_, mark)| mark.blobs()).collect();
        needed.extend(self.contents.lock().relied_on.iter());
        self.remove_orphans(change, &needed, Runs::All)?;
        let wanted = over(self)?.max(lacks(self));
        let sizes = self.folder.blobs()?;
        let candidate = |(stem, mark): &(String, Mark)| StagedBundle {
            is_held: self.folder.is_held(change, stem),
            is_owned: !mark.owners.is_empty(),
            used_at: mark.used_at,
            blobs: mark.blobs(),
            own_bytes: 0,
        };
        let candidates: Vec<StagedBundle> = marks.iter().map(candidate).collect();
        if wanted > 0
            && let Some(gone) = eviction::choose(&candidates, &sizes, wanted)
        {
            let gone: Vec<String> = gone.iter().map(|at| marks[*at].0.clone()).collect();
            self.remove_bundles(change, &gone)?;
        }
        if over(self)? > 0 {
            return Err(NotStaged::Limit(self.limit.unwrap_or(0)));
        }
        if lacks(self) > 0 {
            return Err(NotStaged::Full(self.folder.root().to_owned()));
        }
        Ok(())
    }

    /// Removes bundles with all that no other one needs.
    fn remove_bundles(&self, change: &ChangeLock<'_>, stems: &[String]) -> io::Result<()> {
        if stems.is_empty() {
            return Ok(());
        }
        let (gone, stay): (Vec<_>, Vec<_>) =
            self.marks()?.into_iter().partition(|(stem, _)| stems.contains(stem));
        let mut needed: HashSet<Digest> = stay.iter().flat_map(|(_, mark)| mark.blobs()).collect();
        needed.extend(self.contents.lock().relied_on.iter());
        // Marks go first: one that stands names what is there.
        for (stem, _) in &gone {
            self.folder.forget(change, stem)?;
        }
        let listed = self.write_index(change);
        for digest in gone.iter().flat_map(|(_, mark)| mark.blobs()).filter(|digest| !needed.contains(digest))
        {
            self.remove_blob(&digest)?;
        }
        // A full disk has room for it now.
        listed.or_else(|_| self.write_index(change))?;
        self.figures.bundles_removed.fetch_add(gone.len() as u64, Relaxed);
        self.contents.lock().taken = None;
        Ok(())
    }

    /// Removes blobs that nobody needs, but for those that one of these runs may have put there and not listed yet: what is
    /// younger than the first of them.
    fn remove_orphans(&self, _: &ChangeLock<'_>, needed: &HashSet<Digest>, among: Runs) -> io::Result<()> {
        let first = self.folder.first_run(among)?;
        for digest in self.folder.blobs()?.keys().filter(|digest| !needed.contains(digest)) {
            let Some(facts) = found(std::fs::symlink_metadata(self.folder.blob(digest)))? else { continue };
            let put = facts.modified()?;
            if first.is_none_or(|first| put < first) {
                self.remove_blob(digest)?;
            }
        }
        Ok(())
    }

    fn remove_blob(&self, digest: &Digest) -> io::Result<()> {
        remove(&self.folder.blob(digest))?;
        let mut contents = self.contents.lock();
        contents.blobs.remove(digest);
        contents.taken = None;
        Ok(())
    }

    fn write_index(&self, _: &ChangeLock<'_>) -> io::Result<()> {
        let marks = self.marks()?;
        let index = layout::index(&marks.iter().map(|(_, mark)| mark).collect::<Vec<_>>());
        let path = self.folder.index();
        // What stays as it is costs no disk a sync.
        match StageFolder::read_small(&path, index.len() as u64) {
            Ok(Some(written)) if written == index => Ok(()),
            _ => self.folder.write_whole(&path, &index),
        }
    }

    fn write_mark(&self, stem: &str, mark: &Mark) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(mark)?;
        self.folder.write_whole(&self.folder.of_bundle(stem, "json"), &text)
    }

    fn mark(&self, stem: &str) -> io::Result<Option<Mark>> {
        let text = StageFolder::read_small(&self.folder.of_bundle(stem, "json"), MAX_MARK_BYTES)?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// All marks. One that is damaged is removed.
    pub(super) fn marks(&self) -> io::Result<Vec<(String, Mark)>> {
        let mut marks = Vec::new();
        for stem in self.folder.stems()? {
            if let Some(mark) = self.mark(&stem)? {
                marks.push((stem, mark));
            } else {
                self.note(&format!("the mark {stem} in the stage was damaged, and is removed"));
                remove(&self.folder.of_bundle(&stem, "json"))?;
                sync_folder(&self.folder.root().join("bundles"))?;
            }
        }
        Ok(marks)
    }

    /// The size of the stage. Files are counted anew when other runs may have changed some.
    fn taken(&self) -> io::Result<u64> {
        let stamp = self.folder.stamp()?;
        if let Some((bytes, at)) = &self.contents.lock().taken
            && *at == stamp
        {
            return Ok(*bytes);
        }
        let bytes = self.folder.bytes()?;
        self.contents.lock().taken = Some((bytes, stamp));
        Ok(bytes)
    }

    /// This run has changed the folder, which now takes `more` bytes more.
    pub(super) fn took(&self, _: &ChangeLock<'_>, more: u64) {
        let stamp = self.folder.stamp();
        let mut contents = self.contents.lock();
        contents.taken = match (contents.taken.take(), stamp) {
            (Some((bytes, _)), Ok(stamp)) => Some((bytes + more, stamp)),
            _ => None,
        };
    }
}
