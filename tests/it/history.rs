//! Earlier runs, as `history` shows them.

use std::path::Path;

use serde_json::Value;

use crate::support::registry::Registry;
use crate::support::{Push, bundle, folder, layercast, within};

fn history(state: &Path, flags: &[&str]) -> (i32, String) {
    let mut command = layercast();
    command.arg("history").arg("--state-dir").arg(state).args(flags);
    let output = within(std::time::Duration::from_secs(60), command);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn runs_are_shown_with_what_they_came_to_at_each_site() {
    let folder = folder();
    let state = folder.path().join("state");
    assert_eq!(history(&state, &[]).0, 2, "nothing ran, so there is no such folder");
    let registry = Registry::docker();
    let bundle = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let (good, dead) = (registry.host(), "127.0.0.1:1");
    Push::to(&registry).state(&state).source(&bundle).run().complete();
    let second = Push::to(&registry).and_to(dead).flag("--patience=0").state(&state).source(&bundle).run();
    assert_eq!(second.exit, 3);

    let (exit, text) = history(&state, &[]);
    assert_eq!(exit, 0, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("#2 ") && lines[0].contains("exit 3"), "{text}");
    assert_eq!(lines[1], "  1 of 2 sites complete");
    assert!(
        lines[2].contains(dead) && lines[2].contains("failed") && lines[2].ends_with("[unreachable]"),
        "{text}"
    );
    assert!(lines[3].starts_with("#1 ") && lines[4] == "  1 of 1 site complete", "{text}");

    let (_, json) = history(&state, &["--json", "--site", &good]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let runs = json["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &runs[0]["exit_code"]), (2, &3.into()));
    let site = &runs[0]["sites"][0];
    assert_eq!((&site["name"], &site["result"]), (&good.into(), &"complete".into()));
    assert_eq!(site["images_complete"], second.mirror(0)["images_complete"]);
    assert!(runs[1]["sites"][0]["blobs_sent"].as_u64().unwrap() > 0);
    let (exit, text) = history(&state, &["--site", "nowhere"]);
    assert_eq!((exit, text), (0, format!("no run at nowhere is remembered in {}\n", state.display())));
}

#[test]
fn as_many_runs_are_kept_as_was_asked_for() {
    let folder = folder();
    let state = folder.path().join("state");
    let broken = folder.path().join("broken.tar");
    std::fs::write(&broken, "no archive").unwrap();
    let push =
        Push::to("127.0.0.1:1").state(&state).source(&broken).flags(&["--keep-runs=2", "--patience=0"]);
    for _ in 0..3 {
        assert_eq!(push.run().exit, 5);
    }
    let (_, text) = history(&state, &[]);
    let runs = text.lines().filter(|line| line.starts_with('#')).count();
    assert_eq!(runs, 2, "{text}");
    assert!(text.contains("[not-a-bundle]"), "{text}");
}
