//! What an operator can do about an answer that is not a success. The server's words decide where they say it, else the status
//! and the purpose of the request. Pure.

use url::Url;

use crate::registry::error_response::ErrorResponse;

/// The purpose of a request, as far as the meaning of its failure depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum RequestPurpose {
    /// `GET /v2/`: whether a registry answers, and which login it wants.
    Ping,
    /// A session, to send a blob.
    UploadSession,
    /// To take a blob, or its bytes.
    Upload,
    /// To take a manifest.
    ManifestPut,
    /// A token server, for a token.
    Token,
    Other,
}

impl RequestPurpose {
    pub(super) fn of(method: &str, url: &Url) -> Self {
        let path = url.path();
        match method {
            "POST" if path.contains("/blobs/uploads/") => Self::UploadSession,
            "PUT" if path.contains("/manifests/") => Self::ManifestPut,
            "PUT" | "PATCH" => Self::Upload,
            "GET" if path.ends_with("/v2/") => Self::Ping,
            _ => Self::Other,
        }
    }
}

/// Advice by the server's words, for any status.
pub(super) fn by_words(answer: &ErrorResponse, asked: RequestPurpose) -> Option<&'static str> {
    if answer.status < 400 {
        return None;
    }
    let words = answer.words();
    let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
    let refused = matches!(answer.status, 400 | 401 | 403 | 405 | 409 | 412 | 413 | 423 | 503 | 507);
    Some(if refused && says(&["expired"]) && matches!(answer.status, 401 | 403) {
        "the login has run out: log in again (for ECR: aws ecr get-login-password)"
    } else if refused && says(&["quota", "storage limit"]) {
        "the quota of the project is used up: raise it there, or remove images from it"
    } else if refused && says(&["read only", "read-only", "readonly", "maintenance"]) {
        "the registry is read-only for now, as during its garbage collection: try again when that has ended, or have it set to \
         take pushes"
    } else if refused
        && says(&["firewall", "ip address", "client with ip", "not allowed access", "network rule"])
    {
        "the network rules of the registry keep this machine out: allow its address there"
    } else if matches!(answer.status, 401 | 403)
        && says(&[
            "account is locked",
            "account locked",
            "user locked",
            "locked out",
            "suspended",
            "deactivated",
        ])
    {
        "the account is locked there: have it opened again, and wait with the next try"
    } else if refused && says(&["immutable", "cannot be overwritten", "tag_immutable"]) {
        "the tag may not change there (immutable): push under another tag with --rewrite, or lift the rule; --no-overwrite \
         leaves tags as they are"
    } else if answer.status == 412 {
        "a policy of the project (Harbor: quota, immutable tags, vulnerability, content trust) forbids it: change it there"
    } else if answer.has_code("NAME_INVALID") {
        "the registry takes no repository of this name: some want a namespace before it, or no more than two parts; --rewrite \
         gives it another"
    } else if answer.has_code("TAG_INVALID") {
        "the registry takes no tag of this form: --rewrite gives it another"
    } else if answer.status == 415 && asked == RequestPurpose::ManifestPut {
        "the registry does not take manifests of this media type: it may be too old for OCI images and artifacts"
    } else {
        return None;
    })
}

/// Advice by the status and the purpose of the request.
pub(super) fn by_status(
    answer: &ErrorResponse,
    asked: RequestPurpose,
    is_http: bool,
) -> Option<&'static str> {
    Some(match answer.status {
        404 | 405 if asked == RequestPurpose::Token => {
            "the registry names this address as its token server (realm), and nothing gives tokens there: is it right?"
        }
        500..=599 if asked == RequestPurpose::Token => "the token server fails: look at its log",
        401 => "give credentials with --username and --password-stdin, or log in with docker or podman",
        413 => "a proxy before the registry limits the size of a request (nginx: client_max_body_size)",
        400 if is_http && answer.text.contains("HTTPS") => {
            "the port speaks TLS: write https:// in front of the registry"
        }
        404 if asked == RequestPurpose::Ping => {
            "something answers there, but it is no registry: is the host or the port another one?"
        }
        403 | 404 if asked == RequestPurpose::UploadSession => {
            "the project or namespace must exist and the account must be allowed to push to it"
        }
        405 | 501
            if matches!(
                asked,
                RequestPurpose::UploadSession | RequestPurpose::Upload | RequestPurpose::ManifestPut
            ) =>
        {
            "it takes nothing: a read-only registry or a pull-through cache (proxy)? Push to the registry behind it"
        }
        403 if asked == RequestPurpose::Ping => {
            "the registry lets nobody in without an account, or not from here"
        }
        403 => "the account is not allowed to do this in that repository",
        429 => {
            "the registry limits how much it is asked: run again later, or allow the wait with --patience SECONDS"
        }
        499 | 502..=504 | 520..=524 => {
            "what answers is before the registry, and the registry does not: is it running? --patience SECONDS waits longer"
        }
        300..400 => "push to where it leads, if that is the registry",
        500 | 507 => "the registry itself fails: look at its log and at its free disk",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> ErrorResponse {
        ErrorResponse::new(status, None, body.as_bytes(), str::to_owned)
    }

    fn coded(status: u16, code: &str, message: &str) -> ErrorResponse {
        answer(status, &format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
    }

    #[test]
    fn the_servers_words_count_before_its_status() {
        for (answer, expected) in [
            (
                answer(403, "Your authorization token has expired. Reauthenticate and try again."),
                "log in again",
            ),
            (coded(403, "DENIED", "client with IP '1.2.3.4' is not allowed access"), "network rules"),
            (
                coded(
                    403,
                    "DENIED",
                    "adding 3 MiB of storage resource, which when updated would exceed the quota",
                ),
                "quota",
            ),
            (
                coded(412, "PRECONDITION", "Quota exceeded when processing the request of adding 10 MiB"),
                "quota",
            ),
            (coded(403, "DENIED", "The system is in read only mode"), "read-only"),
            (coded(403, "DENIED", "account locked"), "locked there"),
            (coded(412, "PRECONDITION", "'a:1' configured as immutable"), "immutable"),
            (
                coded(
                    400,
                    "TAG_INVALID",
                    "The image tag '1' already exists and cannot be overwritten because the repository is immutable",
                ),
                "may not change",
            ),
            (coded(400, "NAME_INVALID", "invalid repository name"), "--rewrite"),
            (coded(412, "PROJECTPOLICYVIOLATION", "current image"), "policy"),
        ] {
            let hint = by_words(&answer, RequestPurpose::ManifestPut);
            assert!(hint.is_some_and(|hint| hint.contains(expected)), "{answer}: {hint:?}");
        }
        assert_eq!(
            by_words(
                &coded(403, "DENIED", "requested access to the resource is denied"),
                RequestPurpose::UploadSession
            ),
            None
        );
    }

    #[test]
    fn who_answers_and_what_was_asked_make_a_difference() {
        for (status, asked, expected) in [
            (404, RequestPurpose::Token, "token server"),
            (500, RequestPurpose::Token, "token server fails"),
            (500, RequestPurpose::Upload, "free disk"),
            (502, RequestPurpose::Ping, "is it running"),
            (503, RequestPurpose::ManifestPut, "--patience"),
            (429, RequestPurpose::UploadSession, "--patience"),
            (403, RequestPurpose::Ping, "lets nobody in"),
            (403, RequestPurpose::UploadSession, "must exist"),
        ] {
            let hint = by_status(&answer(status, ""), asked, false);
            assert!(hint.is_some_and(|hint| hint.contains(expected)), "{status}: {hint:?}");
        }
    }
}
