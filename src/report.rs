//! Events and reports of a run. Stages emit [`Event`]s; listeners draw, count or record them.

pub(crate) mod alike;
mod class;
pub(crate) mod document;
pub(crate) mod event;
mod failure;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod merge;
pub(crate) mod metrics;
pub(crate) mod outcome;
pub(crate) mod progress;
mod recorder;
pub(crate) mod rss;
mod timeline;

pub(crate) use class::Class;
pub(crate) use document::Document;
pub(crate) use event::{Event, Listener, Listeners};
pub(crate) use failure::Failure;
pub(crate) use outcome::Outcome;
pub(crate) use recorder::RunRecorder;
