//! Asks the hosts of one upstream, each question once, and remembers the answers.

use crate::locks::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use secrecy::ExposeSecret as _;
use tokio::sync::OnceCell;
use url::Url;

use super::failover::{Failover, HostAnswer, Question, ServedContent, Settled};
use super::{AskedHost, CheckOptions, Role, UpstreamHosts, is_by_name};
use crate::oci::{Digest, Repository};
use crate::registry::{
    Access as Purpose, Ask, ClientOptions, Credential, FailureKind, PullQuery, Puller, RegistryError,
    Timeouts, credentials,
};
use crate::tls::{Authorities, ClientCertificate};

/// The hosts of one upstream, ready to be asked.
pub(super) struct Asker<'a> {
    pub(super) upstream: &'a UpstreamHosts,
    hosts: Vec<Line>,
    upstream_down: bool,
    answers: Mutex<Answers>,
}

/// Answers by host and question. A repeated question waits for the one that is under way.
type Answers = HashMap<(usize, String), Arc<OnceCell<HostAnswer>>>;

/// The line to one host.
struct Line {
    puller: Puller,
    namespace: Option<String>,
    has_credential: bool,
    /// Why no connection can be made. It is tried once: it would fail for every image in the same way, after a long time.
    down: OnceLock<String>,
}

impl<'a> Asker<'a> {
    /// Gets everything ready. Blocks: a credential helper may have to be asked.
    ///
    /// # Errors
    /// What stops containerd before it asks any host: a file that cannot be read, certificates that are none.
    pub(super) fn new(upstream: &'a UpstreamHosts, settings: &CheckOptions) -> Result<Self, String> {
        let line = |host: &AskedHost| -> Result<Line, String> {
            let credential = credential(host, settings)?;
            let has_credential = credential.is_some() || shows_credentials(host);
            let node = &host.node;
            let root = format!("{}://{}{}", node.scheme, node.authority, node.path);
            let root = Url::parse(&root).map_err(|error| format!("{root}: {error}"))?;
            let values = node.header.iter().flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
            let headers: Vec<_> = values.map(|(name, value)| (name.clone(), value.clone())).collect();
            let puller = Puller::new(&root, &headers, options(host, credential)?);
            Ok(Line {
                puller: puller.map_err(|error| error.to_string())?,
                namespace: (!is_by_name(node, &upstream.name)).then(|| upstream.name.clone()),
                has_credential,
                down: OnceLock::new(),
            })
        };
        Ok(Self {
            upstream,
            hosts: upstream.hosts.iter().map(line).collect::<Result<_, _>>()?,
            upstream_down: settings.upstream_down,
            answers: Mutex::default(),
        })
    }

    /// Puts a question about `reference` (a tag or a digest) to one host after the other, until it is settled.
    pub(super) async fn settle(
        &self,
        repository: &Repository,
        question: Question,
        reference: &str,
    ) -> Settled {
        let mut failover = Failover::new(question, &self.upstream.hosts);
        while let Some(host) = failover.next_host() {
            failover.take(self.answer(host, repository, question, reference).await);
        }
        failover.end()
    }

    /// The digest of what `by` has under a tag, by fetching it: for hosts whose HEAD tells too little.
    pub(super) async fn digest_of_tag(
        &self,
        by: usize,
        repository: &Repository,
        tag: &str,
    ) -> Result<Digest, String> {
        let line = &self.hosts[by];
        let namespace = line.namespace.as_deref();
        let found = line.puller.ask(&Ask { repository, wanted: PullQuery::Manifest(tag), namespace }).await;
        found.map(|found| Digest::of(&found.body)).map_err(|error| format!("{error}, which ends the pull"))
    }

    async fn answer(
        &self,
        host: usize,
        repository: &Repository,
        question: Question,
        reference: &str,
    ) -> HostAnswer {
        let kind = match question {
            Question::Tag | Question::Digest(_) => "head",
            Question::Manifest(_) => "manifest",
            Question::Blob(_) => "blob",
        };
        let key = (host, format!("{kind} {repository} {reference}"));
        let cell = {
            let mut answers = self.answers.lock();
            Arc::clone(answers.entry(key).or_default())
        };
        cell.get_or_init(|| self.ask(host, repository, question, reference)).await.clone()
    }

    /// Asks one host.
    async fn ask(
        &self,
        at: usize,
        repository: &Repository,
        question: Question,
        reference: &str,
    ) -> HostAnswer {
        let (host, line) = (&self.upstream.hosts[at], &self.hosts[at]);
        if self.upstream_down && host.role == Role::Upstream {
            return HostAnswer::Silence(match &self.upstream.uncovered {
                Some(why) => format!("{why}, and the upstream is taken to be down"),
                None => format!("{}: the upstream is taken to be down", host.node.authority),
            });
        }
        if let Some(why) = line.down.get() {
            return HostAnswer::Silence(why.clone());
        }
        let wanted = match question {
            Question::Tag | Question::Digest(_) => PullQuery::Head(reference),
            Question::Manifest(_) => PullQuery::Manifest(reference),
            Question::Blob(content) => PullQuery::Blob(content.digest),
        };
        let ask = Ask { repository, wanted, namespace: line.namespace.as_deref() };
        match line.puller.ask(&ask).await {
            Ok(found) => HostAnswer::Found(ServedContent {
                digest: found.digest,
                size: found.size,
                media_type: found.media_type,
                body: matches!(question, Question::Manifest(_)).then_some(found.body),
            }),
            Err(error) => line.refused(host, &error),
        }
    }
}

impl Line {
    fn refused(&self, host: &AskedHost, error: &RegistryError) -> HostAnswer {
        let mut why = error.to_string();
        if matches!(error.kind(), FailureKind::Auth | FailureKind::Denied) && !self.has_credential {
            why = format!("{why} (no pull credentials for {})", host.node.authority);
        }
        if let Some(status) = error.status() {
            return HostAnswer::Status(status, why);
        }
        if matches!(error.kind(), FailureKind::Unreachable | FailureKind::Tls) {
            why = format!("{}: {}", host.node.authority, without_call(&why));
            let _ = self.down.set(why.clone());
        }
        HostAnswer::Silence(why)
    }
}

/// An error that every request meets is reported without the request that met it first.
fn without_call(text: &str) -> &str {
    text.split_once(": no ").map_or(text, |(call, _)| text[call.len() + 2..].trim_start())
}

fn credential(host: &AskedHost, settings: &CheckOptions) -> Result<Option<Credential>, String> {
    let Some(path) = &host.pull_credentials else { return Ok(None) };
    if settings.upstream_down && host.role == Role::Upstream {
        return Ok(None);
    }
    let found = credentials::from_file(path, &host.node.authority).map_err(|error| error.to_string())?;
    found.troubles.iter().for_each(|trouble| tracing::warn!("{trouble}"));
    Ok(found.credential)
}

fn options(host: &AskedHost, credential: Option<Credential>) -> Result<ClientOptions, String> {
    let node = &host.node;
    let authorities = node.ca.iter().map(|path| Authorities::read(path));
    let authorities = authorities.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    // A file alone holds both.
    let pairs = node.client.iter().map(|(cert, key)| (cert, key.as_ref().unwrap_or(cert)));
    let clients = pairs.map(|(cert, key)| ClientCertificate::read(cert, key));
    Ok(ClientOptions {
        authorities,
        client_certificates: clients.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
        skip_verify: node.skip_verify,
        credential,
        access: Purpose::Pull,
        timeouts: Timeouts { connect: node.dial_timeout, ..Timeouts::default() },
        ..ClientOptions::default()
    })
}

/// Whether a header already says who the node is.
fn shows_credentials(host: &AskedHost) -> bool {
    host.node.header.iter().any(|(name, values)| {
        name.eq_ignore_ascii_case("authorization")
            && values.iter().any(|value| !value.expose_secret().is_empty())
    })
}
