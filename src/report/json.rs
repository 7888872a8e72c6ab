//! Events as JSON lines, for log collectors.

use super::document::{LogEvent, LogLine};
use super::event::{Event, Listener, WorkStep};
use super::progress::Sink;
use crate::locks::Mutex;

/// Writes each event as one [`LogLine`].
pub(crate) struct JsonLines {
    sink: Sink,
    mirrors: Mutex<Vec<String>>,
}

impl JsonLines {
    /// Lines to this sink.
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, mirrors: Mutex::default() }
    }
}

impl std::fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JsonLines")
    }
}

impl Listener for JsonLines {
    fn hear(&self, event: &Event) {
        let mut mirrors = self.mirrors.lock();
        if let Event::Started { mirrors: names, .. } = event {
            mirrors.clone_from(names);
        }
        let name = |mirror: usize| mirrors.get(mirror).cloned().unwrap_or_default();
        let Some(event) = log_event(event.clone(), name) else { return };
        drop(mirrors);
        (self.sink)(&LogLine::now(event).to_string());
    }
}

/// An event as it is written down, with the names of mirrors; bytes on their way are too many for that.
fn log_event(event: Event, name: impl Fn(usize) -> String) -> Option<LogEvent> {
    Some(match event {
        Event::Advanced { step: WorkStep::FillStage, bytes, of: Some(of) } => {
            LogEvent::FillsStage { bytes, of }
        }
        // How far all else has come is told every few seconds.
        Event::BundleRead { .. }
        | Event::Advanced { .. }
        | Event::LayerSized { .. }
        | Event::Begun { .. }
        | Event::Wanted { .. }
        | Event::NotSent { .. }
        | Event::Measured { .. } => return None,
        Event::Opened { path, structure, stored_bytes } => LogEvent::Opened { path, structure, stored_bytes },
        Event::Catalogued { images, blobs, took } => {
            LogEvent::Catalogued { images, blobs, seconds: took.as_secs_f64() }
        }
        Event::Started { mirrors, .. } => LogEvent::Started { mirrors },
        Event::Planned { images, .. } => LogEvent::Planned { images: images.into_iter().max() },
        Event::Abandoned => LogEvent::Abandoned,
        Event::Connected { mirror } => LogEvent::Connected { mirror: name(mirror) },
        Event::Acknowledged { mirror, digest, bytes, .. } => {
            LogEvent::Blob { mirror: name(mirror), digest, bytes }
        }
        Event::ImageWhole { mirror, image, already } => {
            LogEvent::Image { mirror: name(mirror), image, already }
        }
        Event::ImageFailed { mirror, image, why, .. } => {
            LogEvent::ImageFailed { mirror: name(mirror), image, why }
        }
        Event::Retried { mirror, what, why, cause, after } => {
            LogEvent::Retried { mirror: name(mirror), what, why, cause, after_seconds: after.as_secs_f64() }
        }
        Event::Replaces { mirror, place, from, to } => {
            LogEvent::Replaces { mirror: name(mirror), place, from, to }
        }
        Event::Publishes { mirror } => LogEvent::Publishes { mirror: name(mirror) },
        Event::Tagged { mirror, tags } => LogEvent::Tagged { mirror: name(mirror), tags },
        Event::Finished { mirror, complete, failed, took, .. } => LogEvent::Finished {
            mirror: name(mirror),
            images_complete: complete,
            images_failed: failed,
            seconds: took.as_secs_f64(),
        },
        Event::WindowClosed { mirror, images_left, opens_at, is_waited_for } => LogEvent::WindowClosed {
            mirror: name(mirror),
            images_left,
            opens_at: opens_at.to_string(),
            is_waited_for,
        },
        Event::Note { text } => LogEvent::Note { message: text.clone(), text: Some(text) },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_names_its_event_its_time_and_its_mirror_and_can_be_read_back() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&said);
        let lines = JsonLines::new(Box::new(move |line| kept.lock().push(line.to_owned())));
        lines.hear(&Event::Started { mirrors: vec!["a".to_owned(), "b".to_owned()], limits: vec![None; 2] });
        lines.hear(&Event::Begun { mirror: 1 });
        let took = Duration::from_millis(1500);
        lines.hear(&Event::Finished { mirror: 1, complete: 4, failed: 0, failure: None, took });
        let said = said.lock();
        let [started, finished] = &said[..] else { panic!("{said:?}") };
        assert!(started.contains(r#""event":"started","mirrors":["a","b"]"#), "{started}");
        let read: LogLine = serde_json::from_str(finished).unwrap();
        let expected =
            LogEvent::Finished { mirror: "b".to_owned(), images_complete: 4, images_failed: 0, seconds: 1.5 };
        assert_eq!(read.event, expected);
        assert!(read.time.parse::<jiff::Timestamp>().is_ok(), "{finished}");
    }
}
