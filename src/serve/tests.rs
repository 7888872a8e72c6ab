//! The registry as a client sees it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::future::join_all;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Options, RouteKind, ServeError, Server, Store};
use crate::oci::{Algorithm, Digest, Hasher, media_type};

/// A registry on a free port, with a client of its own.
struct Registry {
    base: String,
    address: SocketAddr,
    client: Client,
    store: Arc<Store>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Registry {
    async fn start(root: &Path) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let store = Arc::new(Store::open(root).unwrap());
        let shutdown = CancellationToken::new();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(loopback, Arc::clone(&store), Options::default(), shutdown.clone());
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

    async fn stop(self) {
        self.shutdown.cancel();
        drop(self.client);
        self.task.await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&self.store), 1, "nothing holds on to the store");
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            format!("{}/v2/{path}", self.base)
        };
        self.client.request(method, url)
    }

    async fn send(&self, method: Method, path: &str) -> Response {
        self.ask(method, path).send().await.unwrap()
    }

    /// A new upload session's path.
    async fn session(&self, repository: &str) -> String {
        let response = self.send(Method::POST, &format!("{repository}/blobs/uploads/")).await;
        assert_eq!(response.status(), 202);
        assert_eq!(header(&response, "range"), "0-0");
        header(&response, "location").to_owned()
    }

    async fn patch(&self, session: &str, range: Option<&str>, body: &[u8]) -> Response {
        let mut request = self.ask(Method::PATCH, session).body(body.to_vec());
        if let Some(range) = range {
            request = request.header("content-range", range);
        }
        request.send().await.unwrap()
    }

    async fn finish(&self, session: &str, digest: &str, body: &[u8]) -> Response {
        self.ask(Method::PUT, &format!("{session}?digest={digest}")).body(body.to_vec()).send().await.unwrap()
    }

    /// Pushes a blob and gives its descriptor.
    async fn blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        let session = self.session(repository).await;
        assert_eq!(self.finish(&session, &digest.to_string(), bytes).await.status(), 201);
        json!({ "mediaType": media_type::OCI_LAYER, "digest": digest, "size": bytes.len() })
    }

    async fn manifest(&self, repository: &str, reference: &str, manifest: &Value) -> Response {
        let kind = manifest["mediaType"].as_str().unwrap_or(media_type::OCI_MANIFEST);
        self.ask(Method::PUT, &format!("{repository}/manifests/{reference}"))
            .header("content-type", kind)
            .body(manifest.to_string())
            .send()
            .await
            .unwrap()
    }

    /// Pushes a small image and gives its manifest.
    async fn image(&self, repository: &str, reference: &str) -> Value {
        let image = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": self.blob(repository, b"{}").await,
            "layers": [self.blob(repository, reference.as_bytes()).await],
        });
        assert_eq!(self.manifest(repository, reference, &image).await.status(), 201);
        image
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn codes(response: Response) -> Vec<String> {
    let body: Value = response.json().await.unwrap();
    let errors = body["errors"].as_array().unwrap();
    errors.iter().map(|error| error["code"].as_str().unwrap().to_owned()).collect()
}

/// All files below a folder that have bytes in them.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.metadata().unwrap().len() > 0 {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

async fn with_registry() -> (TempDir, Registry) {
    let folder = TempDir::new().unwrap();
    let registry = Registry::start(folder.path()).await;
    (folder, registry)
}

#[tokio::test]
async fn it_says_what_it_is() {
    let (_folder, registry) = with_registry().await;
    let response = registry.send(Method::GET, "/v2/").await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    let response = registry.send(Method::PUT, "/v2/").await;
    assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, "GET, HEAD"));
    assert_eq!(codes(response).await, ["UNSUPPORTED"]);
    assert_eq!(registry.store.stats().requests("PUT", RouteKind::Base), 1);
    assert_eq!(registry.store.stats().requests_in_all(), 2);
    registry.stop().await;
}

#[tokio::test]
async fn others_are_let_in_only_when_that_is_said() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let bind = |options| Server::bind(everywhere, Arc::clone(&store), options, CancellationToken::new());
    let error = bind(Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("--anonymous"), "{error}");
    assert!(matches!(error, ServeError::NotLoopback(_)), "{error}");
    bind(Options { anonymous: true }).await.unwrap();
}

#[tokio::test]
async fn one_process_at_a_time() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(matches!(Store::open(folder.path()), Err(ServeError::Locked(_))));
    drop(store);
    Store::open(folder.path()).unwrap();
}

#[tokio::test]
async fn a_blob_comes_in_every_way_there_is() {
    let (_folder, registry) = with_registry().await;
    let blob = Bytes::from((0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let digest = Digest::of(&blob).to_string();
    // At once.
    let path = format!("one/blobs/uploads/?digest={digest}");
    let response = registry.ask(Method::POST, &path).body(blob.clone()).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "docker-content-digest")), (201, &*digest));
    assert_eq!(header(&response, "location"), format!("/v2/one/blobs/{digest}"));
    // POST and PUT.
    let session = registry.session("two").await;
    assert_eq!(registry.finish(&session, &digest, &blob).await.status(), 201);
    // A stream without a length, then PUT.
    let session = registry.session("three").await;
    let chunks: Vec<_> = blob.chunks(70_000).map(|c| Ok::<_, std::io::Error>(blob.slice_ref(c))).collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let response = registry.ask(Method::PATCH, &session).body(stream).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-11999999"));
    assert_eq!(registry.finish(&session, &digest, b"").await.status(), 201);
    // Chunks, the last one in the PUT.
    let session = registry.session("four").await;
    let (first, last) = blob.split_at(5_000_000);
    let response = registry.patch(&session, Some("0-4999999"), first).await;
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-4999999"));
    assert_eq!(header(&response, "location"), session);
    assert_eq!(registry.finish(&session, &digest, last).await.status(), 201);
    for repository in ["one", "two", "three", "four"] {
        let response = registry.send(Method::GET, &format!("{repository}/blobs/{digest}")).await;
        assert_eq!(response.bytes().await.unwrap(), blob, "{repository}");
    }
    assert_eq!(registry.store.stats().blob_bytes_received(), 48_000_000);
    let gone = registry.send(Method::GET, &session).await;
    assert_eq!((gone.status().as_u16(), codes(gone).await), (404, vec!["BLOB_UPLOAD_UNKNOWN".to_owned()]));
    registry.stop().await;
}

#[tokio::test]
async fn a_blob_goes_out_whole_or_in_part() {
    let (_folder, registry) = with_registry().await;
    registry.blob("a/b", b"0123456789").await;
    registry.blob("a/b", b"").await;
    let path = format!("a/b/blobs/{}", Digest::of(b"0123456789"));
    let response = registry.send(Method::HEAD, &path).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "10"));
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-1", 206, "bytes 9-9/10", "9"),
        ("bytes=0-1,5-6", 200, "", "0123456789"),
    ] {
        let response = registry.ask(Method::GET, &path).header("range", range).send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "content-range")), (status, content_range));
        assert_eq!(response.text().await.unwrap(), body);
    }
    let response = registry.ask(Method::GET, &path).header("range", "bytes=10-").send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "content-range")), (416, "bytes */10"));
    let response = registry.send(Method::GET, &format!("a/b/blobs/{}", Digest::of(b""))).await;
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, ""));
    // Another repository has nothing of it, until it is deleted here nothing changes.
    assert_eq!(registry.send(Method::HEAD, &path.replace("a/b", "a/c")).await.status(), 404);
    assert_eq!(registry.send(Method::DELETE, &path).await.status(), 202);
    assert_eq!(codes(registry.send(Method::DELETE, &path).await).await, ["BLOB_UNKNOWN"]);
    registry.stop().await;
}

#[tokio::test]
async fn chunks_out_of_order_are_refused_and_lose_nothing() {
    let (_folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    assert_eq!(registry.patch(&session, Some("0-3"), b"0123").await.status(), 202);
    for range in ["0-3", "5-8", "3-6"] {
        let response = registry.patch(&session, Some(range), b"wxyz").await;
        assert_eq!((response.status().as_u16(), header(&response, "range")), (416, "0-3"));
        assert_eq!(header(&response, "location"), session);
        assert_eq!(codes(response).await, ["RANGE_INVALID"]);
    }
    let put = registry.ask(Method::PUT, &format!("{session}?digest={}", Digest::of(b"0123wxyz")));
    let put = put.header("content-range", "7-10").body("wxyz").send().await.unwrap();
    assert_eq!(put.status(), 416);
    for range in ["4-9", "bytes 4-7/8", "4"] {
        assert_eq!(registry.patch(&session, Some(range), b"wxyz").await.status(), 400, "{range}");
    }
    let status = registry.send(Method::GET, &session).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-3"));
    assert_eq!(registry.patch(&session, Some("4-7"), b"4567").await.status(), 202);
    let digest = Digest::of(b"01234567").to_string();
    assert_eq!(registry.finish(&session, &digest, b"").await.status(), 201);
    registry.stop().await;
}

#[tokio::test]
async fn a_session_can_be_cancelled() {
    let (folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    registry.patch(&session, None, b"0123").await;
    assert_eq!(registry.send(Method::DELETE, &session).await.status(), 204);
    assert_eq!(registry.send(Method::DELETE, &session).await.status(), 404);
    assert_eq!(registry.patch(&session, None, b"0123").await.status(), 404);
    assert_eq!(files(folder.path()), Vec::<String>::new());
    registry.stop().await;
}

#[tokio::test]
async fn half_a_blob_survives_a_restart() {
    let (folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    registry.patch(&session, Some("0-3"), b"0123").await;
    registry.stop().await;
    let registry = Registry::start(folder.path()).await;
    let status = registry.send(Method::GET, &session).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-3"));
    assert_eq!(registry.patch(&session, Some("4-7"), b"4567").await.status(), 202);
    let digest = Digest::of(b"01234567").to_string();
    assert_eq!(registry.finish(&session, &digest, b"").await.status(), 201);
    registry.stop().await;
    let registry = Registry::start(folder.path()).await;
    let blob = registry.send(Method::GET, &format!("a/blobs/{digest}")).await;
    assert_eq!(blob.text().await.unwrap(), "01234567");
    registry.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_can_go_on_where_it_was() {
    use tokio::io::AsyncWriteExt as _;
    let (_folder, registry) = with_registry().await;
    let session = registry.session("a").await;
    let mut raw = tokio::net::TcpStream::connect(registry.address).await.unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n0123");
    raw.write_all(head.as_bytes()).await.unwrap();
    drop(raw);
    // The other connection's end is seen when it is seen; the same request again waits for it.
    let mut range = String::new();
    for _ in 0..100 {
        let status = registry.send(Method::GET, &session).await;
        range = header(&status, "range").to_owned();
        if range == "0-3" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(range, "0-3");
    assert_eq!(registry.patch(&session, Some("4-7"), b"4567").await.status(), 202);
    let digest = Digest::of(b"01234567").to_string();
    assert_eq!(registry.finish(&session, &digest, b"").await.status(), 201);
    registry.stop().await;
}

#[tokio::test]
async fn what_is_damaged_is_not_kept() {
    let (folder, registry) = with_registry().await;
    let right = Digest::of(b"right").to_string();
    let single = registry.ask(Method::POST, &format!("a/blobs/uploads/?digest={right}")).body("wrong");
    assert_eq!(codes(single.send().await.unwrap()).await, ["DIGEST_INVALID"]);
    let session = registry.session("a").await;
    assert_eq!(registry.finish(&session, &right, b"wrong").await.status(), 400);
    assert_eq!(registry.send(Method::GET, &session).await.status(), 404);
    let session = registry.session("a").await;
    registry.patch(&session, None, b"wro").await;
    let response = registry.finish(&session, &right, b"ng").await;
    assert_eq!((response.status().as_u16(), codes(response).await), (400, vec!["DIGEST_INVALID".to_owned()]));
    assert_eq!(files(folder.path()), Vec::<String>::new());
    // What is no digest at all ends nothing.
    let session = registry.session("a").await;
    for digest in ["", "sha256:00", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        assert_eq!(registry.finish(&session, digest, b"").await.status(), 400);
    }
    assert_eq!(registry.send(Method::GET, &session).await.status(), 204);
    let manifest = registry.manifest("a", &right, &json!({})).await;
    assert_eq!(codes(manifest).await, ["DIGEST_INVALID"]);
    registry.stop().await;
}

#[tokio::test]
async fn sha512_is_as_good() {
    let (_folder, registry) = with_registry().await;
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"long");
    let digest = hasher.finish().to_string();
    for parameter in ["", "?digest-algorithm=sha512"] {
        let session = registry.send(Method::POST, &format!("a/blobs/uploads/{parameter}")).await;
        let session = header(&session, "location").to_owned();
        registry.patch(&session, None, b"lo").await;
        assert_eq!(registry.finish(&session, &digest, b"ng").await.status(), 201);
    }
    assert_eq!(registry.send(Method::HEAD, &format!("a/blobs/{digest}")).await.status(), 200);
    registry.stop().await;
}

#[tokio::test]
async fn the_same_blob_from_many_at_once() {
    let (_folder, registry) = with_registry().await;
    let blob = vec![7; 300_000];
    let digest = Digest::of(&blob).to_string();
    let push = async |n: usize| {
        let session = registry.session(&format!("r{}", n % 3)).await;
        registry.finish(&session, &digest, &blob).await.status().as_u16()
    };
    assert_eq!(join_all((0..12).map(push)).await, [201; 12]);
    let response = registry.send(Method::GET, &format!("r1/blobs/{digest}")).await;
    assert_eq!(response.bytes().await.unwrap(), blob);
    registry.stop().await;
}

#[tokio::test]
async fn a_mount_copies_nothing_and_a_declined_one_opens_a_session() {
    let (_folder, registry) = with_registry().await;
    registry.blob("from", b"blob").await;
    let digest = Digest::of(b"blob");
    let sent = registry.store.stats().blob_bytes_received();
    for (target, from) in [("to/one", "&from=from"), ("to/two", "")] {
        let path = format!("{target}/blobs/uploads/?mount={digest}{from}");
        assert_eq!(registry.send(Method::POST, &path).await.status(), 201);
        assert_eq!(registry.send(Method::HEAD, &format!("{target}/blobs/{digest}")).await.status(), 200);
    }
    assert_eq!(registry.store.stats().blob_bytes_received(), sent);
    for (digest, from) in [(digest, "elsewhere"), (digest, "../x"), (Digest::of(b"other"), "from")] {
        let path = format!("to/three/blobs/uploads/?mount={digest}&from={from}");
        let response = registry.send(Method::POST, &path).await;
        assert_eq!(response.status(), 202);
        assert_eq!(registry.send(Method::GET, header(&response, "location")).await.status(), 204);
    }
    registry.stop().await;
}

#[tokio::test]
async fn manifests_are_kept_byte_for_byte() {
    let (folder, registry) = with_registry().await;
    let image = registry.image("a/b", "v1").await;
    let text = format!("{image}  \n");
    let digest = Digest::of(text.as_bytes()).to_string();
    let put = registry.ask(Method::PUT, &format!("a/b/manifests/{digest}")).body(text.clone());
    let response = put.header("content-type", media_type::OCI_MANIFEST).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "docker-content-digest")), (201, &*digest));
    let put = registry.ask(Method::PUT, &format!("a/b/manifests/{digest}?tag=x&tag=y")).body(text.clone());
    let response = put.header("content-type", media_type::OCI_MANIFEST).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "oci-tag")), (201, "x, y"));
    let response = registry.send(Method::HEAD, "a/b/manifests/y").await;
    assert_eq!(header(&response, "docker-content-digest"), digest);
    let response = registry.send(Method::GET, &format!("a/b/manifests/{digest}")).await;
    assert_eq!(header(&response, "content-type"), media_type::OCI_MANIFEST);
    assert_eq!(response.text().await.unwrap(), text);
    let response = registry.send(Method::HEAD, "a/b/manifests/v1").await;
    assert_eq!(
        header(&response, "docker-content-digest"),
        Digest::of(image.to_string().as_bytes()).to_string()
    );
    assert_eq!(header(&response, "content-length"), image.to_string().len().to_string());
    assert_eq!(codes(registry.send(Method::GET, "a/b/manifests/v2").await).await, ["MANIFEST_UNKNOWN"]);
    registry.stop().await;
    // The next start clears up, but not what is in use.
    let registry = Registry::start(folder.path()).await;
    let response = registry.send(Method::GET, "a/b/manifests/v1").await;
    assert_eq!(response.text().await.unwrap(), image.to_string());
    for blob in [&image["config"], &image["layers"][0]] {
        let path = format!("a/b/blobs/{}", blob["digest"].as_str().unwrap());
        assert_eq!(registry.send(Method::HEAD, &path).await.status(), 200);
    }
    registry.stop().await;
}

#[tokio::test]
async fn manifests_need_what_they_name() {
    let (_folder, registry) = with_registry().await;
    let config = registry.blob("a", b"{}").await;
    let absent = |kind: &str, name: &str| json!({ "mediaType": kind, "digest": Digest::of(name.as_bytes()), "size": 1 });
    let foreign = absent("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "foreign");
    let broken = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config,
        "layers": [absent("x/y", "one"), foreign, absent("x/y", "two")],
    });
    let response = registry.manifest("a", "v1", &broken).await;
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    let errors = body["errors"].as_array().unwrap();
    let told: Vec<_> =
        errors.iter().map(|error| (error["code"].as_str(), error["detail"].as_str())).collect();
    let code = Some("MANIFEST_BLOB_UNKNOWN");
    let digests = ["one", "two"].map(|name| Digest::of(name.as_bytes()).to_string());
    assert_eq!(told, [(code, Some(&*digests[0])), (code, Some(&*digests[1]))]);
    assert_eq!(registry.send(Method::HEAD, "a/manifests/v1").await.status(), 404);
    // Foreign layers alone are no obstacle, and neither is a subject that has not come yet.
    let whole = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [foreign],
        "subject": absent(media_type::OCI_MANIFEST, "later"),
    });
    let response = registry.manifest("a", "v1", &whole).await;
    let later = Digest::of(b"later").to_string();
    assert_eq!((response.status().as_u16(), header(&response, "oci-subject")), (201, &*later));
    // An index needs its manifests, in its own repository.
    let child = json!({
        "mediaType": media_type::OCI_MANIFEST, "digest": Digest::of(whole.to_string().as_bytes()), "size": 1,
    });
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [child] });
    assert_eq!(codes(registry.manifest("b", "v1", &index).await).await, ["MANIFEST_BLOB_UNKNOWN"]);
    assert_eq!(registry.manifest("a", "all", &index).await.status(), 201);
    registry.stop().await;
}

#[tokio::test]
async fn what_is_no_manifest() {
    let (_folder, registry) = with_registry().await;
    let put = |kind: &'static str, body: String| {
        let request = registry.ask(Method::PUT, "a/manifests/v1").header("content-type", kind).body(body);
        async { request.send().await.unwrap() }
    };
    let empty =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] }).to_string();
    for (kind, body) in [
        (media_type::OCI_MANIFEST, "{".to_owned()),
        (media_type::OCI_MANIFEST, "{}".to_owned()),
        (media_type::OCI_MANIFEST, empty.clone()),
        (media_type::DOCKER_SCHEMA1[0], r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned()),
    ] {
        let response = put(kind, body).await;
        assert_eq!(
            (response.status().as_u16(), codes(response).await[0].as_str()),
            (400, "MANIFEST_INVALID")
        );
    }
    let padded = |len: usize| format!("{empty}{}", " ".repeat(len - empty.len()));
    assert_eq!(put(media_type::OCI_INDEX, padded(4 << 20)).await.status(), 201);
    assert_eq!(put(media_type::OCI_INDEX, padded((4 << 20) + 1)).await.status(), 413);
    registry.stop().await;
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let (_folder, registry) = with_registry().await;
    assert_eq!(codes(registry.send(Method::GET, "a/tags/list").await).await, ["NAME_UNKNOWN"]);
    for tag in ["c", "a", "B"] {
        registry.image("a", tag).await;
    }
    let (mut path, mut pages) = ("a/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let response = registry.send(Method::GET, &path).await;
        let link = header(&response, "link").to_owned();
        let body: Value = response.json().await.unwrap();
        pages.push(body["tags"].clone());
        let Some(next) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else { break };
        assert_eq!(next.1, "; rel=\"next\"");
        path = next.0.to_owned();
    }
    assert_eq!(pages, [json!(["a", "B"]), json!(["c"])]);
    assert_eq!(registry.send(Method::GET, "a/tags/list?n=x").await.status(), 400);
    registry.stop().await;
}

#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_along() {
    let (_folder, registry) = with_registry().await;
    let image = registry.image("a", "v1").await;
    registry.manifest("a", "v2", &image).await;
    registry.image("a", "other").await;
    assert_eq!(registry.send(Method::DELETE, "a/manifests/v2").await.status(), 202);
    assert_eq!(registry.send(Method::GET, "a/manifests/v2").await.status(), 404);
    let path = format!("a/manifests/{}", Digest::of(image.to_string().as_bytes()));
    assert_eq!(registry.send(Method::GET, &path).await.status(), 200);
    assert_eq!(registry.send(Method::DELETE, &path).await.status(), 202);
    assert_eq!(codes(registry.send(Method::DELETE, &path).await).await, ["MANIFEST_UNKNOWN"]);
    let tags: Value = registry.send(Method::GET, "a/tags/list").await.json().await.unwrap();
    assert_eq!(tags["tags"], json!(["other"]));
    registry.stop().await;
}

#[tokio::test]
async fn what_nobody_links_to_goes_at_the_next_start() {
    let (folder, registry) = with_registry().await;
    registry.blob("a", b"kept").await;
    registry.blob("a", b"deleted").await;
    let path = |bytes: &[u8]| registry.store.content_path(&Digest::of(bytes));
    let (kept, deleted) = (path(b"kept"), path(b"deleted"));
    registry.send(Method::DELETE, &format!("a/blobs/{}", Digest::of(b"deleted"))).await;
    registry.stop().await;
    let left_over = folder.path().join("tmp/left-over");
    std::fs::write(&left_over, b"x").unwrap();
    Store::open(folder.path()).unwrap();
    assert_eq!((kept.exists(), deleted.exists(), left_over.exists()), (true, false, false));
}

#[tokio::test]
async fn content_that_was_cut_short_is_absent_until_it_comes_again() {
    let (_folder, registry) = with_registry().await;
    registry.blob("a", b"0123456789").await;
    let digest = Digest::of(b"0123456789");
    let content = registry.store.content_path(&digest);
    std::fs::remove_file(&content).unwrap();
    std::fs::write(&content, b"0123").unwrap();
    assert_eq!(registry.send(Method::HEAD, &format!("a/blobs/{digest}")).await.status(), 404);
    registry.blob("a", b"0123456789").await;
    let response = registry.send(Method::GET, &format!("a/blobs/{digest}")).await;
    assert_eq!(response.text().await.unwrap(), "0123456789");
    registry.stop().await;
}

#[tokio::test]
async fn referrers_are_found_by_their_subject() {
    let (_folder, registry) = with_registry().await;
    let image = registry.image("a", "v1").await;
    let subject = Digest::of(image.to_string().as_bytes());
    let path = format!("a/referrers/{subject}");
    let list = async |path: &str| {
        let response = registry.send(Method::GET, path).await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "content-type")),
            (200, media_type::OCI_INDEX)
        );
        let filtered = header(&response, "oci-filters-applied").to_owned();
        let index: Value = response.json().await.unwrap();
        (filtered, index["manifests"].as_array().unwrap().clone())
    };
    assert_eq!(list(&path).await, (String::new(), vec![]));
    let config = registry.blob("a", b"{}").await;
    let about =
        json!({ "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": image.to_string().len() });
    let mut signature = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "x/signature+json",
        "config": config, "layers": [], "subject": about, "annotations": { "k": "v" },
    });
    registry.manifest("a", "s1", &signature).await;
    signature.as_object_mut().unwrap().remove("artifactType");
    let response = registry.manifest("a", "s2", &signature).await;
    let second = header(&response, "docker-content-digest").to_owned();
    assert_eq!(list(&path).await.1.len(), 2);
    let (filtered, found) = list(&format!("{path}?artifactType=x/signature%2Bjson")).await;
    assert_eq!((filtered.as_str(), found.len()), ("artifactType", 1));
    assert_eq!(found[0]["annotations"], json!({ "k": "v" }));
    // Without a type of its own it is found by its configuration's.
    let (_, found) = list(&format!("{path}?artifactType={}", media_type::OCI_LAYER)).await;
    assert_eq!(found[0]["digest"], *second);
    registry.send(Method::DELETE, &format!("a/manifests/{second}")).await;
    assert_eq!(list(&path).await.1.len(), 1);
    registry.stop().await;
}
