//! Exit codes: the whole contract with cron and shell scripts, in one place.

use std::process::ExitCode;

/// How a command ended. A run that left anything undone never ends as [`Exit::Complete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for is done.
    Complete = 0,
    /// A bug, or the machine refused us something (disk full, no descriptors).
    Internal = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// Some images or mirrors are not complete; the report lists them.
    Incomplete = 3,
    /// A registry refused the credentials, or there were none.
    Credentials = 4,
    /// The bundle is damaged, or not a bundle.
    Bundle = 5,
    /// No mirror could be reached.
    Unreachable = 6,
    /// Another run holds the lock.
    Locked = 7,
    /// Interrupted by the user or by the system.
    Interrupted = 130,
}

impl Exit {
    /// The one with this number.
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        let all = [
            Self::Complete,
            Self::Internal,
            Self::Usage,
            Self::Incomplete,
            Self::Credentials,
            Self::Bundle,
            Self::Unreachable,
            Self::Locked,
            Self::Interrupted,
        ];
        all.into_iter().find(|exit| exit.code() == code)
    }

    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
