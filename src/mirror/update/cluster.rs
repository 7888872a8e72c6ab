//! `update cluster`: the mirrors of a cluster's file become those of its Cluster resource.
//!
//! First everything is read and tried ([`Planned`]), so that it can be shown; then the secrets are brought in, then the
//! Cluster is pointed at them, and only then secrets go that nothing points at any more. Whatever stops it half-way, the
//! Cluster points at secrets that are there, and the next run goes on.

use serde_json::Value;

use super::How;
use super::diff::{Change, changes};
use super::failure::Failure;
use super::old::{Old, old};
use super::request::{self, Resource};
use super::secret::{Secret, selector};
use super::server::Server;
use super::status::{Owner, Refusal};
use super::wanted::{Version, Wanted, mirrors};

/// How often a Cluster is read again because something else of it changed in between: its controller writes all the time.
const ATTEMPTS: u32 = 8;

/// What would change.
#[derive(Debug)]
pub struct Planned {
    wanted: Wanted,
    resource: Resource,
    /// The Cluster as it was shown.
    live: Value,
    /// What changes in the Cluster's spec, by the word of the server.
    pub changes: Vec<Change>,
    /// Whose fields are taken over.
    pub taken_from: Vec<Owner>,
    /// Endpoints that will stand beside those of the file, where entries have owners of their own.
    pub others: Vec<String>,
    /// Secrets to bring in.
    pub new_secrets: Vec<String>,
    /// Secrets of ours that nothing will point at.
    old_secrets: Vec<Old>,
    /// Whether the Cluster itself has to change.
    differs: bool,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Secrets that were removed.
    pub removed: Vec<String>,
    /// Secrets that should have gone and did not, with the reason.
    pub left: Vec<(String, String)>,
}

impl Planned {
    /// Secrets of ours that nothing will point at.
    pub fn old_secrets(&self) -> impl Iterator<Item = &str> {
        self.old_secrets.iter().map(|old| old.name.as_str())
    }

    /// Whether there is nothing to do.
    pub fn is_nothing(&self) -> bool {
        !self.differs && self.new_secrets.is_empty() && self.old_secrets.is_empty()
    }
}

/// Reads the cluster, and has its server try the change.
///
/// # Errors
/// What would stop it: there is no such cluster, somebody else owns the mirrors, or the server refuses.
pub async fn plan(server: &Server, wanted: Wanted, force: bool) -> Result<Planned, Failure> {
    let resource = server.resource(&wanted.api_version, "Cluster").await?;
    let live = read(server, &resource, &wanted).await?;
    let (mut after, mut taken_from) = (live.clone(), Vec::new());
    if !wanted.is(&live) {
        let path = resource.object(&wanted.namespace, &wanted.name);
        let attempt = |force| {
            server.ask(request::apply(
                &path,
                &wanted.patch(&live, Version::Any),
                How { force, dry_run: true },
            ))
        };
        let mut tried = attempt(false).await?;
        if let (Err(Refusal::Owned(owners)), true) = (&tried, force) {
            taken_from.clone_from(owners);
            tried = attempt(true).await?;
        }
        after = tried.map_err(|refusal| Failure::of(refusal, &named(&wanted)))?;
    }
    let mut new_secrets = Vec::new();
    for secret in &wanted.secrets {
        if !is_there(server, secret, &wanted.namespace).await? {
            new_secrets.push(secret.name.clone());
        }
    }
    let others = clusters(server, &resource, &wanted).await?;
    let others = others.iter().filter(|cluster| cluster["metadata"]["name"] != wanted.name.as_str());
    let old_secrets = find_old(server, &wanted, &others.chain([&after]).collect::<Vec<_>>()).await?;
    // What the server adds by itself, as the defaults of fields, is no change to make.
    let differs = mirrors(&after) != mirrors(&live);
    Ok(Planned {
        others: wanted.others(&after),
        changes: changes("spec", &live["spec"], &after["spec"]),
        old_secrets,
        wanted,
        resource,
        live,
        taken_from,
        new_secrets,
        differs,
    })
}

/// Does what was planned.
///
/// # Errors
/// What stopped it; what was done before stays, and does no harm.
pub async fn carry_out(server: &Server, planned: &Planned, how: How) -> Result<Done, Failure> {
    let Planned { wanted, resource, .. } = planned;
    for secret in wanted.secrets.iter().filter(|secret| planned.new_secrets.contains(&secret.name)) {
        let path = Resource::secrets().object(&wanted.namespace, &secret.name);
        let object = secret.object(&wanted.namespace);
        server.must(request::apply(&path, &object, how), &format!("Secret {}", secret.name)).await?;
    }
    if planned.differs {
        point(server, planned, how).await?;
    }
    let old = if how.dry_run {
        // The Cluster still points at them: what was planned is what would go.
        planned.old_secrets.clone()
    } else {
        let all = clusters(server, resource, wanted).await?;
        find_old(server, wanted, &all.iter().collect::<Vec<_>>()).await?
    };
    let mut done = Done::default();
    for old in old {
        let path = Resource::secrets().object(&wanted.namespace, &old.name);
        let request = request::delete(&path, &old.uid, &old.resource_version, how);
        match server.ask(request).await? {
            Ok(_) | Err(Refusal::Missing(_)) => done.removed.push(old.name),
            // The change itself is in; the next run tries again.
            Err(refusal) => {
                let why = Failure::of(refusal, &format!("Secret {}", old.name)).to_string();
                done.left.push((old.name, why));
            }
        }
    }
    Ok(done)
}

/// Points the Cluster at the secrets, if it still says what was shown.
async fn point(server: &Server, planned: &Planned, how: How) -> Result<(), Failure> {
    let Planned { wanted, resource, live: shown, .. } = planned;
    let path = resource.object(&wanted.namespace, &wanted.name);
    for _ in 0..ATTEMPTS {
        let live = read(server, resource, wanted).await?;
        if live["metadata"]["uid"] != shown["metadata"]["uid"] || mirrors(&live) != mirrors(shown) {
            break;
        }
        match server.ask(request::apply(&path, &wanted.patch(&live, Version::AsRead), how)).await? {
            Ok(_) => return Ok(()),
            Err(Refusal::Changed(_)) => {}
            Err(refusal) => return Err(Failure::of(refusal, &named(wanted))),
        }
    }
    Err(Failure::Changed(named(wanted)))
}

fn named(wanted: &Wanted) -> String {
    format!("Cluster {}/{}", wanted.namespace, wanted.name)
}

/// The Cluster as it is; a 404 is told apart.
async fn read(server: &Server, resource: &Resource, wanted: &Wanted) -> Result<Value, Failure> {
    let Wanted { name, namespace, .. } = wanted;
    let found = server.may(request::get(resource.object(namespace, name)), &named(wanted)).await?;
    match found {
        Some(live) => Ok(live),
        None if server.has_namespace(namespace).await? => {
            Err(Failure::NoCluster { name: name.clone(), namespace: namespace.clone() })
        }
        None => Err(Failure::NoNamespace(namespace.clone())),
    }
}

async fn is_there(server: &Server, secret: &Secret, namespace: &str) -> Result<bool, Failure> {
    let path = Resource::secrets().object(namespace, &secret.name);
    let found = server.may(request::get(path), &format!("Secret {}", secret.name)).await?;
    Ok(found.is_some_and(|live| secret.is(&live)))
}

/// All clusters of the namespace: each may point at secrets there.
async fn clusters(server: &Server, resource: &Resource, wanted: &Wanted) -> Result<Vec<Value>, Failure> {
    let list =
        server.must(request::get(resource.collection(&wanted.namespace)), "the list of clusters").await?;
    match list["items"].as_array() {
        Some(items) => Ok(items.clone()),
        None => Err(Failure::Garbled("the list of clusters".to_owned(), "no items".to_owned())),
    }
}

async fn find_old(server: &Server, wanted: &Wanted, clusters: &[&Value]) -> Result<Vec<Old>, Failure> {
    let path = Resource::secrets().collection(&wanted.namespace);
    let list = server.must(request::list_metadata(&path, &selector()), "the list of secrets").await?;
    Ok(old(&list, &wanted.secrets, clusters))
}
