//! Requests to an API server, and where its resources are. Pure.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{How, MANAGER};

/// A question or an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: &'static str,
    /// With its query.
    pub(super) path: String,
    pub(super) accept: &'static str,
    /// Type and body.
    pub(super) body: Option<(&'static str, Vec<u8>)>,
}

impl Request {
    /// For messages: without the query.
    pub(super) fn what(&self) -> String {
        format!("{} {}", self.method, self.path.split('?').next().unwrap_or_default())
    }
}

const JSON: &str = "application/json";
/// Names and versions, and nothing of what is inside.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

pub(super) fn get(path: impl Into<String>) -> Request {
    Request { method: "GET", path: path.into(), accept: JSON, body: None }
}

/// What is in a collection, by label, without its contents.
pub(super) fn list_metadata(path: &str, selector: &str) -> Request {
    let path = format!("{path}?labelSelector={}", encode(selector));
    Request { method: "GET", path, accept: METADATA, body: None }
}

/// [Server-side apply](https://kubernetes.io/docs/reference/using-api/server-side-apply/). Fields that the server does not
/// know are an error: dropped in silence, nodes would lack them.
pub(super) fn apply(path: &str, object: &Value, how: How) -> Request {
    let dry_run = if how.dry_run { "&dryRun=All" } else { "" };
    let path = format!("{path}?fieldManager={MANAGER}&fieldValidation=Strict&force={}{dry_run}", how.force);
    // JSON is YAML.
    let body = ("application/apply-patch+yaml", object.to_string().into_bytes());
    Request { method: "PATCH", path, accept: JSON, body: Some(body) }
}

/// A merge patch, where lists of others are to be replaced. Whose fields it takes, the server does not say.
pub(super) fn merge(path: &str, patch: &Value, how: How) -> Request {
    let dry_run = if how.dry_run { "&dryRun=All" } else { "" };
    let path = format!("{path}?fieldManager={MANAGER}&fieldValidation=Strict{dry_run}");
    let body = ("application/merge-patch+json", patch.to_string().into_bytes());
    Request { method: "PATCH", path, accept: JSON, body: Some(body) }
}

/// Deletes exactly what was seen: this object in this version.
pub(super) fn delete(path: &str, uid: &str, resource_version: &str, how: How) -> Request {
    let mut options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": { "uid": uid, "resourceVersion": resource_version },
    });
    if how.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    Request {
        method: "DELETE",
        path: path.into(),
        accept: JSON,
        body: Some((JSON, options.to_string().into_bytes())),
    }
}

/// A kind of objects, as a server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    /// Where its collections are, as `/apis/apps/v1`.
    root: String,
    plural: String,
    pub(super) namespaced: bool,
}

impl Resource {
    pub(super) fn secrets() -> Self {
        Self { root: "/api/v1".to_owned(), plural: "secrets".to_owned(), namespaced: true }
    }

    pub(super) fn namespaces() -> Self {
        Self { root: "/api/v1".to_owned(), plural: "namespaces".to_owned(), namespaced: false }
    }

    /// The resource of a kind, by what the server says of its group and version.
    pub(super) fn find(list: &Value, api_version: &str, kind: &str) -> Option<Self> {
        let resources = list["resources"].as_array()?;
        // `clusters/status` is a part of it.
        let found = resources.iter().find(|resource| {
            resource["kind"] == kind && resource["name"].as_str().is_some_and(|name| !name.contains('/'))
        })?;
        Some(Self {
            root: root(api_version),
            plural: found["name"].as_str()?.to_owned(),
            namespaced: found["namespaced"].as_bool()?,
        })
    }

    pub(super) fn collection(&self, namespace: &str) -> String {
        let Self { root, plural, namespaced } = self;
        if *namespaced {
            format!("{root}/namespaces/{}/{}", encode(namespace), encode(plural))
        } else {
            format!("{root}/{}", encode(plural))
        }
    }

    pub(super) fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(namespace), encode(name))
    }
}

/// Where a group and version is.
pub(super) fn root(api_version: &str) -> String {
    match api_version.split_once('/') {
        Some((group, version)) => format!("/apis/{}/{}", encode(group), encode(version)),
        None => format!("/api/{}", encode(api_version)),
    }
}

/// The path that lists the versions of a group.
pub(super) fn group(name: &str) -> String {
    format!("/apis/{}", encode(name))
}

/// A name as a part of a URL. What names are made of stays readable.
fn encode(text: &str) -> String {
    const SET: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
    // A name of dots alone would climb.
    if text == "." || text == ".." {
        return text.replace('.', "%2E");
    }
    utf8_percent_encode(text, SET).to_string()
}
