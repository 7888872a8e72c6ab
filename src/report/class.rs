//! The classes of failures: the words that programs match on, in reports, in logs and behind every message.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::exit::Exit;

/// Each class once, with what it means and the exit code of a command that fails for it alone.
macro_rules! classes {
    ($($(#[doc = $meaning:literal])+ $name:ident => $exit:ident,)+) => {
        /// The class of a failure. In text and JSON it is its name in lower case, with hyphens: `not-a-bundle`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) enum Class {
            $($(#[doc = $meaning])+ $name,)+
            /// A word of a later version, in a document that was read.
            #[serde(other)]
            Other,
        }

        impl Class {
            /// All that this version writes.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The exit code of a command that fails for this reason alone.
            pub(crate) const fn exit(self) -> Exit {
                match self {
                    $(Self::$name => Exit::$exit,)+
                    Self::Other => Exit::Internal,
                }
            }
        }
    };
}

classes! {
    // Of a bundle.
    /// The file ends too early.
    Truncated => Bundle,
    /// The compressed stream is damaged.
    CorruptCompression => Bundle,
    /// A tar header is damaged or absurd.
    CorruptTar => Bundle,
    /// The name or the link of a member leaves the bundle.
    UnsafePath => Bundle,
    /// No image was found in it.
    NotABundle => Bundle,
    /// A manifest names a blob that the bundle lacks.
    MissingBlob => Bundle,
    /// The bundle is a delta, and what it leaves to its base is not there.
    BaseMissing => Incomplete,
    /// Content does not have the digest that it claims.
    DigestMismatch => Bundle,
    /// Content does not have the size that its descriptor states.
    SizeMismatch => Bundle,
    /// A document is not the JSON that it should be.
    BadJson => Bundle,
    /// A repository or tag is not valid.
    BadReference => Usage,
    /// A digest is not valid.
    BadDigest => Bundle,
    /// A known format or version that is not handled.
    Unsupported => Bundle,
    /// A limit on size, count, depth or memory was hit.
    LimitExceeded => Bundle,
    /// A document says two things, or denies what lists it.
    Contradiction => Bundle,
    /// Two images claim one name; of a cluster: somebody else owns or changed what was to be changed.
    Conflict => Usage,
    /// An image has no name that a mirror could use.
    NoName => Usage,
    /// A name carries a digest that the bundle cannot give.
    DigestLost => Incomplete,
    /// Several platforms of an index are there, and not all.
    PartialIndex => Incomplete,
    /// The bundle changed while it was read.
    Changed => Bundle,
    /// The bundle may still be on its way: it has just changed, and is left for a later run.
    Arriving => Incomplete,
    /// A newer file of the bundle could not be taken, and what was taken in its place is older.
    PassedOver => Incomplete,

    // Of a mirror.
    /// The registry wants credentials, or refused those that it got.
    Auth => Credentials,
    /// The credentials are good, but not for this.
    Denied => Incomplete,
    /// The repository, the content or the object is not there.
    NotFound => Incomplete,
    /// No connection to the host can be made.
    Unreachable => Unreachable,
    /// The connection broke.
    BrokenConnection => Unreachable,
    /// Nothing moved for too long.
    Stalled => Unreachable,
    /// The other side's identity cannot be proven, or it speaks no TLS.
    Tls => Unreachable,
    /// The registry, or a proxy before it, takes no request that big.
    TooLarge => Incomplete,
    /// The registry refused, is overloaded, or answers what makes no sense.
    Registry => Incomplete,
    /// What the mirror has under a digest is something else.
    Integrity => Incomplete,
    /// The tag points to another image, and `--no-overwrite` keeps it.
    TagExists => Incomplete,
    /// Whole, but not tagged, because `--atomic-tags` wants the others whole too.
    Withheld => Incomplete,
    /// The gate refused the image: it is there by its digest, and its tags were not moved.
    GateRefused => Incomplete,
    /// The gate could not be run, or did not end: the tags of the image were not moved.
    GateFailed => Incomplete,
    /// The mirror lacks what `verify` looked for.
    Missing => Incomplete,
    /// The tag names another image than the bundle does.
    Stale => Incomplete,
    /// There is nothing that `verify` could ask the mirror for.
    Unverifiable => Incomplete,
    /// The window of the mirror is closed: it is left for a later run.
    Deferred => Complete,
    /// The run reached its deadline.
    Deadline => Incomplete,
    /// The run ended before it reached the mirror.
    NotBegun => Incomplete,

    // Of a cluster.
    /// The cluster refused the change.
    Refused => Incomplete,
    /// Something was not ready in time.
    Timeout => Incomplete,
    /// The question was answered with no.
    Declined => Incomplete,
    /// An object that is not needed any more could not be removed.
    LeftOver => Incomplete,

    // Of this machine and this run.
    /// The command line or a file that it names is wrong.
    Usage => Usage,
    /// Another run is at the same mirror, or another server in the same folder.
    Locked => Locked,
    /// The run was interrupted.
    Interrupted => Interrupted,
    /// The operating system refused.
    Io => Internal,
    /// A disk, or what may be used of it, is full.
    NoSpace => Internal,
    /// A bug.
    Internal => Internal,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl From<Fault> for Class {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Truncated => Self::Truncated,
            Fault::CorruptCompression => Self::CorruptCompression,
            Fault::CorruptTar => Self::CorruptTar,
            Fault::UnsafePath => Self::UnsafePath,
            Fault::NotABundle => Self::NotABundle,
            Fault::MissingBlob => Self::MissingBlob,
            Fault::BaseMissing => Self::BaseMissing,
            Fault::DigestMismatch => Self::DigestMismatch,
            Fault::SizeMismatch => Self::SizeMismatch,
            Fault::BadJson => Self::BadJson,
            Fault::BadReference => Self::BadReference,
            Fault::BadDigest => Self::BadDigest,
            Fault::Unsupported => Self::Unsupported,
            Fault::LimitExceeded => Self::LimitExceeded,
            Fault::Contradiction => Self::Contradiction,
            Fault::Conflict => Self::Conflict,
            Fault::NoName => Self::NoName,
            Fault::DigestLost => Self::DigestLost,
            Fault::PartialIndex => Self::PartialIndex,
            Fault::Changed => Self::Changed,
            Fault::Io => Self::Io,
            Fault::NoSpace => Self::NoSpace,
            Fault::Cancelled => Self::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the table of classes in `docs/report.md`: the word and the exit code.
    fn documented() -> Vec<(String, u8)> {
        let text = include_str!("../../docs/report.md");
        let (_, table) = text.split_once("\n| class | exit |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        rows.map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
            (cells.next().unwrap().to_owned(), cells.next().unwrap().parse().unwrap())
        })
        .collect()
    }

    #[test]
    fn every_class_is_documented_with_its_exit_code() {
        let written: Vec<(String, u8)> =
            Class::ALL.iter().map(|class| (class.to_string(), class.exit().code())).collect();
        assert_eq!(documented(), written);
    }

    #[test]
    fn every_class_has_its_paragraph_for_those_in_trouble() {
        let text = include_str!("../../docs/troubleshooting.md");
        let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
        let written: Vec<&str> = headings.flat_map(|line| line.split(", ")).collect();
        let missing: Vec<String> = Class::ALL
            .iter()
            .map(ToString::to_string)
            .filter(|class| !written.contains(&class.as_str()))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(written.len(), Class::ALL.len(), "{written:?}");
    }

    #[test]
    fn a_word_of_a_later_version_can_be_read() {
        let read = |text| serde_json::from_str::<Class>(text).unwrap();
        assert_eq!(read(r#""not-a-bundle""#), Class::NotABundle);
        assert_eq!(read(r#""of-a-later-version""#), Class::Other);
    }
}
