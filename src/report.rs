//! What is told about a run, and to whom. Stages emit [`Event`]s; listeners draw, count or write them down.

pub mod event;
pub mod json;
pub mod lines;
pub mod progress;
pub mod rss;

pub use event::{Event, Listener, Listeners};
