//! What is wrong with a bundle, said so that an operator can act on it.
//!
//! Rules of errors in this crate:
//! * Everything up to the plan (source, decode, archive) fails with a [`BundleError`]: a [`Fault`] that programs can
//!   match on, the places it happened in from the outside in, what was found, and where it helps what to do next.
//! * The registry client has its own error, which knows whether trying again can help.
//! * Text from outside is escaped here, once, before a person sees it.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The class of what is wrong with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// The file ends too early.
    Truncated,
    /// The compressed stream is damaged.
    CorruptCompression,
    /// A tar header is damaged or absurd.
    CorruptTar,
    /// A member name or link leaves the bundle.
    UnsafePath,
    /// No image was found in it.
    NotABundle,
    /// A manifest names a blob that the bundle lacks.
    MissingBlob,
    /// A delta leaves it to its base.
    BaseMissing,
    /// Content does not have the digest it claims.
    DigestMismatch,
    /// Content does not have the size its descriptor states.
    SizeMismatch,
    /// A document is not the JSON it should be.
    BadJson,
    /// A repository or tag is not valid.
    BadReference,
    /// A digest string is not valid.
    BadDigest,
    /// A known format or version that is not handled.
    Unsupported,
    /// A limit on size, count, depth or memory was hit.
    LimitExceeded,
    /// A document says two things, or denies what lists it.
    Contradiction,
    /// One name, two digests.
    Conflict,
    /// An image has no name that a mirror could use.
    NoName,
    /// A name carries a digest that the bundle cannot give.
    DigestLost,
    /// Several platforms of an index are there, and not all.
    PartialIndex,
    /// The bundle changed while it was read.
    Changed,
    /// The operating system refused.
    Io,
    /// A disk, or what may be used of it, is full.
    NoSpace,
    /// The reader was interrupted.
    Cancelled,
}

impl Fault {
    /// Whether this machine is at fault and not the bundle: another try may have more luck.
    pub(crate) const fn is_of_machine(self) -> bool {
        matches!(self, Self::Io | Self::NoSpace)
    }

    /// Whether a later run over the same bytes may end otherwise: the machine, its settings or the moment have a part in it.
    pub(crate) const fn may_pass(self) -> bool {
        matches!(self, Self::Io | Self::NoSpace | Self::Cancelled | Self::Changed | Self::LimitExceeded)
    }
}

/// Something is wrong with a bundle. Cheap to clone: one damaged part is reported to everybody who waits for it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Inner", into = "Inner")]
pub struct BundleError(Arc<Inner>);

#[derive(Clone, Serialize, Deserialize)]
struct Inner {
    fault: Fault,
    places: Vec<String>, // innermost first
    detail: String,
    hint: Option<String>,
}

impl From<Inner> for BundleError {
    fn from(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl From<BundleError> for Inner {
    fn from(error: BundleError) -> Self {
        Arc::unwrap_or_clone(error.0)
    }
}

impl BundleError {
    /// A fault and what was found, lower-case and without a full stop.
    pub(crate) fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self(Arc::new(Inner { fault, places: Vec::new(), detail: detail.into(), hint: None }))
    }

    /// The operating system refused: `what` is the call or the step.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        let fault = if is_full(error) { Fault::NoSpace } else { Fault::Io };
        Self::new(fault, format!("{what}: {}", system_words(error)))
    }

    /// Adds where it happened; called from the inside out (`block 3`, then `images/etcd.tar`, then the file).
    #[must_use]
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        let place = place.to_string();
        // Two stages may know the same place by the same name.
        if self.0.places.last() != Some(&place) {
            Arc::make_mut(&mut self.0).places.push(place);
        }
        self
    }

    /// Adds what the operator can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).hint = Some(hint.into());
        self
    }

    /// The class, for programs.
    pub(crate) fn fault(&self) -> Fault {
        self.0.fault
    }

    /// What the operator can do about it.
    pub(crate) fn hint_text(&self) -> Option<String> {
        self.0.hint.as_deref().map(printable)
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.0.places.iter().rev() {
            write!(f, "{}: ", printable(place))?;
        }
        write!(f, "{}", printable(&self.0.detail))
    }
}

impl fmt::Debug for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}] {self}", self.0.fault)
    }
}

impl std::error::Error for BundleError {}

/// Whether a disk, or what may be used of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    // The limit on the size of a file is one on what may be used of the disk. The kind of that error is also used for what is
    // larger than we read.
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || error.raw_os_error() == Some(rustix::io::Errno::FBIG.raw_os_error())
}

/// What the operating system says, without its number.
pub(crate) fn system_words(error: &io::Error) -> String {
    let words = error.to_string();
    let number = error.raw_os_error().map(|number| format!(" (os error {number})")).unwrap_or_default();
    words.strip_suffix(number.as_str()).unwrap_or(&words).to_owned()
}

/// Text from outside, made safe for a terminal: control characters and the like are escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_from_the_outside_in_and_are_escaped() {
        let error = BundleError::new(Fault::Truncated, "ends at byte 7").at("a\x1b[2J.tar").at("b.tar.xz");
        assert_eq!(error.to_string(), "b.tar.xz: a\\u{1b}[2J.tar: ends at byte 7");
        assert_eq!(error.fault(), Fault::Truncated);
    }

    #[test]
    fn the_system_is_quoted_without_its_numbers() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(system_words(&error), "No such file or directory");
        assert_eq!(system_words(&io::Error::other("too deep")), "too deep");
    }

    #[test]
    fn a_full_disk_is_no_damage() {
        let error = BundleError::io("writing", &io::ErrorKind::StorageFull.into());
        assert_eq!(error.fault(), Fault::NoSpace);
        assert_eq!(BundleError::io("reading", &io::ErrorKind::NotFound.into()).fault(), Fault::Io);
        let too_large = io::Error::from_raw_os_error(rustix::io::Errno::FBIG.raw_os_error());
        assert_eq!(BundleError::io("writing", &too_large).fault(), Fault::NoSpace);
        assert_eq!(BundleError::io("reading", &io::ErrorKind::FileTooLarge.into()).fault(), Fault::Io);
    }
}
