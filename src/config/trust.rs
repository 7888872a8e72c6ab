//! Checks whether others may write a file that names commands: they could run anything as the user who reads it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use crate::document::Findings;

const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
/// In such a folder people can neither remove nor rename what is not theirs.
const STICKY: u32 = 0o1000;

/// Refuses a file with the key `command` that others may write or replace.
pub(super) fn check(path: &Path, command: &str, findings: &mut Findings) {
    let me = rustix::process::geteuid().as_raw();
    let refusal = match places(path) {
        Ok(places) => places.iter().find_map(|(place, found, is_folder)| {
            let why = writers(found.mode(), found.uid(), me, *is_folder)?;
            (!is_read_only(place)).then(|| (place.clone(), why))
        }),
        Err(error) => Some((path.to_owned(), format!("cannot be looked at: {error}"))),
    };
    if let Some((place, why)) = refusal {
        let shown = place.display();
        let what = format!("{shown} {why}, and {command} in it is run as whoever reads it");
        findings.error("others-may-write", None, (what, format!("chown root {shown}; chmod go-w {shown}")));
    }
}

/// The file and its folders: the one it was asked for in, and the one that it lies in where links lead elsewhere.
fn places(path: &Path) -> io::Result<Vec<(PathBuf, Metadata, bool)>> {
    let file = path.canonicalize()?;
    let asked = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut folders = vec![asked.canonicalize()?];
    folders.extend(file.parent().map(Path::to_owned).filter(|folder| *folder != folders[0]));
    let place = |path: PathBuf, is_folder| Ok((path.clone(), std::fs::metadata(path)?, is_folder));
    std::iter::once(place(file, false)).chain(folders.into_iter().map(|folder| place(folder, true))).collect()
}

/// Who may write something beside its owner, who is root or `me`.
fn writers(mode: u32, owner: u32, me: u32, is_folder: bool) -> Option<String> {
    if owner != 0 && owner != me {
        return Some(format!("belongs to user {owner}"));
    }
    let is_open = mode & GROUP_AND_OTHERS_WRITE != 0 && !(is_folder && mode & STICKY != 0);
    is_open.then(|| format!("can be written by others (mode {:04o})", mode & 0o7777))
}

/// Whether it lies on a read-only file system, as a ConfigMap that Kubernetes mounts.
fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_root_and_oneself_may_write() {
        for (mode, owner, is_folder, is_fine) in [
            (0o644, 0, false, true),
            (0o600, 7, false, true),
            (0o644, 8, false, false),
            (0o664, 0, false, false),
            (0o646, 7, false, false),
            (0o755, 0, true, true),
            (0o775, 0, true, false),
            (0o1777, 0, true, true),
        ] {
            assert_eq!(writers(mode, owner, 7, is_folder).is_none(), is_fine, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn the_file_and_its_folder_are_looked_at_also_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("inner"), folder.path().join("inner/file.yaml"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&file, "").unwrap();
        let link = folder.path().join("link.yaml");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let found = |path: &Path| {
            let mut findings = Findings::new(path);
            check(path, "gate", &mut findings);
            findings.sorted().into_iter().map(|finding| finding.what).collect::<String>()
        };
        set(&inner, 0o755);
        set(&file, 0o644);
        assert_eq!((found(&file), found(&link)), (String::new(), String::new()));
        set(&inner, 0o777);
        assert!(found(&link).contains("inner can be written by others (mode 0777)"), "{}", found(&link));
        set(&inner, 0o755);
        set(&file, 0o666);
        assert!(found(&link).contains("file.yaml can be written"), "{}", found(&link));
    }
}
