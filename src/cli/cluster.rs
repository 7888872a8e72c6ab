//! A cluster's configuration file on the command line: its findings are shown, its errors end the command.

use std::path::Path;

use super::output::Output;
use crate::cluster::file::{self, ClusterError, ClusterMirrors, Expectations};
use crate::document::Severity;
use crate::report::Failure;

/// What a file says of mirrors. Shows what is wrong with it.
pub(super) fn read(path: &Path, expected: &Expectations, output: &Output) -> Result<ClusterMirrors, Failure> {
    match file::read(path, expected) {
        Ok((mirrors, warnings)) => {
            output.findings(&warnings);
            Ok(mirrors)
        }
        Err(error) => Err(failure(error, output)),
    }
}

/// The end of a command over a file that cannot be used.
pub(super) fn failure(error: ClusterError, output: &Output) -> Failure {
    match error {
        ClusterError::Io { .. } => Failure::usage(error.to_string()),
        ClusterError::Wrong { path, findings } => {
            output.findings(&findings);
            let errors = findings.iter().filter(|found| found.severity == Severity::Error).count();
            let (noun, these) = if errors == 1 { ("error", "it") } else { ("errors", "them") };
            Failure::usage(format!("{}: {errors} {noun} in it; nothing was done", path.display()))
                .hint(format!("correct {these} as told above"))
        }
    }
}
