//! A registry whose images are a bundle: how it is written.

use std::path::{Path, PathBuf};

const PREFIX: &str = "registry:";

/// `registry:HOST[:PORT][/NAMESPACE][@LIST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistrySource {
    /// As it was written.
    pub(crate) name: String,
    /// The registry and the namespace.
    pub(crate) place: String,
    /// A file with a name on each line; without one it is all that the registry lists.
    pub(crate) list: Option<PathBuf>,
}

impl RegistrySource {
    /// The registry that a source names; none where it is a path.
    pub(crate) fn of(source: &Path) -> Option<Self> {
        let name = source.to_str()?;
        let text = name.strip_prefix(PREFIX)?;
        let (place, list) = match text.split_once('@') {
            Some((place, list)) => (place, Some(PathBuf::from(list))),
            None => (text, None),
        };
        Some(Self { name: name.to_owned(), place: place.to_owned(), list })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_registry_by_its_prefix() {
        let of = |text: &str| RegistrySource::of(Path::new(text)).map(|it| (it.place, it.list));
        let source = |place: &str, list: Option<&str>| Some((place.to_owned(), list.map(PathBuf::from)));
        assert_eq!(of("registry:head:5000/ns"), source("head:5000/ns", None));
        assert_eq!(of("registry:head/ns@lists/a.txt"), source("head/ns", Some("lists/a.txt")));
        assert_eq!(of("registry.tar"), None);
    }
}
