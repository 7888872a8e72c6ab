//! A file that takes its name when it is whole; something may be waiting for it.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::report::Failure;

/// A file that a flag names.
#[derive(Debug)]
pub(super) struct WholeFile {
    flag: &'static str,
    path: PathBuf,
}

impl WholeFile {
    /// Before the run, so that a wrong path costs nothing. No file is left there meanwhile: it may be the bundle's folder.
    pub(super) fn check(flag: &'static str, path: PathBuf) -> Result<Self, Failure> {
        if path.is_dir() || path == Path::new("-") {
            return Err(Failure::usage(format!("{flag} {}: name a file", path.display())));
        }
        let file = Self { flag, path };
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                let folder = file.folder().display().to_string();
                Failure::usage(format!("{flag} {}: there is no folder {folder}", file.path.display()))
            }
            kind => Failure::usage(format!("{flag} {}: {kind}", file.path.display())),
        };
        file.create().map_err(refused)?;
        Ok(file)
    }

    fn folder(&self) -> &Path {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    fn create(&self) -> io::Result<tempfile::NamedTempFile> {
        // Others may read it, as any file that is made here.
        let permissions = std::fs::Permissions::from_mode(0o644);
        tempfile::Builder::new().permissions(permissions).tempfile_in(self.folder())
    }

    /// Gives the file this content, all of it at once.
    pub(super) fn write(&self, content: &[u8]) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io(format!("{} {}", self.flag, self.path.display()), &error);
        let mut file = self.create().map_err(failed)?;
        io::Write::write_all(&mut file, content).map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// The same with a document.
    pub(super) fn write_json(&self, document: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(document);
        let mut json = json.map_err(|error| Failure::internal(format!("{}: {error}", self.flag)))?;
        json.push(b'\n');
        self.write(&json)
    }
}
