//! `mirror apply`: applies rendered objects to a Kubernetes cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::flags::MirrorFlags;
use crate::cli::Done;
use crate::cli::cluster_change::{self, HowArgs};
use crate::cli::output::Output;
use crate::cluster::api::ApiServer;
use crate::cluster::api::apply::{Fate, PlannedObject, carry_out, plan, wait};
use crate::cluster::api::manifest;
use crate::cluster::file::read_text;
use crate::exit::Exit;
use crate::node::render::{RenderedFile, Runtime};
use crate::report::Failure;
use crate::{document, small_file};

/// Apply rendered objects to a Kubernetes cluster, and wait until every node has them
///
/// Without FILE it is what `mirror render --runtime daemonset` writes for the same flags.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Objects of Kubernetes as YAML; - reads standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["endpoint", "cluster"])]
    file: Option<PathBuf>,
    /// Where to reach the cluster
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    #[command(flatten)]
    mirror: MirrorFlags,
    #[command(flatten)]
    how: HowArgs,
    /// How long to wait until a DaemonSet runs on every node; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    timeout: u64,
}

pub(in crate::cli) fn run(args: &Args, output: &Output) -> Done {
    // First, as it is what a build without the feature refuses.
    let runtime = crate::cli::runtime()?;
    let server = runtime.block_on(ApiServer::new(&args.kubeconfig))?;
    let (name, text) = match &args.file {
        Some(path) if path == Path::new("-") => ("standard input".to_owned(), stdin()?),
        Some(path) => {
            (path.display().to_string(), read_text(path).map_err(|error| Failure::usage(error.to_string()))?)
        }
        None => {
            let rendered = args.mirror.render(Runtime::DaemonSet, output)?;
            rendered.notes.iter().for_each(|note| output.note(note));
            ("the DaemonSet".to_owned(), rendered.files.iter().map(RenderedFile::text).collect())
        }
    };
    let objects = manifest::parse(&text).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    if objects.is_empty() {
        return Err(Failure::usage(format!("{name}: there are no objects in it")));
    }
    let how = args.how.how();
    let planned = runtime.block_on(plan(&server, objects, how.force))?;
    output.summary(&planned.iter().map(show).collect::<String>());
    if planned.iter().any(|planned| planned.fate != Fate::Unchanged) {
        args.how.confirm(output)?;
        runtime.block_on(carry_out(&server, &planned, how))?;
    }
    if how.dry_run {
        let untried = planned.iter().filter(|planned| !planned.tried).count();
        output.summary(&match untried {
            0 => "tried by the server; nothing was changed".to_owned(),
            _ => format!(
                "{} of {} objects tried by the server, the others not; nothing was changed",
                planned.len() - untried,
                planned.len()
            ),
        });
        return Ok(Exit::Complete);
    }
    if args.timeout > 0 {
        for (what, nodes) in runtime.block_on(wait(&server, &planned, Duration::from_secs(args.timeout)))? {
            if nodes == 0 {
                output.alarm(&format!("{what}: no node matches it, so it is ready on 0 nodes"));
            } else {
                output.summary(&format!("{what} is ready on {nodes} nodes"));
            }
        }
    }
    Ok(Exit::Complete)
}

fn show(planned: &PlannedObject) -> String {
    let taken = cluster_change::taken(&planned.taken_from);
    match &planned.fate {
        Fate::Created if !planned.tried => {
            let namespace = planned.namespace();
            format!("+ {planned} (not tried: the namespace {namespace} has to be there first)\n")
        }
        Fate::Created => format!("+ {planned}\n"),
        Fate::Unchanged => format!("= {planned}\n{taken}"),
        Fate::Changed(changes) => format!("~ {planned}\n{}{taken}", cluster_change::changes(changes)),
    }
}

/// As much as a file may have.
fn stdin() -> Result<String, Failure> {
    let text = small_file::read_text_from(std::io::stdin().lock(), document::MAX_BYTES);
    text.map_err(|error| Failure::usage(format!("standard input: {error}")))
}
