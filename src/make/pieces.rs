//! The file that is written, or its pieces: each takes its name when all of them are whole.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::BundleError;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::source::{piece_path, sums_path};

/// Where a bundle is written.
#[derive(Debug, Clone)]
pub(crate) struct OutputFile {
    /// Its path; with `split` that of no file, to which the names of pieces are added.
    pub(crate) path: PathBuf,
    /// Most bytes of a piece; one file where none is given.
    pub(crate) split: Option<u64>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// The digest of its bytes.
    pub(crate) digest: Digest,
}

/// Writes the pieces, as files without their names yet.
pub(super) struct PieceWriter<'a> {
    output: &'a OutputFile,
    done: Vec<(NamedTempFile, u64, Digest)>,
    open: Option<(NamedTempFile, u64, Hasher)>,
}

impl<'a> PieceWriter<'a> {
    pub(super) fn new(output: &'a OutputFile) -> Self {
        Self { output, done: Vec::new(), open: None }
    }

    /// Gives the files their names.
    ///
    /// # Errors
    /// The system refuses. Of several pieces some may have their names then, and the sums are missing.
    pub(super) fn persist(mut self) -> Result<Vec<WrittenFile>, BundleError> {
        let output = self.output;
        let failed =
            |error: &io::Error| BundleError::io("writing the bundle", error).at(output.path.display());
        self.close();
        let mut files = Vec::new();
        for (number, (file, bytes, digest)) in std::mem::take(&mut self.done).into_iter().enumerate() {
            file.as_file().sync_all().map_err(|error| failed(&error))?;
            let path = if output.split.is_some() {
                piece_path(&output.path, number + 1)
            } else {
                output.path.clone()
            };
            file.persist(&path).map_err(|error| failed(&error.error))?;
            files.push(WrittenFile { path, bytes, digest });
        }
        if output.split.is_some() {
            self.put_sums(&files).map_err(|error| failed(&error))?;
        }
        Ok(files)
    }

    /// The sums of the pieces, as `sha256sum -c` reads them. They come last: without them pieces are not taken for whole.
    fn put_sums(&self, files: &[WrittenFile]) -> io::Result<()> {
        let mut text = String::new();
        for WrittenFile { path, digest, .. } in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(text, "{}  {name}", digest.hex());
        }
        let mut file = create_beside(&self.output.path)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(sums_path(&self.output.path))?;
        Ok(())
    }

    fn close(&mut self) {
        if let Some((file, bytes, hasher)) = self.open.take() {
            self.done.push((file, bytes, hasher.finish()));
        }
    }
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.is_none() {
            self.open = Some((create_beside(&self.output.path)?, 0, Hasher::new(Algorithm::Sha256)));
        }
        let Some((file, written, hasher)) = &mut self.open else { return Ok(0) };
        let room = self.output.split.map_or(u64::MAX, |split| split - *written);
        let now = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        file.write_all(now)?;
        hasher.update(now);
        *written += now.len() as u64;
        if Some(*written) == self.output.split {
            self.close();
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn create_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(folder)
}
