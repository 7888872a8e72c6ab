//! `mirror targets`: the mirrors in a cluster's file, checked against what the user expects.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::named;
use crate::cli::output::Output;
use crate::cli::{Done, cluster};
use crate::cluster::file::targets::TargetsDocument;
use crate::cluster::file::{ClusterError, ClusterMirrors, FileRequirements};
use crate::document::{Finding, Severity};
use crate::exit::Exit;
use crate::registry::Target;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The cluster's configuration file
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// Where the bundle was pushed: nodes have to pull from there (repeatable)
    #[arg(long, value_name = "HOST[:PORT][/NAMESPACE]")]
    pushed_to: Vec<String>,
    /// Nodes are to pull from gcr.io when the mirror fails
    #[arg(long)]
    need_fallback: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    let pushed_to = args.pushed_to.iter().map(|text| text.parse()).collect::<Result<Vec<Target>, _>>()?;
    let expected = FileRequirements { fallback: args.need_fallback, pushed_to };
    let cluster = cluster::read(&args.cluster, &expected, output)?;
    let findings: Vec<Finding> =
        cluster.mirrors.iter().flat_map(|mirror| named::findings(&args.cluster, mirror)).collect();
    if findings.iter().any(|found| found.severity == Severity::Error) {
        return Err(cluster::failure(ClusterError::Wrong { path: args.cluster.clone(), findings }, output));
    }
    output.findings(&findings);
    if args.json {
        Output::document(&TargetsDocument::of(&cluster))?;
    } else {
        Output::result(&show(&cluster))?;
    }
    Ok(Exit::Complete)
}

fn show(cluster: &ClusterMirrors) -> String {
    let mut out = format!("cluster {} in namespace {}\n", cluster.name, cluster.namespace);
    for mirror in &cluster.mirrors {
        let _ = writeln!(out, "  {} for {}", mirror.endpoint, mirror.upstreams().join(", "));
        let _ = writeln!(out, "    push to      {}", mirror.target);
        for (name, file) in
            [("CA", &mirror.ca_cert_path), ("credentials", &mirror.pull_credential_config_path)]
        {
            if let Some(file) = file {
                let _ = writeln!(out, "    {name:<12} {}", file.path.display());
            }
        }
    }
    if cluster.mirrors.is_empty() {
        out.push_str("  no registry mirror\n");
    }
    out
}
