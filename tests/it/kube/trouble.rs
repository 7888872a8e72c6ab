//! API servers in trouble, what answers in their place, and kubeconfigs that cannot be used.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{APPLY, CLUSTER, DAEMON_SET, KINDS, Site, controller, kept};
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
        assert!(said.contains("[unreachable]") && kept(&site.server.asked()).is_empty(), "{said}");
    }
    site.server.instead(&format!("GET {CLUSTER}"), |_| Some((200, json!({}))));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 6 && said.contains("without metadata.uid"), "{said}");
}

/// Has the kubeconfig log in another way.
fn log_in(site: &Site, user: &Value) {
    let text = std::fs::read_to_string(site.path("kubeconfig")).unwrap();
    let (rest, _) = text.split_once("users:").unwrap();
    std::fs::write(site.path("kubeconfig"), format!("{rest}users: [{{name: u, user: {user}}}]\n")).unwrap();
}

#[test]
fn a_program_that_fails_to_log_in_is_named_and_not_quoted() {
    let site = Site::new();
    let program = site.path("login-helper");
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": program,
        "args": ["--password=hunter2"], "env": [{"name": "WORD", "value": "hunter2"}]}});
    log_in(&site, &exec);
    for (text, word) in [
        ("echo out-hunter2; echo err-hunter2 >&2; exit 7", "login-helper, ended with exit status: 7"),
        ("echo '{\"token\": [hunter2'", "login-helper, wrote something that is no ExecCredential"),
        (
            "echo '{\"kind\": \"ExecCredential\", \"note\": \"hunter2\"}'",
            "login-helper, wrote something that is no",
        ),
    ] {
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        // That nothing of `hunter2` is said, `run` makes sure of.
        let (exit, said) = site.update(&["--quiet"]);
        assert!(exit == 2 && said.contains(word) && said.contains("kubeconfig"), "{said}");
    }
    std::fs::remove_file(&program).unwrap();
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 2 && said.contains("login-helper, cannot be started: No such file"), "{said}");
    assert!(site.server.asked().is_empty());
    // A file that is no kubeconfig is not quoted either, nor the password of a proxy.
    let text = std::fs::read_to_string(site.path("kubeconfig")).unwrap();
    let proxied = text.replace("cluster: {server:", "cluster: {proxy-url: 'ftp://me:hunter2@proxy', server:");
    std::fs::write(site.path("kubeconfig"), proxied).unwrap();
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 2 && said.contains("its proxy-url"), "{said}");
    std::fs::write(site.path("kubeconfig"), format!("{text}users: [{{token: hunter2]\n")).unwrap();
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 2 && said.contains("it is no kubeconfig"), "{said}");
}

#[test]
fn files_that_a_kubeconfig_names_are_read_or_missed_by_name() {
    let site = Site::new();
    std::fs::write(site.path("token"), "hunter2\n").unwrap();
    log_in(&site, &json!({"tokenFile": "token"}));
    let (exit, said) = site.update(&["--quiet"]);
    assert_eq!(exit, 0, "{said}");
    assert!(site.server.asked().iter().all(|asked| asked.headers["authorization"] == "Bearer hunter2"));
    for user in [
        json!({"tokenFile": "gone"}),
        json!({"client-certificate": "gone", "client-key": "token"}),
        json!({"client-certificate": "token", "client-key": "gone"}),
    ] {
        log_in(&site, &user);
        let (exit, said) = site.update(&["--quiet"]);
        assert!(exit == 2 && said.contains("/gone cannot be read: No such file"), "{user}: {said}");
    }
    let text = std::fs::read_to_string(site.path("kubeconfig")).unwrap();
    let text = text.replace("cluster: {server:", "cluster: {certificate-authority: gone, server:");
    std::fs::write(site.path("kubeconfig"), text).unwrap();
    let (exit, said) = site.update(&["--quiet"]);
    assert!(
        exit == 2 && said.contains("its certificate-authority ") && said.contains("/gone cannot"),
        "{said}"
    );
    assert!(site.server.asked().is_empty());
}

#[test]
fn looks_that_fail_do_not_end_the_wait() {
    let site = Site::new();
    site.server.instead(&format!("GET {DAEMON_SET}"), |_| None);
    for answer in [status(503, "away", &[]), status(401, "starting", &[]), (200, Value::from("<html>"))] {
        site.server.instead(&format!("GET {DAEMON_SET}"), move |_| Some(answer));
    }
    controller(&site.server, 2, 3, 3);
    let (exit, said) = site.run(&APPLY);
    assert!(exit == 0 && said.is_empty(), "{said}");
    // What stays is told when the time is over, and a DaemonSet that is gone at once.
    site.server.instead(&format!("GET {DAEMON_SET}"), |_| None);
    site.server.instead(&format!("PATCH {DAEMON_SET}"), |state| {
        state.always.insert(format!("GET {DAEMON_SET}"), status(503, "away for good", &[]));
        None
    });
    let other =
        ["mirror", "apply", "--endpoint=https://other.example", "--host=gcr.io", "--quiet", "--timeout=2"];
    let (exit, said) = site.run(&other);
    assert!(exit == 3 && said.contains("not ready after 2 s") && said.contains("away for good"), "{said}");
    site.server.with(|state| state.always.clear());
    site.server.instead(&format!("GET {DAEMON_SET}"), |_| None);
    site.server.instead(&format!("PATCH {DAEMON_SET}"), |state| {
        state.always.insert(format!("GET {DAEMON_SET}"), status(404, "gone", &[]));
        None
    });
    let (exit, said) = site.run(&APPLY);
    assert!(exit == 3 && said.contains("was deleted, or is being deleted"), "{said}");
}

#[test]
fn what_could_not_be_tried_or_is_in_already_is_said() {
    let site = Site::new();
    let (exit, said) = site.run(&[&APPLY[..4], &["--dry-run"]].concat());
    assert!(exit == 0 && said.contains("1 of 3 objects tried by the server, the others not"), "{said}");
    for object in ["Secret", "DaemonSet"] {
        let line = format!(
            "+ {object} layercast/layercast-mirror (not tried: the namespace layercast has to be there"
        );
        assert!(said.contains(&line), "{said}");
    }
    assert!(kept(&site.server.asked()).is_empty());
    site.server.instead(&format!("PATCH {DAEMON_SET}"), |_| Some(status(422, "no room", &[])));
    let (exit, said) = site.run(&APPLY);
    let state = "(already in: Namespace layercast, Secret layercast/layercast-mirror)";
    assert!(exit == 3 && said.contains("no room") && said.contains(state), "{said}");
    // With the namespace there, all of it is tried.
    let (exit, said) = site.run(&[&APPLY[..4], &["--dry-run"]].concat());
    assert!(exit == 0 && said.contains("tried by the server; nothing was changed"), "{said}");

    site.server.instead(&format!("GET {DAEMON_SET}"), |_| None);
    controller(&site.server, 2, 0, 0);
    let (exit, said) = site.run(&APPLY);
    assert!(
        exit == 0 && said.starts_with("warning: DaemonSet layercast/layercast-mirror: no node matches"),
        "{said}"
    );
}
