//! `version`: which build this is.
//!
//! What the compiler does not know comes from the environment of the build: `LAYERCAST_COMMIT` and `LAYERCAST_COMMIT_DATE`, which the
//! script that makes releases sets. A build from source without them says so.

use std::sync::LazyLock;

use super::output::Output;
use super::{Done, VERSION};
use crate::exit::Exit;
use crate::report::document::{SchemaVersion, VersionDocument};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Done {
    let build = build();
    if args.json {
        Output::document(&build)?;
    } else {
        Output::result(&in_words(&build))?;
    }
    Ok(Exit::Complete)
}

/// What `--version` prints behind the name of the program.
pub(super) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| in_words(&build()));
    TEXT.strip_prefix("layercast ").unwrap_or(&TEXT).trim_end()
}

fn build() -> VersionDocument {
    let libc = if cfg!(target_env = "musl") { "-musl" } else { "" };
    let linking = if cfg!(target_feature = "crt-static") { ", static" } else { "" };
    VersionDocument {
        schema_version: SchemaVersion::One,
        version: VERSION.to_owned(),
        commit: option_env!("LAYERCAST_COMMIT").map(str::to_owned),
        commit_date: option_env!("LAYERCAST_COMMIT_DATE").map(str::to_owned),
        target: format!("{}-{}{libc}{linking}", std::env::consts::ARCH, std::env::consts::OS),
        features: if cfg!(feature = "kube") { vec!["kube".to_owned()] } else { Vec::new() },
    }
}

fn in_words(build: &VersionDocument) -> String {
    let commit = match (&build.commit, &build.commit_date) {
        (Some(commit), Some(date)) => format!("{commit} ({date})"),
        (Some(commit), None) => commit.clone(),
        _ => "not known: built from source".to_owned(),
    };
    let features = if build.features.is_empty() { "none".to_owned() } else { build.features.join(", ") };
    format!("layercast {}\ncommit: {commit}\ntarget: {}\nfeatures: {features}\n", build.version, build.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_where_it_comes_from() {
        let release = VersionDocument {
            commit: Some("0123456789ab".into()),
            commit_date: Some("2026-11-28".into()),
            features: vec!["kube".into()],
            target: "x86_64-linux".into(),
            version: "0.2.0".into(),
            ..build()
        };
        assert_eq!(
            in_words(&release),
            "layercast 0.2.0\ncommit: 0123456789ab (2026-11-28)\ntarget: x86_64-linux\nfeatures: kube\n"
        );
        let own = VersionDocument { commit: None, commit_date: None, ..release };
        assert!(in_words(&own).contains("commit: not known: built from source"));
    }
}
