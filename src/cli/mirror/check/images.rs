//! The images to check: names, a list of them, a bundle.

use std::path::Path;

use crate::archive::{Catalog, Content, ImageName, LeftOut};
use crate::bundle::Accept;
use crate::cli::bundle::BundleArgs;
use crate::cli::output::Output;
use crate::cli::rules::ChoiceArgs;
use crate::node::check::{Expected, ImageToCheck};
use crate::oci::Reference;
use crate::plan::Rules;
use crate::report::Failure;
use crate::report::Listeners;
use crate::small_file;
use crate::units::count;

/// Longer lists are taken for a mistake.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// Images by name alone, without a digest that they must have.
pub(super) fn named(names: &[String], list: Option<&Path>) -> Result<Vec<ImageToCheck>, Failure> {
    if let Some(file) = names.iter().find(|name| Path::new(name).is_file()) {
        let message = format!("{file} is a file here, and was given as the name of an image");
        let hint = format!(
            "--source {file} checks the images of a bundle, --list {file} those that a text names; write an image with its \
             host, as docker.io/library/NAME:TAG"
        );
        return Err(Failure::usage(message).hint(hint));
    }
    let text = list.map(read).transpose()?.unwrap_or_default();
    let listed = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let all = names.iter().map(String::as_str).chain(listed.filter(|line| !line.is_empty()));
    let wanted = |name: &str| -> Result<ImageToCheck, Failure> {
        let name: Reference =
            name.parse().map_err(|error: crate::error::BundleError| Failure::usage(error.to_string()))?;
        Ok(ImageToCheck { name, expected: Expected::Anything })
    };
    all.map(wanted).collect()
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::unreadable(format!("--list {}", path.display()), &error);
    small_file::read_text(path, MAX_LIST_BYTES).map_err(failed)
}

/// The images of a bundle under the names that pods call them by, and what of it was left out. What has no host in its
/// name cannot be checked, and is counted.
pub(super) fn bundled(
    bundle: &BundleArgs,
    choice: &ChoiceArgs,
    accept: Accept,
    output: &Output,
) -> Result<(Vec<ImageToCheck>, Vec<LeftOut>), Failure> {
    let inputs = bundle.inputs(false)?;
    let mut opened = bundle.opener()?.open(&inputs, &Listeners::default(), &())?;
    opened.settle(accept, false)?.iter().for_each(|note| output.note(note));
    let (wanted, nameless) = of_catalog(&opened.catalog, &choice.rules()?);
    if nameless > 0 {
        output.warn(&format!(
            "no host in the names of {}: what a node would ask for is not known",
            count(nameless, "image")
        ));
    }
    if wanted.is_empty() {
        return Err(Failure::usage("no image of the bundle is left to check"));
    }
    Ok((wanted, opened.catalog.left_out.clone()))
}

fn of_catalog(catalog: &Catalog, rules: &Rules) -> (Vec<ImageToCheck>, usize) {
    let (mut wanted, mut nameless) = (Vec::new(), 0);
    for image in &catalog.images {
        let expected = match &image.content {
            Content::Manifest(digest) => Expected::Manifest(*digest),
            Content::Unpacked(image) => {
                Expected::Image { config: image.config_digest, layers: image.layers.len() }
            }
        };
        for name in &image.names {
            match name {
                ImageName::Full(name) if rules.chooses(&name.to_string()) => {
                    wanted.push(ImageToCheck { name: name.clone(), expected: expected.clone() });
                }
                ImageName::Full(_) | ImageName::Invalid { .. } => {}
                ImageName::Hostless(..) | ImageName::HostlessDigest(..) | ImageName::TagOnly(_) => {
                    nameless += 1;
                }
            }
        }
    }
    (wanted, nameless)
}
