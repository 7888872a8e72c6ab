//! The first request takes the place of the ping, and where the ping is sent after all.

use axum::body::Body;
use axum::http::Response;

use super::FirstRequest;
use crate::registry::testing::{
    Log, SeenRequest, answer, lines, options, registry, repository, with_password,
};
use crate::registry::{ClientOptions, FailureKind, Registry, RegistryError, Target};

const NAMED: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");
const BASIC: (&str, &str) = ("www-authenticate", "Basic realm=\"r\"");

/// Enters a registry with the question for `team/app:1`, and asks it if that can be done.
async fn asked<F>(options: ClientOptions, script: F) -> (Result<bool, RegistryError>, Vec<String>, Log)
where
    F: Fn(&SeenRequest, &str) -> Response<Body> + Send + Sync + 'static,
{
    let (here, log) = registry(script).await;
    let target: Target = format!("http://{here}").parse().unwrap();
    let question = FirstRequest { repository: repository(), reference: "1".to_owned() };
    let found = match Registry::connect_asking(&target.endpoint, options, Some(question)).await {
        Ok(registry) => registry.head_manifest(&repository(), "1").await.map(|head| head.is_some()),
        Err(error) => Err(error),
    };
    let lines = lines(&log).iter().map(|line| line.replace("/v2/team/app/manifests/1", "1")).collect();
    (found, lines, log)
}

fn manifest() -> Response<Body> {
    let digest = format!("sha256:{}", "0".repeat(64));
    answer(200, &[("docker-content-digest", &digest)], "")
}

#[tokio::test]
async fn an_answer_that_only_a_registry_gives_is_all_that_is_asked() {
    let (found, lines, _) = asked(options(), |_, _| manifest()).await;
    assert_eq!((found.unwrap(), &lines[..]), (true, &["HEAD 1".to_owned()][..]));
    let (found, lines, _) = asked(options(), |_, _| answer(404, &[NAMED], "")).await;
    assert_eq!((found.unwrap(), &lines[..]), (false, &["HEAD 1".to_owned()][..]));
}

#[tokio::test]
async fn an_answer_that_anything_could_have_given_leads_to_a_ping_and_is_kept() {
    let (found, lines, _) =
        asked(options(), |seen, _| answer(if seen.method == "HEAD" { 404 } else { 200 }, &[], "")).await;
    assert_eq!((found.unwrap(), &lines[..]), (false, &["HEAD 1".to_owned(), "GET /v2/".to_owned()][..]));
    // What is wrong with one image is wrong with that image.
    let (found, lines, _) =
        asked(options(), |seen, _| answer(if seen.method == "HEAD" { 500 } else { 200 }, &[], "")).await;
    assert_eq!(found.unwrap_err().status(), Some(500));
    assert_eq!(lines.last().unwrap(), "GET /v2/");
    let elsewhere = ("location", "http://169.254.169.254/x");
    let (found, lines, _) = asked(options(), move |seen, _| {
        if seen.method == "HEAD" { answer(307, &[elsewhere], "") } else { answer(200, &[], "") }
    })
    .await;
    assert!(found.unwrap_err().to_string().contains("a redirect that is not followed"));
    assert_eq!(lines, ["HEAD 1", "GET /v2/"]);
}

#[tokio::test]
async fn what_is_no_registry_is_named_as_by_a_ping() {
    let page = "<!doctype html><title>Welcome</title>";
    for (status, words) in [(200, "titled \"Welcome\""), (404, "is no registry")] {
        let (found, lines, _) = asked(options(), move |_, _| answer(status, &[], page)).await;
        let error = found.unwrap_err();
        let said = format!("{error} {}", error.hint().unwrap_or_default());
        assert!(said.contains(words), "{said}");
        assert_eq!(lines, ["HEAD 1", "GET /v2/"]);
    }
}

#[tokio::test]
async fn a_login_is_shown_with_the_question() {
    let is_known = |seen: &SeenRequest| seen.header("authorization") == "Basic dXNlcjpodW50ZXIy";
    let (found, lines, _) =
        asked(
            with_password(),
            move |seen, _| if is_known(seen) { manifest() } else { answer(401, &[BASIC], "") },
        )
        .await;
    assert_eq!((found.unwrap(), &lines[..]), (true, &["HEAD 1".to_owned(), "HEAD 1".to_owned()][..]));
}

#[tokio::test]
async fn one_token_is_fetched_for_the_login_and_for_the_question() {
    let (found, lines, log) = asked(with_password(), |seen, here| match seen.header("authorization") {
        _ if seen.target.starts_with("/token") => answer(200, &[], r#"{"token":"t"}"#),
        "Bearer t" => answer(404, &[], ""),
        _ => answer(
            401,
            &[("www-authenticate", &format!("Bearer realm=\"http://{here}/token\",service=\"s\""))],
            "",
        ),
    })
    .await;
    assert_eq!(
        (found.unwrap(), &lines[..]),
        (false, &["HEAD 1", "GET /token", "HEAD 1"].map(str::to_owned)[..])
    );
    assert!(log.lock()[1].target.contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush"));
}

#[tokio::test]
async fn a_refusal_for_rights_and_a_wrong_password_differ_in_the_ping() {
    let refused = |seen: &SeenRequest, is_right: bool| match seen.header("authorization") {
        "Basic dXNlcjpodW50ZXIy" if is_right && seen.target == "/v2/" => answer(200, &[], ""),
        _ => answer(401, &[BASIC], ""),
    };
    let (found, ..) = asked(with_password(), move |seen, _| refused(seen, true)).await;
    assert!(!format!("{}", found.unwrap_err()).is_empty());
    let (found, lines, log) = asked(with_password(), move |seen, _| refused(seen, false)).await;
    assert_eq!(found.unwrap_err().kind(), FailureKind::Auth);
    let shown = log.lock().iter().filter(|seen| !seen.header("authorization").is_empty()).count();
    assert!(shown <= 2, "{lines:?}");
}

#[tokio::test]
async fn credentials_are_shown_where_the_ping_needs_them() {
    // Anybody may read; who pushes must log in.
    let (found, lines, log) = asked(with_password(), |seen, _| match seen.header("authorization") {
        "" if seen.target == "/v2/" => answer(401, &[BASIC], ""),
        "" => answer(404, &[NAMED], ""),
        _ => manifest(),
    })
    .await;
    assert!(found.unwrap(), "{lines:?}");
    assert_eq!(lines, ["HEAD 1", "GET /v2/", "GET /v2/", "HEAD 1"]);
    assert!(!log.lock()[3].header("authorization").is_empty());
}

#[tokio::test]
async fn a_challenge_to_the_ping_alone_is_found() {
    let (found, lines, _) = asked(with_password(), |seen, _| match seen.header("authorization") {
        "" => answer(401, if seen.target == "/v2/" { &[BASIC] } else { &[] }, ""),
        _ => manifest(),
    })
    .await;
    assert!(found.unwrap());
    assert_eq!(lines, ["HEAD 1", "GET /v2/", "GET /v2/", "HEAD 1"]);
}
