//! Progress bars on a terminal: one for each mirror, moved by bytes that the mirror has acknowledged.

use crate::locks::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::alike::Causes;
use super::event::{Event, Listener};
use super::lines;
use crate::error::printable;
use crate::units::human_duration;

/// Draws bars on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
    mirrors: Mutex<Vec<MirrorBar>>,
}

#[derive(Debug)]
struct MirrorBar {
    bar: ProgressBar,
    images: usize,
    total: Option<usize>,
    causes: Causes,
}

/// More bars than this scroll away; the rest of the mirrors are told of at the end.
const MAX_BARS: usize = 16;

impl Progress {
    /// Bars that are drawn when the first mirror is known.
    pub(crate) fn new() -> Self {
        Self { bars: MultiProgress::new(), mirrors: Mutex::default() }
    }

    fn with(&self, mirror: usize, act: impl FnOnce(&mut MirrorBar)) {
        let mut mirrors = self.mirrors.lock();
        if let Some(mirror) = mirrors.get_mut(mirror) {
            act(mirror);
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Listener for Progress {
    fn hear(&self, event: &Event) {
        if let Some(line) = lines::plain(event) {
            let _ = self.bars.println(line);
        }
        match event {
            Event::Started { mirrors } => {
                let style = ProgressStyle::with_template(
                    "{prefix:<32!} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}",
                );
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
                let drawn = mirrors.iter().take(MAX_BARS).map(|name| {
                    let bar = self.bars.add(ProgressBar::new(0)).with_style(style.clone());
                    bar.set_prefix(name.clone());
                    bar.enable_steady_tick(Duration::from_millis(200));
                    MirrorBar { bar, images: 0, total: None, causes: Causes::default() }
                });
                *self.mirrors.lock() = drawn.collect();
            }
            // A second try meets again what the first one brought.
            Event::Connected { mirror } => self.with(*mirror, |mirror| mirror.images = 0),
            Event::Wanted { mirror, bytes } => self.with(*mirror, |mirror| mirror.bar.inc_length(*bytes)),
            Event::Acknowledged { mirror, bytes, .. } => self.with(*mirror, |mirror| mirror.bar.inc(*bytes)),
            Event::ImageWhole { mirror, .. } => self.with(*mirror, |mirror| {
                mirror.images += 1;
                let total = mirror.total.map(|total| format!("/{total}")).unwrap_or_default();
                mirror.bar.set_message(format!("{}{total} images", mirror.images));
            }),
            Event::ImageFailed { mirror, image, why, cause } => {
                // A mirror without a bar has its failures in the closing table.
                self.with(*mirror, |mirror| {
                    if mirror.causes.is_new(cause) {
                        let _ = self.bars.println(format!("{} failed: {why}", printable(image)));
                    }
                });
            }
            Event::Replaces { place, from, to, .. } => {
                let _ = self.bars.println(format!("{place} replaces {from} → {to}"));
            }
            Event::Retried { what, why, after, .. } => {
                let _ = self.bars.println(format!("{what}: {why}; again in {}", human_duration(*after)));
            }
            Event::Planned { images } => {
                let mut mirrors = self.mirrors.lock();
                mirrors.iter_mut().zip(images).for_each(|(mirror, images)| mirror.total = Some(*images));
            }
            Event::WindowClosed { mirror, .. } => self.with(*mirror, |mirror| {
                if let Some(told) = lines::plain(event) {
                    let _ = self.bars.println(format!("{}: {told}", mirror.bar.prefix()));
                }
            }),
            Event::Abandoned => {
                let mirrors = self.mirrors.lock();
                mirrors.iter().for_each(|mirror| mirror.bar.finish_and_clear());
            }
            Event::Finished { mirror, .. } => self.with(*mirror, |mirror| {
                for shared in mirror.causes.shared() {
                    let _ = self.bars.println(format!("{}: {}", mirror.bar.prefix(), printable(&shared)));
                }
                mirror.bar.finish();
            }),
            _ => {}
        }
    }
}
