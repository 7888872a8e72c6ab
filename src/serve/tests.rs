//! A registry on a free port, for tests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{ServeError, Server, ServerOptions, Store};
use crate::oci::{Digest, media_type};

/// A registry on a free port, with a client of its own.
pub(super) struct Registry {
    pub(super) base: String,
    pub(super) address: SocketAddr,
    pub(super) client: Client,
    pub(super) store: Arc<Store>,
    pub(super) shutdown: CancellationToken,
    pub(super) task: JoinHandle<Result<(), ServeError>>,
}

impl Registry {
    pub(super) async fn start(root: &Path) -> Self {
        Self::start_with(root, ServerOptions::default()).await
    }

    pub(super) async fn start_on(store: Store) -> Self {
        Self::serve(store, ServerOptions::default()).await
    }

    pub(super) async fn start_with(root: &Path, options: ServerOptions) -> Self {
        Self::serve(Store::open(root).unwrap(), options).await
    }

    async fn serve(store: Store, options: ServerOptions) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let store = Arc::new(store);
        let shutdown = CancellationToken::new();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(loopback, Arc::clone(&store), options, shutdown.clone());
        let server = server.await.unwrap();
        let address = server.local_addr();
        Self {
            base: format!("http://{address}"),
            address,
            client: Client::builder().no_proxy().build().unwrap(),
            store,
            shutdown,
            task: tokio::spawn(server.run()),
        }
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.client);
        self.task.await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&self.store), 1, "nothing holds on to the store");
    }

    pub(super) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            format!("{}/v2/{path}", self.base)
        };
        self.client.request(method, url)
    }

    pub(super) async fn send(&self, method: Method, path: &str) -> Response {
        self.ask(method, path).send().await.unwrap()
    }

    /// A new upload session's path.
    pub(super) async fn session(&self, repository: &str) -> String {
        let response = self.send(Method::POST, &format!("{repository}/blobs/uploads/")).await;
        assert_eq!(response.status(), 202);
        assert_eq!(header(&response, "range"), "0-0");
        header(&response, "location").to_owned()
    }

    /// The file of an upload session.
    pub(super) fn session_file(&self, session: &str) -> PathBuf {
        let path = session.strip_prefix("/v2/").unwrap().replace("blobs/uploads", "_uploads");
        self.store.root.join("repositories").join(path)
    }

    pub(super) async fn patch(&self, session: &str, range: Option<&str>, body: &[u8]) -> Response {
        let mut request = self.ask(Method::PATCH, session).body(body.to_vec());
        if let Some(range) = range {
            request = request.header("content-range", range);
        }
        request.send().await.unwrap()
    }

    pub(super) async fn finish(&self, session: &str, digest: &str, body: &[u8]) -> Response {
        self.ask(Method::PUT, &format!("{session}?digest={digest}")).body(body.to_vec()).send().await.unwrap()
    }

    /// Pushes a blob and gives its descriptor.
    pub(super) async fn blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        let session = self.session(repository).await;
        assert_eq!(self.finish(&session, &digest.to_string(), bytes).await.status(), 201);
        json!({ "mediaType": media_type::OCI_LAYER, "digest": digest, "size": bytes.len() })
    }

    pub(super) async fn manifest(&self, repository: &str, reference: &str, manifest: &Value) -> Response {
        let kind = manifest["mediaType"].as_str().unwrap_or(media_type::OCI_MANIFEST);
        self.ask(Method::PUT, &format!("{repository}/manifests/{reference}"))
            .header("content-type", kind)
            .body(manifest.to_string())
            .send()
            .await
            .unwrap()
    }

    /// Pushes a small image and gives its manifest.
    pub(super) async fn image(&self, repository: &str, reference: &str) -> Value {
        let image = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": self.blob(repository, b"{}").await,
            "layers": [self.blob(repository, reference.as_bytes()).await],
        });
        assert_eq!(self.manifest(repository, reference, &image).await.status(), 201);
        image
    }
}

pub(super) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

pub(super) async fn codes(response: Response) -> Vec<String> {
    let body: Value = response.json().await.unwrap();
    let errors = body["errors"].as_array().unwrap();
    errors.iter().map(|error| error["code"].as_str().unwrap().to_owned()).collect()
}

/// All files below a folder that have bytes in them, but for what marks it as a store.
pub(super) fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.metadata().unwrap().len() > 0 && entry.file_name() != "layercast-store" {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

pub(super) async fn with_registry() -> (TempDir, Registry) {
    let folder = TempDir::new().unwrap();
    let registry = Registry::start(folder.path()).await;
    (folder, registry)
}
