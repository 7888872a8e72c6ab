//! Doing what was planned for a cluster, in an order that leaves it whole wherever it stops.

use serde_json::Value;

use super::super::How;
use super::super::failure::{ApiFailure, PartialChange};
use super::super::old::{Old, names_in};
use super::super::patience::before_rereading;
use super::super::request::{self, Resource};
use super::super::secret::Secret;
use super::super::server::ApiServer;
use super::super::status::ApiRefusal;
use super::super::wanted::{ResourceVersion, mirrors};
use super::{PlannedClusterChange, Secrets, clusters, look, named, read};

/// How often a Cluster is read again because something else of it changed in between: its controller writes all the time.
const ATTEMPTS: u32 = 8;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct CarriedOut {
    /// Secrets that were removed.
    pub removed: Vec<String>,
    /// What should have gone and did not, with the reason.
    pub left: Vec<(String, String)>,
    /// Secrets that were removed although a cluster names them now: another run pointed it at them meanwhile.
    pub missed: Vec<String>,
}

/// What a run has brought in.
#[derive(Debug, Default)]
struct BroughtIn {
    /// For messages.
    objects: Vec<String>,
    /// Secrets that were not there before.
    secrets: Vec<Old>,
}

/// Does what was planned. A dry run was what the plan was made of, and tries only the removals.
///
/// # Errors
/// What stopped it, and what is in already; that does no harm.
pub(crate) async fn carry_out(
    server: &ApiServer,
    planned: &PlannedClusterChange,
    how: How,
) -> Result<CarriedOut, PartialChange> {
    let mut done = CarriedOut::default();
    if how.dry_run {
        for old in &planned.old_secrets {
            remove(server, planned, old, how, &mut done).await;
        }
        return Ok(done);
    }
    let mut brought = BroughtIn::default();
    if let Err(failure) = bring_in(server, planned, how, &mut brought).await {
        if matches!(failure, ApiFailure::NoCluster { .. } | ApiFailure::NoNamespace(_)) {
            give_back(server, planned, how, &mut brought).await;
        }
        return Err(PartialChange { failure, in_already: brought.objects });
    }
    if let Err(failure) = clear_away(server, planned, how, &mut done).await {
        // The change itself is in.
        done.left.push(("secrets that nothing uses any more".to_owned(), failure.to_string()));
    }
    Ok(done)
}

/// Removes the secrets that nothing points at any more.
async fn clear_away(
    server: &ApiServer,
    planned: &PlannedClusterChange,
    how: How,
    done: &mut CarriedOut,
) -> Result<(), ApiFailure> {
    let PlannedClusterChange { wanted, resource, live, .. } = planned;
    let secrets = Secrets::list(server, wanted).await?;
    let all = clusters(server, resource, wanted).await?;
    for old in secrets.old(wanted, &all.iter().collect::<Vec<_>>(), live) {
        remove(server, planned, &old, how, done).await;
    }
    if !done.removed.is_empty() {
        // Between the look and the removal there is a moment.
        let all = clusters(server, resource, wanted).await?;
        let named = names_in(&all.iter().collect::<Vec<_>>());
        done.missed = done.removed.iter().filter(|name| named.contains(name.as_str())).cloned().collect();
    }
    Ok(())
}

async fn bring_in(
    server: &ApiServer,
    planned: &PlannedClusterChange,
    how: How,
    brought: &mut BroughtIn,
) -> Result<(), ApiFailure> {
    let PlannedClusterChange { wanted, .. } = planned;
    for new in &planned.new_secrets {
        let Some(secret) = wanted.secrets.iter().find(|secret| secret.name == new.name) else { continue };
        let made = apply(server, secret, &wanted.namespace, how).await?;
        brought.objects.push(format!("Secret {}", new.name));
        brought.secrets.extend(Old::of(&made["metadata"]).filter(|_| new.absent));
    }
    if planned.differs {
        point(server, planned, how).await?;
        brought.objects.push(named(wanted));
    }
    // Another run may have taken a secret for an old one before the Cluster pointed at it.
    for secret in &wanted.secrets {
        if look(server, secret, &wanted.namespace).await?.is_none() {
            tracing::warn!("Secret {} went away meanwhile and is brought in again", secret.name);
            apply(server, secret, &wanted.namespace, how).await?;
        }
    }
    Ok(())
}

async fn apply(server: &ApiServer, secret: &Secret, namespace: &str, how: How) -> Result<Value, ApiFailure> {
    let path = Resource::secrets().object(namespace, &secret.name);
    let applied = server.apply(&path, &secret.object(namespace), how).await?;
    applied.map_err(|refusal| ApiFailure::of(refusal, &format!("Secret {}", secret.name)))
}

/// Points the Cluster at the secrets, if it still says what was shown.
async fn point(server: &ApiServer, planned: &PlannedClusterChange, how: How) -> Result<(), ApiFailure> {
    let PlannedClusterChange { wanted, resource, live: shown, after, .. } = planned;
    let path = resource.object(&wanted.namespace, &wanted.name);
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(before_rereading(attempt)).await;
        }
        let mut live = read(server, resource, wanted).await?;
        // It says what is wanted where the answer to an earlier attempt was lost.
        let is_in = mirrors(&live) == mirrors(after);
        if live["metadata"]["uid"] != shown["metadata"]["uid"] || !is_in && mirrors(&live) != mirrors(shown) {
            break;
        }
        if planned.replaces && !is_in {
            let replacement = wanted.replacement(&live, ResourceVersion::AsRead);
            match server.ask(request::merge(&path, &replacement, how)).await? {
                Ok(value) => live = value,
                Err(ApiRefusal::Changed(_)) => continue,
                Err(refusal) => return Err(ApiFailure::of(refusal, &named(wanted))),
            }
        }
        match server.apply(&path, &wanted.patch(&live, ResourceVersion::AsRead), how).await? {
            Ok(_) => return Ok(()),
            Err(ApiRefusal::Changed(_)) => {}
            Err(refusal) => return Err(ApiFailure::of(refusal, &named(wanted))),
        }
    }
    Err(ApiFailure::Changed(named(wanted)))
}

/// Removes the secrets that this run made for a Cluster that is gone, but for those that another cluster names.
async fn give_back(server: &ApiServer, planned: &PlannedClusterChange, how: How, brought: &mut BroughtIn) {
    let PlannedClusterChange { wanted, resource, .. } = planned;
    let Ok(clusters) = clusters(server, resource, wanted).await else { return };
    let named = names_in(&clusters.iter().collect::<Vec<_>>());
    let mut done = CarriedOut::default();
    for secret in brought.secrets.iter().filter(|secret| !named.contains(secret.name.as_str())) {
        remove(server, planned, secret, how, &mut done).await;
    }
    brought.objects.retain(|object| {
        object.strip_prefix("Secret ").is_none_or(|name| !done.removed.iter().any(|removed| removed == name))
    });
}

/// Removes a secret, and notes what became of it.
async fn remove(
    server: &ApiServer,
    planned: &PlannedClusterChange,
    old: &Old,
    how: How,
    done: &mut CarriedOut,
) {
    let path = Resource::secrets().object(&planned.wanted.namespace, &old.name);
    let what = format!("Secret {}", old.name);
    let request = request::delete(&path, &old.uid, &old.resource_version, how);
    let failure = match server.ask(request).await {
        Ok(Ok(_) | Err(ApiRefusal::Missing(_))) => return done.removed.push(old.name.clone()),
        Ok(Err(refusal)) => ApiFailure::of(refusal, &what),
        Err(failure) => failure,
    };
    done.left.push((what, failure.to_string()));
}
