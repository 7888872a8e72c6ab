//! The connection to a cluster's API server: a kubeconfig comes in, requests go out. All that it knows of Kubernetes is how
//! to log in; the feature `kube` brings that.

use std::path::Path;

use serde_json::Value;

use super::failure::Failure;
use super::request::{self, Request, Resource};
use super::status::{Refusal, refusal};

/// A cluster's API server.
#[derive(Debug)]
pub struct Server {
    client: client::Client,
    /// Where objects go that name no namespace.
    pub(super) default_namespace: String,
}

impl Server {
    /// Makes ready to ask; nothing is sent yet.
    ///
    /// # Errors
    /// The file cannot be read, or names something that cannot be used.
    pub async fn new(kubeconfig: &Path) -> Result<Self, Failure> {
        let (client, default_namespace) = client::new(kubeconfig).await?;
        Ok(Self { client, default_namespace })
    }

    /// Sends a request; gives what was answered, or what the server had against it.
    pub(super) async fn ask(&self, request: Request) -> Result<Result<Value, Refusal>, Failure> {
        let what = format!("{} {}", request.method, request.path.split('?').next().unwrap_or_default());
        tracing::debug!("{what}");
        let (code, body) = client::send(&self.client, request).await?;
        if !(200..300).contains(&code) {
            return Ok(Err(refusal(code, &body)));
        }
        let garbled = |error: serde_json::Error| {
            // The message of the parser may quote what it read.
            Failure::Garbled(what, format!("line {} column {}", error.line(), error.column()))
        };
        serde_json::from_slice(&body).map(Ok).map_err(garbled)
    }

    /// The same where only success will do.
    pub(super) async fn must(&self, request: Request, what: &str) -> Result<Value, Failure> {
        self.ask(request).await?.map_err(|refusal| Failure::of(refusal, what))
    }

    /// The same where the object may be missing.
    pub(super) async fn may(&self, request: Request, what: &str) -> Result<Option<Value>, Failure> {
        match self.ask(request).await? {
            Ok(value) => Ok(Some(value)),
            Err(Refusal::Missing(_)) => Ok(None),
            Err(refusal) => Err(Failure::of(refusal, what)),
        }
    }

    /// Where the objects of a kind are.
    pub(super) async fn resource(&self, api_version: &str, kind: &str) -> Result<Resource, Failure> {
        let list = self.may(request::get(request::root(api_version)), api_version).await?;
        if let Some(found) = list.as_ref().and_then(|list| Resource::find(list, api_version, kind)) {
            return Ok(found);
        }
        let mut served = Vec::new();
        if let Some((group, _)) = api_version.split_once('/').filter(|_| list.is_none()) {
            let answer = self.may(request::get(request::group(group)), group).await?;
            let versions = answer.as_ref().and_then(|answer| answer["versions"].as_array());
            let names = versions.into_iter().flatten().filter_map(|version| version["groupVersion"].as_str());
            served.extend(names.map(crate::error::printable));
        }
        Err(Failure::NoKind { kind: kind.to_owned(), api_version: api_version.to_owned(), served })
    }

    /// Whether a namespace is there. Who may not ask is told that it is: the next answer will say more.
    pub(super) async fn has_namespace(&self, name: &str) -> Result<bool, Failure> {
        let request = request::get(Resource::namespaces().object("", name));
        Ok(!matches!(self.ask(request).await?, Err(Refusal::Missing(_))))
    }
}

#[cfg(feature = "kube")]
mod client {
    use std::path::Path;
    use std::time::Duration;

    use http_body_util::{BodyExt as _, Limited};
    use hyper_util::client::proxy::matcher::Matcher;
    use kube::client::Body;
    use kube::config::{KubeConfigOptions, Kubeconfig};

    use super::{Failure, Request};

    /// The largest answers are lists of clusters and secrets without their contents.
    const MAX_ANSWER_BYTES: usize = 32 << 20;
    const ANSWER_WITHIN: Duration = Duration::from_secs(60);

    pub(super) struct Client(kube::Client);

    impl std::fmt::Debug for Client {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Client")
        }
    }

    pub(super) async fn new(path: &Path) -> Result<(Client, String), Failure> {
        let failed = |error: &dyn std::error::Error| {
            Failure::Kubeconfig(format!("{}: {}", path.display(), chain(error)))
        };
        let file = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
        let names_proxy = names_proxy(&file);
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|error| failed(&error))?;
        config.connect_timeout = Some(Duration::from_secs(20));
        config.read_timeout = Some(ANSWER_WITHIN);
        // Of a proxy of the environment, kube 5.0 asks NO_PROXY about the proxy's own address and not the server's.
        if !names_proxy && Matcher::from_env().intercept(&config.cluster_url).is_none() {
            config.proxy_url = None;
        }
        let namespace = config.default_namespace.clone();
        let client = kube::Client::try_from(config).map_err(|error| failed(&error))?;
        Ok((Client(client), namespace))
    }

    /// Whether the current context's cluster has a proxy of its own, which the environment does not overrule.
    fn names_proxy(file: &Kubeconfig) -> bool {
        let context = file.contexts.iter().find(|known| Some(&known.name) == file.current_context.as_ref());
        let name = context.and_then(|named| named.context.as_ref()).map(|context| context.cluster.as_str());
        let cluster = file.clusters.iter().find(|known| Some(known.name.as_str()) == name);
        let proxy = cluster.and_then(|named| named.cluster.as_ref()?.proxy_url.as_deref());
        proxy.is_some_and(|proxy| !proxy.is_empty())
    }

    pub(super) async fn send(client: &Client, request: Request) -> Result<(u16, Vec<u8>), Failure> {
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header(http::header::ACCEPT, request.accept);
        let mut body = Vec::new();
        if let Some((kind, bytes)) = request.body {
            builder = builder.header(http::header::CONTENT_TYPE, kind);
            body = bytes;
        }
        let unreachable = |error: &dyn std::error::Error| Failure::Unreachable(chain(error));
        let request = builder.body(Body::from(body)).map_err(|error| unreachable(&error))?;
        let answer = client.0.send(request).await.map_err(|error| match &error {
            // The program or file that the kubeconfig names to log in with.
            kube::Error::Auth(_) => Failure::Kubeconfig(chain(&error)),
            _ => unreachable(&error),
        })?;
        let code = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect();
        let body = tokio::time::timeout(ANSWER_WITHIN, body).await;
        let body = body.map_err(|error| unreachable(&error))?.map_err(|error| unreachable(&*error))?;
        Ok((code, body.to_bytes().to_vec()))
    }

    /// An error with all its causes: the last of them is the one that helps.
    fn chain(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            next = cause.source();
        }
        text
    }
}

#[cfg(not(feature = "kube"))]
mod client {
    use std::path::Path;

    use super::{Failure, Request};

    /// There is none.
    #[derive(Debug)]
    pub(super) enum Client {}

    #[expect(clippy::unused_async, reason = "as the other one")]
    pub(super) async fn new(_: &Path) -> Result<(Client, String), Failure> {
        Err(Failure::NotBuilt)
    }

    #[expect(clippy::unused_async, reason = "as the other one")]
    pub(super) async fn send(client: &Client, _: Request) -> Result<(u16, Vec<u8>), Failure> {
        match *client {}
    }
}
