//! Plain lines, for logs and pipes: what changed, one line each; no bar, no colour.

use crate::clock::Instant;
use crate::locks::Mutex;

use super::alike::Causes;
use super::event::{Event, Listener};
use crate::error::printable;
use crate::units::{ByteCount, count, human_duration};

/// Where lines go. The program decides; this module prints nothing itself.
pub(crate) type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// Writes events as lines.
pub(crate) struct Lines {
    sink: Sink,
    state: Mutex<LinesState>,
}

struct LinesState {
    mirrors: Vec<MirrorLines>,
    last_progress: Instant,
}

#[derive(Clone, Default)]
struct MirrorLines {
    name: String,
    images: usize,
    /// Images that it gets, once that is known.
    total: Option<usize>,
    acknowledged: u64,
    causes: Causes,
}

/// How often progress is told while blobs arrive, in seconds.
const PROGRESS_SECONDS: u64 = 10;

impl Lines {
    /// Lines to this sink.
    pub(crate) fn new(sink: Sink) -> Self {
        let state = LinesState { mirrors: Vec::new(), last_progress: Instant::now() };
        Self { sink, state: Mutex::new(state) }
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lines")
    }
}

impl Listener for Lines {
    fn hear(&self, event: &Event) {
        let mut state = self.state.lock();
        let name = |state: &LinesState, mirror: usize| {
            state.mirrors.get(mirror).map_or(String::new(), |m| m.name.clone())
        };
        let line = match event {
            Event::Opened { .. }
            | Event::Catalogued { .. }
            | Event::FillsStage { .. }
            | Event::Note { .. } => plain(event),
            Event::Replaces { mirror, place, from, to } => {
                Some(format!("{}: {place} replaces {from} → {to}", name(&state, *mirror)))
            }
            Event::Planned { images } => {
                for (mirror, images) in state.mirrors.iter_mut().zip(images) {
                    mirror.total = Some(*images);
                }
                None
            }
            Event::Started { mirrors } => {
                let named = |name: &String| MirrorLines { name: name.clone(), ..MirrorLines::default() };
                state.mirrors = mirrors.iter().map(named).collect();
                None
            }
            Event::Connected { mirror } => {
                let told = format!("{}: connected", name(&state, *mirror));
                // A second try meets again what the first one brought.
                if let Some(mirror) = state.mirrors.get_mut(*mirror) {
                    mirror.images = 0;
                }
                Some(told)
            }
            Event::ImageWhole { mirror, image, already } => {
                let told = state.mirrors.get_mut(*mirror).map(|mirror| {
                    mirror.images += 1;
                    let total = mirror.total.map(|images| format!("/{images}")).unwrap_or_default();
                    let how = if *already { "unchanged" } else { "uploaded" };
                    format!("{}: {}{total} {} {how}", mirror.name, mirror.images, printable(image))
                });
                told.filter(|_| !already)
            }
            Event::Acknowledged { mirror, bytes, .. } => {
                let due = state.last_progress.elapsed().as_secs() >= PROGRESS_SECONDS;
                if due {
                    state.last_progress = Instant::now();
                }
                let told = state.mirrors.get_mut(*mirror).map(|mirror| {
                    mirror.acknowledged += bytes;
                    format!("{}: {} acknowledged", mirror.name, ByteCount(mirror.acknowledged))
                });
                told.filter(|_| due)
            }
            Event::ImageFailed { mirror, image, why, cause } => {
                let mirror = state.mirrors.get_mut(*mirror);
                mirror.and_then(|mirror| {
                    let line = format!("{}: {} failed: {why}", mirror.name, printable(image));
                    mirror.causes.is_new(cause).then_some(line)
                })
            }
            Event::Retried { mirror, what, why, after } => {
                Some(format!("{}: {what}: {why}; again in {}", name(&state, *mirror), human_duration(*after)))
            }
            Event::WindowClosed { mirror, .. } => {
                plain(event).map(|told| format!("{}: {told}", name(&state, *mirror)))
            }
            Event::Finished { mirror, complete, failed, took } => {
                let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
                let took = human_duration(*took);
                let complete = if *complete == 0 { "no image".to_owned() } else { count(*complete, "image") };
                let name = name(&state, *mirror);
                let causes = state.mirrors.get(*mirror).map(|mirror| &mirror.causes);
                let shared = causes.into_iter().flat_map(Causes::shared);
                let shared = shared.map(|shared| format!("{name}: {}\n", printable(&shared)));
                let shared: String = shared.collect();
                Some(format!("{shared}{name}: {complete} complete{failed} after {took}"))
            }
            Event::Wanted { .. } | Event::Measured { .. } | Event::Tagged { .. } | Event::Abandoned => None,
        };
        drop(state);
        if let Some(line) = line {
            (self.sink)(&line);
        }
    }
}

/// Events that read the same on a terminal and in a log.
pub(super) fn plain(event: &Event) -> Option<String> {
    match event {
        Event::Opened { path, structure, stored_bytes } => {
            let size = stored_bytes.map(|bytes| format!("{}, ", ByteCount(bytes))).unwrap_or_default();
            Some(format!("{}: {size}{structure}", printable(path)))
        }
        Event::Catalogued { images, blobs, took } => {
            let (images, blobs) = (count(*images, "image"), count(*blobs, "blob"));
            Some(format!("{images}, {blobs} (catalogued in {})", human_duration(*took)))
        }
        Event::FillsStage { bytes, of } => {
            Some(format!("filling the stage: {} of {}", ByteCount(*bytes), ByteCount(*of)))
        }
        Event::Note { text } => Some(format!("note: {}", printable(text))),
        Event::WindowClosed { images_left, opens_at, is_waited_for, .. } => {
            let left =
                images_left.map_or_else(String::new, |left| format!(", with {} left", count(left, "image")));
            let opens = opens_at.strftime("%Y-%m-%d %H:%M UTC");
            let then =
                if *is_waited_for { "the run waits for that" } else { "the rest is left for a later run" };
            Some(format!("its window has closed{left}; it opens next at {opens}: {then}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_second_try_counts_its_images_from_the_beginning() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let lines = Lines::new(Box::new(move |line| heard.lock().push(line.to_owned())));
        let whole = |already| Event::ImageWhole { mirror: 0, image: "a".into(), already };
        for event in [
            Event::Started { mirrors: vec!["m".into()] },
            Event::Planned { images: vec![2] },
            Event::Connected { mirror: 0 },
            whole(false),
            Event::Connected { mirror: 0 },
            whole(true),
            whole(false),
        ] {
            lines.hear(&event);
        }
        let expected = ["m: connected", "m: 1/2 a uploaded", "m: connected", "m: 2/2 a uploaded"];
        assert_eq!(*said.lock(), expected);
    }
}
