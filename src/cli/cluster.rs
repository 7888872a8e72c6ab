//! Reads a cluster's configuration file for a command: shows its findings, and fails on its errors.

use std::path::Path;

use super::output::Output;
use crate::cluster::file::{self, ClusterError, ClusterMirrors, FileRequirements, NamedFile};
use crate::document::Severity;
use crate::report::Failure;

/// Reads the mirrors of a file, and shows its mistakes.
pub(super) fn read(
    path: &Path,
    expected: &FileRequirements,
    output: &Output,
) -> Result<ClusterMirrors, Failure> {
    match file::read(path, expected) {
        Ok((mirrors, warnings)) => {
            output.findings(&warnings);
            Ok(mirrors)
        }
        Err(error) => Err(failure(error, output)),
    }
}

/// Why a file cannot be used that the cluster's file names, with the place where it is named.
pub(super) fn named(cluster: &Path, key: &str, file: &NamedFile, failure: Failure) -> Failure {
    Failure { message: format!("{}: {}", place(cluster, key, file), failure.message), ..failure }
}

/// Where the cluster's file names a file.
pub(super) fn place(cluster: &Path, key: &str, file: &NamedFile) -> String {
    format!("{}:{}: {key}", cluster.display(), file.at.line)
}

/// The end of a command over a file that cannot be used.
pub(super) fn failure(error: ClusterError, output: &Output) -> Failure {
    match error {
        ClusterError::Io { .. } => Failure::usage(error.to_string())
            .hint("name the cluster's file, which bmctl has at bmctl-workspace/NAME/NAME.yaml, as one that this user may read"),
        ClusterError::Wrong { path, findings } => {
            output.findings(&findings);
            let errors = findings.iter().filter(|found| found.severity == Severity::Error).count();
            let (noun, these) = if errors == 1 { ("error", "it") } else { ("errors", "them") };
            Failure::usage(format!("{}: {errors} {noun} in it; nothing was done", path.display()))
                .hint(format!("correct {these} as told above"))
        }
    }
}
