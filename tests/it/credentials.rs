//! Where credentials come from when no flag gives them, and tokens that end before the push does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::registry::{Registry, Setup};
use crate::support::{bundle, folder, layercast, tool, within};

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
