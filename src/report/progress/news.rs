//! What is worth a line of its own when it happens. Pure.

use std::collections::HashSet;

use super::Telling;
use crate::error::printable;
use crate::report::Class;
use crate::report::event::{Event, WorkStep};
use crate::units::{ByteCount, count, human_duration};

/// Decides which events get a line.
#[derive(Debug)]
pub(super) struct News {
    telling: Telling,
    mirrors: Vec<String>,
    /// Why images failed, and requests were tried again. Each cause gets one line, and at the end its number.
    causes: HashSet<String>,
}

/// More causes than this are not told apart while the run goes on; the report has them.
const MAX_CAUSES: usize = 200;

impl News {
    pub(super) fn new(telling: Telling) -> Self {
        Self { telling, mirrors: Vec::new(), causes: HashSet::new() }
    }

    /// The line for an event, if it is to be told.
    pub(super) fn line(&mut self, event: &Event) -> Option<String> {
        if self.telling == Telling::NotesAlone && !matches!(event, Event::Note { .. }) {
            return None;
        }
        let is_log = self.telling == Telling::Everything;
        match event {
            Event::Opened { path, structure, stored_bytes } => {
                let size = stored_bytes.map(|bytes| format!("{}, ", ByteCount(bytes))).unwrap_or_default();
                Some(format!("{}: {size}{structure}", printable(path)))
            }
            Event::Catalogued { images, blobs, took } => {
                let (images, blobs) = (count(*images, "image"), count(*blobs, "blob"));
                Some(format!("{images}, {blobs} (catalogued in {})", human_duration(*took)))
            }
            Event::Advanced { step: WorkStep::FillStage, bytes, of: Some(of) } if is_log => {
                Some(format!("filling the stage: {} of {}", ByteCount(*bytes), ByteCount(*of)))
            }
            Event::Note { text } => Some(format!("note: {}", printable(text))),
            Event::Started { mirrors, .. } => {
                self.mirrors.clone_from(mirrors);
                None
            }
            Event::Replaces { mirror, place, from, to } => {
                Some(format!("{}: {place} replaces {from} → {to}", self.name(*mirror)))
            }
            Event::WindowClosed { mirror, images_left, opens_at, is_waited_for } => {
                let left = images_left
                    .map_or_else(String::new, |left| format!(", with {} left", count(left, "image")));
                let opens = opens_at.strftime("%Y-%m-%d %H:%M UTC");
                let then = if *is_waited_for {
                    "the run waits for that"
                } else {
                    "the rest is left for a later run"
                };
                let name = self.name(*mirror);
                Some(format!("{name}: its window has closed{left}; it opens next at {opens}: {then}"))
            }
            // What was stopped has not failed.
            Event::ImageFailed { class: Class::Interrupted, .. } => None,
            Event::ImageFailed { mirror, image, why, cause, .. } => {
                let line = format!("{}: {} failed: {}", self.name(*mirror), printable(image), printable(why));
                self.is_new(cause).then_some(line)
            }
            Event::Retried { mirror, what, why, cause, after } if is_log => {
                let name = self.name(*mirror).to_owned();
                let line = format!("{name}: {what}: {why}; again in {}", human_duration(*after));
                self.is_new(&format!("{name} {cause}")).then_some(line)
            }
            Event::Finished { mirror, complete, failed, failure, took } if is_log => {
                let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
                let complete = if *complete == 0 { "no image".to_owned() } else { count(*complete, "image") };
                let took = human_duration(*took);
                let why = failure.as_ref().map(|failure| format!(" [{}]", failure.class));
                let (name, why) = (self.name(*mirror), why.unwrap_or_default());
                Some(match failure {
                    Some(failure) if failure.class == Class::Interrupted => {
                        format!("{name}: interrupted after {took}, {complete} complete")
                    }
                    _ => format!("{name}: {complete} complete{failed} after {took}{why}"),
                })
            }
            _ => None,
        }
    }

    fn name(&self, mirror: usize) -> &str {
        self.mirrors.get(mirror).map_or("", String::as_str)
    }

    fn is_new(&mut self, cause: &str) -> bool {
        self.causes.len() < MAX_CAUSES && self.causes.insert(cause.to_owned())
    }
}
