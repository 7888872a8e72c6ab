//! Asking a registry directly.

use serde_json::Value;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) digest: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// GET of a path below `/v2/`.
pub(crate) fn get(registry: &str, path: &str) -> Answer {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let response =
            client.get(format!("{registry}/v2/{path}")).header("Accept", ACCEPT).send().await.unwrap();
        let status = response.status().as_u16();
        let digest =
            response.headers().get("Docker-Content-Digest").map(|value| value.to_str().unwrap().to_owned());
        Answer { status, digest, body: response.bytes().await.unwrap().to_vec() }
    })
}

/// Every tag of every repository below a namespace, as `repository:tag`.
pub(crate) fn tags(registry: &str, namespace: &str) -> Vec<String> {
    let catalog = get(registry, "_catalog?n=1000").json();
    let repositories = catalog["repositories"].as_array().unwrap().iter().filter_map(Value::as_str);
    let below = repositories.filter(|repository| repository.starts_with(&format!("{namespace}/")));
    below
        .flat_map(|repository| {
            let list = get(registry, &format!("{repository}/tags/list"));
            let tags = if list.status == 200 { list.json()["tags"].as_array().cloned() } else { None };
            let named = move |tag: Value| format!("{repository}:{}", tag.as_str().unwrap());
            tags.unwrap_or_default().into_iter().map(named).collect::<Vec<_>>()
        })
        .collect()
}
