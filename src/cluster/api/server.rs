//! The connection to a cluster's API server: a kubeconfig comes in, requests go out, and again if the server is in trouble.
//! All that it knows of Kubernetes is how to log in; the feature `kube` brings that.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::failure::ApiFailure;
use super::patience;
use super::request::{self, Request, Resource};
use super::status::{Answer, AnswerMeaning, ApiRefusal, FieldOwner, is_about_the_object, meaning};
use super::{How, MANAGER};
use crate::clock::{self, Instant};

#[cfg(feature = "kube")]
mod causes;
#[cfg(feature = "kube")]
mod connection;
#[cfg(not(feature = "kube"))]
#[path = "server/no_connection.rs"]
mod connection;
#[cfg(feature = "kube")]
mod kubeconfig;

/// A cluster's API server.
#[derive(Debug)]
pub(crate) struct ApiServer {
    client: connection::Client,
    /// Where objects go that name no namespace.
    pub(super) default_namespace: String,
}

/// Why there was no answer.
#[derive(Debug)]
struct Broken {
    failure: ApiFailure,
    /// Whether there may be one soon.
    may_pass: bool,
}

impl ApiServer {
    /// Makes ready to ask; nothing is sent yet.
    ///
    /// # Errors
    /// The file cannot be read, or names something that cannot be used.
    pub(crate) async fn new(kubeconfig: &Path) -> Result<Self, ApiFailure> {
        let (client, default_namespace) = connection::new(kubeconfig).await?;
        Ok(Self { client, default_namespace })
    }

    /// Sends a request; gives what was answered, or what the server had against it.
    pub(super) async fn ask(&self, request: Request) -> Result<Result<Value, ApiRefusal>, ApiFailure> {
        let what = request.what();
        let answer = self.persist(request, &what).await?;
        understand(&answer, what)
    }

    /// The same, once: for those who ask again by themselves.
    pub(super) async fn ask_once(&self, request: Request) -> Result<Result<Value, ApiRefusal>, ApiFailure> {
        let what = request.what();
        tracing::debug!("{what}");
        let answer = connection::send(&self.client, request).await.map_err(|broken| broken.failure)?;
        understand(&answer, what)
    }

    /// The same where only success will do.
    pub(super) async fn must(&self, request: Request, what: &str) -> Result<Value, ApiFailure> {
        self.ask(request).await?.map_err(|refusal| ApiFailure::of(refusal, what))
    }

    /// The same where the object may be missing.
    pub(super) async fn may(&self, request: Request, what: &str) -> Result<Option<Value>, ApiFailure> {
        match self.ask(request).await? {
            Ok(value) => Ok(Some(value)),
            Err(ApiRefusal::Missing(_)) => Ok(None),
            Err(refusal) => Err(ApiFailure::of(refusal, what)),
        }
    }

    /// The same for what there was at which time. The time is the server's: the clock here may be another one.
    pub(super) async fn must_dated(
        &self,
        request: Request,
        what: &str,
    ) -> Result<(Value, Timestamp), ApiFailure> {
        let asked = request.what();
        let answer = self.persist(request, &asked).await?;
        let value = understand(&answer, asked)?.map_err(|refusal| ApiFailure::of(refusal, what))?;
        Ok((value, answer.date.unwrap_or_else(clock::timestamp)))
    }

    /// Has the server try an object and keep nothing. With `force` fields of others are taken over, and the result names their owners.
    pub(super) async fn attempt(
        &self,
        path: &str,
        object: &Value,
        force: bool,
    ) -> Result<(Result<Value, ApiRefusal>, Vec<FieldOwner>), ApiFailure> {
        let attempt = |force| self.apply(path, object, How { force, dry_run: true });
        match attempt(false).await? {
            Err(ApiRefusal::Owned(owners)) if force => Ok((attempt(true).await?, owners)),
            tried => Ok((tried, Vec::new())),
        }
    }

    /// Applies an object. What this program wrote otherwise than by applying, as a list that it replaced, belongs to a
    /// manager of its name that the server tells from it; that is taken back without a question.
    pub(super) async fn apply(
        &self,
        path: &str,
        object: &Value,
        how: How,
    ) -> Result<Result<Value, ApiRefusal>, ApiFailure> {
        match self.ask(request::apply(path, object, how)).await? {
            Err(ApiRefusal::Owned(mut owners)) => {
                owners.retain(|owner| owner.manager != MANAGER);
                if owners.is_empty() {
                    return self.ask(request::apply(path, object, How { force: true, ..how })).await;
                }
                Ok(Err(ApiRefusal::Owned(owners)))
            }
            answer => Ok(answer),
        }
    }

    /// Where the objects of a kind are.
    pub(super) async fn resource(&self, api_version: &str, kind: &str) -> Result<Resource, ApiFailure> {
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
        Err(ApiFailure::NoKind { kind: kind.to_owned(), api_version: api_version.to_owned(), served })
    }

    /// Whether a namespace is there. Without the right to ask, the answer is yes: the next request will show more.
    pub(super) async fn has_namespace(&self, name: &str) -> Result<bool, ApiFailure> {
        let request = request::get(Resource::namespaces().object("", name));
        Ok(!matches!(self.ask(request).await?, Err(ApiRefusal::Missing(_))))
    }

    /// Sends a request, and again if the server is in trouble. Every request of this program may be sent twice: objects
    /// are read, applied, or replaced and deleted in the version that was seen.
    async fn persist(&self, request: Request, what: &str) -> Result<Answer, ApiFailure> {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            tracing::debug!("{what}");
            tries += 1;
            let sent = connection::send(&self.client, request.clone()).await;
            let trouble = match &sent {
                Ok(answer) if patience::may_pass(answer.code) && !is_about_the_object(answer) => {
                    Some((format!("HTTP {}", answer.code), answer.retry_after))
                }
                Err(broken) if broken.may_pass => Some((broken.failure.to_string(), None)),
                _ => None,
            };
            let pause = trouble.and_then(|(why, asked_for)| {
                Some((why, patience::pause(tries, began.elapsed(), asked_for)?))
            });
            let Some((why, pause)) = pause else { return sent.map_err(|broken| broken.failure) };
            tracing::warn!("{what}: {why}; asking again in {:.1} s", pause.as_secs_f64());
            tokio::time::sleep(pause).await;
        }
    }
}

/// What an answer means for those who asked.
fn understand(answer: &Answer, what: String) -> Result<Result<Value, ApiRefusal>, ApiFailure> {
    match meaning(answer) {
        AnswerMeaning::CarriedOut(value) => Ok(Ok(value)),
        AnswerMeaning::Refused(refusal) => Ok(Err(refusal)),
        AnswerMeaning::Away(why) => Err(ApiFailure::Unreachable(format!("{what}: {why}"))),
        AnswerMeaning::Strange(why) => Err(ApiFailure::Garbled(what, why)),
    }
}
