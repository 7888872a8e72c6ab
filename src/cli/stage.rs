//! Flags about the stage, for the commands that fill one.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::Output;
use crate::report::Failure;
use crate::stage::{Stage, StageError};
use crate::units::ByteCount;

/// Flags about the stage.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Bundle")]
pub(super) struct StageArgs {
    /// Folder that keeps what was decoded and compressed, as an OCI layout: mirrors and runs that come later read it there
    #[arg(long, value_name = "DIR", env = "LAYERCAST_STAGE")]
    stage: Option<PathBuf>,
    /// Most that may be kept in the stage [default: what is free]
    #[arg(long, value_name = "BYTES")]
    stage_limit: Option<ByteCount>,
}

/// What opens a stage. It may wait for a disk, and for other runs.
type OpenStage = Box<dyn FnOnce() -> Result<Stage, StageError> + Send>;

impl StageArgs {
    /// The same with the settings of a sites file, which count less.
    pub(super) fn over(&self, dir: Option<&Path>, limit_bytes: Option<u64>) -> Self {
        Self {
            stage: self.stage.clone().or_else(|| dir.map(Path::to_owned)),
            stage_limit: self.stage_limit.or(limit_bytes.map(ByteCount)),
        }
    }

    /// The stage, if one is named. One that the system refuses costs a warning, which `notes` gets. `owner` is the
    /// sites file of the run. `within` opens the stage, and may give that up.
    ///
    /// # Errors
    /// The folder is something else, or one of the bundles; or it was given up.
    pub(super) fn open<'p>(
        &self,
        bundles: impl IntoIterator<Item = &'p Path>,
        owner: Option<String>,
        notes: &mut Vec<String>,
        output: &Output,
        within: impl FnOnce(OpenStage) -> Result<Result<Stage, StageError>, Failure>,
    ) -> Result<Option<Stage>, Failure> {
        let limit = self.stage_limit.map(|limit| limit.0);
        let Some(dir) = self.stage.as_deref() else {
            return match limit {
                Some(_) => Err(Failure::usage("--stage-limit limits a stage, and none is named")
                    .hint("name its folder: --stage DIR")),
                None => Ok(None),
            };
        };
        // It changes while it is filled, as no bundle may.
        let canonical = dir.canonicalize().ok();
        let is_stage = |bundle: &Path| canonical.is_some() && bundle.canonicalize().ok() == canonical;
        if bundles.into_iter().any(is_stage) {
            let message = format!("{}: it cannot be the bundle and the stage of one run", dir.display());
            return Err(Failure::usage(message).hint("push a stage without --stage, or name another folder"));
        }
        let folder = dir.to_owned();
        match within(Box::new(move || Stage::open(&folder, limit, owner)))? {
            Ok(stage) => Ok(Some(stage)),
            Err(error @ StageError::Unusable { .. }) => {
                let note = format!("the run goes on without its stage: {error}");
                output.alarm(&note);
                notes.push(note);
                Ok(None)
            }
            Err(error @ (StageError::Foreign { .. } | StageError::OtherVersion { .. })) => {
                Err(Failure::usage(format!("--stage {error}"))
                    .hint("name an empty folder, or one that is not there yet"))
            }
        }
    }
}
