//! Tokens and logins against a registry and a token server that follow a script.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use secrecy::SecretString;

use super::{Access, Scopes};
use super::{CredentialSource, Proof};
use crate::registry::testing::{
    Log, SeenRequest, answer, blob, connect, lines, options, registry, repository, with_password,
};
use crate::registry::{ClientOptions, Credential, FailureKind};

/// A token server beside the API: tokens are numbered and last `ttl` seconds.
fn with_tokens(
    seen: &SeenRequest,
    here: &str,
    issued: &AtomicU32,
    ttl: &str,
) -> Result<u32, Box<Response<Body>>> {
    if seen.target.starts_with("/token") {
        let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
        return Err(Box::new(answer(200, &[], &format!(r#"{{"token":"t{number}","expires_in":{ttl}}}"#))));
    }
    let challenge = format!("Bearer realm=\"http://{here}/token\",service=\"s\",error=\"invalid_token\"");
    let denied = || Box::new(answer(401, &[("www-authenticate", &challenge)], ""));
    seen.header("authorization").strip_prefix("Bearer t").and_then(|n| n.parse().ok()).ok_or_else(denied)
}

#[tokio::test]
async fn one_token_serves_all_who_wait_and_is_renewed_before_it_ends() {
    let issued = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&issued);
    let (here, log) = registry(move |seen, here| match with_tokens(seen, here, &counter, "1") {
        Ok(_) => answer(200, &[], ""),
        Err(other) => *other,
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 1, "the credentials are shown when connecting");
    let heads = (0..8).map(|_| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.head_manifest(&repository(), "1").await.unwrap() })
    });
    for head in heads.collect::<Vec<_>>() {
        head.await.unwrap();
    }
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(900)).await;
    tokio::time::resume();
    registry.head_manifest(&repository(), "1").await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 3);
    let log = log.lock();
    let asked: Vec<_> = log.iter().filter(|seen| seen.target.starts_with("/token")).collect();
    assert!(
        asked[1].target.contains("service=s&scope=repository%3Ateam%2Fapp%3Apull%2Cpush&client_id=layercast")
    );
    assert!(asked.iter().all(|seen| seen.header("authorization") == "Basic dXNlcjpodW50ZXIy"));
    // Renewed in time, so nothing but the ping was ever refused.
    assert_eq!(log.iter().filter(|seen| seen.header("authorization").is_empty()).count(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once_and_the_body_sent_again() {
    let issued = Arc::new(AtomicU32::new(0));
    let (here, log) = registry(move |seen, here| match with_tokens(seen, here, &issued, "300") {
        Err(other) => *other,
        Ok(2) if seen.method == "PUT" => {
            let challenge = format!("Bearer realm=\"http://{here}/token\",service=\"s\"");
            answer(401, &[("www-authenticate", &challenge)], "")
        }
        Ok(_) if seen.method == "POST" => answer(202, &[("location", "1")], ""),
        Ok(_) => answer(201, &[], ""),
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    let (digest, body) = blob("some layer");
    registry.push_blob(&repository(), &digest, &body, None).await.unwrap();
    let log = log.lock();
    let puts: Vec<_> = log.iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[0].target, puts[1].target);
    assert_eq!((puts[1].header("authorization"), &puts[1].body[..]), ("Bearer t3", &b"some layer"[..]));
}

#[tokio::test]
async fn refused_credentials_are_shown_once() {
    let basic = [("www-authenticate", "Basic realm=\"r\"")];
    let (here, log) = registry(move |_, _| answer(401, &basic, "")).await;
    let error = connect(&here, with_password()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Auth);
    assert!(error.hint().unwrap().contains("--username"));
    assert_eq!(lines(&log).len(), 2);
    let error = connect(&here, options()).await.unwrap_err();
    assert!(error.to_string().contains("none were given"), "{error}");
    assert_eq!(lines(&log).len(), 3);
}

#[tokio::test]
async fn a_second_401_is_final() {
    let issued = Arc::new(AtomicU32::new(0));
    let (here, log) = registry(move |seen, here| match with_tokens(seen, here, &issued, "300") {
        Ok(_) if seen.target == "/v2/" => answer(200, &[], ""),
        Err(other) if seen.target.starts_with("/token") => *other,
        _ => answer(
            401,
            &[("www-authenticate", &format!("Bearer realm=\"http://{here}/token\",service=\"s\""))],
            "",
        ),
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    let error = registry.head_manifest(&repository(), "1").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (FailureKind::Auth, false));
    assert_eq!(lines(&log).iter().filter(|line| line.starts_with("HEAD")).count(), 2);
    let hint = error.hint().unwrap();
    assert!(hint.contains("refused the token") && !hint.contains("password"), "the login was taken: {hint}");
}

#[tokio::test]
async fn where_tokens_were_taken_another_one_is_tried() {
    let (issued, refused) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(0));
    let (here, log) = registry(move |seen, here| match with_tokens(seen, here, &issued, "300") {
        Err(other) => *other,
        // One replica of three does not know new tokens.
        Ok(_) if seen.target.ends_with("/2") && refused.fetch_add(1, Ordering::SeqCst) < 3 => {
            let challenge =
                format!("Bearer realm=\"http://{here}/token\",service=\"s\",error=\"invalid_token\"");
            answer(401, &[("www-authenticate", &challenge)], "")
        }
        Ok(_) => answer(200, &[], ""),
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    registry.head_manifest(&repository(), "1").await.unwrap();
    registry.head_manifest(&repository(), "2").await.unwrap();
    assert_eq!(lines(&log).iter().filter(|line| line.ends_with("/2")).count(), 4);
}

#[tokio::test]
async fn an_identity_token_is_traded_in() {
    let (here, log) = registry(|seen, here| match seen.header("authorization") {
        _ if seen.is("POST", "/token") => answer(200, &[], r#"{"access_token":"abc"}"#),
        "Bearer abc" => answer(200, &[], ""),
        _ => answer(
            401,
            &[("www-authenticate", &format!("Bearer realm=\"http://{here}/token\",service=\"s\""))],
            "",
        ),
    })
    .await;
    let secret = SecretString::from("id+token");
    let options = ClientOptions {
        credential: Some(Credential::new(Proof::IdentityToken(secret), CredentialSource::fixed("a test"))),
        ..options()
    };
    let registry = connect(&here, options).await.unwrap();
    registry.head_manifest(&repository(), "1").await.unwrap();
    let log = log.lock();
    let form = std::str::from_utf8(&log.iter().rfind(|seen| seen.method == "POST").unwrap().body).unwrap();
    assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=id%2Btoken"), "{form}");
    assert!(form.contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush"), "{form}");
}

#[tokio::test]
async fn a_token_server_elsewhere_gets_nothing() {
    let (here, log) = registry(|_, _| {
        answer(401, &[("www-authenticate", "Bearer realm=\"http://169.254.169.254/token\"")], "")
    })
    .await;
    let error = connect(&here, with_password()).await.unwrap_err();
    assert!(error.to_string().contains("which is not asked"), "{error}");
    assert_eq!(lines(&log).len(), 1);
}

#[test]
fn the_target_comes_first_and_a_challenge_only_adds() {
    let scopes = Scopes::of(&"a/b".parse().unwrap(), Access::PullPush).reading(&"c".parse().unwrap());
    assert_eq!(
        scopes.with(Some("repository:a/b:pull repository:prefix/a/b:push")),
        ["repository:a/b:pull,push", "repository:c:pull", "repository:prefix/a/b:push"]
    );
}

/// A registry that takes `user:hunter2` with each request as long as `holds`, and refuses what `refuses` says.
async fn with_logins(
    holds: Arc<AtomicBool>,
    refuses: impl Fn(&SeenRequest) -> Option<Response<Body>> + Send + Sync + 'static,
) -> (String, Log) {
    registry(move |seen, _| {
        let is_right = seen.header("authorization") == "Basic dXNlcjpodW50ZXIy";
        if !is_right || !holds.load(Ordering::SeqCst) {
            return answer(401, &[("www-authenticate", "Basic realm=\"r\"")], "");
        }
        refuses(seen).unwrap_or_else(|| answer(200, &[], ""))
    })
    .await
}

/// How many logins a registry refused.
fn refused(log: &Log, is_right: impl Fn(&SeenRequest) -> bool) -> usize {
    log.lock().iter().filter(|seen| !seen.header("authorization").is_empty() && !is_right(seen)).count()
}

#[tokio::test]
async fn three_wrong_passwords_are_sent_with_requests_whatever_mirrors_share_the_account() {
    let (here, log) = with_logins(Arc::new(AtomicBool::new(false)), |_| None).await;
    let options = with_password();
    // On hosts of their own, as if they were reached in different ways.
    let mirrors = (0..20).map(|_| connect(&here, ClientOptions { hosts: Arc::default(), ..options.clone() }));
    for error in futures_util::future::join_all(mirrors).await {
        assert_eq!(error.unwrap_err().kind(), FailureKind::Auth);
    }
    assert_eq!(refused(&log, |_| false), 3);
}

#[tokio::test]
async fn a_password_that_changes_in_the_middle_is_refused_no_more_than_what_was_under_way() {
    let holds = Arc::new(AtomicBool::new(true));
    let (here, log) = with_logins(Arc::clone(&holds), |_| None).await;
    let registry = connect(&here, with_password()).await.unwrap();
    registry.head_manifest(&repository(), "1").await.unwrap();
    let taken = log.lock().len();
    holds.store(false, Ordering::SeqCst);
    for _ in 0..20 {
        let error = registry.head_manifest(&repository(), "1").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Auth, "{error}");
    }
    // The first of them, the ping, and one more.
    assert_eq!(log.lock().len() - taken, 3);
}

#[tokio::test]
async fn refusals_for_rights_lock_nobody_out() {
    for (status, headers, body) in [
        (403, &[][..], ""),
        (401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
        (401, &[], r#"{"errors":[{"code":"DENIED"}]}"#),
    ] {
        let denied =
            move |seen: &SeenRequest| seen.target.contains("/denied").then(|| answer(status, headers, body));
        let (here, _) = with_logins(Arc::new(AtomicBool::new(true)), denied).await;
        let registry = connect(&here, with_password()).await.unwrap();
        let asked = (0..12).map(|n| {
            let registry = registry.clone();
            async move { registry.start_upload(&format!("denied{n}").parse().unwrap()).await.map(drop) }
        });
        assert!(futures_util::future::join_all(asked).await.iter().all(Result::is_err));
        registry.head_manifest(&repository(), "1").await.unwrap();
    }
}

#[tokio::test]
async fn a_token_server_that_refuses_for_rights_locks_nobody_out() {
    let (here, log) = registry(|seen, here| {
        let challenge = format!("Bearer realm=\"http://{here}/token\",service=\"s\"");
        match seen.header("authorization") {
            _ if seen.target.starts_with("/token") && seen.target.contains("denied") => {
                answer(403, &[], r#"{"errors":[{"code":"DENIED","message":"no access"}]}"#)
            }
            _ if seen.target.starts_with("/token") => answer(200, &[], r#"{"token":"t"}"#),
            "Bearer t" => answer(200, &[], ""),
            _ => answer(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    let registry = connect(&here, with_password()).await.unwrap();
    for n in 0..12 {
        let name = format!("denied{n}").parse().unwrap();
        let error = registry.head_manifest(&name, "1").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Denied, "{error}");
    }
    registry.head_manifest(&repository(), "1").await.unwrap();
    assert_eq!(lines(&log).iter().filter(|line| line.contains("/token")).count(), 14);
}

#[tokio::test]
async fn an_old_entry_for_the_host_does_not_stand_before_one_for_a_repository() {
    let (here, _) = registry(|seen, _| match seen.header("authorization") {
        // `user:hunter2`
        "Basic dXNlcjpodW50ZXIy" => answer(200, &[], ""),
        _ => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
    })
    .await;
    let password = |user: &str, password: &str| {
        Credential::password(user.to_owned(), password.to_owned().into(), CredentialSource::fixed("a test"))
    };
    let with = |own: &str| ClientOptions {
        credential: Some(password("old", "old")),
        credentials_below: vec![(repository(), password("user", own))],
        ..options()
    };
    let registry = connect(&here, with("hunter2")).await.unwrap();
    assert!(registry.head_manifest(&repository(), "1").await.is_ok());
    assert!(registry.head_manifest(&"other/app".parse().unwrap(), "1").await.is_err());
    let error = connect(&here, with("wrong")).await.unwrap_err();
    assert!(error.to_string().contains("user old"), "{error}");
}

#[tokio::test]
async fn a_token_server_may_lead_to_another_path_of_its_own_and_nowhere_else() {
    for (place, is_right) in [("/token/", true), ("http://127.0.0.2:1/token", false)] {
        let (here, log) = registry(move |seen, here| {
            let challenge = format!("Bearer realm=\"http://{here}/token\",service=\"s\"");
            let path = seen.target.split('?').next().unwrap_or_default();
            match (path, seen.header("authorization")) {
                ("/token", _) => answer(301, &[("location", place)], ""),
                ("/token/", "Basic dXNlcjpodW50ZXIy") => answer(200, &[], r#"{"token":"t"}"#),
                (_, "Bearer t") => answer(200, &[], ""),
                _ => answer(401, &[("www-authenticate", &challenge)], ""),
            }
        })
        .await;
        match connect(&here, with_password()).await {
            Ok(_) => assert!(is_right && log.lock().last().unwrap().target.starts_with("/token/?service=s")),
            Err(error) => {
                assert!(
                    !is_right && error.to_string().contains("leads to http://127.0.0.2:1/token"),
                    "{error}"
                );
                assert!(error.hint().is_some());
            }
        }
    }
}

#[tokio::test]
async fn what_answers_in_a_token_servers_place_is_named() {
    for (status, body, words, next) in [
        (200, "<html><title>Sign in</title>", "a web page answers, titled \"Sign in\"", "login page"),
        (200, "{}", "no token", "realm"),
        (404, "", "404", "token server"),
        (500, "", "500", "token server fails"),
    ] {
        let (here, _) = registry(move |seen, here| {
            let challenge = format!("Bearer realm=\"http://{here}/token\",service=\"s\"");
            if seen.target.starts_with("/token") {
                answer(status, &[], body)
            } else {
                answer(401, &[("www-authenticate", &challenge)], "")
            }
        })
        .await;
        let error = connect(&here, with_password()).await.unwrap_err();
        let hint = error.hint().unwrap_or_default();
        assert!(error.to_string().contains(words) && hint.contains(next), "{error}; {hint}");
    }
}

#[tokio::test]
async fn a_login_of_another_kind_is_named() {
    let (here, _) = registry(|_, _| answer(401, &[("www-authenticate", "Negotiate")], "")).await;
    let error = connect(&here, with_password()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Auth);
    assert!(error.to_string().contains("a login by Negotiate"), "{error}");
    assert!(!error.hint().unwrap().contains("--username"));
}
