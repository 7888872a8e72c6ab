//! What happens in a run, as it happens. No stage prints; a listener does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Class, Failure};
use crate::oci::Digest;

/// Something happened. Mirrors are named by their number in [`Event::Started`].
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A bundle was opened.
    Opened {
        /// Its path.
        path: String,
        /// How it is compressed and cut, in words.
        structure: String,
        /// Bytes on disk; none for a pipe.
        stored_bytes: Option<u64>,
    },
    /// The bundle that was opened last has been read up to here, of what it decodes to.
    BundleRead {
        /// Bytes from its beginning.
        bytes: u64,
        /// All of them, where that is known before the end.
        of: Option<u64>,
    },
    /// It is known what is in all bundles.
    Catalogued {
        /// Images in them.
        images: usize,
        /// Distinct blobs.
        blobs: usize,
        /// How long it took.
        took: Duration,
    },
    /// The run to the mirrors begins.
    Started {
        /// The mirrors, in order.
        mirrors: Vec<String>,
        /// The limit on bytes a second that each has, the lowest where several are for it.
        limits: Vec<Option<u64>>,
    },
    /// The bundle has been read, and it is known what goes where.
    Planned {
        /// Images for each mirror, in order.
        images: Vec<usize>,
        /// Bytes of their blobs, each blob once. What a layer becomes that has still to be compressed is estimated.
        bytes: Vec<u64>,
    },
    /// A layer whose size was estimated has been compressed.
    LayerSized {
        /// The estimate.
        estimated: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// The bundle could not be read, so the run ends.
    Abandoned,
    /// A mirror is connected to, for the first time or again.
    Begun {
        /// Which.
        mirror: usize,
    },
    /// A mirror answered and took the credentials.
    Connected {
        /// Which.
        mirror: usize,
    },
    /// A blob turned out to be missing and will be sent.
    Wanted {
        /// By which mirror.
        mirror: usize,
        /// Its size.
        bytes: u64,
    },
    /// A mirror has confirmed a blob.
    Acknowledged {
        /// Which.
        mirror: usize,
        /// The blob.
        digest: Digest,
        /// Its size.
        bytes: u64,
        /// What it took.
        took: UploadTimes,
    },
    /// A blob that was wanted could not be sent.
    NotSent {
        /// To which mirror.
        mirror: usize,
        /// Its size.
        bytes: u64,
    },
    /// An image is whole on a mirror (its tags may still be to come).
    ImageWhole {
        /// On which.
        mirror: usize,
        /// Its name in the bundle.
        image: String,
        /// Whether it was there before.
        already: bool,
    },
    /// An image could not be completed.
    ImageFailed {
        /// On which mirror.
        mirror: usize,
        /// Its name in the bundle.
        image: String,
        /// The class of the failure.
        class: Class,
        /// Why.
        why: String,
        /// What other images that fail alike share.
        cause: String,
    },
    /// A request is tried again.
    Retried {
        /// To which mirror.
        mirror: usize,
        /// What was tried.
        what: String,
        /// Why it failed.
        why: String,
        /// The same in few words, which other requests that fail alike share.
        cause: String,
        /// After how long it is tried again.
        after: Duration,
    },
    /// A tag that stands for another image is about to be moved.
    Replaces {
        /// On which mirror.
        mirror: usize,
        /// The name on the mirror, tag included.
        place: String,
        /// The digest it stands for, or words where the registry does not tell it.
        from: String,
        /// The digest it will stand for.
        to: Digest,
    },
    /// All that a mirror is to have is there: it is checked, and then tags move.
    Publishes {
        /// Which.
        mirror: usize,
    },
    /// Tags have moved: the last step on a mirror.
    Tagged {
        /// On which.
        mirror: usize,
        /// How many tags.
        tags: usize,
    },
    /// The window of a mirror closed before the mirror was complete.
    WindowClosed {
        /// Of which.
        mirror: usize,
        /// Images that are not complete, as far as that is known.
        images_left: Option<usize>,
        /// When it opens next.
        opens_at: Timestamp,
        /// Whether the run waits for that.
        is_waited_for: bool,
    },
    /// A mirror is done, well or not.
    Finished {
        /// Which.
        mirror: usize,
        /// Images that are complete, tags and all.
        complete: usize,
        /// Images that are not.
        failed: usize,
        /// Why it failed as a whole, if it did.
        failure: Option<Failure>,
        /// How long it took.
        took: Duration,
    },
    /// A step of the work that no mirror sees has come so far.
    Advanced {
        /// Which.
        step: WorkStep,
        /// Bytes that are done.
        bytes: u64,
        /// All of them, where that is known.
        of: Option<u64>,
    },
    /// Something was counted that happens too often to be shown or written down.
    Measured {
        /// On which mirror.
        mirror: usize,
        /// What.
        sample: Sample,
    },
    /// Something people should know that harms nothing.
    Note {
        /// The text.
        text: String,
    },
}

impl Event {
    /// The mirror of the event, if it has one.
    pub(crate) fn mirror(&self) -> Option<usize> {
        let mirror = match self {
            Self::Begun { mirror }
            | Self::Connected { mirror }
            | Self::Wanted { mirror, .. }
            | Self::Acknowledged { mirror, .. }
            | Self::NotSent { mirror, .. }
            | Self::ImageWhole { mirror, .. }
            | Self::ImageFailed { mirror, .. }
            | Self::Retried { mirror, .. }
            | Self::Replaces { mirror, .. }
            | Self::Publishes { mirror }
            | Self::Tagged { mirror, .. }
            | Self::WindowClosed { mirror, .. }
            | Self::Finished { mirror, .. }
            | Self::Measured { mirror, .. } => *mirror,
            Self::Opened { .. }
            | Self::BundleRead { .. }
            | Self::Catalogued { .. }
            | Self::Started { .. }
            | Self::Planned { .. }
            | Self::LayerSized { .. }
            | Self::Abandoned
            | Self::Advanced { .. }
            | Self::Note { .. } => return None,
        };
        Some(mirror)
    }
}

/// A step of the work that no mirror sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkStep {
    /// Images come from registries into a folder.
    Fetch {
        /// Images that are whole there.
        whole: usize,
        /// All that are wanted.
        images: usize,
    },
    /// Plain layers are compressed.
    Compress,
    /// A bundle is written.
    Write,
    /// A bundle is decoded, and nothing is kept of it.
    Decode,
    /// The mirrors are done, and the stage is not. The whole is the most it can be, as long as layers are not compressed yet.
    FillStage,
    /// A link is measured.
    Measure(LinkStep),
}

/// What is measured of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkStep {
    /// Name resolution, TCP, TLS and login.
    Connection,
    /// HEAD requests.
    RoundTrip,
    /// Blobs of a few KiB.
    SmallBlobs,
    /// Uploads, by streams, request size and method.
    Uploads,
    /// Mounts and downloads.
    Downloads,
    /// What the mirror keeps of a request that breaks off.
    Resume,
    /// The best setting for half a minute.
    Soak,
    /// What was made there is removed.
    CleanUp,
}

impl LinkStep {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Connection => "measuring the connection",
            Self::RoundTrip => "measuring the round trip",
            Self::SmallBlobs => "measuring small blobs",
            Self::Uploads => "measuring uploads",
            Self::Downloads => "measuring downloads",
            Self::Resume => "trying an upload that breaks off",
            Self::Soak => "measuring uploads for 30 s",
            Self::CleanUp => "removing what was uploaded",
        }
    }
}

impl WorkStep {
    /// Its name for programs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fetch { .. } => "fetch",
            Self::Compress => "compress",
            Self::Write => "write",
            Self::Decode => "decode",
            Self::FillStage => "fill_stage",
            Self::Measure(_) => "measure",
        }
    }

    /// What is going on.
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Fetch { whole, images } => format!("fetching images, {whole} of {images} are whole"),
            Self::Compress => "compressing layers".to_owned(),
            Self::Write => "writing the bundle".to_owned(),
            Self::Decode => "decoding".to_owned(),
            Self::FillStage => "filling the stage".to_owned(),
            Self::Measure(step) => step.in_words().to_owned(),
        }
    }
}

/// Where the time of an upload went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UploadTimes {
    /// Until its bytes could be had: decoding and compressing.
    pub prepared: Duration,
    /// Until it was its turn: limits on requests and memory.
    pub queued: Duration,
    /// From then on until the mirror had confirmed it.
    pub sent: Duration,
}

/// What is counted of a mirror.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sample {
    /// A request was answered, or given up.
    Answered {
        /// Its method.
        method: &'static str,
        /// The status; none where there was no answer.
        status: Option<u16>,
        /// From sending it to the head of the answer.
        after: Duration,
    },
    /// Bytes of blobs were put on the wire.
    Sent {
        /// How many.
        bytes: u64,
    },
    /// An upload goes on at another byte than the one it had come to: what was sent beyond it is sent again, what was found
    /// before it is not sent.
    Repositioned {
        /// The byte it had come to.
        from: u64,
        /// The byte where it goes on.
        to: u64,
    },
    /// The mirror had blobs before.
    Skipped {
        /// How many.
        blobs: u64,
        /// Bytes of those that were not met on this mirror before, in whatever repository.
        bytes: u64,
    },
    /// A blob was taken over from another repository of the mirror.
    Mounted {
        /// Its bytes, if it was not met on this mirror before.
        bytes: u64,
    },
}

/// Gets every event. Called from many threads, and must not block.
pub(crate) trait Listener: Send + Sync {
    /// Something happened.
    fn hear(&self, event: &Event);
}

/// All listeners of a run.
#[derive(Clone, Default)]
pub(crate) struct Listeners(Vec<Arc<dyn Listener>>);

impl Listeners {
    /// These listeners.
    pub(crate) fn new(listeners: Vec<Arc<dyn Listener>>) -> Self {
        Self(listeners)
    }

    /// One more.
    pub(crate) fn add(&mut self, listener: Arc<dyn Listener>) {
        self.0.push(listener);
    }

    /// Sends an event to all of them.
    pub(crate) fn emit(&self, event: &Event) {
        for listener in &self.0 {
            listener.hear(event);
        }
    }

    /// Sends a note to all of them.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.emit(&Event::Note { text: text.into() });
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listeners({})", self.0.len())
    }
}
