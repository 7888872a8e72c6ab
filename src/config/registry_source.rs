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
        if has_password(text) {
            let (name, place) = (format!("{PREFIX}***"), "a user and a password before the host".to_owned());
            return Some(Self { name, place, list: None });
        }
        let (place, list) = match text.split_once('@') {
            Some((place, list)) => (place, Some(PathBuf::from(list))),
            None => (text, None),
        };
        Some(Self { name: name.to_owned(), place: place.to_owned(), list })
    }
}

/// Whether something that is no port stands behind the colon of the host, and an `@` behind that. It is never shown.
fn has_password(text: &str) -> bool {
    let place = text.split_once("://").map_or(text, |(_, place)| place);
    let Some((before, _)) = place.split_once('@') else { return false };
    let port = before.split('/').next().unwrap_or_default().rsplit_once(':').map(|(_, port)| port);
    let is_bracketed = before.starts_with('[');
    port.is_some_and(|port| !is_bracketed && !port.bytes().all(|byte| byte.is_ascii_digit()))
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
        for secret in ["registry:http://bob:CANARY@head/ns", "registry:bob:CANARY@head:5000"] {
            assert!(!format!("{:?}", RegistrySource::of(Path::new(secret))).contains("CANARY"));
        }
        assert_eq!(of("registry:http://[::1]:5000/ns@a"), source("http://[::1]:5000/ns", Some("a")));
    }
}
