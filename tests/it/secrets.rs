//! No secret is said: not on the terminal, however much is asked for, and not in a report.

use std::fs;

use base64::Engine as _;

use crate::support::build::Bundle;
use crate::support::scripted::{
    Action, Answer, Login, Request, Rule, SESSION_SECRET, ScriptedRegistry, Store,
};
use crate::support::{Push, folder};

const LOGIN: Login = Login { user: "pusher", password: "canary-pass/word+1", token: "canary-token-51c2e9d0" };

/// Everything that must not be seen, in the forms in which it goes over the wire.
fn secrets() -> Vec<String> {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut secrets = vec![encode(&format!("{}:{}", LOGIN.user, LOGIN.password))];
    for secret in [LOGIN.password, LOGIN.token, SESSION_SECRET] {
        let percent = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        secrets.extend([secret.to_owned(), percent, encode(secret)]);
    }
    secrets
}

/// Pushes with every word that can be asked for, in both forms of the log.
fn nothing_is_said_by(registry: &ScriptedRegistry, exit: i32) {
    let folder = folder();
    let bundle = Bundle::oci_layout().image("images.example/a/one:1", &["base", "one"]).write(folder.path());
    let password = folder.path().join("password");
    fs::write(&password, LOGIN.password).unwrap();
    for format in ["text", "json"] {
        registry.store(Store::empty);
        let push = Push::bare().and_to(registry).source(&bundle).state(&folder.path().join("state"));
        let push = push.flags(&["-vv", "--username", LOGIN.user, "--log-format", format]);
        let pushed = push.flag("--password-file").flag(&password).run();
        assert_eq!(pushed.exit, exit, "{}", pushed.said());
        assert!(pushed.stderr.len() > 2_000, "-vv says much: {}", pushed.stderr);
        let report = pushed.report.to_string();
        for secret in secrets() {
            for said in [&pushed.stdout, &pushed.stderr, &report] {
                assert!(!said.contains(&secret), "{secret} in {said}");
            }
        }
    }
    for entry in fs::read_dir(folder.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = if path.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        for secret in secrets() {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} in the state");
        }
    }
}

#[test]
fn of_a_push_that_succeeds() {
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    nothing_is_said_by(&registry, 0);
}

#[test]
fn of_a_push_that_fails_in_the_middle_of_an_upload() {
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    registry.on(Rule::on("PUT", "/blobs/uploads/", Action::Answer(Answer::error(403, "DENIED", "a quota"))));
    nothing_is_said_by(&registry, 3);
}

/// A proxy that shows a failed request to whoever made it, as debugging pages do.
#[test]
fn that_a_server_echoes() {
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    let echo = |request: &Request| {
        let told = format!("{} with Authorization: {}", request.target(), request.header("authorization"));
        Answer::error(403, "DENIED", &told)
    };
    registry.on(Rule::on("PUT", "/blobs/uploads/", Action::make(echo)));
    nothing_is_said_by(&registry, 3);
}
