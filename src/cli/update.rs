//! `update cluster`: applies the mirrors of a cluster's configuration file to the cluster.

use std::path::PathBuf;

use super::cluster_change::{HowArgs, changes, taken};
use super::output::Output;
use super::{Done, cluster, mirror};
use crate::cluster::api::cluster::{PlannedClusterChange, carry_out, plan};
use crate::cluster::api::{ApiFailure, ApiServer, DesiredState, PartialChange};
use crate::cluster::file::FileRequirements;
use crate::exit::Exit;
use crate::report::{Class, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the cluster; its configuration file is DIR/NAME/NAME.yaml
    #[arg(long, short, value_name = "NAME")]
    cluster: String,
    /// Where to reach the cluster; for a user cluster, its admin cluster [default: DIR/NAME/NAME-kubeconfig]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where configuration files of clusters are
    #[arg(long, value_name = "DIR", default_value = "bmctl-workspace")]
    workspace_dir: PathBuf,
    #[command(flatten)]
    how: HowArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    let name = &args.cluster;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_name) {
        return Err(Failure::usage(format!("--cluster {name:?} is no name of a cluster"))
            .hint("give the name alone, as admin1; --workspace-dir says where its folder is"));
    }
    let folder = args.workspace_dir.join(name);
    let file = folder.join(format!("{name}.yaml"));
    let cluster = cluster::read(&file, &FileRequirements::default(), output)?;
    if cluster.name != *name {
        let message =
            format!("{}:{}: the Cluster in it is {}", file.display(), cluster.at.line, cluster.name);
        return Err(Failure::usage(message).hint(format!("name: {name}, or -c {}", cluster.name)));
    }
    let wanted = DesiredState::new(&cluster, &mirror::flags::of_cluster(&cluster, output)?);
    let kubeconfig = args.kubeconfig.clone().unwrap_or_else(|| folder.join(format!("{name}-kubeconfig")));
    let how = args.how.how();
    let runtime = super::runtime()?;
    let server = runtime.block_on(ApiServer::new(&kubeconfig))?;
    let planned = runtime.block_on(plan(&server, wanted, how.force))?;
    if planned.is_nothing() {
        output.summary(&format!("Cluster {}/{name}: no change is needed", cluster.namespace));
        return Ok(Exit::Complete);
    }
    output.summary(&show(&planned, &format!("Cluster {}/{name}", cluster.namespace)));
    args.how.confirm(output)?;
    let done = runtime.block_on(carry_out(&server, &planned, how))?;
    if !done.missed.is_empty() {
        let message = format!(
            "the change was made, but another run has pointed a Cluster at what this one removed: Secret {}",
            done.missed.join(", Secret ")
        );
        let failure = Failure::new(Class::Conflict, message).exit(Exit::Incomplete);
        return Err(failure.hint("run the other update again: it brings the Secret back"));
    }
    if !done.left.is_empty() {
        let state = if how.dry_run {
            "the API server would take the change; nothing was changed"
        } else {
            "the change was made"
        };
        let left: Vec<String> = done.left.iter().map(|(what, why)| format!("{what}: {why}")).collect();
        let message = format!("{state}, but this could not be removed: {}", left.join("; "));
        let failure = Failure::new(Class::LeftOver, message);
        return Err(failure.hint(
            "no Cluster uses what is left: remove it by hand, or run it again when it is an hour old",
        ));
    }
    output.summary(if how.dry_run { "tried by the server; nothing was changed" } else { "changed" });
    Ok(Exit::Complete)
}

fn show(planned: &PlannedClusterChange, title: &str) -> String {
    let added = planned.new_secrets().map(|name| format!("+ Secret {name}\n"));
    let removed = planned.old_secrets().map(|name| format!("- Secret {name}\n"));
    let secrets: String = added.chain(removed).collect();
    format!("{title}\n{secrets}{}{}", changes(&planned.changes), taken(&planned.taken_from))
}

impl From<ApiFailure> for Failure {
    fn from(failure: ApiFailure) -> Self {
        let told = Self::new(failure.class(), failure.to_string()).exit(failure.exit());
        Self { hint: failure.hint().map(str::to_owned), ..told }
    }
}

impl From<PartialChange> for Failure {
    fn from(stopped: PartialChange) -> Self {
        let state = stopped.state();
        let mut failure = Self::from(stopped.failure);
        if let Some(state) = state {
            failure.message = format!("{} ({state})", failure.message);
        }
        failure
    }
}
