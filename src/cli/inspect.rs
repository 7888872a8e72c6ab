//! `inspect`: what is in a bundle.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Done;
use super::bundle::CostArgs;
use super::left_out::{self, AcceptArgs};
use super::output::Output;
use crate::archive::{Catalog, Content, Image, ImageName, Stored};
use crate::bundle::{Bundle, Input};
use crate::error::printable;
use crate::exit::Exit;
use crate::oci::Digest;
use crate::plan::Closure;
use crate::report::Failure;
use crate::report::Listeners;
use crate::units::ByteCount;

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
    let opener = args.cost.opener()?;
    let accept = args.accept.accept();
    let paths = args.path.iter().chain(&args.source).cloned().collect::<Vec<_>>();
    if paths.is_empty() {
        return Err(Failure::usage("no bundle is given").hint("name one: inspect PATH"));
    }
    // What an earlier run knew says nothing of how the bundle is compressed and cut.
    let inputs: Vec<Input> = paths.into_iter().map(Input::Path).collect();
    let mut bundle = opener.without_state().open(&inputs, &Listeners::default(), &|_| {})?;
    if accept.partial_index {
        bundle.accept_parts();
    }
    if args.json {
        let text = serde_json::to_string_pretty(&describe(&bundle));
        Output::result(&text.map_err(|error| Failure::new(Exit::Internal, error.to_string()))?);
    } else {
        let left_out = left_out::text(&bundle.catalog.left_out, accept);
        Output::result(&format!("{}{left_out}", show(&bundle)));
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

/// What an image comes to.
struct Facts {
    digest: Option<Digest>,
    config: Option<Digest>,
    platforms: Vec<String>,
    blobs: Vec<(Digest, u64)>,
}

fn facts(image: &Image, catalog: &Catalog) -> Facts {
    match &image.content {
        Content::Manifest(root) => {
            let closure = Closure::of(catalog, root);
            let children = closure.manifests.iter().filter_map(|digest| catalog.manifests.get(digest));
            let platforms = children.flat_map(|manifest| manifest.children());
            let platforms =
                platforms.filter_map(|child| child.platform.as_ref()).map(ToString::to_string).collect();
            let blobs = closure.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
            Facts { digest: Some(*root), config: None, platforms, blobs }
        }
        Content::Unpacked(unpacked) => {
            let layers = unpacked.layers.iter().map(|layer| (layer.diff_id, layer.size));
            let config = (unpacked.config_digest, unpacked.config.len() as u64);
            let platforms = vec![unpacked.platform.to_string()];
            let blobs = std::iter::once(config).chain(layers).collect();
            Facts { digest: None, config: Some(unpacked.config_digest), platforms, blobs }
        }
    }
}

fn describe(bundle: &Bundle) -> Value {
    let catalog = &bundle.catalog;
    let sources: Vec<Value> = bundle
        .parts
        .iter()
        .map(|part| {
            let structure = part.structure.as_ref().map(|structure| {
                json!({
                    "format": structure.format.name(),
                    "kind": format!("{:?}", structure.kind).to_lowercase(),
                    "parts": structure.parts,
                    "largest_part_bytes": structure.largest_part_bytes,
                    "decoded_bytes": structure.decoded_bytes,
                })
            });
            json!({"path": part.path, "stored_bytes": part.stored_bytes, "structure": structure})
        })
        .collect();
    let images: Vec<Value> = catalog.images.iter().map(|image| {
        let facts = facts(image, catalog);
        let layers = match &image.content {
            Content::Unpacked(unpacked) => unpacked.layers.iter().map(|layer| json!({
                "diff_id": layer.diff_id, "bytes": layer.size, "stored": stored(layer.stored),
            })).collect(),
            Content::Manifest(_) => Vec::new(),
        };
        json!({
            "names": image.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "names_not_valid": image.names.iter().filter_map(|name| match name {
                ImageName::Invalid { text, why } => Some(json!({"text": text, "why": why})),
                _ => None,
            }).collect::<Vec<_>>(),
            "missing_platforms": image.partial.as_ref().map(|partial| &partial.missing),
            "origin": image.origin,
            "digest": facts.digest,
            "config_digest": facts.config,
            "platforms": facts.platforms,
            "bytes": facts.blobs.iter().map(|blob| blob.1).sum::<u64>(),
            "blobs": facts.blobs.iter().map(|blob| json!({"digest": blob.0, "bytes": blob.1})).collect::<Vec<_>>(),
            "unpacked_layers": layers,
        })
    }).collect();
    let broken: Vec<Value> = catalog.broken.iter().map(|broken| json!({
        "name": broken.name, "class": broken.error.fault().class(), "message": broken.error.to_string(),
    })).collect();
    let (distinct, referenced) = sharing(catalog);
    json!({
        "schema_version": 1,
        "sources": sources,
        "images": images,
        "broken": broken,
        "left_out": catalog.left_out,
        "notes": catalog.notes,
        "distinct_bytes": distinct,
        "referenced_bytes": referenced,
    })
}

const fn stored(how: Stored) -> &'static str {
    match how {
        Stored::Plain => "plain",
        Stored::Gzip => "gzip",
        Stored::Zstd => "zstd",
    }
}

/// Bytes of all blobs once, and as often as images name them.
fn sharing(catalog: &Catalog) -> (u64, u64) {
    let mut seen = HashSet::new();
    catalog.images.iter().flat_map(|image| facts(image, catalog).blobs).fold(
        (0, 0),
        |(distinct, referenced), blob| {
            let new = if seen.insert(blob.0) { blob.1 } else { 0 };
            (distinct + new, referenced + blob.1)
        },
    )
}

fn show(bundle: &Bundle) -> String {
    let catalog = &bundle.catalog;
    let mut out = String::new();
    for part in &bundle.parts {
        let size = part.stored_bytes.map(|bytes| format!("{}, ", ByteCount(bytes))).unwrap_or_default();
        let structure = part.structure.as_ref().map_or_else(|| "a folder".to_owned(), ToString::to_string);
        let _ = writeln!(out, "{}: {size}{structure}", printable(&part.path.display().to_string()));
    }
    let (distinct, referenced) = sharing(catalog);
    let shared = if referenced > distinct {
        format!(", {} without sharing", ByteCount(referenced))
    } else {
        String::new()
    };
    let _ = writeln!(out, "{} images, {} of blobs{shared}\n", catalog.images.len(), ByteCount(distinct));
    for image in &catalog.images {
        let facts = facts(image, catalog);
        let identity = match (facts.digest, facts.config) {
            (Some(digest), _) => digest.to_string(),
            (None, config) => {
                format!("config {}", config.map(|digest| digest.to_string()).unwrap_or_default())
            }
        };
        let named = |name: &ImageName| match name {
            ImageName::Invalid { text, why } => {
                format!("{} (not valid: {})", printable(text), printable(why))
            }
            name => printable(&name.to_string()),
        };
        let names: Vec<String> = image.names.iter().map(named).collect();
        let name = if names.is_empty() { "(no name)".to_owned() } else { names.join(", ") };
        let bytes: u64 = facts.blobs.iter().map(|blob| blob.1).sum();
        let _ = writeln!(out, "{name}");
        let _ = writeln!(
            out,
            "  {identity}  {}  {} blobs  {}",
            facts.platforms.join(","),
            facts.blobs.len(),
            ByteCount(bytes)
        );
    }
    for broken in &catalog.broken {
        let _ = writeln!(
            out,
            "damaged: {}: {} [{}]",
            printable(&broken.name),
            broken.error,
            broken.error.fault().class()
        );
    }
    for note in &catalog.notes {
        let _ = writeln!(out, "note: {}", printable(note));
    }
    out
}
