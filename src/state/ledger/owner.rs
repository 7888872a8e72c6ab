//! Which runs are alive. Each holds a file of its own below the state's folder ([`LockedFile`]). A process number would mean nothing in
//! another container.

use std::io;
use std::path::{Path, PathBuf};

use crate::file_lock::{self, LockedFile};
use crate::state::folder;

/// Below the folder of the state.
const FOLDER: &str = "runs";

/// This run, as long as it lives.
#[derive(Debug)]
pub(super) struct Owner {
    folder: PathBuf,
    held: LockedFile,
}

impl Owner {
    pub(super) fn new(state_folder: &Path) -> io::Result<Self> {
        let folder = state_folder.join(FOLDER);
        folder::make(&folder)?;
        file_lock::sweep(&folder)?;
        let held = LockedFile::create(&folder)?;
        Ok(Self { folder, held })
    }

    pub(super) fn name(&self) -> &str {
        self.held.name().unwrap_or_default()
    }

    /// Whether this run may take over the sessions of that one.
    pub(super) fn may_take(&self, whose: &str) -> bool {
        // A name is ours to choose; another one leads nowhere.
        let is_name = !whose.is_empty() && whose.bytes().all(|c| c.is_ascii_hexdigit());
        whose == self.name() || !is_name || !file_lock::is_held(&self.folder.join(whose))
    }
}
