//! The order in which containerd asks, and what makes it go on to the next host. Pure: answers go in one by one.
//!
//! The rules are those of `core/remotes/docker/resolver.go` and `fetcher.go`, the same in 1.6, 1.7 and 2.x:
//!
//! | question | goes to | next host after | the pull ends after |
//! |---|---|---|---|
//! | what does this tag stand for? | hosts with `pull` and `resolve` | no answer, any status ≥ 400, a manifest above 4 MiB | a 3xx that leads nowhere, a digest that is none |
//! | is this digest a manifest? | hosts with `pull` | the same | the same |
//! | give me this manifest or blob | all hosts, whatever they can | no answer, any status ≥ 300 | content that is not what its digest says |
//!
//! Before 1.5.5 a 401, 403 or 5xx ended the pull as well; 1.5 has no `override_path` and is not looked at here.

use bytes::Bytes;

use super::AskedHost;
use crate::node::hosts::Capability;
use crate::oci::{Digest, media_type};
use crate::registry::MAX_PULLED_MANIFEST_BYTES;

/// What is asked of one host after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// What a tag stands for.
    Tag,
    /// Whether a digest is a manifest, before it is fetched.
    Digest(Digest),
    /// A manifest, whole.
    Manifest(ContentAddress),
    /// A configuration or a layer.
    Blob(ContentAddress),
}

/// Content as something that points at it describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentAddress {
    pub(super) digest: Digest,
    /// Unknown for the root, where the host did not say it.
    pub(super) size: Option<u64>,
}

/// What one host answered.
#[derive(Debug, Clone)]
pub(super) enum HostAnswer {
    /// 2xx.
    Found(ServedContent),
    /// Another status, after credentials were shown.
    Status(u16, String),
    /// No answer: no connection, no trust, no credentials that it takes.
    Silence(String),
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServedContent {
    /// The digest it says it has, unread.
    pub(super) digest: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) media_type: String,
    /// The manifest, where one was asked for whole.
    pub(super) body: Option<Bytes>,
}

/// Why a host did not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Miss {
    /// Its place among the hosts.
    pub(super) host: usize,
    pub(super) why: String,
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settled {
    /// A host served it, after those before it did not.
    Served { by: usize, found: ServedContent, misses: Vec<Miss> },
    /// Nobody did; the last miss is what ended it.
    Ended { misses: Vec<Miss> },
}

/// A question on its way from host to host.
#[derive(Debug)]
pub(super) struct Failover {
    question: Question,
    waiting: std::vec::IntoIter<usize>,
    asked: Option<usize>,
    misses: Vec<Miss>,
    served: Option<(usize, ServedContent)>,
}

/// What an answer means for the pull.
enum Step {
    Take(ServedContent),
    Next(String),
    End(String),
}

impl Question {
    /// Whether a host is asked at all. The fetcher asks every host, also those without `pull`.
    fn goes_to(self, host: &AskedHost) -> bool {
        match self {
            Self::Tag => host.node.may(Capability::Pull) && host.node.may(Capability::Resolve),
            Self::Digest(_) => host.node.may(Capability::Pull),
            Self::Manifest(_) | Self::Blob(_) => true,
        }
    }
}

impl Failover {
    pub(super) fn new(question: Question, hosts: &[AskedHost]) -> Self {
        // Somebody must be able to pull, or the fetcher does not begin.
        let is_possible = hosts.iter().any(|host| host.node.may(Capability::Pull));
        let waiting: Vec<usize> =
            (0..hosts.len()).filter(|&at| is_possible && question.goes_to(&hosts[at])).collect();
        Self { question, waiting: waiting.into_iter(), asked: None, misses: Vec::new(), served: None }
    }

    /// Who is to be asked now; `None` once the question is settled.
    pub(super) fn next_host(&mut self) -> Option<usize> {
        self.asked = self.waiting.next();
        self.asked
    }

    /// Takes in the answer of the host that was to be asked.
    pub(super) fn take(&mut self, answer: HostAnswer) {
        let Some(host) = self.asked.take() else { return };
        match judge(self.question, answer) {
            Step::Take(found) => self.served = Some((host, found)),
            Step::Next(why) => {
                self.misses.push(Miss { host, why });
                return;
            }
            Step::End(why) => self.misses.push(Miss { host, why }),
        }
        self.waiting = Vec::new().into_iter();
    }

    pub(super) fn end(self) -> Settled {
        match self.served {
            Some((by, found)) => Settled::Served { by, found, misses: self.misses },
            None => Settled::Ended { misses: self.misses },
        }
    }
}

fn judge(question: Question, answer: HostAnswer) -> Step {
    let found = match answer {
        HostAnswer::Found(found) => found,
        HostAnswer::Status(300..=399, why) if matches!(question, Question::Tag | Question::Digest(_)) => {
            return Step::End(format!("{why}, which ends the pull"));
        }
        HostAnswer::Status(_, why) | HostAnswer::Silence(why) => return Step::Next(why),
    };
    match question {
        Question::Tag | Question::Digest(_) => {
            if found.size.is_some_and(|size| size > MAX_PULLED_MANIFEST_BYTES) {
                return Step::Next("the manifest is larger than containerd takes".to_owned());
            }
            match (question, found.digest.as_deref()) {
                (Question::Tag, Some(digest)) if digest.parse::<Digest>().is_err() => {
                    Step::End(format!("{digest:?} is given as the digest, which ends the pull"))
                }
                _ => Step::Take(found),
            }
        }
        Question::Manifest(wanted) => match &found.body {
            Some(body) if !wanted.digest.matches(body) => Step::End(format!(
                "other bytes than {} come back for it, which ends the pull: no other host is asked",
                wanted.digest
            )),
            Some(body) if wanted.size.is_some_and(|size| size != body.len() as u64) => Step::End(format!(
                "{} comes back with another length than was said before, which ends the pull",
                wanted.digest
            )),
            _ => Step::Take(found),
        },
        Question::Blob(wanted) => match (wanted.size, found.size) {
            (Some(wanted), Some(size)) if wanted != size => Step::End(format!(
                "{size} bytes come back instead of {wanted}, which ends the pull: no other host is asked"
            )),
            _ => Step::Take(found),
        },
    }
}

/// Whether content of this type is fetched as a manifest; anything else is fetched as a blob.
pub(super) fn is_manifest(media_type: &str) -> bool {
    media_type::is_manifest(media_type)
}
