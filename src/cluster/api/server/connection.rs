//! Bytes to and from an API server, with `kube`.

use std::path::Path;
use std::time::Duration;

use http::header;
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use kube::client::Body;

use super::causes::causes;
use super::kubeconfig::{self, chain};
use super::{Answer, ApiFailure, Broken, Request};

/// The largest answers are lists of clusters and secrets without their contents.
const MAX_ANSWER_BYTES: usize = 32 << 20;
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("layercast/", env!("CARGO_PKG_VERSION"));

pub(super) struct Client {
    inner: kube::Client,
    /// The kubeconfig, and the program in it that is run to log in.
    login: kubeconfig::Login,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

pub(super) async fn new(path: &Path) -> Result<(Client, String), ApiFailure> {
    let (mut config, login) = kubeconfig::read(path).await?;
    config.connect_timeout = Some(CONNECTED_WITHIN);
    config.read_timeout = Some(ANSWER_WITHIN);
    // It would wait as long as the server asks for, and say nothing.
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    let inner = kube::Client::try_from(config).map_err(|error| login.failure(&error))?;
    Ok((Client { inner, login }, namespace))
}

pub(super) async fn send(client: &Client, request: Request) -> Result<Answer, Broken> {
    let mut builder = http::Request::builder()
        .method(request.method)
        .uri(request.path)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, request.accept);
    let mut body = Vec::new();
    if let Some((kind, bytes)) = request.body {
        builder = builder.header(header::CONTENT_TYPE, kind);
        body = bytes;
    }
    let request = builder.body(Body::from(body)).map_err(|error| broken(&error))?;
    let answer = client.inner.send(request).await.map_err(|error| match kubeconfig::auth(&error) {
        // The program or file that the kubeconfig names to log in with.
        Some(_) => Broken { failure: client.login.failure(&error), may_pass: false },
        None => broken(&error),
    })?;
    let (parts, body) = answer.into_parts();
    let body = tokio::time::timeout(ANSWER_WITHIN, Limited::new(body, MAX_ANSWER_BYTES).collect()).await;
    let body = body.map_err(|error| broken(&error))?.map_err(|error| broken(&*error))?;
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    Ok(Answer {
        code: parts.status.as_u16(),
        location: text(header::LOCATION).map(str::to_owned),
        // API servers give seconds.
        retry_after: text(header::RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs),
        date: text(header::DATE).and_then(date),
        body: body.to_bytes().to_vec(),
    })
}

fn date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Broken {
    let is_lasting =
        causes(error).filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(is_about_certificates);
    Broken { failure: ApiFailure::Unreachable(chain(error)), may_pass: !is_lasting }
}

/// Whether a secure connection failed by what was sent, as by a certificate that does not fit: the next one would fail too.
/// What an error of I/O was made of is not among its causes.
fn is_about_certificates(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
        || error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<std::io::Error>())
            .is_some_and(is_about_certificates)
}
