//! Hooks of a run: the gate before tags move, and who is told at its end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::http::tags;
use crate::support::registry::Registry;
use crate::support::{Push, Pushed, bundle, folder, judge, layercast, within};

/// A gate that pulls what it is asked about, notes its name, and refuses names that hold `refuses`.
fn gate(folder: &Path, refuses: &str) -> PathBuf {
    let path = folder.join(format!("gate-{refuses}"));
    let script = format!(
        "#!/bin/sh\nset -e\nskopeo inspect --raw --tls-verify=false \"docker://$LAYERCAST_REFERENCE\" > /dev/null\n\
         echo \"$LAYERCAST_IMAGE $LAYERCAST_DIGEST $LAYERCAST_SITE [$LAYERCAST_PASSWORD]\" >> {}/asked\n\
         case $LAYERCAST_IMAGE in *{refuses}*) echo 'CVE-2026-1: critical' >&2; exit 1;; esac\n",
        folder.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What the gate was asked about since this was last looked at.
fn asked(folder: &Path) -> Vec<String> {
    let path = folder.join("asked");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

fn failed(pushed: &Pushed) -> Vec<(String, String, String)> {
    let word = |failed: &Value, key: &str| failed[key].as_str().unwrap().to_owned();
    let failed = pushed.mirror(0)["images_failed"].as_array().unwrap().iter();
    failed.map(|failed| (word(failed, "image"), word(failed, "class"), word(failed, "phase"))).collect()
}

#[test]
fn an_image_that_the_gate_refuses_keeps_its_tags_until_the_gate_is_asked_again() {
    let folder = folder();
    let registry = Registry::docker();
    let bundle = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let all = {
        let elsewhere = Registry::docker();
        let pushed = Push::to(&elsewhere).source(&bundle).run().complete();
        let verified = pushed.mirror(0)["images_verified"].as_array().unwrap().clone();
        verified.iter().map(|image| image["image"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let refused = &all[0];
    let name = refused.rsplit('/').next().unwrap().split(':').next().unwrap();
    let target = format!("{}/ns", registry.host());
    let push = |gate: &Path| {
        Push::to(target.as_str())
            .source(&bundle)
            .state(&folder.path().join("state"))
            .flag("--gate")
            .flag(gate)
    };
    let refusing = gate(folder.path(), name);

    let pushed = push(&refusing).run();
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    let first = asked(folder.path());
    assert!(
        first.len() >= all.len() && first.iter().all(|line| line.ends_with(&format!("{target} []"))),
        "{first:?}"
    );
    let refusals = failed(&pushed);
    assert!(!refusals.is_empty() && refusals.len() < all.len(), "{refusals:?}");
    for (image, class, phase) in &refusals {
        assert!(image.contains(name) && class == "gate-refused" && phase == "gate", "{refusals:?}");
    }
    // Once for all images that it refuses with these words.
    assert_eq!(pushed.said().matches("CVE-2026-1: critical").count(), 1, "{}", pushed.said());
    let place = pushed.mirror(0)["images_failed"][0]["place"].as_str().unwrap();
    assert!(tags(&registry.url(), place.split(':').next().unwrap()).is_empty(), "{place}");

    // Remembered: nothing is asked, and nothing else is wrong.
    let again = push(&refusing).run();
    assert_eq!((again.exit, failed(&again)), (3, refusals.clone()));
    assert!(again.said().contains("in an earlier run"), "{}", again.said());
    assert_eq!(asked(folder.path()), Vec::<String>::new());

    let regated = push(&refusing).flag("--regate").run();
    assert_eq!((regated.exit, asked(folder.path()).len()), (3, refusals.len()));
    // Another gate is another judge.
    push(&gate(folder.path(), "nothing-at-all")).run().complete();
    judge(&format!("{}/ns", registry.url()), &bundle);
}

#[test]
fn with_atomic_tags_one_refusal_keeps_all_tags() {
    let folder = folder();
    let registry = Registry::docker();
    let bundle = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let refusing = gate(folder.path(), "app");
    let names = Push::to(&registry).source(&bundle).flag("--atomic-tags").flag("--gate").flag(&refusing);
    let pushed = names.flag("--gate-timeout=60").run();
    let failed = failed(&pushed);
    let complete = pushed.mirror(0)["images_complete"].as_u64().unwrap();
    if failed.iter().any(|(_, class, _)| class == "gate-refused") {
        assert_eq!((pushed.exit, complete), (3, 0), "{}", pushed.said());
        assert!(failed.iter().any(|(_, class, _)| class == "withheld"), "{failed:?}");
    } else {
        panic!("no image of the bundle has app in its name: {}", pushed.report);
    }
}

#[test]
fn whoever_is_to_be_told_gets_the_report_and_cannot_fail_the_run() {
    let folder = folder();
    let registry = Registry::docker();
    let bundle = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let seen = folder.path().join("seen.json");
    let push = |notify: &str| Push::to(&registry).source(&bundle).flag("--notify").flag(notify).run();
    let pushed = push(&format!("cat > {}", seen.display())).complete();
    let told: Value = serde_json::from_slice(&fs::read(&seen).unwrap()).unwrap();
    assert_eq!(told, pushed.report);
    let failing = push("echo 'no route to the pager' >&2; exit 1").complete();
    assert!(failing.said().contains("no route to the pager"), "{}", failing.said());
    let unreachable = push("http://127.0.0.1:1/hooks/s3cret").complete();
    assert!(unreachable.said().contains("the notification failed"), "{}", unreachable.said());
    assert!(!unreachable.said().contains("s3cret"), "{}", unreachable.said());
}

#[test]
fn sync_asks_the_gate_of_a_site_and_tells_its_report() {
    let folder = folder();
    let registry = Registry::docker();
    let bundle = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let (refusing, seen) = (gate(folder.path(), "app"), folder.path().join("seen.json"));
    let config = folder.path().join("sites.yaml");
    let text = format!(
        "version: 1\nbundles: [{{path: {}}}]\nstate_dir: {}\nnotify: 'cat > {}; test -z \"$REGISTRY_PASSWORD\"'\n\
         sites:\n  - {{name: free, registry: 'http://{host}', namespace: free, credentials: none}}\n  \
         - {{name: gated, registry: 'http://{host}', namespace: gated, gate: {}, window: none, \
         credentials: {{username: u, password_env: REGISTRY_PASSWORD}}}}\n",
        bundle.display(),
        folder.path().join("state").display(),
        seen.display(),
        refusing.display(),
        host = registry.host(),
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = layercast();
    command
        .env_remove("LAYERCAST_NO_STATE")
        .env("REGISTRY_PASSWORD", "hunter2")
        .arg("sync")
        .arg("-c")
        .arg(&config);
    let output = within(Duration::from_secs(120), command);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(!said.contains("the notification failed"), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(&seen).unwrap()).unwrap();
    assert_eq!((&report["schema_version"], &report["exit_code"]), (&2.into(), &3.into()));
    assert_eq!(report["config"].as_str().unwrap(), config.to_str().unwrap());
    assert_eq!(report["config_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(report["bundles"][0]["path"].as_str().unwrap(), bundle.to_str().unwrap());
    let [free, gated] = [0, 1].map(|site| &report["mirrors"][site]);
    assert_eq!((&free["name"], &free["site"]["wave"]), (&"free".into(), &1.into()));
    assert!(free["images_failed"].as_array().unwrap().is_empty(), "{free}");
    assert!(free["images_verified"][0]["digest"].as_str().unwrap().starts_with("sha256:"), "{free}");
    assert_eq!(gated["site"]["registry"].as_str().unwrap(), format!("{}/gated", registry.host()));
    let failed = &gated["images_failed"][0];
    assert_eq!((&failed["class"], &failed["phase"]), (&"gate-refused".into(), &"gate".into()), "{gated}");
    assert!(asked(folder.path()).iter().all(|line| line.ends_with("gated []")));
}
