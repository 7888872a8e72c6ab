//! `mirror apply`: objects are applied in their order, and DaemonSets among them waited for.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::How;
use super::diff::{Change, object_changes};
use super::failure::Failure;
use super::manifest::Object;
use super::ready::{Progress, progress};
use super::request::{self, Resource};
use super::server::Server;
use super::status::{Owner, Refusal};

const ASK_EVERY: Duration = Duration::from_secs(1);

/// An object, and what would become of it.
#[derive(Debug)]
pub struct Planned {
    object: Object,
    resource: Resource,
    namespace: String,
    /// What would become of it.
    pub fate: Fate,
    /// Whose fields are taken over.
    pub taken_from: Vec<Owner>,
}

/// What becomes of an object.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is not there yet.
    Created,
    /// It says so already.
    Unchanged,
    /// These values change, by the word of the server.
    Changed(Vec<Change>),
}

impl std::fmt::Display for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.object.fmt(f)
    }
}

impl Planned {
    fn path(&self) -> String {
        self.resource.object(&self.namespace, &self.object.name)
    }
}

/// Reads what is there, and has the server try the change.
///
/// # Errors
/// What would stop it: an unknown kind, another owner, or the server refuses.
pub async fn plan(server: &Server, objects: Vec<Object>, force: bool) -> Result<Vec<Planned>, Failure> {
    let mut all: Vec<Planned> = Vec::new();
    for object in objects {
        let resource = server.resource(&object.api_version, &object.kind).await?;
        let namespace = object.namespace.clone().unwrap_or_else(|| server.default_namespace.clone());
        let mut planned =
            Planned { object, resource, namespace, fate: Fate::Created, taken_from: Vec::new() };
        let (path, what) = (planned.path(), planned.to_string());
        let live = server.may(request::get(&path), &what).await?;
        let is_new = |namespace: &str| {
            all.iter().any(|other| {
                other.object.kind == "Namespace"
                    && other.object.name == namespace
                    && other.fate == Fate::Created
            })
        };
        // Inside a namespace that is still to be made nothing can be tried.
        if live.is_some() || !planned.resource.namespaced || !is_new(&planned.namespace) {
            let attempt = |force| {
                server.ask(request::apply(&path, &planned.object.value, How { force, dry_run: true }))
            };
            let mut tried = attempt(false).await?;
            if let (Err(Refusal::Owned(owners)), true) = (&tried, force) {
                planned.taken_from.clone_from(owners);
                tried = attempt(true).await?;
            }
            let after = match tried {
                Ok(after) => after,
                Err(Refusal::Missing(_)) if live.is_none() => {
                    return Err(Failure::NoNamespace(planned.namespace));
                }
                Err(refusal) => return Err(Failure::of(refusal, &what)),
            };
            if let Some(live) = &live {
                let changes = object_changes(live, &after);
                planned.fate = if changes.is_empty() { Fate::Unchanged } else { Fate::Changed(changes) };
            }
        }
        all.push(planned);
    }
    Ok(all)
}

/// Applies them, each in its turn. What is unchanged is applied too: it is ours from then on. A dry run was what the plan
/// was made of, and sends nothing more.
///
/// # Errors
/// The first that is refused; those before it are in.
pub async fn carry_out(server: &Server, all: &[Planned], how: How) -> Result<(), Failure> {
    if how.dry_run {
        return Ok(());
    }
    for planned in all {
        let request = request::apply(&planned.path(), &planned.object.value, how);
        server.must(request, &planned.to_string()).await?;
    }
    Ok(())
}

/// Waits until every DaemonSet among them runs on all its nodes. Says of each on how many.
///
/// # Errors
/// The time is over.
pub async fn wait(
    server: &Server,
    all: &[Planned],
    timeout: Duration,
) -> Result<Vec<(String, u64)>, Failure> {
    let began = Instant::now();
    let mut ready = Vec::new();
    for planned in all.iter().filter(|planned| planned.object.kind == "DaemonSet") {
        let what = planned.to_string();
        loop {
            let live: Value = server.must(request::get(planned.path()), &what).await?;
            let progress = match progress(&live) {
                Progress::Done(nodes) => {
                    ready.push((what, nodes));
                    break;
                }
                Progress::Unseen => "its controller has not seen it".to_owned(),
                Progress::Going(have, of) => format!("on {have} of {of} nodes"),
            };
            if began.elapsed() + ASK_EVERY > timeout {
                return Err(Failure::NotReady { what, seconds: timeout.as_secs(), progress });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    Ok(ready)
}
