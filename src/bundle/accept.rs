//! Faults of a bundle that the user accepts.

use crate::archive::{LeftOut, LeftOutClass};
use crate::exit::Exit;

/// What the user knows and accepts: it is noted, and the run may be complete all the same.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// A name carries a digest that the bundle cannot give.
    pub digest_lost: bool,
    /// The bundle holds several platforms of an index and not all: the tag names an index of those that are there.
    pub partial_index: bool,
    /// Something that holds or may hold images could not be read.
    pub unreadable: bool,
}

/// One thing that a user may accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Acceptable {
    /// A name carries a digest that the bundle cannot give.
    DigestLost,
    /// Several platforms of an index are there, not all: the tag names an index of those.
    PartialIndex,
    /// Archives and folders that hold or may hold images and cannot be read.
    Unreadable,
}

impl FromIterator<Acceptable> for Accept {
    fn from_iter<T: IntoIterator<Item = Acceptable>>(accepted: T) -> Self {
        let mut accept = Self::default();
        for what in accepted {
            match what {
                Acceptable::DigestLost => accept.digest_lost = true,
                Acceptable::PartialIndex => accept.partial_index = true,
                Acceptable::Unreadable => accept.unreadable = true,
            }
        }
        accept
    }
}

impl Accept {
    /// The exit code of a command that ended with `exit` apart from what was left out.
    pub(crate) fn exit(self, exit: Exit, left_out: &[LeftOut]) -> Exit {
        let any = |class| left_out.iter().any(|it| it.class == class);
        match exit {
            Exit::Complete if any(LeftOutClass::Unreadable) && !self.unreadable => Exit::Incomplete,
            Exit::Complete if any(LeftOutClass::NoName) => Exit::Incomplete,
            Exit::Complete if any(LeftOutClass::BadReference) => Exit::Usage,
            exit => exit,
        }
    }
}
