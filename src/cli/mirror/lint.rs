//! `mirror lint`: mistakes in the configuration of nodes.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::cli::Done;
use crate::cli::output::Output;
use crate::document::Severity;
use crate::error::printable;
use crate::exit::Exit;
use crate::node::hosts::Version;
use crate::node::lint::disk::{self, Disk, UnreadablePath};
use crate::node::lint::{LintDocument, LintOptions, lint};
use crate::report::Failure;
use crate::units::count;

/// Find mistakes in the configuration of nodes
///
/// Reads hosts.toml trees and config.toml of containerd, registries.conf of CRI-O and Podman, registries.yaml of k3s and
/// RKE2, daemon.json of Docker, and what mirror render writes for Talos, OpenShift, EKS Anywhere, kind and a DaemonSet. Exits with 3 if the mirror would not be used, or pulls would fail.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Files, or folders to search, as /etc/containerd
    #[arg(value_name = "PATH", required = true)]
    path: Vec<PathBuf>,
    /// The containerd of the nodes, as 1.7 or 2.1.4 [default: every one since 1.6]
    #[arg(long, value_name = "VERSION")]
    containerd_version: Option<Version>,
    /// The Podman of the nodes, as 5.8: from 6.0 on the first form of registries.conf is refused
    #[arg(long, value_name = "VERSION")]
    podman_version: Option<Version>,
    /// Nodes may ask the mirror only: find what would ask the upstream
    #[arg(long)]
    no_fallback: bool,
    /// Folder that stands for / where files name absolute paths [default: what holds the etc they lie in]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn run(args: &Args) -> Done {
    let options = LintOptions {
        containerd: args.containerd_version,
        podman: args.podman_version,
        no_fallback: args.no_fallback,
        root: args.root.clone(),
    };
    let sources = disk::find(&args.path)?;
    if sources.is_empty() {
        return Err(Failure::usage("no file that configures mirrors of a node was found").hint(disk::KNOWN));
    }
    let findings = lint(&sources, &options, &Disk::new(&options));
    let document = LintDocument::new(&sources, findings);
    if args.json {
        Output::document(&document)?;
    } else {
        Output::result(&show(&document))?;
    }
    let is_error = document.findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if is_error { Exit::Incomplete } else { Exit::Complete })
}

fn show(LintDocument { files, findings, .. }: &LintDocument) -> String {
    let mut out = String::new();
    for finding in findings {
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "{}{line}: {}: {} [{}]\n  so: {}\n  fix: {}",
            printable(&finding.path.display().to_string()),
            finding.severity.name(),
            printable(&finding.what),
            finding.rule,
            printable(&finding.effect),
            printable(&finding.fix)
        );
    }
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let _ = writeln!(
        out,
        "{}, {}, {}, {}",
        count(files.len(), "file"),
        count(of(Severity::Error), "error"),
        count(of(Severity::Warning), "warning"),
        count(of(Severity::Note), "note")
    );
    out
}

impl From<UnreadablePath> for Failure {
    fn from(error: UnreadablePath) -> Self {
        let failure = Self::usage(error.to_string());
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
