//! `update cluster`: the mirrors of a cluster's file become those of its Cluster resource.
//!
//! First everything is read and tried ([`PlannedClusterChange`]), so that it can be shown; then the secrets are brought in, then the
//! Cluster is pointed at them, and only then secrets go that nothing points at any more. Whatever stops it half-way, the
//! Cluster points at secrets that are there, and the next run goes on. Other runs may be under way at the same time, so
//! secrets are listed before the clusters that may name them are read, and a secret that another run may have made for
//! what it is about to do stays ([`old`](super::old)).

use jiff::Timestamp;
use serde_json::Value;

use super::How;
use super::diff::{FieldChange, changes};
use super::failure::{ApiFailure, check_stays};
use super::old::{Old, old};
use super::owners::owners;
use super::request::{self, Resource};
use super::secret::{Secret, selector};
use super::server::ApiServer;
use super::status::FieldOwner;
use super::wanted::{DesiredState, ResourceVersion, mirrors};

mod carry_out;

pub(crate) use carry_out::carry_out;

/// What would change.
#[derive(Debug)]
pub(crate) struct PlannedClusterChange {
    wanted: DesiredState,
    resource: Resource,
    /// The Cluster as it was shown.
    live: Value,
    /// The Cluster as it will be, according to the trial run.
    after: Value,
    /// What changes in the Cluster's spec.
    pub changes: Vec<FieldChange>,
    /// Whose fields are taken over.
    pub taken_from: Vec<FieldOwner>,
    new_secrets: Vec<New>,
    /// Secrets of ours that nothing will point at.
    old_secrets: Vec<Old>,
    /// Whether the Cluster itself has to change.
    differs: bool,
    /// Whether to apply is not enough, because entries of others would stay in the list.
    replaces: bool,
}

/// A secret to bring in.
#[derive(Debug)]
struct New {
    name: String,
    /// Whether there is none of that name; otherwise it says something else.
    absent: bool,
}

impl PlannedClusterChange {
    /// Secrets to bring in.
    pub(crate) fn new_secrets(&self) -> impl Iterator<Item = &str> {
        self.new_secrets.iter().map(|new| new.name.as_str())
    }

    /// Secrets of ours that nothing will point at.
    pub(crate) fn old_secrets(&self) -> impl Iterator<Item = &str> {
        self.old_secrets.iter().map(|old| old.name.as_str())
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.differs && self.new_secrets.is_empty() && self.old_secrets.is_empty()
    }
}

/// Reads the cluster, and has its server try the change.
///
/// # Errors
/// What would stop it: there is no such cluster, somebody else owns the mirrors, or the server refuses.
pub(crate) async fn plan(
    server: &ApiServer,
    wanted: DesiredState,
    force: bool,
) -> Result<PlannedClusterChange, ApiFailure> {
    let resource = server.resource(&wanted.api_version, "Cluster").await?;
    let secrets = Secrets::list(server, &wanted).await?;
    let live = read(server, &resource, &wanted).await?;
    let mut tried = try_change(server, &resource, &wanted, &live, force).await?;
    let mut new_secrets = Vec::new();
    for secret in &wanted.secrets {
        let there = look(server, secret, &wanted.namespace).await?;
        if !there.as_ref().is_some_and(|there| secret.is(there)) {
            tried.taken_from.extend(try_secret(server, secret, &wanted.namespace, force).await?);
            new_secrets.push(New { name: secret.name.clone(), absent: there.is_none() });
        }
    }
    let clusters = clusters(server, &resource, &wanted).await?;
    let others = clusters.iter().filter(|cluster| cluster["metadata"]["name"] != wanted.name.as_str());
    let clusters: Vec<&Value> = others.chain([&tried.after]).collect();
    let old_secrets = secrets.old(&wanted, &clusters, &live);
    let TriedChange { after, taken_from, replaces } = tried;
    // What the server adds by itself, as the defaults of fields, is no change to make.
    let differs = mirrors(&after) != mirrors(&live);
    Ok(PlannedClusterChange {
        changes: changes("spec", &live["spec"], &after["spec"]),
        old_secrets,
        wanted,
        resource,
        live,
        after,
        taken_from,
        new_secrets,
        differs,
        replaces,
    })
}

/// What the server makes of the mirrors.
struct TriedChange {
    after: Value,
    taken_from: Vec<FieldOwner>,
    replaces: bool,
}

/// Has the server try the change. If its kind merges the list by endpoint, entries of other managers stay beside ours, and
/// fields of theirs in ours; what is wanted is the list of the file and no other.
async fn try_change(
    server: &ApiServer,
    resource: &Resource,
    wanted: &DesiredState,
    live: &Value,
    force: bool,
) -> Result<TriedChange, ApiFailure> {
    if wanted.is(live) {
        return Ok(TriedChange { after: live.clone(), taken_from: Vec::new(), replaces: false });
    }
    let (path, what) = (resource.object(&wanted.namespace, &wanted.name), named(wanted));
    let (after, mut taken_from) =
        server.attempt(&path, &wanted.patch(live, ResourceVersion::Any), force).await?;
    let after = after.map_err(|refusal| ApiFailure::of(refusal, &what))?;
    if wanted.is(&after) {
        return Ok(TriedChange { after, taken_from, replaces: false });
    }
    // What is more in it may be defaults of fields: those come back whoever writes the list.
    let replacement = wanted.replacement(live, ResourceVersion::Any);
    let alone = server.must(request::merge(&path, &replacement, How { force, dry_run: true }), &what).await?;
    if mirrors(&alone) == mirrors(&after) {
        return Ok(TriedChange { after, taken_from, replaces: false });
    }
    let owners = owners(&after, &alone);
    if !owners.is_empty() && !force {
        return Err(ApiFailure::Owned { what, owners });
    }
    taken_from.extend(owners);
    Ok(TriedChange { after: alone, taken_from, replaces: true })
}

/// Has the server try a secret; gives whose fields are taken over.
async fn try_secret(
    server: &ApiServer,
    secret: &Secret,
    namespace: &str,
    force: bool,
) -> Result<Vec<FieldOwner>, ApiFailure> {
    let path = Resource::secrets().object(namespace, &secret.name);
    let what = format!("Secret {}", secret.name);
    let (tried, mut taken_from) = server.attempt(&path, &secret.object(namespace), force).await?;
    tried.map_err(|refusal| ApiFailure::of(refusal, &what))?;
    for owner in &mut taken_from {
        owner.field = format!("{what} {}", owner.field);
    }
    Ok(taken_from)
}

/// Secrets that carry our labels, as they were at a time.
struct Secrets {
    list: Value,
    at: Timestamp,
}

impl Secrets {
    /// To be listed before clusters are read: a secret that comes in between is then not taken for one that no cluster
    /// names.
    async fn list(server: &ApiServer, wanted: &DesiredState) -> Result<Self, ApiFailure> {
        let path = Resource::secrets().collection(&wanted.namespace);
        let request = request::list_metadata(&path, &selector());
        let (list, at) = server.must_dated(request, "the list of secrets").await?;
        Ok(Self { list, at })
    }

    fn old(&self, wanted: &DesiredState, clusters: &[&Value], before: &Value) -> Vec<Old> {
        old(&self.list, &wanted.secrets, clusters, mirrors(before), self.at)
    }
}

fn named(wanted: &DesiredState) -> String {
    format!("Cluster {}/{}", wanted.namespace, wanted.name)
}

/// The Cluster as it is; a 404 has an error of its own.
async fn read(server: &ApiServer, resource: &Resource, wanted: &DesiredState) -> Result<Value, ApiFailure> {
    let DesiredState { name, namespace, .. } = wanted;
    let found = server.may(request::get(resource.object(namespace, name)), &named(wanted)).await?;
    match found {
        // Without it the Cluster could not be told from a later one of the same name.
        Some(live) if !live["metadata"]["uid"].is_string() => {
            Err(ApiFailure::Garbled(named(wanted), "an object without metadata.uid".to_owned()))
        }
        Some(live) => check_stays(Some(&live), &named(wanted)).map(|()| live),
        None if server.has_namespace(namespace).await? => {
            Err(ApiFailure::NoCluster { name: name.clone(), namespace: namespace.clone() })
        }
        None => Err(ApiFailure::NoNamespace(namespace.clone())),
    }
}

/// A secret as it is in the cluster.
async fn look(server: &ApiServer, secret: &Secret, namespace: &str) -> Result<Option<Value>, ApiFailure> {
    let path = Resource::secrets().object(namespace, &secret.name);
    let what = format!("Secret {}", secret.name);
    let there = server.may(request::get(path), &what).await?;
    check_stays(there.as_ref(), &what)?;
    Ok(there)
}

/// All clusters of the namespace: each may point at secrets there.
async fn clusters(
    server: &ApiServer,
    resource: &Resource,
    wanted: &DesiredState,
) -> Result<Vec<Value>, ApiFailure> {
    let list =
        server.must(request::get(resource.collection(&wanted.namespace)), "the list of clusters").await?;
    match list["items"].as_array() {
        Some(items) => Ok(items.clone()),
        None => Err(ApiFailure::Garbled("the list of clusters".to_owned(), "no items".to_owned())),
    }
}
