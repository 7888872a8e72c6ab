//! What the user knows of a bundle and accepts.

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
