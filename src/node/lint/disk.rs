//! Finds the files of a node, and answers what checkers ask of the disk. Reads only.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use super::{Certificate, DirEntry, FileKind, LintOptions, NodeFile, NodeFiles, NodePath, objects};
use crate::document;
use crate::node::hosts::FILE_NAME;
use crate::{small_file, tls};

/// Folders inside folders.
const MAX_DEPTH: usize = 12;
/// What is read.
pub(crate) const KNOWN: &str = "known are hosts.toml, containerd's config.toml, registries.conf, registries.yaml, daemon.json, and \
     YAML documents of Talos, OpenShift, EKS Anywhere, kind, Secrets and ConfigMaps; `mirror targets --cluster FILE` checks a file of \
     bmctl";
/// Files looked at; a node has some dozens.
const MAX_FILES: usize = 20_000;

/// Why a path cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub(crate) struct UnreadablePath {
    /// The path.
    pub path: PathBuf,
    why: String,
    /// What to do instead.
    pub hint: Option<&'static str>,
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> UnreadablePath {
    UnreadablePath { path: path.to_owned(), why: why.to_string(), hint: None }
}

/// The files that runtimes would read at `paths`. A folder is searched; a file that is named must be one of them.
///
/// # Errors
/// When something cannot be read, or a file is of no known kind.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<NodeFile>, UnreadablePath> {
    let mut sources = Vec::new();
    for path in paths {
        let data = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if data.is_dir() {
            let mut left = MAX_FILES;
            search(path, 0, &mut left, &mut sources)?;
            continue;
        }
        let source = read(path)?.ok_or_else(|| UnreadablePath {
            hint: Some(KNOWN),
            ..unreadable(path, &"not a file that tells a node of mirrors")
        })?;
        sources.push(source);
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources.dedup_by(|a, b| a.path == b.path);
    Ok(sources)
}

fn search(
    folder: &Path,
    depth: usize,
    left: &mut usize,
    found: &mut Vec<NodeFile>,
) -> Result<(), UnreadablePath> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.map_err(|error| unreadable(folder, &error))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        *left = left.checked_sub(1).ok_or_else(|| UnreadablePath {
            hint: Some("name the folders of the runtimes, as /etc/containerd"),
            ..unreadable(folder, &"too many files to search")
        })?;
        // A link may lead anywhere; one that is named is followed, one that is found only to a file.
        let data = std::fs::metadata(&path);
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        match data {
            // What Kubernetes keeps behind the links of a mounted ConfigMap is reached by those.
            Ok(data) if data.is_dir() && entry.file_name().to_string_lossy().starts_with("..") => {}
            Ok(data) if data.is_dir() && !is_link && depth < MAX_DEPTH => {
                search(&path, depth + 1, left, found)?;
            }
            Ok(data) if data.is_file() => found.extend(read(&path)?),
            _ => {}
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<NodeFile>, UnreadablePath> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let in_tree = path.ancestors().skip(1).take(2).any(|folder| folder.ends_with("certs.d"));
    let within = |folder: &str| path.parent().is_some_and(|parent| parent.ends_with(folder));
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_yaml = matches!(extension, Some("yaml" | "yml"));
    let kind = match name {
        FILE_NAME => Some(FileKind::HostsToml),
        "registries.conf" => Some(FileKind::RegistriesConf),
        "registries.yaml" | "registries.yml" => Some(FileKind::RegistriesYaml),
        "daemon.json" => Some(FileKind::DaemonJson),
        _ if within("registries.conf.d") && path.extension().is_some_and(|found| found == "conf") => {
            Some(FileKind::RegistriesConf)
        }
        _ if within("registries.conf.d") => None,
        _ if in_tree => None,
        _ if matches!(extension, Some("toml" | "conf")) => None,
        // A folder has YAML of all kinds and sizes in it.
        _ if is_yaml && std::fs::metadata(path).is_ok_and(|data| data.len() <= document::MAX_BYTES) => None,
        _ => return Ok(None),
    };
    let (text, readable_by_others) = read_text(path).map_err(|error| unreadable(path, &error))?;
    let said = |needle: &str| text.lines().any(|line| line.trim_start().starts_with(needle));
    let kind = kind.or_else(|| {
        if is_yaml {
            objects::is_one(&text).then_some(FileKind::Objects)
        } else if said("[plugins") || name == "config.toml" && (said("version") || within("containerd")) {
            Some(FileKind::ConfigToml)
        } else if said("[[registry]]") {
            Some(FileKind::RegistriesConf)
        } else {
            in_tree.then_some(FileKind::Stray)
        }
    });
    Ok(kind.map(|kind| NodeFile { path: path.to_owned(), kind, text, readable_by_others }))
}

/// The disk of this machine, or a copy of a node's below some folder.
#[derive(Debug)]
pub(crate) struct Disk {
    root: Option<PathBuf>,
}

impl Disk {
    /// A disk whose absolute paths begin where the settings say.
    pub(crate) fn new(settings: &LintOptions) -> Self {
        Self { root: settings.root.clone() }
    }

    /// Where an absolute path of a node lies here: below the folder that stands for `/` of the node of the file that names it.
    fn here(&self, file: &Path, path: &Path) -> PathBuf {
        // What a file's own folder was put in front of is here already.
        let folder = file.parent();
        if folder.is_some_and(|folder| path.starts_with(folder)) {
            return path.to_owned();
        }
        let Ok(below) = path.strip_prefix("/") else { return path.to_owned() };
        // Both the file and the path lie below some folder of the node, which need not be a part of the root's `etc`.
        if self.root.is_none()
            && let Some(folder) = folder
        {
            let parents = below.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            let above =
                folder.ancestors().flat_map(|above| parents.clone().map(move |parent| (above, parent)));
            if let Some((above, parent)) = above.into_iter().find(|(above, parent)| above.ends_with(parent))
                && let Some(root) = above.ancestors().nth(parent.components().count())
            {
                return root.join(below);
            }
        }
        self.place(file).root.map_or_else(|| path.to_owned(), |root| root.join(below))
    }
}

impl NodeFiles for Disk {
    fn authorities(&self, file: &Path, path: &Path) -> Certificate {
        looked_at(tls::Authorities::read(&self.here(file, &clean(path))).map(drop), path)
    }

    fn client(&self, file: &Path, certificate: &Path, key: &Path) -> Certificate {
        let here = |path| self.here(file, &clean(path));
        let (certificate_here, key_here) = (here(certificate), here(key));
        let missing = if certificate_here.exists() { key } else { certificate };
        looked_at(tls::ClientCertificate::read(&certificate_here, &key_here).map(drop), missing)
    }

    fn is_folder(&self, file: &Path, path: &Path) -> bool {
        self.here(file, path).is_dir()
    }

    fn matching(&self, file: &Path, pattern: &str) -> Vec<PathBuf> {
        let pattern = Path::new(pattern);
        let pattern = match file.parent() {
            Some(folder) if pattern.is_relative() => folder.join(pattern),
            _ => self.here(file, pattern),
        };
        let mut found = vec![PathBuf::new()];
        for part in clean(&pattern).components() {
            let name = part.as_os_str().to_string_lossy();
            let wanted = name.contains(['*', '?', '[']).then(|| globset::Glob::new(&name).ok());
            found = match wanted {
                None => found.into_iter().map(|path| path.join(part)).filter(|path| path.exists()).collect(),
                Some(None) => Vec::new(),
                Some(Some(glob)) => {
                    let glob = glob.compile_matcher();
                    let fits = |path: &PathBuf| path.file_name().is_some_and(|name| glob.is_match(name));
                    let inside = |path: PathBuf| {
                        let names = self.entries(&path).into_iter().map(move |entry| path.join(entry.name));
                        names.filter(fits).collect::<Vec<_>>()
                    };
                    found.into_iter().flat_map(inside).take(MAX_FILES).collect()
                }
            };
        }
        found
    }

    fn read(&self, path: &Path, kind: FileKind) -> Option<NodeFile> {
        let (text, readable_by_others) = read_text(path).ok()?;
        Some(NodeFile { path: path.to_owned(), kind, text, readable_by_others })
    }

    fn place(&self, path: &Path) -> NodePath {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let etc =
            path.ancestors().skip(1).find(|folder| folder.file_name().is_some_and(|name| name == "etc"));
        let root = self.root.as_ref().map(|root| std::path::absolute(root).unwrap_or_else(|_| root.clone()));
        let root = root.or_else(|| Some(etc?.parent()?.to_owned()));
        NodePath { path, root }
    }

    fn is_whole(&self, file: &Path) -> bool {
        self.root.is_some() || self.place(file).root.as_deref() == Some(Path::new("/"))
    }

    fn entries(&self, path: &Path) -> Vec<DirEntry> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let entry = |entry: std::fs::DirEntry| {
            let is_folder = entry.path().is_dir();
            Some(DirEntry { name: entry.file_name().into_string().ok()?, is_folder })
        };
        let mut entries: Vec<DirEntry> = entries.filter_map(entry).collect();
        entries.sort();
        entries
    }
}

/// What a look at a certificate gave; `path` is what the node calls it.
fn looked_at(read: Result<(), tls::BadFile>, path: &Path) -> Certificate {
    match read {
        Ok(()) => Certificate::Good,
        Err(error) if error.io == Some(ErrorKind::NotFound) => Certificate::Missing(path.to_owned()),
        Err(error) => Certificate::Bad(error.to_string()),
    }
}

/// The text of a file, and whether others than its owner may read it.
fn read_text(path: &Path) -> std::io::Result<(String, bool)> {
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let bytes = small_file::read_from(file, document::MAX_BYTES)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), mode & 0o044 != 0))
}

/// The path without `..`, as Go's `filepath.Join` makes it.
fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut out, part| {
        if part == Component::ParentDir {
            out.pop();
        } else {
            out.push(part);
        }
        out
    })
}
