//! `bundle diff`: what a new bundle has and an old one lacks.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::{MadeFrom, WrittenBundleArgs, partial};
use crate::bundle::{Bundle, Input, Opener};
use crate::cli::Done;
use crate::cli::bundle::{self, CostArgs};
use crate::cli::display::Display;
use crate::cli::interrupt::Interrupt;
use crate::cli::left_out::AcceptArgs;
use crate::cli::output::Output;
use crate::cli::registry_source::SourceRegistry;
use crate::cli::source_args::SourceArgs;
use crate::compress::Method;
use crate::config::RegistrySource;
use crate::make::{Contents, LayoutFolder, PullDepth, PullStore, Pulled};
use crate::report::Failure;
use crate::report::document::FetchedBlobs;

/// Write what a new bundle has and an old one lacks, for mirrors that have the old one
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The bundle that mirrors have: an archive, a folder, a stage, or registry:HOST[:PORT][/NAMESPACE][@LIST], a mirror
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The bundle that they are to have; of a registry only what is new is fetched
    #[arg(value_name = "NEW")]
    new: PathBuf,
    #[command(flatten)]
    output: WrittenBundleArgs,
    /// How plain layers of docker-archives are compressed: as mirrors got them
    #[arg(long, value_enum, default_value_t = Method::Gzip, value_name = "METHOD")]
    layer_compression: Method,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    accept: AcceptArgs,
    #[command(flatten)]
    cost: CostArgs,
}

pub(super) fn run(args: &Args, output: &Output, interrupt: &Interrupt) -> Done {
    // A wrong path costs nothing.
    let given = [&args.old, &args.new];
    let paths: Vec<PathBuf> =
        given.into_iter().filter(|path| RegistrySource::of(path).is_none()).cloned().collect();
    let file = args.output.file(&paths)?;
    bundle::inputs(paths.clone())?;
    let [old, new] = given.map(|path| RegistrySource::of(path));
    let sources = [&old, &new].into_iter().flatten().cloned().collect();
    let mut registries = args.source.registries(sources, output)?.into_iter();
    let mut registry = |source: &Option<RegistrySource>| source.as_ref().and_then(|_| registries.next());
    let (old, new) = (registry(&old), registry(&new));
    let opener = args.cost.opener()?.without_state();
    let runtime = crate::cli::runtime()?;
    let display = output.display();
    let sides = Sides { args, opener, runtime, display, output, interrupt };
    let name = match &old {
        Some(registry) => registry.source.name.clone(),
        None => args.old.file_name().unwrap_or(args.old.as_os_str()).to_string_lossy().into_owned(),
    };
    let old = match old {
        Some(registry) => sides.listed(&registry, &PullStore::Nowhere)?.2,
        None => sides.read(args.old.clone())?.1,
    };
    let Some(registry) = new else {
        let (bundle, new) = sides.read(args.new.clone())?;
        let contents = new.less(&old, name);
        return sides.finish(&MadeFrom {
            inputs: &paths,
            contents: &contents,
            bundle: &bundle,
            fetched: None,
        });
    };
    // What is new alone is fetched.
    let folder = Arc::new(LayoutFolder::open(&partial(&file.path))?);
    let store = PullStore::Folder(Arc::clone(&folder));
    let (mut pulled, bundle, new) = sides.listed(&registry, &store)?;
    let contents = new.less(&old, name);
    let choice = SourceRegistry::choice(PullDepth::Everything);
    let listeners = sides.display.listeners();
    let fetching = pulled.fetch(contents.blobs(), &store, choice, &interrupt.token, &listeners);
    sides.runtime.block_on(fetching)?;
    let fetched = Some(FetchedBlobs { blobs: pulled.blobs_fetched, bytes: pulled.bytes_fetched });
    let making = MadeFrom { inputs: &paths, contents: &contents, bundle: &bundle, fetched };
    let exit = sides.finish(&making)?;
    folder.remove()?;
    Ok(exit)
}

/// What reading the old and the new one takes.
struct Sides<'a> {
    args: &'a Args,
    opener: Opener,
    runtime: Runtime,
    display: Display,
    output: &'a Output,
    interrupt: &'a Interrupt,
}

impl Sides<'_> {
    fn read(&self, path: PathBuf) -> Result<(Bundle, Contents), Failure> {
        self.open(&bundle::inputs(vec![path])?)
    }

    /// What a registry lists, with the documents and without the layers.
    fn listed(
        &self,
        registry: &SourceRegistry,
        store: &PullStore,
    ) -> Result<(Pulled, Bundle, Contents), Failure> {
        let (depth, listeners) = (PullDepth::Documents, self.display.listeners());
        let pulling = registry.pull(store, depth, &self.interrupt.token, &listeners, self.output);
        let pulled = self.runtime.block_on(pulling)?;
        let bundle = pulled.bundle(registry.source.name.clone(), store);
        let (bundle, contents) = self.open(&[Input::Pulled(Arc::new(bundle))])?;
        Ok((pulled, bundle, contents))
    }

    fn open(&self, inputs: &[Input]) -> Result<(Bundle, Contents), Failure> {
        let (args, listeners) = (self.args, self.display.listeners());
        let mut bundle = self.opener.open(inputs, &listeners, &())?;
        for note in bundle.settle(args.accept.accept(), false)? {
            self.output.note(&note);
        }
        let (method, cancel) = (args.layer_compression, &self.interrupt.token);
        let contents = Contents::of(&bundle, &self.opener, method, cancel, &listeners)?;
        Ok((bundle, contents))
    }

    fn finish(self, making: &MadeFrom<'_>) -> Done {
        let Self { args, opener, display, interrupt, .. } = self;
        super::finish(&args.output, making, &opener, args.accept.accept(), interrupt, display)
    }
}
