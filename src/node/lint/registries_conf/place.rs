//! Where the file lies: of all that looks like it, the library reads `registries.conf` and the files `registries.conf.d/*.conf`
//! beside it (`newConfigWrapper`, `dropInConfigs`).

use std::path::Path;

use crate::document::nearest;
use crate::node::lint::FileFindings;

const MAIN: &str = "registries.conf";
const DROP_INS: &str = "registries.conf.d";
/// Where the library looks for its files.
const FOLDER: &str = "containers";

/// What a file is to the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileRole {
    /// The main file, or one of any name that somebody may name (`CONTAINERS_REGISTRIES_CONF`).
    Main,
    DropIn,
    /// It is never read.
    Unread(UnreadReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadReason {
    /// The name of a drop-in does not end in `.conf`.
    Name,
    /// It lies in a folder of the folder of drop-ins.
    Below,
    /// It lies in `registries.d`, which is for signatures.
    Signatures,
    /// Its name is nearly that of the main file.
    Misnamed,
}

impl FileRole {
    pub(super) fn of(path: &Path) -> Self {
        let parent = path.parent().unwrap_or(Path::new(""));
        let is_conf = path.extension().is_some_and(|extension| extension == "conf");
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if parent.ends_with(DROP_INS) {
            return if is_conf { Self::DropIn } else { Self::Unread(UnreadReason::Name) };
        }
        if parent.ancestors().skip(1).any(|folder| folder.ends_with(DROP_INS)) {
            return Self::Unread(UnreadReason::Below);
        }
        if parent.ends_with("registries.d") {
            return Self::Unread(UnreadReason::Signatures);
        }
        let is_near = name != MAIN && nearest(name, &[MAIN]).is_some();
        if is_near && parent.ends_with(FOLDER) { Self::Unread(UnreadReason::Misnamed) } else { Self::Main }
    }
}

/// Says why a file is not read.
pub(super) fn unread(findings: &mut FileFindings<'_>, why: UnreadReason) {
    let (rule, what, fix) = match why {
        UnreadReason::Name => (
            "drop-in-name",
            "a drop-in whose name does not end in .conf",
            "rename it to end in .conf".to_owned(),
        ),
        UnreadReason::Below => (
            "misplaced-file",
            "a drop-in in a folder below registries.conf.d, which is not searched",
            format!("move it up into {DROP_INS}"),
        ),
        UnreadReason::Signatures => (
            "misplaced-file",
            "registries.d is for signatures, and drop-ins of registries.conf lie in registries.conf.d",
            format!("move it into {DROP_INS}, with a name that ends in .conf"),
        ),
        UnreadReason::Misnamed => {
            ("misnamed-file", "the file is not called registries.conf", format!("rename it to {MAIN}"))
        }
    };
    let effect = "the runtime passes it over: no mirror is asked".to_owned();
    findings.error(rule, None, [what.to_owned(), effect, fix]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_where_the_library_looks() {
        for (path, place) in [
            ("/etc/containers/registries.conf", FileRole::Main),
            ("/root/.config/containers/registries.conf", FileRole::Main),
            ("/srv/mirrors.conf", FileRole::Main),
            ("/etc/containers/registries.conf.d/a.conf", FileRole::DropIn),
            ("/etc/containers/registries.conf.d/a.toml", FileRole::Unread(UnreadReason::Name)),
            ("/etc/containers/registries.conf.d/site/a.conf", FileRole::Unread(UnreadReason::Below)),
            ("/etc/containers/registries.d/a.conf", FileRole::Unread(UnreadReason::Signatures)),
            ("/etc/containers/registry.conf", FileRole::Unread(UnreadReason::Misnamed)),
        ] {
            assert_eq!(FileRole::of(Path::new(path)), place, "{path}");
        }
    }
}
