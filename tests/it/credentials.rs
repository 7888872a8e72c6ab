//! Where credentials come from when no flag gives them, and tokens that end before the push does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::build::Bundle;
use crate::support::registry::{Registry, Setup};
use crate::support::scripted::{Action, Answer, Login, Request, Rule, ScriptedRegistry, Store};
use crate::support::{Push, bundle, folder, layercast, tool, within};

const LOGIN: Login = Login { user: "pusher", password: "s3cret-word", token: "canary-token-1" };

fn htpasswd_registry(folder: &std::path::Path) -> Registry {
    let htpasswd = tool("htpasswd", &["-Bbn".as_ref(), "pusher".as_ref(), "secret".as_ref()]).stdout;
    fs::write(folder.join("htpasswd"), htpasswd).unwrap();
    Registry::docker_with(&Setup { htpasswd: Some(folder.join("htpasswd")), ..Setup::default() })
}

#[test]
fn files_helpers_environment_and_standard_input_are_asked_in_turn() {
    let folder = folder();
    let registry = htpasswd_registry(folder.path());
    let source =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout", "--outer", "none"]);
    let host = registry.host();
    let run = |set_up: &dyn Fn(&mut std::process::Command)| {
        let mut command = layercast();
        command.args(["push", "images", "--private-registry", &host, "--source"]).arg(&source);
        set_up(&mut command);
        within(std::time::Duration::from_secs(60), command)
    };
    assert_eq!(run(&|_| {}).status.code(), Some(4));

    let config = folder.path().join("config");
    fs::create_dir(&config).unwrap();
    let auth = "cHVzaGVyOnNlY3JldA=="; // pusher:secret
    fs::write(config.join("config.json"), format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#))
        .unwrap();
    assert_eq!(
        run(&|command| {
            command.env("DOCKER_CONFIG", &config);
        })
        .status
        .code(),
        Some(0)
    );
    assert_eq!(
        run(&|command| {
            command.env("REGISTRY_AUTH_FILE", config.join("config.json"));
        })
        .status
        .code(),
        Some(0)
    );
    assert_eq!(
        run(&|command| {
            command.arg("--credential-file").arg(config.join("config.json"));
        })
        .status
        .code(),
        Some(0)
    );

    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let helper = bin.join("docker-credential-test");
    fs::write(&helper, "#!/bin/sh\nread host\necho \"{\\\"ServerURL\\\":\\\"$host\\\",\\\"Username\\\":\\\"pusher\\\",\\\"Secret\\\":\\\"secret\\\"}\"\n").unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(config.join("config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    assert_eq!(
        run(&|command| {
            command.env("DOCKER_CONFIG", &config).env("PATH", &path);
        })
        .status
        .code(),
        Some(0)
    );

    let environment = |command: &mut std::process::Command| {
        command.env("LAYERCAST_USERNAME", "pusher").env("LAYERCAST_PASSWORD", "secret");
    };
    assert_eq!(run(&environment).status.code(), Some(0));

    let secret = folder.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let piped = |command: &mut std::process::Command| {
        command
            .args(["--username", "pusher", "--password-stdin"])
            .stdin(Stdio::from(fs::File::open(&secret).unwrap()));
    };
    assert_eq!(run(&piped).status.code(), Some(0));
}

fn encode(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn one_image(folder: &Path) -> PathBuf {
    Bundle::oci_layout().image("images.example/a/one:1", &["base", "one"]).write(folder)
}

/// Pushes with a `config.json` and no flag about credentials: how it ended, and what was said.
fn with_config(push: &Push, folder: &Path, config: &Value) -> (i32, String) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut command = push.command();
    command.env("DOCKER_CONFIG", folder).env("HOME", folder);
    let output = within(Duration::from_secs(60), command);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!said.contains(LOGIN.password), "{said}");
    (output.status.code().unwrap(), said)
}

#[test]
fn credentials_for_a_namespace_win_over_those_for_its_host() {
    let folder = folder();
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    let (host, right, wrong) = (registry.host(), encode("pusher:s3cret-word"), encode("reader:x"));
    let target = format!("{host}/team/prod");
    let push = Push::bare().and_to(target.as_str()).source(&one_image(folder.path()));
    let config = json!({"auths": {&host: {"auth": wrong}, format!("{host}/team"): {"auth": right}}});
    let (exit, said) = with_config(&push, folder.path(), &config);
    assert_eq!(exit, 0, "{said}");
    // Without an entry of its own, those that may be meant are named.
    let config = json!({"auths": {format!("{host}/other"): {"auth": right}}});
    let (exit, said) = with_config(&push, folder.path(), &config);
    assert!(exit == 4 && said.contains(&format!("there is one for {host}/other")), "{said}");
}

#[test]
fn a_helper_that_is_gone_hides_nothing_and_is_named() {
    let folder = folder();
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    let push = Push::bare().and_to(&registry).source(&one_image(folder.path()));
    let gone = "config.json: credsStore names docker-credential-no-such: it is not installed";
    let auth = json!({registry.host(): {"auth": encode("pusher:s3cret-word")}});
    let (exit, said) = with_config(&push, folder.path(), &json!({"credsStore": "no-such", "auths": auth}));
    assert!(exit == 0 && said.contains(gone), "{said}");
    let (exit, said) = with_config(&push, folder.path(), &json!({"credsStore": "no-such"}));
    assert!(exit == 4 && said.contains(gone) && said.contains("--username"), "{said}");
    let open = ScriptedRegistry::start();
    let push = Push::bare().and_to(&open).source(&one_image(folder.path()));
    assert_eq!(with_config(&push, folder.path(), &json!({"credsStore": "no-such"})).0, 0);
}

#[test]
fn a_command_tells_the_password_and_its_last_words_are_heard() {
    let folder = folder();
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    let push = Push::bare().and_to(&registry).source(&one_image(folder.path()));
    let push = push.flags(&["--username", LOGIN.user, "--password-command"]);
    push.clone().flag("printf 's3cret-word\nsecond line'").run().complete();
    let failed = push.flag("echo 'the store is locked' >&2; exit 7").run();
    assert_eq!(failed.exit, 4, "{}", failed.said());
    assert!(failed.said().contains("exit code 7: the store is locked"), "{}", failed.said());
}

#[test]
fn each_mirror_of_a_run_may_have_its_own_account() {
    let folder = folder();
    let other = Login { user: "other", password: "another-word", token: "canary-token-2" };
    let registries = [&LOGIN, &other].map(|login| ScriptedRegistry::start().asks_for(login.clone()));
    let mut push = Push::bare().source(&one_image(folder.path()));
    for (registry, login) in registries.iter().zip([&LOGIN, &other]) {
        let file = folder.path().join(login.user);
        fs::write(&file, login.password).unwrap();
        let host = registry.host();
        push = push.and_to(registry).flag("--username").flag(format!("{host}={}", login.user));
        push = push.flag("--password-file").flag(format!("{host}={}", file.display()));
    }
    let pushed = push.run().complete();
    assert_eq!(pushed.mirror(1)["images_complete"], 1);
}

#[test]
fn a_refusal_names_the_account_and_where_it_comes_from() {
    let folder = folder();
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    let push = Push::bare().and_to(&registry).source(&one_image(folder.path()));
    let refused = push.flags(&["--username=pusher", "--password-command=echo wr0ng-word"]).run();
    assert_eq!(refused.exit, 4, "{}", refused.said());
    assert!(refused.said().contains("user pusher (from --username) was refused"), "{}", refused.said());
}

/// Each image wants a token of its own, and many are asked for at once.
fn many_images(folder: &Path) -> PathBuf {
    let bundle = Bundle::oci_layout();
    let names = (0..12).map(|i| (format!("images.example/a/i{i}:1"), format!("layer {i}")));
    names.fold(bundle, |bundle, (name, seed)| bundle.image(&name, &[&seed])).write(folder)
}

#[test]
fn no_account_gets_locked_when_its_password_changes_in_the_middle() {
    let folder = folder();
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    let given = AtomicUsize::new(0);
    registry.on(Rule::on(
        "GET",
        "/token",
        Action::make(move |_| {
            if given.fetch_add(1, Ordering::SeqCst) < 4 {
                return Answer::json(200, &json!({"token": LOGIN.token, "expires_in": 300}));
            }
            Answer::error(401, "UNAUTHORIZED", "the password has changed")
        }),
    ));
    let push = Push::bare().and_to(&registry).source(&many_images(folder.path()));
    let pushed = push.flags(&["--username=pusher", "--password=s3cret-word"]).run();
    assert_ne!(pushed.exit, 0);
    let logins = registry.asked().iter().filter(|request| request.path == "/token").count();
    assert!((5..=7).contains(&logins), "{logins} logins, four of which were taken: {}", pushed.said());
}

#[test]
fn a_password_file_that_changed_is_read_again() {
    let folder = folder();
    let registry = ScriptedRegistry::start().asks_for(LOGIN);
    let file = folder.path().join("password");
    fs::write(&file, "0ld-word").unwrap();
    let (given, changes) = (AtomicUsize::new(0), file.clone());
    registry.on(Rule::on(
        "GET",
        "/token",
        Action::make(move |request: &Request| {
            let count = given.fetch_add(1, Ordering::SeqCst);
            if count == 3 {
                fs::write(&changes, LOGIN.password).unwrap();
            }
            let right = if count < 3 { "0ld-word" } else { LOGIN.password };
            if request.header("authorization") == format!("Basic {}", encode(&format!("pusher:{right}"))) {
                return Answer::json(200, &json!({"token": LOGIN.token, "expires_in": 300}));
            }
            Answer::error(401, "UNAUTHORIZED", "who is that?")
        }),
    ));
    let push = Push::bare().and_to(&registry).source(&many_images(folder.path()));
    push.flag("--username=pusher").flag("--password-file").flag(&file).run().complete();
}

#[test]
fn each_repository_is_pushed_with_the_longest_entry_for_it() {
    let folder = folder();
    let registry = ScriptedRegistry::start();
    let challenge = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"r\"");
    let (host, bundle) = (registry.host(), Bundle::oci_layout());
    let bundle = bundle
        .image("images.example/app/one:1", &["one"])
        .image("images.example/app/deep/two:1", &["two"])
        .image("images.example/other:1", &["three"]);
    let push = Push::bare().and_to(format!("{host}/team").as_str()).source(&bundle.write(folder.path()));
    let auth = |user: &str| json!({"auth": encode(&format!("{user}:x"))});
    let entries =
        json!({format!("{host}/team/app"): auth("app"), format!("{host}/team/app/deep"): auth("deep")});
    for general in [Some("general"), None] {
        registry.on(Rule::on("GET", "/v2/", Action::Answer(challenge.clone())).times(1));
        let mut config = json!({"auths": entries});
        if let Some(user) = general {
            config["auths"][&host] = auth(user);
        }
        registry.store(Store::empty);
        let (exit, said) = with_config(&push, folder.path(), &config);
        let asked = registry.asked();
        let users = |part: &str| {
            let of_path = asked.iter().filter(|it| it.path.contains(part));
            let mut users: Vec<_> = of_path.map(|it| it.header("authorization").to_owned()).collect();
            // The very first question is asked of whoever answers, to hear what it wants.
            users.retain(|user| !user.is_empty());
            users.dedup();
            users
        };
        let basic = |user: &str| format!("Basic {}", encode(&format!("{user}:x")));
        assert_eq!(users("/team/app/one/"), [basic("app")], "{said}");
        assert_eq!(users("/team/app/deep/"), [basic("deep")], "{said}");
        // Without an entry for the rest, only those images fail.
        assert_eq!(
            (exit, users("/team/other/")),
            match general {
                Some(user) => (0, vec![basic(user)]),
                None => (4, vec![]),
            },
            "{said}"
        );
        registry.forget_rules();
    }
}
