//! A registry as the source of bundles: its images are pulled into the stage, and are a bundle like any other.
//!
//! Without a stage they are pulled into a folder that goes with the run. Who only asks pulls no layers.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::output::Output;
use super::pulling::{BLOBS_AT_ONCE, complete, names};
use super::site_settings::{Made, SiteMirrors};
use crate::archive::ImageName;
use crate::bundle::{Input, Opener, PulledBundle};
use crate::config::{Config, RegistrySource, SourceSettings};
use crate::make::{self, LayoutFolder, PullChoice, PullDepth, PullStore, Pulled, WantedImage, pull};
use crate::oci::{Digest, Repository, Tag};
use crate::registry::{Access, ClientOptions, Registry, Target};
use crate::report::{Class, Failure, Listeners};
use crate::units::{ByteCount, count};

/// A source, and how it is asked.
pub(super) struct SourceRegistry {
    pub(super) source: RegistrySource,
    pub(super) target: Target,
    pub(super) client: ClientOptions,
}

impl SourceRegistry {
    /// The sources of a sites file.
    ///
    /// # Errors
    /// A file that one of them names cannot be used, or its credentials are not where they should be.
    pub(super) fn of_file(config: &Config, output: &Output) -> Result<Vec<Self>, Failure> {
        let registries = config.sources.iter().map(|source| &source.registry);
        let Made { mirrors, failed } = SiteMirrors::new(config, Access::Pull, None, output).all(registries);
        if let Some((registry, failure)) = failed.into_iter().next() {
            return Err(Failure { message: format!("{}: {}", registry.name, failure.message), ..failure });
        }
        let sources = config.sources.iter().map(|SourceSettings { source, .. }| source.clone());
        let with_client =
            sources.zip(mirrors).map(|(source, it)| Self { source, target: it.target, client: it.client });
        Ok(with_client.collect())
    }

    /// Pulls what it has, as much of it as is wanted.
    ///
    /// # Errors
    /// It cannot be reached, or an image of it does not come.
    pub(super) async fn pull(
        &self,
        store: &PullStore,
        depth: PullDepth,
        cancel: &CancellationToken,
        listeners: &Listeners,
        output: &Output,
    ) -> Result<Pulled, Failure> {
        let registry = Registry::connect(&self.target.endpoint, self.client.clone()).await?;
        let images = wanted(&self.source, &self.target, &registry).await?;
        let all = images.len();
        let pulled = pull(images, store, Self::choice(depth), cancel, listeners).await?;
        complete(&pulled, all, store, output)?;
        Ok(pulled)
    }

    /// All platforms, with what refers to them.
    pub(super) const fn choice(depth: PullDepth) -> PullChoice {
        PullChoice { platform: None, referrers: true, depth, at_once: BLOBS_AT_ONCE }
    }
}

/// Bundles that lie in registries, pulled.
#[derive(Debug, Default)]
pub(super) struct PulledSources {
    bundles: Vec<Arc<PulledBundle>>,
    /// Removed at the end.
    temporary: Vec<TempDir>,
}

impl PulledSources {
    /// Pulls all of them, one after the other: into the stage of the opener, or into folders that go with the run.
    ///
    /// # Errors
    /// As [`SourceRegistry::pull`].
    pub(super) async fn pull(
        sources: &[SourceRegistry],
        opener: &Opener,
        cancel: &CancellationToken,
        listeners: &Listeners,
        output: &Output,
    ) -> Result<Self, Failure> {
        let mut this = Self::default();
        for source in sources {
            let store = match &opener.stage {
                Some(stage) => PullStore::Stage(Arc::clone(stage)),
                None => PullStore::Folder(Arc::new(LayoutFolder::open(this.folder(opener)?.path())?)),
            };
            let pulled = source.pull(&store, PullDepth::Everything, cancel, listeners, output).await?;
            let name = source.source.name.clone();
            output.note(&format!(
                "{name}: {}, {} of {} fetched",
                count(pulled.images, "image"),
                count(usize::try_from(pulled.blobs_fetched).unwrap_or(usize::MAX), "blob"),
                ByteCount(pulled.bytes_fetched)
            ));
            let bundle = Arc::new(pulled.bundle(name, &store));
            let (kept, opener) = (Arc::clone(&bundle), opener.clone());
            let keeping = tokio::task::spawn_blocking(move || make::keep(&kept, &opener));
            keeping.await.map_err(|error| Failure::internal(error.to_string()))??;
            this.bundles.push(bundle);
        }
        Ok(this)
    }

    fn folder(&mut self, opener: &Opener) -> Result<&TempDir, Failure> {
        let place = &opener.resources.spool_folder;
        let folder = tempfile::Builder::new().prefix("layercast-").tempdir_in(place);
        let folder = folder.map_err(|error| Failure::io("making a folder for images", &error))?;
        self.temporary.push(folder);
        self.temporary.last().ok_or_else(|| Failure::internal("a folder is gone"))
    }

    /// The bundles as inputs, in the order of their sources.
    pub(super) fn inputs(&self) -> impl Iterator<Item = Input> {
        self.bundles.iter().map(|bundle| Input::Pulled(Arc::clone(bundle)))
    }
}

/// What is in these sources, for those who only ask.
///
/// # Errors
/// As [`SourceRegistry::pull`].
pub(super) fn asked(
    sources: &[SourceRegistry],
    runtime: &Runtime,
    output: &Output,
) -> Result<Vec<Input>, Failure> {
    let (cancel, listeners) = (CancellationToken::new(), Listeners::default());
    let asking = async {
        let mut inputs = Vec::new();
        for source in sources {
            let store = PullStore::Nowhere;
            let pulled = source.pull(&store, PullDepth::Documents, &cancel, &listeners, output).await?;
            inputs.push(Input::Pulled(Arc::new(pulled.bundle(source.source.name.clone(), &store))));
        }
        Ok(inputs)
    };
    runtime.block_on(asking)
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
