//! `mirror apply`: objects are applied in their order, and DaemonSets among them waited for.

use std::time::Duration;

use super::How;
use super::diff::{FieldChange, object_changes};
use super::failure::{ApiFailure, PartialChange, check_stays};
use super::manifest::Object;
use super::ready::{RolloutProgress, progress};
use super::request::{self, Resource};
use super::server::ApiServer;
use super::status::{ApiRefusal, FieldOwner};
use crate::clock::Instant;

const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long one look may take; the time that is left may be shorter.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// An object, and what would become of it.
#[derive(Debug)]
pub(crate) struct PlannedObject {
    object: Object,
    resource: Resource,
    namespace: String,
    /// What would become of it.
    pub fate: Fate,
    /// Whose fields are taken over.
    pub taken_from: Vec<FieldOwner>,
    /// Whether the server has tried it. Inside a namespace that is still to be made nothing can be tried.
    pub tried: bool,
}

/// What becomes of an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is not there yet.
    Created,
    /// It says so already.
    Unchanged,
    /// These values change, according to the trial run.
    Changed(Vec<FieldChange>),
}

impl std::fmt::Display for PlannedObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.object.fmt(f)
    }
}

impl PlannedObject {
    /// Where it will be.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn path(&self) -> String {
        self.resource.object(&self.namespace, &self.object.name)
    }
}

/// Reads what is there, and has the server try the change.
///
/// # Errors
/// What would stop it: an unknown kind, another owner, or the server refuses.
pub(crate) async fn plan(
    server: &ApiServer,
    objects: Vec<Object>,
    force: bool,
) -> Result<Vec<PlannedObject>, ApiFailure> {
    let mut all: Vec<PlannedObject> = Vec::new();
    for object in objects {
        let resource = server.resource(&object.api_version, &object.kind).await?;
        let namespace = object.namespace.clone().unwrap_or_else(|| server.default_namespace.clone());
        let is_new = |namespace: &str| {
            all.iter().any(|other| {
                other.object.kind == "Namespace"
                    && other.object.name == namespace
                    && other.fate == Fate::Created
            })
        };
        let in_new = resource.namespaced && is_new(&namespace);
        let (fate, taken_from) = (Fate::Created, Vec::new());
        let mut planned = PlannedObject { object, resource, namespace, fate, taken_from, tried: false };
        let (path, what) = (planned.path(), planned.to_string());
        let live = server.may(request::get(&path), &what).await?;
        check_stays(live.as_ref(), &what)?;
        if live.is_some() || !in_new {
            let (tried, taken_from) = server.attempt(&path, &planned.object.value, force).await?;
            (planned.taken_from, planned.tried) = (taken_from, true);
            let after = match tried {
                Ok(after) => after,
                Err(ApiRefusal::Missing(_)) if live.is_none() && planned.resource.namespaced => {
                    return Err(ApiFailure::NoPlace { what, namespace: planned.namespace });
                }
                Err(refusal) => return Err(ApiFailure::of(refusal, &what)),
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
pub(crate) async fn carry_out(
    server: &ApiServer,
    all: &[PlannedObject],
    how: How,
) -> Result<(), PartialChange> {
    if how.dry_run {
        return Ok(());
    }
    for (number, planned) in all.iter().enumerate() {
        let applied = server.apply(&planned.path(), &planned.object.value, how).await;
        let applied = applied
            .and_then(|answer| answer.map_err(|refusal| ApiFailure::of(refusal, &planned.to_string())));
        if let Err(failure) = applied {
            let in_already = all[..number].iter().map(ToString::to_string).collect();
            return Err(PartialChange { failure, in_already });
        }
    }
    Ok(())
}

/// Waits until every DaemonSet among them runs on all its nodes. Says of each on how many. A look that fails is no end:
/// the API server itself may be on a node that changes.
///
/// # Errors
/// The time is over, or the DaemonSet is gone.
pub(crate) async fn wait(
    server: &ApiServer,
    all: &[PlannedObject],
    timeout: Duration,
) -> Result<Vec<(String, u64)>, ApiFailure> {
    let began = Instant::now();
    let mut ready = Vec::new();
    for planned in all.iter().filter(|planned| planned.object.kind == "DaemonSet") {
        let what = planned.to_string();
        let mut seen = "nothing is known of it".to_owned();
        loop {
            let left = timeout.saturating_sub(began.elapsed()).clamp(ASK_EVERY, LOOK_WITHIN);
            let trouble = match look(server, planned, &what, left).await? {
                Ok(RolloutProgress::CarriedOut(nodes)) => {
                    ready.push((what, nodes));
                    break;
                }
                Ok(RolloutProgress::Unseen) => {
                    "its controller has not seen it".clone_into(&mut seen);
                    String::new()
                }
                Ok(RolloutProgress::Going(have, of)) => {
                    seen = format!("on {have} of {of} nodes");
                    String::new()
                }
                Err(failure) => {
                    tracing::debug!("{what}: {failure}");
                    format!("; the last look at it failed: {failure}")
                }
            };
            if began.elapsed() + ASK_EVERY > timeout {
                let progress = seen + &trouble;
                return Err(ApiFailure::NotReady { what, seconds: timeout.as_secs(), progress });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    Ok(ready)
}

/// How far a DaemonSet is, or why that is not known now. It is an error only if it is gone.
async fn look(
    server: &ApiServer,
    planned: &PlannedObject,
    what: &str,
    within: Duration,
) -> Result<Result<RolloutProgress, ApiFailure>, ApiFailure> {
    let asked = server.ask_once(request::get(planned.path()));
    let Ok(answer) = tokio::time::timeout(within, asked).await else {
        let seconds = within.as_secs();
        return Ok(Err(ApiFailure::Unreachable(format!("nothing came within {seconds} s"))));
    };
    match answer {
        Ok(Ok(live)) => Ok(Ok(progress(&live))),
        Ok(Err(ApiRefusal::Missing(_))) => Err(ApiFailure::Ending(what.to_owned())),
        Ok(Err(refusal)) => Ok(Err(ApiFailure::of(refusal, what))),
        Err(failure) => Ok(Err(failure)),
    }
}
