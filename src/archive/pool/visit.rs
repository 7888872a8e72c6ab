//! The walk below a manifest: each manifest once, with a stack of our own, so that neither depth nor breadth of a hostile
//! graph costs anything.

use std::sync::Arc;

use super::{Pool, ends_the_bundle, inside};
use crate::error::{BundleError, Fault};
use crate::oci::manifest::Kind;
use crate::oci::{Descriptor, Digest, Manifest};

#[derive(Debug, Clone)]
pub(super) enum Visit {
    Open,
    Done(VisitResult),
}

/// What was found below a manifest.
#[derive(Debug, Clone, Default)]
pub(super) struct VisitResult {
    /// How many levels of manifests are below it.
    height: usize,
    pub(super) fault: Option<BundleError>,
}

struct Frame {
    key: (Digest, u64),
    manifest: Arc<Manifest>,
    next_child: usize,
    outcome: VisitResult,
}

impl VisitResult {
    fn broken(fault: BundleError) -> Self {
        Self { height: 0, fault: Some(fault) }
    }

    fn blame(&mut self, fault: BundleError) {
        self.fault.get_or_insert(fault);
    }
}

impl Pool<'_> {
    /// Visits a manifest and everything below it. The inner error is what is wrong with the image, the outer one ends
    /// the whole bundle.
    pub(in crate::archive) fn visit(
        &mut self,
        top: &Descriptor,
    ) -> Result<Result<(), BundleError>, BundleError> {
        let mut stack: Vec<Frame> = Vec::new();
        let mut outcome = self.enter(top, &mut stack)?;
        loop {
            if let Some(done) = outcome.take() {
                let Some(frame) = stack.last_mut() else { return Ok(done.fault.map_or(Ok(()), Err)) };
                frame.outcome.height = frame.outcome.height.max(done.height + 1);
                done.fault.into_iter().for_each(|fault| frame.outcome.blame(fault));
            }
            let depth = stack.len();
            let Some(frame) = stack.last_mut() else { return Ok(Ok(())) };
            let manifest = Arc::clone(&frame.manifest);
            if let Some(child) = manifest.children().get(frame.next_child) {
                frame.next_child += 1;
                let is_blob = self.is_blob(child)?;
                self.members.insert(child.digest, is_blob);
                let Some(frame) = stack.last_mut() else { return Ok(Ok(())) };
                if is_blob {
                    if !child.is_foreign()
                        && let Err(fault) = self.find(child)
                    {
                        frame.outcome.blame(inside(fault, &manifest));
                    }
                } else if depth > self.reader.limits.index_depth {
                    frame.outcome.blame(self.too_deep());
                } else {
                    outcome = self.enter(child, &mut stack)?;
                    if outcome.as_ref().is_some_and(|o| depth + o.height > self.reader.limits.index_depth) {
                        outcome = Some(VisitResult::broken(self.too_deep()));
                    }
                }
            } else if let Some(mut frame) = stack.pop() {
                self.check_blobs(&mut frame)?;
                if let (Kind::Image { config, .. }, None) = (&manifest.kind, &frame.outcome.fault) {
                    let images = self.by_config.entry(config.digest).or_default();
                    if !images.contains(&manifest.digest) {
                        images.push(manifest.digest);
                    }
                }
                self.visits.insert(frame.key, Visit::Done(frame.outcome.clone()));
                outcome = Some(frame.outcome);
            }
        }
    }

    /// Begins to visit a manifest, or says how an earlier visit went.
    fn enter(
        &mut self,
        descriptor: &Descriptor,
        stack: &mut Vec<Frame>,
    ) -> Result<Option<VisitResult>, BundleError> {
        let key = (descriptor.digest, descriptor.size);
        match self.visits.get(&key) {
            Some(Visit::Done(outcome)) => return Ok(Some(outcome.clone())),
            Some(Visit::Open) => {
                let cycle = format!("index {} contains itself", descriptor.digest);
                return Ok(Some(VisitResult::broken(BundleError::new(Fault::LimitExceeded, cycle))));
            }
            None => {}
        }
        match self.load(descriptor) {
            Ok(manifest) => {
                let blobs = manifest.blobs().count();
                self.reader.allowance.take_descriptors(manifest.children().len() + blobs)?;
                self.visits.insert(key, Visit::Open);
                stack.push(Frame { key, manifest, next_child: 0, outcome: VisitResult::default() });
                Ok(None)
            }
            Err(fault) if ends_the_bundle(fault.fault()) => Err(fault),
            Err(fault) => {
                let outcome = VisitResult::broken(fault);
                self.visits.insert(key, Visit::Done(outcome.clone()));
                Ok(Some(outcome))
            }
        }
    }

    fn too_deep(&self) -> BundleError {
        let limit = self.reader.limits.index_depth;
        BundleError::new(
            Fault::LimitExceeded,
            format!("indexes lie more than {limit} deep inside each other"),
        )
    }

    /// Everything an image needs must be there, and its configuration must be what it claims to be.
    fn check_blobs(&mut self, frame: &mut Frame) -> Result<(), BundleError> {
        let manifest = &frame.manifest;
        for descriptor in manifest.blobs() {
            if let Err(fault) = self.find(descriptor) {
                frame.outcome.blame(inside(fault, manifest));
                return Ok(());
            }
        }
        let Kind::Image { config, .. } = &manifest.kind else { return Ok(()) };
        if config.is_foreign() || config.size > self.reader.limits.config_bytes {
            return Ok(());
        }
        if !self.configs.contains_key(&config.digest) {
            let fault = match self.read_verified(config) {
                Err(fault) if ends_the_bundle(fault.fault()) => return Err(fault),
                outcome => outcome.err().map(|e| e.at("configuration")),
            };
            self.configs.insert(config.digest, fault);
        }
        if let Some(fault) = self.configs.get(&config.digest).cloned().flatten() {
            frame.outcome.blame(inside(fault, manifest));
        }
        Ok(())
    }
}
