//! A file that takes its name when it is whole; something may be waiting for it.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::report::Failure;

/// A file that a flag, or a key of the sites file, names.
#[derive(Debug)]
pub(super) struct WholeFile {
    named_by: &'static str,
    path: PathBuf,
}

impl WholeFile {
    /// Before the run, so that a wrong path costs nothing. No file is left there meanwhile: it may be the bundle's folder.
    pub(super) fn check(named_by: &'static str, path: PathBuf) -> Result<Self, Failure> {
        let file = Self { named_by, path };
        if file.path.is_dir() || file.path == Path::new("-") {
            return Err(Failure::usage(format!("{file} is not a file")).hint("name a file"));
        }
        let refused = |error: io::Error| {
            let folder = file.folder().display().to_string();
            match error.kind() {
                io::ErrorKind::NotFound => {
                    Failure::usage(format!("{file} cannot be written: there is no folder {folder}"))
                        .hint(format!("make the folder (mkdir -p {folder}), or name another file"))
                }
                kind => Failure::usage(format!("{file} cannot be written: {kind}")).hint(file.remedy(kind)),
            }
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
        // What the system says of a file that has only a name for now would say that name.
        let failed = |error: io::Error| {
            let failure = Failure::io(format!("{self} was not written"), &error.kind().into());
            failure.hint(self.remedy(error.kind()))
        };
        let mut file = self.create().map_err(failed)?;
        io::Write::write_all(&mut file, content).map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// The same with a document.
    pub(super) fn write_json(&self, document: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(document);
        let mut json = json.map_err(|error| Failure::internal(format!("{}: {error}", self.named_by)))?;
        json.push(b'\n');
        self.write(&json)
    }

    /// What helps where it cannot be written.
    fn remedy(&self, kind: io::ErrorKind) -> String {
        let folder = self.folder().display();
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("make room in {folder}, or name a file on another disk")
            }
            _ => format!("let this user write {folder}, or name another file"),
        }
    }
}

impl fmt::Display for WholeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.named_by, self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_named_with_who_named_it_and_what_helps() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/report.json");
        let failure = WholeFile::check("--report", missing.clone()).unwrap_err();
        let said = format!("--report {} cannot be written: there is no folder", missing.display());
        assert!(failure.message.starts_with(&said), "{failure:?}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("mkdir -p")));
        assert!(WholeFile::check("--report", folder.path().to_owned()).is_err(), "it is a folder");
        // The folder goes while the run goes on.
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let file = WholeFile::check("--report", inner.join("report.json")).unwrap();
        std::fs::remove_dir(&inner).unwrap();
        let failure = file.write(b"x").unwrap_err();
        let said = format!("--report {}/report.json was not written: entity not found", inner.display());
        assert_eq!(failure.message, said, "and not the name that the file had meanwhile");
        assert!(failure.hint.is_some());
    }
}
