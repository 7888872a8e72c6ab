//! A file that takes its name when it is whole; something may be waiting for it.
//!
//! What is no regular file (a device, a pipe, standard output) is written to as it is, and never replaced.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, access};
use serde::Serialize;

use crate::error::is_full;
use crate::report::Failure;
use crate::small_file;

/// How much of a file is looked at before it is replaced: a report says in its first line what it is.
const LOOKED_AT: u64 = 256;

/// A file that a flag, or a key of the sites file, names.
#[derive(Debug)]
pub(super) struct WholeFile {
    named_by: &'static str,
    path: PathBuf,
    replaces: Replaces,
}

/// Which files it may replace. A mistyped path must not cost the bundle or the sites file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaces {
    /// Reports, in JSON or HTML, and empty files.
    Reports,
    /// Metrics, and empty files.
    Metrics,
    /// Whatever is there.
    Anything,
}

impl Replaces {
    /// The expected content, for messages.
    const fn words(self) -> &'static str {
        match self {
            Self::Reports => "a report",
            Self::Metrics => "metrics",
            Self::Anything => "a file",
        }
    }

    /// Whether a file that begins like this may be replaced.
    fn takes(self, start: &[u8]) -> bool {
        let text = String::from_utf8_lossy(start);
        let text = text.trim_start();
        text.is_empty()
            || match self {
                Self::Reports => {
                    text.starts_with('{') && text.contains("\"schema_version\"")
                        || text.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("<!doctype"))
                }
                Self::Metrics => text.starts_with("# HELP ") || text.starts_with("# TYPE "),
                Self::Anything => true,
            }
    }
}

/// How content gets to a path.
#[derive(Debug, PartialEq, Eq)]
enum WriteMode {
    /// A new file takes this name when it is whole.
    Replace(PathBuf),
    /// It is written to the device or pipe that is there.
    Into,
}

impl WholeFile {
    /// Before the run, so that a wrong path costs nothing. No file is left there meanwhile: it may be the bundle's folder.
    pub(super) fn check(named_by: &'static str, path: PathBuf, replaces: Replaces) -> Result<Self, Failure> {
        let file = Self { named_by, path, replaces };
        if file.path.is_dir() || file.path == Path::new("-") {
            return Err(Failure::usage(format!("{file} is not a file")).hint("name a file"));
        }
        let refused = |error: io::Error| {
            let folder = folder(&file.path).display().to_string();
            match error.kind() {
                io::ErrorKind::NotFound => {
                    Failure::usage(format!("{file} cannot be written: there is no folder {folder}"))
                        .hint(format!("make the folder (mkdir -p {folder}), or name another file"))
                }
                kind => Failure::usage(format!("{file} cannot be written: {kind}")).hint(file.remedy(&error)),
            }
        };
        match file.way().map_err(refused)? {
            WriteMode::Replace(path) => {
                file.may_replace(&path)?;
                drop(create_beside(&path).map_err(refused)?);
            }
            // Opened now, a pipe would end when it is closed again.
            WriteMode::Into => access(&file.path, Access::WRITE_OK).map_err(|error| refused(error.into()))?,
        }
        Ok(file)
    }

    fn way(&self) -> io::Result<WriteMode> {
        match fs::metadata(&self.path) {
            Ok(facts) if !facts.is_file() || is_output(&facts) => Ok(WriteMode::Into),
            // Its links go on leading to it.
            Ok(_) => Ok(WriteMode::Replace(fs::canonicalize(&self.path)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link may lead to a file that is not there yet.
                let target = fs::read_link(&self.path).map(|target| folder(&self.path).join(target));
                Ok(WriteMode::Replace(target.unwrap_or_else(|_| self.path.clone())))
            }
            Err(error) => Err(error),
        }
    }

    /// What is there now, if it is a text of at most so many bytes.
    pub(super) fn content(&self, max_bytes: u64) -> Option<String> {
        small_file::read_text(&self.path, max_bytes).ok()
    }

    /// Checks that an existing file is not something else, as far as it can be read.
    fn may_replace(&self, path: &Path) -> Result<(), Failure> {
        let mut start = Vec::new();
        let read = open_to_read(path).and_then(|file| file.take(LOOKED_AT).read_to_end(&mut start));
        if read.is_err() || self.replaces.takes(&start) {
            return Ok(());
        }
        let wanted = self.replaces.words();
        Err(Failure::usage(format!("{self} is something else than {wanted}, and is not overwritten"))
            .hint("name another file, or remove this one"))
    }

    /// Gives the file this content, all of it at once where it can have it at once.
    pub(super) fn write(&self, content: &[u8]) -> Result<(), Failure> {
        // It may have come to be the name of something else since it was checked.
        if let Ok(WriteMode::Replace(path)) = self.way() {
            self.may_replace(&path)?;
        }
        self.put(content).map_err(|error| {
            // What the system says of a file that has only a name for now would say that name.
            let unnamed =
                error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            Failure::io(format!("{self} was not written"), &unnamed).hint(self.remedy(&error))
        })
    }

    fn put(&self, content: &[u8]) -> io::Result<()> {
        match self.way()? {
            WriteMode::Replace(path) => {
                let mut file = create_beside(&path)?;
                file.write_all(content)?;
                file.persist(path)?;
                Ok(())
            }
            WriteMode::Into => open_to_append(&self.path)?.write_all(content),
        }
    }

    /// The same with a document.
    pub(super) fn write_json(&self, document: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(document);
        let mut json = json.map_err(|error| Failure::internal(format!("{}: {error}", self.named_by)))?;
        json.push(b'\n');
        self.write(&json)
    }

    /// What helps where it cannot be written.
    fn remedy(&self, error: &io::Error) -> String {
        let folder = folder(&self.path).display();
        if is_full(error) {
            format!("make room in {folder}, or name a file on another disk")
        } else if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) {
            "nobody reads this pipe: start the reader first".to_owned()
        } else {
            format!("let this user write {folder}, or name another file")
        }
    }
}

impl fmt::Display for WholeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.named_by, self.path.display())
    }
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn create_beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    // Others may read it, as any file that is made here.
    let permissions = fs::Permissions::from_mode(0o644);
    tempfile::Builder::new().permissions(permissions).tempfile_in(folder(path))
}

/// Whether it is the file that our own output goes to: under another file of its name, the rest of that would be lost.
fn is_output(facts: &Metadata) -> bool {
    let is_same = |stat: rustix::io::Result<rustix::fs::Stat>| {
        stat.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (facts.dev(), facts.ino()))
    };
    is_same(rustix::fs::fstat(io::stdout())) || is_same(rustix::fs::fstat(io::stderr()))
}

/// Opens what is there, unless it would have to be waited for.
fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Opens what is there. A pipe that nobody reads is an error, and no reason to wait for ever.
fn open_to_append(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
    let file = OpenOptions::new().append(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        // Whoever reads it may take his time.
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
        WholeFile::check("--report", path.to_owned(), Replaces::Anything)?.write(content)
    }

    #[test]
    fn a_file_is_replaced_and_its_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, dangling, new] =
            ["file", "link", "dangling", "new"].map(|name| folder.path().join(name));
        write(&file, b"old").unwrap();
        symlink("file", &link).unwrap();
        symlink("new", &dangling).unwrap();
        write(&link, b"1").unwrap();
        write(&dangling, b"2").unwrap();
        assert_eq!((fs::read(&file).unwrap(), fs::read(&new).unwrap()), (b"1".to_vec(), b"2".to_vec()));
        assert!(link.is_symlink() && dangling.is_symlink());
        assert_eq!(folder.path().read_dir().unwrap().count(), 4, "nothing else is left there");
        let missing = write(&folder.path().join("no/report"), b"").unwrap_err();
        assert!(missing.message.contains("there is no folder"), "{}", missing.message);
    }

    #[test]
    fn a_pipe_and_a_link_to_one_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, link] = ["pipe", "link"].map(|name| folder.path().join(name));
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        symlink(&pipe, &link).unwrap();
        let unread = write(&pipe, b"x").unwrap_err();
        assert!(unread.hint.unwrap().contains("nobody reads"));
        for path in [&pipe, &link] {
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
            let mut reader = OpenOptions::new().read(true).custom_flags(flags).open(&pipe).unwrap();
            write(path, b"report").unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "report");
        }
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo() && link.is_symlink());
    }

    #[test]
    fn what_cannot_be_written_is_named_with_who_named_it_and_what_helps() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/report.json");
        let failure = WholeFile::check("--report", missing.clone(), Replaces::Reports).unwrap_err();
        let said = format!("--report {} cannot be written: there is no folder", missing.display());
        assert!(failure.message.starts_with(&said), "{failure:?}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("mkdir -p")));
        assert!(
            WholeFile::check("--report", folder.path().to_owned(), Replaces::Reports).is_err(),
            "it is a folder"
        );
        // The folder goes while the run goes on.
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let file = WholeFile::check("--report", inner.join("report.json"), Replaces::Reports).unwrap();
        std::fs::remove_dir(&inner).unwrap();
        let failure = file.write(b"x").unwrap_err();
        let said = format!("--report {}/report.json was not written: entity not found", inner.display());
        assert_eq!(failure.message, said, "and not the name that the file had meanwhile");
        assert!(failure.hint.is_some());
    }

    #[test]
    fn what_is_no_report_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let report = "{\n  \"schema_version\": 2,\n  \"layercast_version\": \"0.1.0\"";
        let metrics = "# HELP layercast_bytes_total Bytes.\n";
        for (name, content, is_report, is_metrics) in [
            ("empty", &b""[..], true, true),
            ("report.json", report.as_bytes(), true, false),
            ("report.html", b"<!DOCTYPE html>\n<html>", true, false),
            ("metrics.prom", metrics.as_bytes(), false, true),
            ("bundle.tar.xz", b"\xfd7zXZ\0\0\x04", false, false),
            ("index.json", b"{\"schemaVersion\": 2, \"manifests\": []}", false, false),
            ("layercast.yaml", b"# yaml-language-server: $schema=x\nversion: 1\n", false, false),
        ] {
            let path = at(name, content);
            for (replaces, may) in [(Replaces::Reports, is_report), (Replaces::Metrics, is_metrics)] {
                let checked = WholeFile::check("--report", path.clone(), replaces);
                assert_eq!(checked.is_ok(), may, "{name} {replaces:?}");
            }
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        // One name for the report and the metrics.
        let path = folder.path().join("both");
        let [first, second] = [Replaces::Reports, Replaces::Metrics]
            .map(|replaces| WholeFile::check("--report", path.clone(), replaces).unwrap());
        first.write(report.as_bytes()).unwrap();
        assert!(second.write(metrics.as_bytes()).is_err());
        assert_eq!(fs::read(&path).unwrap(), report.as_bytes());
    }
}
