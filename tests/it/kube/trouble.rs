//! API servers in trouble, and what answers in their place.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{CLUSTER, KINDS, Site, kept};
use crate::support::api_server::status;

#[test]
fn a_server_in_trouble_is_asked_again_but_not_for_long() {
    let site = Site::new();
    for code in [503, 429] {
        site.server.instead(&format!("GET {KINDS}"), move |_| Some(status(code, "busy", &[])));
    }
    site.server
        .instead(&format!("PATCH {CLUSTER}"), |_| Some(status(500, "etcd is changing its leader", &[])));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 0 && said.contains("asking again in 0.5 s"), "{said}");
    let asked = site.server.asked();
    let count = |line: &str| asked.iter().filter(|asked| asked.line() == line).count();
    assert_eq!((count(&format!("GET {KINDS}")), count(&format!("PATCH {CLUSTER}"))), (3, 2));
    let agent = concat!("layercast/", env!("CARGO_PKG_VERSION"));
    assert!(asked.iter().all(|asked| asked.headers["user-agent"] == agent));

    site.server
        .with(|state| state.always.insert(format!("GET {KINDS}"), status(503, "apiserver is away", &[])));
    let began = Instant::now();
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 6 && said.contains("HTTP 503") && said.contains("apiserver is away"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(site.server.asked().len(), 5);
}

#[test]
fn what_is_no_api_server_is_told_apart() {
    let site = Site::new();
    let page = || Value::from("<!DOCTYPE html><html>Log in</html>");
    site.server
        .with(|state| state.headers.insert("Location", "https://login.example/?token=hunter2".to_owned()));
    for (code, body, word) in [
        (200, page(), "it is an HTML page"),
        (200, Value::Null, "no object"),
        (302, page(), "it sends on to https://login.example/ with HTTP 302"),
        (403, page(), "it is an HTML page with HTTP 403"),
        (404, page(), "it is an HTML page with HTTP 404"),
        (404, json!({"detail": "Not Found"}), "without a Status"),
        (407, page(), "a proxy asks for credentials"),
    ] {
        site.server.instead(&format!("GET {KINDS}"), move |_| Some((code, body)));
        let (exit, said) = site.update(&["--quiet"]);
        assert!(
            exit == 6 && said.contains(word) && said.contains("not that of an API server"),
            "{code}: {said}"
        );
        assert!(said.contains("[network]") && kept(&site.server.asked()).is_empty(), "{said}");
    }
}
