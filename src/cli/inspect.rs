//! `inspect`: what is in a bundle.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use super::Done;
use super::bundle::{self, CostArgs};
use super::left_out::{self, AcceptArgs};
use super::output::Output;
use crate::archive::{Catalog, Content, Image, ImageName};
use crate::bundle::{Bundle, OpenedSource};
use crate::error::printable;
use crate::exit::Exit;
use crate::oci::manifest::Kind;
use crate::oci::{Manifest, Platform};
use crate::plan::Closure;
use crate::report::document::{
    AttachmentEntry, BlobEntry, BrokenEntry, BundleDocument, ImageEntry, InvalidName, LayerEntry,
    SchemaVersion, SourceEntry, StructureEntry,
};
use crate::report::{Class, Failure, Listeners};
use crate::source::read_exact;
use crate::units::{ByteCount, count};

/// Larger configurations are not read to know a platform.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Show what is in a bundle
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Bundles: archives, folders, or - for standard input
    #[arg(value_name = "PATH")]
    path: Vec<std::path::PathBuf>,
    /// Bundle, as in the other commands (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Bundle")]
    source: Vec<std::path::PathBuf>,
    #[command(flatten)]
    cost: CostArgs,
    #[command(flatten)]
    accept: AcceptArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Done {
    let accept = args.accept.accept();
    let paths = args.path.iter().chain(&args.source).cloned().collect::<Vec<_>>();
    if paths.is_empty() {
        return Err(Failure::usage("no bundle is given").hint("name one: inspect PATH"));
    }
    let inputs = bundle::inputs(paths)?;
    // The state does not remember how the bundle is compressed and cut.
    let mut bundle = args.cost.opener()?.without_state().open(&inputs, &Listeners::default(), &())?;
    if accept.partial_index {
        bundle.accept_parts();
    }
    let document = describe(&bundle);
    if args.json {
        Output::document(&document)?;
    } else {
        let left_out = left_out::text(&bundle.catalog.left_out, accept);
        Output::result(&format!("{}{left_out}", show(&bundle, &document)))?;
    }
    bundle.check_has_images()?;
    // One damaged archive of several leaves the others as they are.
    let confined = bundle.catalog.broken.iter().all(|broken| broken.unit.is_some());
    Ok(match (bundle.catalog.broken.is_empty(), confined && !bundle.catalog.images.is_empty()) {
        (true, _) => accept.exit(Exit::Complete, &bundle.catalog.left_out),
        (false, true) if accept.unreadable => Exit::Complete,
        (false, true) => Exit::Incomplete,
        (false, false) => Exit::Bundle,
    })
}

fn describe(bundle: &Bundle) -> BundleDocument {
    let catalog = &bundle.catalog;
    let images: Vec<ImageEntry> = catalog.images.iter().map(|image| entry(image, catalog)).collect();
    let broken = catalog.broken.iter().map(|broken| BrokenEntry {
        name: broken.name.clone(),
        class: broken.error.fault().into(),
        message: broken.error.to_string(),
        hint: broken.error.hint_text(),
    });
    let (distinct_bytes, referenced_bytes) = sharing(&images);
    BundleDocument {
        schema_version: SchemaVersion::One,
        sources: bundle.parts.iter().map(source).collect(),
        images,
        broken: broken.collect(),
        left_out: catalog.left_out.clone(),
        notes: catalog.notes.clone(),
        distinct_bytes,
        referenced_bytes,
    }
}

fn source(part: &OpenedSource) -> SourceEntry {
    let structure = part.structure.as_ref().map(|structure| StructureEntry {
        format: structure.format.name().to_owned(),
        kind: structure.kind.name().to_owned(),
        parts: structure.parts,
        largest_part_bytes: structure.largest_part_bytes,
        decoded_bytes: structure.decoded_bytes,
    });
    SourceEntry { path: part.path.clone(), stored_bytes: part.stored_bytes, structure }
}

fn entry(image: &Image, catalog: &Catalog) -> ImageEntry {
    let mut described = ImageEntry {
        names: image.names.iter().map(ToString::to_string).collect(),
        names_not_valid: image.names.iter().filter_map(invalid).collect(),
        attachment: image.attachment.as_ref().map(|attachment| AttachmentEntry {
            kind: attachment.kind.name().to_owned(),
            subject: attachment.subject,
        }),
        missing_platforms: image.partial.as_ref().map(|partial| partial.missing.clone()),
        origin: image.origin.clone(),
        digest: None,
        config_digest: None,
        platforms: Vec::new(),
        bytes: 0,
        blobs: Vec::new(),
        unpacked_layers: Vec::new(),
    };
    match &image.content {
        Content::Manifest(root) => {
            let closure = Closure::of(catalog, root);
            let manifests = closure.manifests.iter().filter_map(|digest| catalog.manifests.get(digest));
            let manifests: Vec<&Arc<Manifest>> = manifests.collect();
            let children = manifests.iter().flat_map(|manifest| manifest.children());
            let platforms = children.filter_map(|child| child.platform.as_ref()).map(ToString::to_string);
            described.platforms = platforms.collect();
            if let [only] = manifests.as_slice() {
                described.platforms.extend(platform(only, catalog).map(|platform| platform.to_string()));
            }
            described.digest = Some(*root);
            let blobs = closure.blobs.iter();
            described.blobs = blobs.map(|blob| BlobEntry { digest: blob.digest, bytes: blob.size }).collect();
        }
        Content::Unpacked(unpacked) => {
            described.platforms = vec![unpacked.platform.to_string()];
            described.config_digest = Some(unpacked.config_digest);
            let config = BlobEntry { digest: unpacked.config_digest, bytes: unpacked.config.len() as u64 };
            let layers = unpacked.layers.iter();
            let layers = layers.map(|layer| BlobEntry { digest: layer.diff_id, bytes: layer.size });
            described.blobs = std::iter::once(config).chain(layers).collect();
            let layers = unpacked.layers.iter();
            let layers = layers.map(|layer| LayerEntry {
                diff_id: layer.diff_id,
                bytes: layer.size,
                stored: layer.stored,
            });
            described.unpacked_layers = layers.collect();
        }
    }
    described.bytes = described.blobs.iter().map(|blob| blob.bytes).sum();
    described
}

/// The machine that an image without an index is for, as its configuration says.
fn platform(manifest: &Manifest, catalog: &Catalog) -> Option<Platform> {
    let Kind::Image { config, .. } = &manifest.kind else { return None };
    if config.size > MAX_CONFIG_BYTES {
        return None;
    }
    let blob = catalog.blobs.get(&config.digest)?;
    let bytes = read_exact(&blob.extent, 0, usize::try_from(blob.size).ok()?).ok()?;
    let platform: Platform = serde_json::from_slice(&bytes).ok()?;
    // Configurations of artifacts say nothing of machines.
    Some(platform).filter(|platform| !platform.os.is_empty() && !platform.architecture.is_empty())
}

fn invalid(name: &ImageName) -> Option<InvalidName> {
    match name {
        ImageName::Invalid { text, why } => Some(InvalidName { text: text.clone(), why: why.clone() }),
        _ => None,
    }
}

/// Bytes of all blobs once, and as often as images name them.
fn sharing(images: &[ImageEntry]) -> (u64, u64) {
    let mut seen = HashSet::new();
    images.iter().flat_map(|image| &image.blobs).fold((0, 0), |(distinct, referenced), blob| {
        let new = if seen.insert(blob.digest) { blob.bytes } else { 0 };
        (distinct + new, referenced + blob.bytes)
    })
}

fn show(bundle: &Bundle, document: &BundleDocument) -> String {
    let mut out = String::new();
    for part in &bundle.parts {
        let size = part.stored_bytes.map(|bytes| format!("{}, ", ByteCount(bytes))).unwrap_or_default();
        let structure = part.structure.as_ref().map_or_else(|| "a folder".to_owned(), ToString::to_string);
        let _ = writeln!(out, "{}: {size}{structure}", printable(&part.path.display().to_string()));
    }
    let (distinct, referenced) = (document.distinct_bytes, document.referenced_bytes);
    let shared = if referenced > distinct {
        format!(", {} without sharing", ByteCount(referenced))
    } else {
        String::new()
    };
    let _ = writeln!(
        out,
        "{}, {} of blobs{shared}\n",
        count(document.images.len(), "image"),
        ByteCount(distinct)
    );
    for image in &document.images {
        let config = || image.config_digest.map(|digest| digest.to_string()).unwrap_or_default();
        let identity =
            image.digest.map_or_else(|| format!("config {}", config()), |digest| digest.to_string());
        let named = |name: &String| match image.names_not_valid.iter().find(|it| it.text == *name) {
            Some(InvalidName { why, .. }) => format!("{} (not valid: {})", printable(name), printable(why)),
            None => printable(name),
        };
        let names: Vec<String> = image.names.iter().map(named).collect();
        let name = match (&names[..], &image.attachment) {
            ([], Some(AttachmentEntry { kind, subject })) => format!("({kind} of {subject})"),
            ([], None) => "(no name)".to_owned(),
            _ => names.join(", "),
        };
        let (platforms, blobs) = (image.platforms.join(","), count(image.blobs.len(), "blob"));
        let _ = writeln!(out, "{name}");
        let _ = writeln!(out, "  {identity}  {platforms}  {blobs}  {}", ByteCount(image.bytes));
    }
    for BrokenEntry { name, class, message, hint } in &document.broken {
        // What is missing of an index may have been left out by whoever saved it.
        let what = if *class == Class::MissingBlob { "incomplete" } else { "damaged" };
        let _ = writeln!(out, "{what}: {}: {message} [{class}]", printable(name));
        if let Some(hint) = hint {
            let _ = writeln!(out, "  next: {hint}");
        }
    }
    for note in &document.notes {
        let _ = writeln!(out, "note: {}", printable(note));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Input, Opener, Resources};
    use crate::source::IoMode;
    use crate::state::State;

    fn opener() -> Opener {
        let resources = Resources {
            memory_bytes: 64 << 20,
            decode_memory_bytes: 64 << 20,
            spool_folder: std::env::temp_dir(),
            spool_limit_bytes: u64::MAX,
            threads: 1,
            io: IoMode::Auto,
        };
        Opener::new(resources, State::none()).unwrap()
    }

    #[test]
    fn an_image_without_an_index_has_the_platform_of_its_configuration() {
        // Tests run in the root of the repository.
        let input = Input::Path("tests/fixtures/dive-oci-gzip".into());
        let bundle = opener().open(&[input], &Listeners::default(), &()).unwrap();
        let platforms: Vec<Vec<String>> =
            describe(&bundle).images.into_iter().map(|image| image.platforms).collect();
        assert_eq!(platforms, [["linux/arm64"]]);
    }

    #[test]
    fn a_bundle_is_described_as_it_was_when_version_1_was_made() {
        let opener = opener();
        for (fixture, written) in [
            ("podman-docker-two-names", include_str!("../report/document/tests/docker_archive.json")),
            ("ci-delete-one", include_str!("../report/document/tests/broken.json")),
        ] {
            // Tests run in the root of the repository.
            let input = Input::Path(format!("tests/fixtures/{fixture}").into());
            let bundle = opener.open(&[input], &Listeners::default(), &()).unwrap();
            // Words for people may change.
            let essence = |document: BundleDocument| {
                let mut value = serde_json::to_value(document).unwrap();
                value["left_out"] = value["left_out"].as_array().unwrap().len().into();
                value["broken"].as_array_mut().unwrap().iter_mut().for_each(|it| it["message"] = "".into());
                value
            };
            assert_eq!(
                essence(describe(&bundle)),
                essence(serde_json::from_str(written).unwrap()),
                "{fixture}"
            );
        }
    }
}
