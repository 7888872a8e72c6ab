//! Events as JSON lines, for log collectors.

use crate::clock;
use crate::locks::Mutex;

use serde_json::{Value, json};

use super::event::{Event, Listener};
use super::progress::Sink;

/// Writes each event as one JSON object with `time` and `event`.
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
        let name = |mirror: &usize| mirrors.get(*mirror).cloned().unwrap_or_default();
        let Some((kind, mut value)) = describe(event, name) else { return };
        drop(mirrors);
        value["event"] = Value::from(kind);
        value["time"] = Value::from(clock::timestamp().to_string());
        (self.sink)(&value.to_string());
    }
}

/// The name and fields of an event; bytes on their way are too many to write down.
fn describe(event: &Event, name: impl Fn(&usize) -> String) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::BundleRead { .. }
        | Event::LayerSized { .. }
        | Event::Begun { .. }
        | Event::Wanted { .. }
        | Event::NotSent { .. }
        | Event::Measured { .. } => return None,
        Event::Opened { path, structure, stored_bytes } => {
            ("opened", json!({"path": path, "structure": structure, "stored_bytes": stored_bytes}))
        }
        Event::Catalogued { images, blobs, took } => {
            ("catalogued", json!({"images": images, "blobs": blobs, "seconds": took.as_secs_f64()}))
        }
        Event::Started { mirrors, .. } => ("started", json!({"mirrors": mirrors})),
        Event::Planned { images, .. } => ("planned", json!({"images": images.iter().max()})),
        Event::Abandoned => ("abandoned", json!({})),
        Event::Connected { mirror } => ("connected", json!({"mirror": name(mirror)})),
        Event::Acknowledged { mirror, digest, bytes, .. } => {
            ("blob", json!({"mirror": name(mirror), "digest": digest, "bytes": bytes}))
        }
        Event::ImageWhole { mirror, image, already } => {
            ("image", json!({"mirror": name(mirror), "image": image, "already": already}))
        }
        Event::ImageFailed { mirror, image, why, .. } => {
            ("image_failed", json!({"mirror": name(mirror), "image": image, "why": why}))
        }
        Event::Retried { mirror, what, why, cause, after } => (
            "retried",
            json!({"mirror": name(mirror), "what": what, "why": why, "cause": cause, "after_seconds": after.as_secs_f64()}),
        ),
        Event::Replaces { mirror, place, from, to } => {
            ("replaces", json!({"mirror": name(mirror), "place": place, "from": from, "to": to}))
        }
        Event::Publishes { mirror } => ("publishes", json!({"mirror": name(mirror)})),
        Event::Tagged { mirror, tags } => ("tagged", json!({"mirror": name(mirror), "tags": tags})),
        Event::Finished { mirror, complete, failed, took, .. } => (
            "finished",
            json!({"mirror": name(mirror), "images_complete": complete, "images_failed": failed, "seconds": took.as_secs_f64()}),
        ),
        Event::FillsStage { bytes, of } => ("fills_stage", json!({"bytes": bytes, "of": of})),
        Event::WindowClosed { mirror, images_left, opens_at, is_waited_for } => (
            "window_closed",
            json!({"mirror": name(mirror), "images_left": images_left, "opens_at": opens_at.to_string(), "is_waited_for": is_waited_for}),
        ),
        Event::Note { text } => ("note", json!({"text": text})),
    })
}
