//! Which directory configures an upstream, and what is in it. [`names`] is pure; [`load`], [`is_tree`] and [`near`] read a disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{FILE_NAME, Host, HostsFile, Ignored, Version};
use crate::{document, small_file};

/// The name of the directory that speaks for all upstreams that have none.
pub(crate) const DEFAULT: &str = "_default";

/// How far below a folder a tree is looked for: `node/etc/containerd/certs.d`, and some more.
const MAX_DEPTH: usize = 8;
/// Folders looked into on the way.
const MAX_FOLDERS: usize = 2000;

/// What a disk says about an upstream.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The directory that was found, if any.
    pub folder: Option<PathBuf>,
    /// Why its `hosts.toml` does not count, if it is there and does not.
    pub ignored: Option<Ignored>,
    /// Whom containerd would ask, in order.
    pub hosts: Vec<Host>,
}

/// The directory for `host` that containerd looks for first: a port is written `_5000_`, because Windows has no colons.
pub(crate) fn preferred(host: &str) -> String {
    match host.rfind(':') {
        Some(at) if at > 0 => format!("{}_{}_", &host[..at], &host[at + 1..]),
        _ => host.to_owned(),
    }
}

/// The directories below each root in which containerd looks for `host`, in order. The first that exists speaks alone.
pub(crate) fn names(host: &str) -> Vec<String> {
    let preferred = preferred(host);
    let mut names = vec![preferred];
    if names[0] != host {
        names.push(host.to_owned());
    }
    names.push(DEFAULT.to_owned());
    names
}

/// Which upstream a directory's name speaks for; `None` for `_default`.
pub(crate) fn upstream(name: &str) -> Option<String> {
    if name == DEFAULT {
        return None;
    }
    let with_port = name.strip_suffix('_').and_then(|rest| rest.rsplit_once('_'));
    Some(match with_port {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => format!("{host}:{port}"),
        _ => name.to_owned(),
    })
}

/// What containerd of this version makes of `roots` (its `config_path`, split at colons) for images of `upstream`.
///
/// # Errors
/// When the disk refuses; containerd fails the pull then.
pub(crate) fn load(roots: &[PathBuf], upstream: &str, version: Version) -> std::io::Result<Loaded> {
    for root in roots {
        for name in names(upstream) {
            let folder = root.join(name);
            if folder.try_exists()? {
                return load_folder(&folder, upstream, version);
            }
        }
    }
    let hosts = HostsFile::certificates(upstream, Vec::new(), Vec::new(), version);
    Ok(Loaded { folder: None, ignored: None, hosts })
}

/// Whether any directory in `root` has a `hosts.toml`: without one, no mirror is named there.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn is_tree(root: &Path) -> std::io::Result<bool> {
    let entries = std::fs::read_dir(root)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().any(|entry| entry.path().join(FILE_NAME).is_file()))
}

/// The tree that somebody may have meant who named `folder`: what it is a directory of, or the first one below it.
pub(crate) fn near(folder: &Path) -> Option<PathBuf> {
    if folder.join(FILE_NAME).is_file() {
        return folder.parent().map(Path::to_owned);
    }
    let (mut level, mut seen) = (vec![folder.to_owned()], 0);
    for _ in 0..MAX_DEPTH {
        if let Some(tree) = level.iter().find(|folder| is_tree(folder).unwrap_or_default()) {
            return Some(tree.clone());
        }
        level = level.iter().flat_map(|folder| folders(folder)).collect();
        seen += level.len();
        if seen > MAX_FOLDERS {
            break;
        }
    }
    None
}

/// The folders in a folder by name; links are left alone, they may lead anywhere.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders
}

fn load_folder(folder: &Path, upstream: &str, version: Version) -> std::io::Result<Loaded> {
    let ignored = match read(&folder.join(FILE_NAME))? {
        None => None,
        Some(text) => match HostsFile::parse(&text, version) {
            Ok(file) => {
                let hosts = file.resolve(upstream, folder, version);
                return Ok(Loaded { folder: Some(folder.to_owned()), ignored: None, hosts });
            }
            Err(ignored) => Some(ignored),
        },
    };
    let (ca, client) = certificates(folder)?;
    let hosts = HostsFile::certificates(upstream, ca, client, version);
    Ok(Loaded { folder: Some(folder.to_owned()), ignored, hosts })
}

fn read(path: &Path) -> std::io::Result<Option<String>> {
    match small_file::read_text(path, document::MAX_BYTES) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

type Pair = (PathBuf, Option<PathBuf>);

/// Docker's way: every `.crt` is an authority, every `.cert` a certificate with a `.key` beside it.
fn certificates(folder: &Path) -> std::io::Result<(Vec<PathBuf>, Vec<Pair>)> {
    let (mut ca, mut client) = (Vec::new(), Vec::new());
    let mut files = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let path = file.path();
        if file.file_type()?.is_dir() {
            continue;
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => ca.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                let key = key.try_exists()?.then_some(key);
                client.push((path, key));
            }
            _ => {}
        }
    }
    Ok((ca, client))
}
