//! What `bundle pull` and a push from a registry share: lists of names, and the report of images that could not be pulled.

use std::path::PathBuf;

use super::output::Output;
use crate::exit::Exit;
use crate::make::{PullStore, Pulled};
use crate::oci::Reference;
use crate::report::Failure;
use crate::small_file;
use crate::units::count;

/// A list has a line for each image.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// Blobs in flight at once, unless a flag sets another number.
pub(super) const BLOBS_AT_ONCE: usize = 8;

/// Whether every image was pulled. Shows those that were not.
pub(super) fn complete(
    pulled: &Pulled,
    all: usize,
    store: &PullStore,
    output: &Output,
) -> Result<(), Failure> {
    let Some((name, first)) = pulled.failed.first() else { return Ok(()) };
    for (name, failure) in &pulled.failed {
        output.alarm(&format!("{name} was not pulled: {}", failure.message));
    }
    let message = format!(
        "{} of {} could not be pulled; the first, {name}: {}",
        pulled.failed.len(),
        count(all, "image"),
        first.message
    );
    let exit = if pulled.images > 0 { Exit::Incomplete } else { first.exit };
    let why = first.hint.as_ref().map(|hint| format!("{hint}; ")).unwrap_or_default();
    let kept = match store {
        PullStore::Folder(_) | PullStore::Stage(_) => {
            format!("run the same command again: what came is kept in {}", store.folder().display())
        }
        PullStore::Nowhere => "run the same command again".to_owned(),
    };
    Err(Failure::new(first.class, message).exit(exit).hint(format!("{why}{kept}")))
}

/// The names on the command line and in lists, each once.
pub(super) fn names(images: &[String], lists: &[PathBuf]) -> Result<Vec<Reference>, Failure> {
    let mut names: Vec<Reference> = Vec::new();
    let mut add = |text: &str, place: &str| -> Result<(), Failure> {
        let mut name: Reference = text.parse().map_err(|error| {
            Failure::usage(format!("{place}: {error}")).hint("write it as gcr.io/team/app:1")
        })?;
        if name.tag.is_none() && name.digest.is_none() {
            name.tag = Some("latest".parse()?);
        }
        if !names.contains(&name) {
            names.push(name);
        }
        Ok(())
    };
    for text in images {
        add(text, "--image")?;
    }
    for path in lists {
        let shown = path.display();
        let text = small_file::read_text(path, MAX_LIST_BYTES)
            .map_err(|error| Failure::unreadable(format!("the list {shown}"), &error))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                add(line, &format!("{shown}:{}", number + 1))?;
            }
        }
    }
    Ok(names)
}
