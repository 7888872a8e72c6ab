//! Flags about names and the choice of images.

use clap::Args;

use super::left_out::AcceptArgs;
use crate::oci::Reference;
use crate::plan::naming::GivenName;
use crate::plan::{Naming, OnConflict, Patterns, Rewrite, Rules};
use crate::report::Failure;

/// Flags about the choice of images.
#[derive(Debug, Args)]
#[command(next_help_heading = "Names and choice of images")]
pub(super) struct ChoiceArgs {
    /// Only images whose name in the bundle matches, as 'gcr.io/anthos-*' (repeatable; `*` matches `/` too)
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Not the images whose name in the bundle matches (repeatable)
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
}

/// Flags about names and the choice of images.
#[derive(Debug, Args)]
#[command(next_help_heading = "Names and choice of images")]
pub(super) struct RuleArgs {
    #[command(flatten)]
    pub(super) choice: ChoiceArgs,
    #[command(flatten)]
    pub(super) accept: AcceptArgs,
    /// Give repositories another place, as 'quay.io/(.*)=quay/$1'; the pattern matches HOST/PATH whole (repeatable)
    #[arg(long, value_name = "PATTERN=PATH")]
    rewrite: Vec<Rewrite>,
    /// Keep the host of a name as the first part of its path: gcr.io/team/app becomes NAMESPACE/gcr.io/team/app
    #[arg(long)]
    keep_host: bool,
    /// The repository of images that have only a tag or no name, as gcr.io/team/app
    #[arg(long, value_name = "HOST/PATH")]
    repository: Option<String>,
    /// The name of an image that has none; with several, one DIGEST=NAME for each (repeatable)
    #[arg(long, value_name = "[DIGEST=]NAME:TAG")]
    name: Vec<GivenName>,
    /// Take names from this annotation of index.json entries
    #[arg(long, value_name = "KEY")]
    name_annotation: Option<String>,
    /// Write `_` for `+` in tags, as Helm does: registries take no `+`
    #[arg(long)]
    fix_tags: bool,
    /// Which of two different images gets a name that both claim
    #[arg(long, value_enum, default_value_t = OnConflict::Refuse, value_name = "WHICH")]
    on_conflict: OnConflict,
}

impl ChoiceArgs {
    /// Rules that choose, and leave names as they are.
    pub(super) fn rules(&self) -> Result<Rules, Failure> {
        Ok(Rules {
            include: patterns("--include", &self.include)?,
            exclude: patterns("--exclude", &self.exclude)?,
            ..Rules::default()
        })
    }
}

impl RuleArgs {
    /// The first flag that changes names, if any was given.
    pub(super) fn renames(&self) -> Option<&'static str> {
        [
            ("--rewrite", !self.rewrite.is_empty()),
            ("--keep-host", self.keep_host),
            ("--repository", self.repository.is_some()),
            ("--name", !self.name.is_empty()),
            ("--name-annotation", self.name_annotation.is_some()),
            ("--fix-tags", self.fix_tags),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    pub(super) fn rules(&self) -> Result<Rules, Failure> {
        let repository = self.repository.as_deref().map(str::parse::<Reference>).transpose()?;
        if repository.as_ref().is_some_and(|name| name.tag.is_some() || name.digest.is_some()) {
            return Err(Failure::usage("--repository takes a path without a tag or digest"));
        }
        Ok(Rules {
            naming: Naming {
                rewrites: self.rewrite.clone(),
                keep_host: self.keep_host,
                repository,
                names: self.name.clone(),
                annotation: self.name_annotation.clone(),
                fix_tags: self.fix_tags,
            },
            on_conflict: self.on_conflict,
            ..self.choice.rules()?
        })
    }
}

fn patterns(flag: &str, texts: &[String]) -> Result<Patterns, Failure> {
    Patterns::new(texts).map_err(|error| Failure::usage(format!("{flag}: {error}")))
}
