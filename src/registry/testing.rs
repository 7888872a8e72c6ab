//! A registry that follows a script, for the tests of the client: what is promised about faults, tokens and secrets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response};
use bytes::Bytes;

use crate::locks::Mutex;
use crate::oci::{Digest, Repository};
use crate::registry::CredentialSource;
use crate::registry::{
    BlobBody, ClientOptions, Credential, Registry, RegistryError, RetryPolicy, Target, Timeouts,
};

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(super) struct SeenRequest {
    /// How many requests with this method and path came before.
    pub(super) nth: usize,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) is_whole: bool,
}

impl SeenRequest {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }
}

pub(super) type Log = Arc<Mutex<Vec<SeenRequest>>>;

/// An answer: status, headers, body. Status 0 hangs up without one.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    let mut response = Response::builder().status(status.max(200));
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let mut response = response.body(Body::from(body.to_owned())).unwrap();
    if status == 0 {
        response.extensions_mut().insert(HangUp);
    }
    response
}

#[derive(Clone)]
struct HangUp;

/// Starts a registry that answers as `script` says, and gives its `host:port` and what it saw.
pub(super) async fn registry<F>(script: F) -> (String, Log)
where
    F: Fn(&SeenRequest, &str) -> Response<Body> + Send + Sync + 'static,
{
    let (here, log, serving) = registry_at("127.0.0.1:0", script).await;
    drop(serving);
    (here, log)
}

/// The same at an address of the caller's choice. Once the task is aborted, connections are refused.
pub(super) async fn registry_at<F>(address: &str, script: F) -> (String, Log, tokio::task::JoinHandle<()>)
where
    F: Fn(&SeenRequest, &str) -> Response<Body> + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let (log, script, counts): (Log, _, _) =
        (Log::default(), Arc::new(script), Arc::new(Mutex::new(HashMap::new())));
    let (name, kept) = (here.clone(), Arc::clone(&log));
    let handle = move |request: Request| {
        let (log, script, counts, name) = (kept.clone(), script.clone(), Arc::clone(&counts), name.clone());
        async move {
            let (parts, body) = request.into_parts();
            let read = axum::body::to_bytes(body, 1 << 24).await;
            let (method, target) = (parts.method.to_string(), parts.uri.to_string());
            let path = format!("{method} {}", parts.uri.path());
            let nth = {
                let mut counts = counts.lock();
                let count: &mut usize = counts.entry(path).or_default();
                *count += 1;
                *count - 1
            };
            let is_whole = read.is_ok();
            let body = read.unwrap_or_default();
            let seen = SeenRequest { nth, method, target, headers: parts.headers, body, is_whole };
            log.lock().push(seen.clone());
            let answer = script(&seen, &name);
            if let Some(Late(after)) = answer.extensions().get() {
                tokio::time::sleep(*after).await;
            }
            if answer.extensions().get::<HangUp>().is_some() {
                // Ends the task of the connection without a word.
                std::panic::resume_unwind(Box::new(()));
            }
            answer
        }
    };
    let app = axum::Router::new().fallback(handle);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (here, log, serving)
}

pub(super) fn options() -> ClientOptions {
    // The first one wins, whichever test that is.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let retry = RetryPolicy {
        min_delay: Duration::from_millis(10),
        connect_patience: Duration::from_millis(100),
        ..RetryPolicy::default()
    };
    let (stall, early_refusal) = (Duration::from_millis(500), Duration::from_millis(10));
    let timeouts = Timeouts { stall, early_refusal, ..Timeouts::default() };
    ClientOptions { timeouts, retry, ..ClientOptions::default() }
}

pub(super) fn with_password() -> ClientOptions {
    let credential = Credential::password("user", "hunter2".into(), CredentialSource::fixed("a test"));
    ClientOptions { credential: Some(credential), ..options() }
}

pub(super) async fn connect(here: &str, options: ClientOptions) -> Result<Registry, RegistryError> {
    let target: Target = format!("http://{here}").parse().unwrap();
    Registry::connect(&target.endpoint, options).await
}

pub(super) fn repository() -> Repository {
    "team/app".parse().unwrap()
}

pub(super) fn blob(text: &'static str) -> (Digest, Arc<dyn BlobBody>) {
    (Digest::of(text.as_bytes()), Arc::new(Bytes::from_static(text.as_bytes())))
}

pub(super) fn lines(log: &Log) -> Vec<String> {
    let bare = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
    log.lock().iter().map(|seen| format!("{} {}", seen.method, bare(&seen.target))).collect()
}

pub(super) const UPLOADS: &str = "/v2/team/app/blobs/uploads/";

pub(super) fn authority() -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate, key)
}

/// What a server shows itself with.
pub(super) fn tls_server(
    certificate: &rcgen::Certificate,
    key: &rcgen::KeyPair,
) -> Arc<rustls::ServerConfig> {
    let secret = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_single_cert(vec![certificate.der().clone()], secret).unwrap())
}

pub(super) fn trusted(certificate: &rcgen::Certificate) -> crate::tls::Authorities {
    crate::tls::Authorities::parse("ca.crt", certificate.pem().as_bytes()).unwrap()
}

/// The same answer, so much later.
pub(super) fn late(after: Duration, mut response: Response<Body>) -> Response<Body> {
    response.extensions_mut().insert(Late(after));
    response
}

#[derive(Clone)]
struct Late(Duration);

/// A server of raw bytes: `serve` has each connection, on a thread of its own.
pub(super) fn raw_server(
    serve: impl Fn(std::net::TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(socket));
        }
    });
    here
}

/// The head of a request, read byte by byte so that nothing behind it is taken.
pub(super) fn request_head(socket: &mut std::net::TcpStream) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(head)
}

/// Records the retries and notes that the client reports.
#[derive(Debug, Default)]
pub(super) struct Told {
    retries: Mutex<Vec<(String, String, Duration)>>,
    warnings: Mutex<Vec<String>>,
}

impl Told {
    pub(super) fn retries(&self) -> Vec<(String, String, Duration)> {
        self.retries.lock().clone()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }
}

impl crate::registry::Observer for Told {
    fn retry(&self, what: &str, why: &str, _cause: &str, after: Duration) {
        self.retries.lock().push((what.to_owned(), why.to_owned(), after));
    }

    fn warning(&self, text: &str) {
        self.warnings.lock().push(text.to_owned());
    }
}
