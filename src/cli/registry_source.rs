//! A registry as the source of a push: its images are pulled into a folder, which is a bundle like any other.
//!
//! With a stage the folder stays beside it, and the next run fetches only what is new. Without one the run removes it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::interrupt::Interrupt;
use super::mirror_args::MirrorArgs;
use super::output::Output;
use super::pulling::{BLOBS_AT_ONCE, complete, names};
use crate::archive::ImageName;
use crate::make::{LayoutFolder, PullChoice, WantedImage, pull};
use crate::oci::{Digest, Repository, Tag};
use crate::registry::{Registry, Target};
use crate::report::{Class, Failure};
use crate::units::{ByteCount, count};

const PREFIX: &str = "registry:";

/// `registry:HOST[:PORT][/NAMESPACE][@LIST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegistrySource {
    place: String,
    list: Option<PathBuf>,
}

impl RegistrySource {
    /// The registry that a source names; none where it is a path.
    pub(super) fn of(source: &Path) -> Option<Self> {
        let text = source.to_str()?.strip_prefix(PREFIX)?;
        let (place, list) = match text.split_once('@') {
            Some((place, list)) => (place, Some(PathBuf::from(list))),
            None => (text, None),
        };
        Some(Self { place: place.to_owned(), list })
    }
}

/// Registries that were pulled, and the folders that they are in.
#[derive(Debug, Default)]
pub(super) struct RegistrySources {
    folders: Vec<(PathBuf, PathBuf)>,
    /// Removed at the end.
    temporary: Vec<TempDir>,
}

impl RegistrySources {
    /// Pulls the bundles that lie in registries.
    pub(super) fn pull(
        sources: &[(PathBuf, RegistrySource)],
        mirrors: &MirrorArgs,
        stage: Option<&Path>,
        output: &Output,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let mut this = Self::default();
        for (given, source) in sources {
            let runtime = super::runtime()?;
            let path = this.place_for(given, stage)?;
            let folder = LayoutFolder::open(&path)?;
            let (target, options) = mirrors.source(&source.place, output)?;
            let display = output.display();
            let pulling = async {
                let registry = Registry::connect(&target.endpoint, options).await?;
                let images = wanted(source, &target, &registry).await?;
                let all = images.len();
                let choice = PullChoice { platform: None, referrers: true, at_once: BLOBS_AT_ONCE };
                let pulled = pull(images, &folder, choice, &interrupt.token, &display.listeners()).await?;
                Ok::<_, Failure>((pulled, all))
            };
            interrupt.sending();
            let (pulled, all) = runtime.block_on(pulling)?;
            drop(display);
            complete(&pulled, all, &folder, output)?;
            output.note(&format!(
                "{}: {}, {} of {} fetched",
                given.display(),
                count(pulled.images, "image"),
                count(usize::try_from(pulled.blobs_fetched).unwrap_or(usize::MAX), "blob"),
                ByteCount(pulled.bytes_fetched)
            ));
            this.folders.push((given.clone(), path));
        }
        Ok(this)
    }

    /// The folder into which a source was pulled.
    pub(super) fn folder(&self, source: &Path) -> Option<&PathBuf> {
        self.folders.iter().find(|(given, _)| given == source).map(|(_, folder)| folder)
    }

    fn place_for(&mut self, given: &Path, stage: Option<&Path>) -> Result<PathBuf, Failure> {
        if let Some(stage) = stage {
            let digest = Digest::of(given.as_os_str().as_encoded_bytes());
            let mut path = OsString::from(stage);
            path.push(format!(".registry-{}", &digest.hex()[..16]));
            return Ok(path.into());
        }
        let folder = tempfile::Builder::new().prefix("layercast-").tempdir();
        let folder = folder.map_err(|error| Failure::io("making a folder for images", &error))?;
        let path = folder.path().to_owned();
        self.temporary.push(folder);
        Ok(path)
    }
}

/// The images of a source: those of its list, or all that the registry lists below its namespace.
async fn wanted(
    source: &RegistrySource,
    target: &Target,
    registry: &Registry,
) -> Result<Vec<WantedImage>, Failure> {
    let namespace = target.namespace.as_ref();
    let mut images = Vec::new();
    if let Some(list) = &source.list {
        for name in names(&[], std::slice::from_ref(list))? {
            let repository = name.repository.below(namespace)?;
            images.push(WantedImage { name: ImageName::Full(name), registry: registry.clone(), repository });
        }
    } else {
        let listed = registry.repositories().await.map_err(|error| {
            let failure = Failure::from(error);
            failure.hint("name the images in a file: registry:HOST/NAMESPACE@FILE; not every registry lists what it has")
        })?;
        for repository in listed {
            let Some(own) = below(namespace, &repository) else { continue };
            for tag in registry.tags(&repository).await?.into_iter().filter(|tag| !is_of_digest(tag)) {
                let name = ImageName::Hostless(own.clone(), tag);
                let repository = repository.clone();
                images.push(WantedImage { name, registry: registry.clone(), repository });
            }
        }
    }
    if images.is_empty() {
        return Err(Failure::new(Class::NotFound, format!("{target} lists no image"))
            .hint("correct the namespace, or name the images in a file: registry:HOST/NAMESPACE@FILE"));
    }
    Ok(images)
}

/// A repository without the namespace above it.
fn below(namespace: Option<&Repository>, repository: &Repository) -> Option<Repository> {
    let Some(namespace) = namespace else { return Some(repository.clone()) };
    repository.as_str().strip_prefix(namespace.as_str())?.strip_prefix('/')?.parse().ok()
}

/// Whether a tag says something of a digest: it comes with the image that has it.
fn is_of_digest(tag: &Tag) -> bool {
    let name = tag.as_str().split('.').next().unwrap_or_default();
    name.split_once('-').is_some_and(|(kind, hex)| format!("{kind}:{hex}").parse::<Digest>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_registry_by_its_prefix() {
        let of = |text: &str| RegistrySource::of(Path::new(text));
        let source = |place: &str, list: Option<&str>| {
            Some(RegistrySource { place: place.to_owned(), list: list.map(PathBuf::from) })
        };
        assert_eq!(of("registry:head:5000/ns"), source("head:5000/ns", None));
        assert_eq!(of("registry:head/ns@lists/a.txt"), source("head/ns", Some("lists/a.txt")));
        assert_eq!(of("registry.tar"), None);
    }

    #[test]
    fn repositories_are_named_below_the_namespace() {
        let repository = |text: &str| text.parse::<Repository>().unwrap();
        assert_eq!(below(Some(&repository("ns")), &repository("ns/a/b")), Some(repository("a/b")));
        assert_eq!(below(Some(&repository("ns")), &repository("nsx/a")), None);
        assert_eq!(below(None, &repository("a")), Some(repository("a")));
        let digest = Digest::of(b"").to_string().replace(':', "-");
        let tag = |text: String| is_of_digest(&text.parse().unwrap());
        assert!(tag(digest.clone()) && tag(format!("{digest}.sig")) && !tag("v1.2-rc.1".to_owned()));
    }
}
