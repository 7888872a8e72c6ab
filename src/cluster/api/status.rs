//! What an API server means by its answers: JSON objects, and where it did not do what was asked the `Status` object
//! ([API conventions](https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#response-status-kind)).
//! What else may answer at its address (a proxy, a portal, another web server) is recognised. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::error::printable;

/// What came back.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// Where it sends on to.
    pub(super) location: Option<String>,
    /// How long it asks to wait.
    pub(super) retry_after: Option<Duration>,
    /// What time it is there.
    pub(super) date: Option<Timestamp>,
    pub(super) body: Vec<u8>,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AnswerMeaning {
    /// It is done, and this is what there is now.
    CarriedOut(Value),
    /// The server did not do it.
    Refused(ApiRefusal),
    /// What stands before the server says that it is away, or the server itself does.
    Away(String),
    /// No API server answers like that.
    Strange(String),
}

/// A field that somebody else has set, and wants to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldOwner {
    /// The other field manager, as the server names it.
    pub manager: String,
    /// The field, as `.spec.nodeConfig.registryMirrors`.
    pub field: String,
}

/// Why a server did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiRefusal {
    /// 404. Of what, the question says.
    Missing(String),
    /// 409 of an apply: other managers own fields.
    Owned(Vec<FieldOwner>),
    /// 409 besides: it is not the object that was read any more.
    Changed(String),
    /// 401: who asks is not known.
    Unauthorized(String),
    /// 403: who asks may not.
    Forbidden(String),
    /// Anything else, a 403 of an admission webhook or a quota among it.
    Other(u16, String),
}

/// What an answer means.
pub(super) fn meaning(answer: &Answer) -> AnswerMeaning {
    let (code, body) = (answer.code, answer.body.as_slice());
    let json = serde_json::from_slice::<Value>(body);
    let is_page = body.trim_ascii_start().starts_with(b"<");
    if (200..300).contains(&code) {
        return match json {
            Ok(value @ Value::Object(_)) => AnswerMeaning::CarriedOut(value),
            Ok(_) => AnswerMeaning::Strange("it is JSON, but no object".to_owned()),
            Err(_) if is_page => AnswerMeaning::Strange("it is an HTML page".to_owned()),
            // The message of the parser may quote what it read.
            Err(error) => AnswerMeaning::Strange(format!(
                "it is no JSON from line {} column {} on",
                error.line(),
                error.column()
            )),
        };
    }
    let status = json.unwrap_or_default();
    let said = status["message"].as_str().map(words);
    let message = said.clone().unwrap_or_else(|| format!("HTTP {code}"));
    match code {
        300..=399 => {
            // Behind the question mark of a login page there may be more than everybody should read.
            let target = answer.location.as_deref().and_then(|url| url.split('?').next()).map(words);
            let target = target.map(|target| format!(" to {target}")).unwrap_or_default();
            AnswerMeaning::Strange(format!("it sends on{target} with HTTP {code}"))
        }
        407 => AnswerMeaning::Strange("a proxy asks for credentials with HTTP 407".to_owned()),
        401 => AnswerMeaning::Refused(ApiRefusal::Unauthorized(message)),
        502..=504 => AnswerMeaning::Away(
            said.map_or_else(|| format!("HTTP {code}"), |said| format!("HTTP {code}: {said}")),
        ),
        _ if is_page => AnswerMeaning::Strange(format!("it is an HTML page with HTTP {code}")),
        // A path that is not there at all is answered in plain text.
        403 | 404 if status.is_object() && status["kind"] != "Status" => {
            AnswerMeaning::Strange(format!("HTTP {code} comes without a Status"))
        }
        403 if is_about_rights(&message) => AnswerMeaning::Refused(ApiRefusal::Forbidden(message)),
        404 => AnswerMeaning::Refused(ApiRefusal::Missing(message)),
        409 => AnswerMeaning::Refused(conflict(&status, message)),
        // Such as Go's server gives who speaks HTTP to its TLS port.
        400..=428 if !status.is_object() => {
            let text = words(&String::from_utf8_lossy(&body[..body.len().min(200)]));
            AnswerMeaning::Strange(format!("HTTP {code}: {}", text.trim()))
        }
        _ => AnswerMeaning::Refused(ApiRefusal::Other(code, message)),
    }
}

/// How servers begin when an applied object has a field that its kind does not know. They say it with 500.
pub(super) const UNTYPED: &str = "failed to create typed patch object";

/// Whether a 500 is about the object that was sent, so that the same one will not pass later either.
pub(super) fn is_about_the_object(answer: &Answer) -> bool {
    let status = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    status["message"].as_str().is_some_and(|message| message.starts_with(UNTYPED))
}

/// What a server says, fit to be shown.
fn words(text: &str) -> String {
    printable(text).chars().take(600).collect()
}

/// Whether a 403 comes from the authorizer, which names who asks; admission (webhooks, quotas) refuses with 403 too, and
/// other credentials would not help there. As `secrets is forbidden: User "a" cannot list resource "secrets" in API group …`
/// ([responsewriters/errors.go](https://github.com/kubernetes/apiserver/blob/master/pkg/endpoints/handlers/responsewriters/errors.go)).
fn is_about_rights(message: &str) -> bool {
    let named = message.split_once("forbidden: User \"");
    named.is_some_and(|(_, rest)| rest.contains("\" cannot "))
}

fn conflict(status: &Value, message: String) -> ApiRefusal {
    let causes = status["details"]["causes"].as_array().map_or(&[][..], Vec::as_slice);
    let owners: Vec<FieldOwner> = causes
        .iter()
        .filter(|cause| cause["reason"] == "FieldManagerConflict")
        .map(|cause| FieldOwner {
            manager: manager(cause["message"].as_str().unwrap_or_default()),
            field: printable(cause["field"].as_str().unwrap_or("a field")),
        })
        .collect();
    if owners.is_empty() { ApiRefusal::Changed(message) } else { ApiRefusal::Owned(owners) }
}

/// The name in `conflict with "kubectl-edit" using apps/v1`.
fn manager(message: &str) -> String {
    let quoted = message.split('"').nth(1).filter(|name| !name.is_empty());
    printable(quoted.unwrap_or(message))
}
