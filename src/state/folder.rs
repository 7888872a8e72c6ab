//! Where the state lies.
//!
//! `--state-dir`, else `$LAYERCAST_STATE_DIR`, else `$STATE_DIRECTORY` (what systemd's `StateDirectory=` gives a
//! service), else `$XDG_STATE_HOME/layercast`, else `/var/lib/layercast` for root, else `~/.local/state/layercast`.
//! Root's is the system's and not `$HOME`, because `sudo` may leave `$HOME` pointing at a user's home, where a file of
//! root's would lock that user out.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const NAME: &str = "layercast";
const VARIABLE: &str = "LAYERCAST_STATE_DIR";
const OF_ROOT: &str = "/var/lib/layercast";

/// The folder of the state by the environment, where the command line names none. `None` for a user without a
/// home.
pub(crate) fn default_folder() -> Option<PathBuf> {
    choose(|name| std::env::var_os(name), rustix::process::geteuid().is_root())
}

/// The folder that `$LAYERCAST_STATE_DIR` names.
pub(crate) fn folder_of_environment() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn choose(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification has relative paths ignored; a relative home is no better.
    let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
    if let Some(folder) = path(VARIABLE) {
        return Some(folder);
    }
    // Several folders stand with colons between them.
    if let Some(given) = absolute("STATE_DIRECTORY") {
        let first = given.as_os_str().as_bytes().split(|&c| c == b':').next().unwrap_or_default();
        return Some(PathBuf::from(std::ffi::OsStr::from_bytes(first)));
    }
    if let Some(folder) = absolute("XDG_STATE_HOME") {
        return Some(folder.join(NAME));
    }
    if is_root {
        return Some(PathBuf::from(OF_ROOT));
    }
    absolute("HOME").map(|home| home.join(".local/state").join(NAME))
}

/// Makes the folder, for its owner alone; one that is there stays as it is.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether the state can be kept in this folder; what is not there yet is made, as a run would.
pub(crate) fn probe(folder: &Path) -> io::Result<()> {
    make(folder)?;
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?;
    Ok(())
}

/// Opens a file of the state for its owner alone, and makes it first if need be. What is in it stays.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_said_counts() {
        let choose = |given: &[(&str, &str)], is_root| {
            let given: Vec<_> = given.to_vec();
            let find = move |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into());
            choose(find, is_root).map(|path| path.display().to_string())
        };
        let all = [
            ("LAYERCAST_STATE_DIR", "own"),
            ("STATE_DIRECTORY", "/sys/one:/sys/two"),
            ("XDG_STATE_HOME", "/xdg"),
            ("HOME", "/home/me"),
        ];
        assert_eq!(choose(&all, true).unwrap(), "own");
        assert_eq!(choose(&all[1..], true).unwrap(), "/sys/one");
        assert_eq!(choose(&all[2..], true).unwrap(), "/xdg/layercast");
        assert_eq!(choose(&all[3..], true).unwrap(), "/var/lib/layercast");
        assert_eq!(choose(&all[3..], false).unwrap(), "/home/me/.local/state/layercast");
        assert_eq!(choose(&[("XDG_STATE_HOME", "x"), ("HOME", "")], false), None);
    }
}
