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
use crate::archive::{ImageName, LeftOut};
use crate::bundle::{Input, Opener, PulledBundle};
use crate::config::{Config, RegistrySource, SourceSettings};
use crate::make::{self, LayoutFolder, PullChoice, PullDepth, PullStore, Pulled, WantedImage, pull};
use crate::oci::{Digest, Repository};
use crate::registry::{Access, ClientOptions, Registry, Target};
use crate::report::{Class, Failure, Listeners};
use crate::units::{ByteCount, Rate, count};

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
    pub(super) fn of_file(
        config: &Config,
        bandwidth: Option<Rate>,
        output: &Output,
    ) -> Result<Vec<Self>, Failure> {
        let registries = config.sources.iter().map(|source| &source.registry);
        let Made { mirrors, failed } =
            SiteMirrors::new(config, Access::Pull, bandwidth, output).all(registries);
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
    /// It cannot be reached, or no image of it comes. Images that do not come beside others are left out.
    pub(super) async fn pull(
        &self,
        store: &PullStore,
        depth: PullDepth,
        cancel: &CancellationToken,
        listeners: &Listeners,
        output: &Output,
    ) -> Result<Pulled, Failure> {
        let registry = Registry::connect(&self.target.endpoint, self.client.clone()).await?;
        let WantedImages { images, of_digests, left_out } =
            wanted(&self.source, &self.target, &registry).await?;
        let mut all = images.len();
        let mut pulled = pull(images, store, Self::choice(depth), cancel, listeners).await?;
        // What says something of an image comes with it; of one that did not come it is an image like any other.
        let names = pulled.names();
        let came = |it: &WantedImage| {
            names.contains(it.name.to_string().as_str())
                || subject(&it.name).is_some_and(|(digest, is_list)| is_list && pulled.has_manifest(&digest))
        };
        let rest: Vec<WantedImage> = of_digests.into_iter().filter(|it| !came(it)).collect();
        if !rest.is_empty() {
            all += rest.len();
            let later = pull(rest, store, Self::choice(depth), cancel, listeners).await?;
            pulled = pulled.with(later);
        }
        if pulled.images == 0 {
            complete(&pulled, all, store, output)?;
        }
        pulled.left_out = left_out;
        for (name, failure) in &pulled.failed {
            let hint = failure.hint.as_ref().map(|hint| format!("; next: {hint}")).unwrap_or_default();
            pulled.left_out.push(LeftOut::unreadable(name, "an image", format!("{}{hint}", failure.message)));
        }
        for it in &pulled.left_out {
            output.alarm(&format!("{}: {} was not pulled: {}", self.source.name, it.path, it.why));
        }
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

/// What a source has.
#[derive(Debug, Default)]
struct WantedImages {
    images: Vec<WantedImage>,
    /// Tags that say something of a digest.
    of_digests: Vec<WantedImage>,
    /// What is listed and cannot be asked for.
    left_out: Vec<LeftOut>,
}

/// The images of a source: those of its list, or all that the registry lists below its namespace.
async fn wanted(
    source: &RegistrySource,
    target: &Target,
    registry: &Registry,
) -> Result<WantedImages, Failure> {
    let namespace = target.namespace.as_ref();
    let mut wanted = WantedImages::default();
    if let Some(list) = &source.list {
        for name in names(&[], std::slice::from_ref(list))? {
            let repository = name.repository.below(namespace)?;
            let name = ImageName::Full(name);
            wanted.images.push(WantedImage { name, registry: registry.clone(), repository });
        }
    } else {
        let listed = registry.repositories(namespace).await.map_err(|error| {
            let failure = Failure::from(error);
            failure.hint("name the images in a file: registry:HOST/NAMESPACE@FILE; not every registry lists what it has")
        })?;
        let is_no_name = "the registry lists it, and it is no valid name";
        let no_name = |name: String| LeftOut::unreadable(name, "a name", is_no_name);
        wanted.left_out.extend(listed.invalid.into_iter().map(no_name));
        for repository in listed.names {
            let Some(own) = below(namespace, &repository) else { continue };
            let Some(tags) = registry.tags(&repository).await? else {
                // One that holds nothing but blobs is answered with 404 by many registries.
                let left_out = LeftOut::no_image(repository.as_str(), "a repository");
                wanted.left_out.push(LeftOut {
                    why: "the registry lists it, and knows no tags of it (404)".to_owned(),
                    ..left_out
                });
                continue;
            };
            wanted
                .left_out
                .extend(tags.invalid.into_iter().map(|tag| no_name(format!("{repository}:{tag}"))));
            for tag in tags.names {
                let name = ImageName::Hostless(own.clone(), tag);
                let of = if subject(&name).is_some() { &mut wanted.of_digests } else { &mut wanted.images };
                of.push(WantedImage { name, registry: registry.clone(), repository: repository.clone() });
            }
        }
    }
    if wanted.images.is_empty() && wanted.of_digests.is_empty() {
        return Err(Failure::new(Class::NotFound, format!("{target} lists no image"))
            .hint("correct the namespace, or name the images in a file: registry:HOST/NAMESPACE@FILE"));
    }
    Ok(wanted)
}

/// A repository without the namespace above it.
fn below(namespace: Option<&Repository>, repository: &Repository) -> Option<Repository> {
    let Some(namespace) = namespace else { return Some(repository.clone()) };
    repository.as_str().strip_prefix(namespace.as_str())?.strip_prefix('/')?.parse().ok()
}

/// The digest that a tag says something of, as `sha256-….sig` does; and whether it is the list of its referrers, which has no ending.
fn subject(name: &ImageName) -> Option<(Digest, bool)> {
    let ImageName::Hostless(_, tag) = name else { return None };
    let (digest, is_list) =
        tag.as_str().split_once('.').map_or((tag.as_str(), true), |(digest, _)| (digest, false));
    let (kind, hex) = digest.split_once('-')?;
    Some((format!("{kind}:{hex}").parse().ok()?, is_list))
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
        let subject = |tag: &str| {
            subject(&ImageName::Hostless(repository("a"), tag.parse().unwrap())).map(|(_, is_list)| is_list)
        };
        assert_eq!(subject(&digest), Some(true));
        assert_eq!(subject(&format!("{digest}.sig")), Some(false));
        assert_eq!(subject("v1.2-rc.1"), None);
    }
}
