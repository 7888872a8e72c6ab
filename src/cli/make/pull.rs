//! `bundle pull`: a bundle of images from their registries.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::{MadeFrom, WrittenBundleArgs, partial};
use crate::archive::ImageName;
use crate::bundle::Input;
use crate::cli::Done;
use crate::cli::bundle::CostArgs;
use crate::cli::interrupt::Interrupt;
use crate::cli::left_out::AcceptArgs;
use crate::cli::mirror_args::MirrorArgs;
use crate::cli::output::Output;
use crate::cli::pulling::{BLOBS_AT_ONCE, complete, names};
use crate::compress::Method;
use crate::engine::MirrorSettings;
use crate::make::{Contents, LayoutFolder, PullChoice, PullDepth, PullStore, WantedImage, pull};
use crate::oci::{Platform, Reference};
use crate::plan::Rules;
use crate::registry::{Access, Registry};
use crate::report::Failure;
use crate::report::document::FetchedBlobs;

/// Where the images of `docker.io` are.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// Make a bundle of images from their registries
#[derive(Debug, clap::Args)]
#[command(mut_arg("private_registry", |arg| {
    arg.help("Registry to pull all images from, with an optional namespace above their paths [default: the host of each name]")
}))]
pub(in crate::cli) struct Args {
    /// Image to pull, as gcr.io/team/app:1 or with a digest (repeatable)
    #[arg(long, value_name = "REF")]
    image: Vec<String>,
    /// File with an image on each line; what follows # is passed over (repeatable)
    #[arg(long, value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Of images for several platforms the one for this one, as linux/amd64 [default: all]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = platform)]
    platform: Option<Platform>,
    /// Leave out what refers to images: signatures, attestations, bills of materials
    #[arg(long)]
    no_referrers: bool,
    #[command(flatten)]
    output: WrittenBundleArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    #[command(flatten)]
    accept: AcceptArgs,
    #[command(flatten)]
    cost: CostArgs,
}

fn platform(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
        _ => return Err("write it as OS/ARCH or OS/ARCH/VARIANT".to_owned()),
    };
    Ok(Platform { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant })
}

pub(super) fn run(args: &Args, output: &Output, interrupt: &Interrupt) -> Done {
    let file = args.output.file(&[])?;
    let names = names(&args.image, &args.images)?;
    if names.is_empty() {
        return Err(
            Failure::usage("no image is named").hint("name one: --image REF, or a list: --images FILE")
        );
    }
    let runtime = crate::cli::runtime()?;
    let rules = Arc::new(Rules::default());
    let opener = args.cost.opener()?.without_state();
    let folder = Arc::new(LayoutFolder::open(&partial(&file.path))?);
    let store = PullStore::Folder(Arc::clone(&folder));
    let (wanted, at_once) = wanted(&args.mirrors, names, &runtime, &rules, output)?;
    let (platform, referrers) = (args.platform.clone(), !args.no_referrers);
    let choice = PullChoice { platform, referrers, depth: PullDepth::Everything, at_once };
    let all = wanted.len();
    let display = output.display();
    let listeners = display.listeners();
    let pulled = runtime.block_on(pull(wanted, &store, choice, &interrupt.token, &listeners))?;
    complete(&pulled, all, &store, output)?;
    let name = folder.root().display().to_string();
    let inputs = [Input::Pulled(Arc::new(pulled.bundle(name, &store)))];
    let mut bundle = opener.open(&inputs, &listeners, &())?;
    let accept = args.accept.accept();
    for note in bundle.settle(accept, false)? {
        output.note(&note);
    }
    let contents = Contents::of(&bundle, &opener, Method::default(), &interrupt.token, &listeners)?;
    let fetched = Some(FetchedBlobs { blobs: pulled.blobs_fetched, bytes: pulled.bytes_fetched });
    let making = MadeFrom { inputs: &[], contents: &contents, bundle: &bundle, fetched };
    let exit = super::finish(&args.output, &making, &opener, accept, interrupt, display)?;
    folder.remove()?;
    Ok(exit)
}

/// Each name with where it is asked for; and how many blobs may be on their way at once.
fn wanted(
    mirrors: &MirrorArgs,
    names: Vec<Reference>,
    runtime: &Runtime,
    rules: &Arc<Rules>,
    output: &Output,
) -> Result<(Vec<WantedImage>, usize), Failure> {
    let connect = |settings: &MirrorSettings| {
        let connecting = Registry::connect(&settings.target.endpoint, settings.client.clone());
        runtime.block_on(connecting).map_err(Failure::from)
    };
    let at_once =
        |settings: &MirrorSettings| settings.threads.map_or(BLOBS_AT_ONCE, std::num::NonZeroUsize::get);
    if mirrors.is_given() {
        let settings = mirrors.resolve(runtime, Access::Pull, rules, output)?;
        let [only] = settings.as_slice() else {
            return Err(Failure::usage("images are pulled from one registry")
                .hint("name one --private-registry, or none"));
        };
        let registry = connect(only)?;
        let image = |name: Reference| {
            let repository = name.repository.below(only.target.namespace.as_ref())?;
            Ok(WantedImage { name: ImageName::Full(name), registry: registry.clone(), repository })
        };
        let wanted = names.into_iter().map(image).collect::<Result<_, Failure>>()?;
        return Ok((wanted, at_once(only)));
    }
    let asked = |host: &str| if host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { host }.to_owned();
    let mut hosts: Vec<String> = names.iter().map(|name| asked(&name.host)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let settings = mirrors.resolve_hosts(&hosts, runtime, rules, output)?;
    let mut registries = HashMap::new();
    for (host, settings) in hosts.iter().zip(&settings) {
        registries.insert(host.clone(), connect(settings)?);
    }
    let image = |name: Reference| {
        let lost = || Failure::internal(format!("{} was not connected to", name.host));
        let registry = registries.get(&asked(&name.host)).cloned().ok_or_else(lost)?;
        let repository = name.repository.clone();
        Ok(WantedImage { name: ImageName::Full(name), registry, repository })
    };
    let wanted = names.into_iter().map(image).collect::<Result<_, Failure>>()?;
    Ok((wanted, settings.first().map_or(BLOBS_AT_ONCE, at_once)))
}
