//! `sync` where this machine or the bundle is not as it should be: what is told, where, and what goes on all the same.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::build::Bundle;
use crate::support::registry::{Registry, Setup, free_port};
use crate::support::scripted::{Action, Rule, ScriptedRegistry};
use crate::support::{folder, layercast, within};
use crate::sync::SitesFile;

fn one_image(folder: &Path) -> std::path::PathBuf {
    Bundle::oci_layout().image("gcr.io/team/app:1", &["one"]).write(folder)
}

fn notes(report: &Value) -> String {
    report["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

fn lines_of<'t>(metrics: &'t str, metric: &str) -> Vec<&'t str> {
    metrics.lines().filter(|line| line.starts_with(metric)).collect()
}

#[test]
fn that_nothing_can_be_locked_is_said_whatever_people_want_to_be_spared() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &one_image(folder.path())).site("one", &registry.host(), "");
    let no_folder = folder.path().join("a-file");
    std::fs::write(&no_folder, "not a folder").unwrap();
    let state = no_folder.to_str().unwrap();
    let run = file.sync(&["--quiet", "--state-dir", state]).complete();
    assert!(run.stderr.contains("warning: no lock: ") && run.stderr.contains(state), "{}", run.said());
    assert!(notes(&run.report).contains("no lock: "), "{}", run.report);
    assert!(!registry.asked().is_empty());
    // Who says in so many words what is to be done about another run wants to be sure of it.
    for what in ["skip", "wait", "fail"] {
        let run = file.sync(&["--quiet", "--state-dir", state, "--if-running", what]);
        assert_eq!(run.exit, 1, "{}", run.said());
        assert!(run.stderr.contains("next: let this user write that folder"), "{}", run.said());
    }
    let mut command = layercast();
    command.args(["sync", "--no-state", "--if-running", "skip", "-c"]).arg(file.write());
    let output = within(Duration::from_secs(60), command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("--if-running needs locks"), "{said}");
    assert!(registry.asked().is_empty(), "nothing is asked again");
}

#[test]
fn a_push_without_a_lock_says_so_too() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    let no_folder = folder.path().join("a-file");
    std::fs::write(&no_folder, "not a folder").unwrap();
    let mut command = layercast();
    command.env_remove("LAYERCAST_NO_STATE").args(["push", "images", "--quiet", "--source"]);
    command.arg(one_image(folder.path())).arg("--state-dir").arg(&no_folder);
    command.arg("--private-registry").arg(format!("http://{}", registry.host()));
    let output = within(Duration::from_secs(60), command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("warning: no lock: "), "{said}");
}

#[test]
fn metrics_that_cannot_be_told_cost_a_warning_and_no_site() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = SitesFile::new(folder.path(), &one_image(folder.path()))
        .line(&format!("metrics: {{textfile: /nonexistent/layercast.prom, listen: '{address}'}}"))
        .site("one", &registry.host(), "");
    let run = file.sync(&["--quiet"]).complete();
    for (key, why) in [("metrics.textfile", "there is no folder /nonexistent"), ("metrics.listen", "in use")]
    {
        let is_told = |text: &str| text.lines().any(|line| line.contains(key) && line.contains(why));
        assert!(is_told(&run.stderr) && is_told(&notes(&run.report)), "{}\n{}", run.said(), run.report);
    }
}

#[test]
fn a_lock_is_asked_for_before_the_port_of_the_metrics() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    registry.on(Rule::on("POST", "/blobs/uploads/", Action::Hold));
    let file = SitesFile::new(folder.path(), &one_image(folder.path()))
        .line(&format!("metrics: {{listen: '127.0.0.1:{}'}}", free_port()))
        .site("one", &registry.host(), "");
    let mut running = file.start(&[]);
    registry.wait_for_held();
    let run = file.sync(&["--if-running", "skip"]);
    assert_eq!((run.exit, &run.report["deferred"][0]["name"]), (0, &"one".into()), "{}", run.said());
    assert!(!run.said().contains("metrics.listen"), "{}", run.said());
    // Both stand in the history: the one that goes on, and the one that left the site to it.
    let mut history = layercast();
    history.env_remove("LAYERCAST_NO_STATE").args(["history", "--json", "-c"]).arg(file.write());
    history.arg("--state-dir").arg(folder.path().join("state"));
    let output = within(Duration::from_secs(60), history);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let left = &told["runs"][0];
    assert_eq!((&left["exit_code"], &left["sites"][0]["result"]), (&0.into(), &"deferred".into()), "{told}");
    assert_eq!(told["runs"][1]["exit_code"], Value::Null, "{told}");
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn a_bundle_that_is_still_arriving_is_left_for_a_later_run_and_the_sites_are_told_of() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    let path = one_image(folder.path());
    let textfile = folder.path().join("layercast.prom");
    let file = |newest: bool| {
        SitesFile::of(folder.path(), &format!("{{path: {}, newest: {newest}}}", path.display()))
            .line(&format!("metrics: {{textfile: {}}}", textfile.display()))
            .site("one", &registry.host(), "")
    };
    file(false).sync(&[]).complete();
    let last = |text: &str| lines_of(text, "layercast_site_last_complete_timestamp_seconds")[0].to_owned();
    let before = last(&std::fs::read_to_string(&textfile).unwrap());
    assert!(!before.ends_with(" 0"), "{before}");
    let run = file(true).sync(&[]);
    assert_eq!((run.exit, &run.report["error"]["class"]), (3, &"arriving".into()), "{}", run.said());
    assert!(run.said().contains("60 seconds"), "{}", run.said());
    let mirror = run.mirror(0);
    assert_eq!((&mirror["name"], &mirror["error"]["class"]), (&"one".into(), &"arriving".into()));
    assert_eq!(mirror["state"], "not_begun");
    let after = std::fs::read_to_string(&textfile).unwrap();
    assert_eq!(
        (last(&after), lines_of(&after, "layercast_site_complete")[0].ends_with(" 0")),
        (before, true)
    );
    let mut history = layercast();
    history.args(["history", "--json", "--state-dir"]).arg(folder.path().join("state"));
    let told = within(Duration::from_secs(60), history).stdout;
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!((&told["runs"][0]["class"], &told["runs"][0]["exit_code"]), (&"arriving".into(), &3.into()));
    // The day before, the sites are looked at all the same.
    let mut check = layercast();
    check.args(["sites", "check", "--json", "-c"]).arg(file(true).write());
    let output = within(Duration::from_secs(60), check);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["machine"][0]["what"]), (Some(3), &"bundle".into()));
    let checks = document["sites"][0]["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["what"] == "login" && check["state"] == "good"), "{document}");
}

#[test]
fn a_report_that_cannot_be_written_is_told_in_the_history_too() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    let reports = folder.path().join("reports");
    std::fs::create_dir(&reports).unwrap();
    // The folder of the report goes while the run goes on.
    let gate = format!("gate: 'rmdir {}'", reports.display());
    let notified = folder.path().join("told");
    let file = SitesFile::new(folder.path(), &one_image(folder.path()))
        .line(&format!("notify: 'cat > {}'", notified.display()))
        .site("one", &registry.host(), &gate);
    let report = reports.join("report.json");
    let output = within(Duration::from_secs(60), file.command(&["--report", report.to_str().unwrap()]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("report.json was not written") && said.contains("  next: "), "{said}");
    let history = history(folder.path());
    let run = &history["runs"][0];
    assert_eq!((&run["exit_code"], &run["sites"][0]["result"]), (&1.into(), &"complete".into()), "{history}");
    let told: Value = serde_json::from_slice(&std::fs::read(notified).unwrap()).unwrap();
    assert_eq!((&told["exit_code"], &told["error"]["exit_code"]), (&1.into(), &1.into()), "{told}");
}

#[test]
fn a_run_that_is_told_to_stop_while_it_waits_for_another_one_tells_of_it() {
    let folder = folder();
    let path = one_image(folder.path());
    let slow = ScriptedRegistry::strict();
    slow.on(Rule::on("POST", "/blobs/uploads/", Action::Hold));
    let mut running = SitesFile::new(folder.path(), &path).site("slow", &slow.host(), "").start(&[]);
    slow.wait_for_held();
    let notified = folder.path().join("told");
    let file = SitesFile::new(folder.path(), &path)
        .line(&format!("notify: 'cat > {}'", notified.display()))
        .site("slow", &slow.host(), "");
    let report = folder.path().join("report.json");
    let mut waiting = file
        .command(&["--if-running", "wait", "--report", report.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("waits until that run is done")));
    assert!(Command::new("kill").args(["-TERM", &waiting.id().to_string()]).status().unwrap().success());
    let said: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(waiting.wait().unwrap().code(), Some(130), "{said:?}");
    for document in [&report, &notified] {
        let told: Value = serde_json::from_slice(&std::fs::read(document).unwrap()).unwrap();
        assert_eq!(
            (&told["exit_code"], &told["mirrors"][0]["name"]),
            (&130.into(), &"slow".into()),
            "{told}"
        );
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(history(folder.path())["runs"][0]["exit_code"], 130);
}

/// As a process does that was stopped while it set a damaged database aside.
#[test]
fn a_lock_that_is_never_given_back_holds_up_no_run() {
    let folder = folder();
    let path =
        Bundle::oci_layout().image("gcr.io/team/app:1", &["one"]).layer_bytes(9 << 20).write(folder.path());
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &path).site("one", &registry.host(), "");
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let held = ["state.users", "uploads.users"].map(|name| {
        let lock = std::fs::File::create(state.join(name)).unwrap();
        lock.try_lock().unwrap();
        lock
    });
    let run = file.sync(&["--quiet"]).complete();
    for text in [notes(&run.report), run.stderr] {
        assert!(text.contains("nothing is remembered between runs: "), "{text}");
        assert!(text.contains("state.users: another process holds its lock"), "{text}");
    }
    assert_eq!(registry.store(|store| store.shown().len()), 1);

    // The deadline comes first.
    registry.asked();
    let run = file.sync(&["--deadline", "1s"]);
    let error = &run.report["mirrors"][0]["error"];
    assert_eq!((run.exit, &error["class"]), (3, &"deadline".into()), "{}", run.said());
    assert!(error["message"].as_str().unwrap().contains("while its state was opened"), "{error}");
    assert!(registry.asked().is_empty());
    drop(held);
    file.sync(&[]).complete();
    assert_eq!(history(folder.path())["runs"][0]["exit_code"], 0);
}

/// `history --json` of the state in this folder.
fn history(folder: &Path) -> Value {
    let mut history = layercast();
    history.args(["history", "--json", "--state-dir"]).arg(folder.join("state"));
    serde_json::from_slice(&within(Duration::from_secs(60), history).stdout).unwrap()
}

#[test]
fn what_goes_wrong_beside_the_sites_is_said_whatever_people_want_to_be_spared() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    let no_folder = folder.path().join("a-file");
    std::fs::write(&no_folder, "not a folder").unwrap();
    let file = SitesFile::new(folder.path(), &one_image(folder.path())).line("notify: 'exit 9'").site(
        "one",
        &registry.host(),
        "",
    );
    let run = file.sync(&["--quiet", "--stage", no_folder.to_str().unwrap()]).complete();
    assert!(run.stderr.contains("the run goes on without its stage"), "{}", run.said());
    assert!(run.stderr.contains("the notification failed"), "{}", run.said());
    assert!(notes(&run.report).contains("goes on without its stage"), "{}", run.report);
    // A state that proves damaged.
    let database = folder.path().join("state/state.sqlite");
    std::fs::write(database, "whatever it was ".repeat(4096)).unwrap();
    let run = file.sync(&["--quiet"]).complete();
    assert!(run.stderr.contains("set aside as"), "{}", run.said());
    assert!(notes(&run.report).contains("set aside as"), "{}", run.report);
}

#[test]
fn a_command_that_hangs_holds_up_no_other_credentials() {
    let folder = folder();
    let (registry, begun) = (ScriptedRegistry::strict(), folder.path().join("begun"));
    // Each ends when all three have begun: one after the other they would never.
    let command = format!(
        "echo x >> {0}; while test $(wc -l < {0}) -lt 3; do sleep 0.05; done; echo password",
        begun.display()
    );
    let file = (0..3).fold(SitesFile::new(folder.path(), &one_image(folder.path())), |file, site| {
        let keys = format!("namespace: n{site}, credentials: {{username: u, command: '{command} # {site}'}}");
        file.site(&format!("s{site}"), &registry.host(), &keys)
    });
    file.sync(&[]).complete();
}

/// `sites check --json` of a file.
fn check(file: &SitesFile) -> (Option<i32>, Value) {
    let mut command = layercast();
    command.args(["sites", "check", "--json", "-c"]).arg(file.write());
    let output = within(Duration::from_secs(60), command);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn the_certificate_of_the_registry_is_named_before_it_expires() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    crate::tls::authority(folder.path(), "ca");
    let certificate = Some((path("ca-server.crt"), path("ca-server.key")));
    let registry = Registry::docker_with(&Setup { certificate, htpasswd: None, client_ca: None });
    let file = SitesFile::new(folder.path(), &one_image(folder.path()))
        .line("sites:")
        .line(&format!("- {{name: one, registry: 'https://{}', ca_file: ca.crt}}", registry.host()));
    let (exit, document) = check(&file);
    let checks = document["sites"][0]["checks"].as_array().unwrap();
    let dates: Vec<(&str, &str)> = checks
        .iter()
        .filter(|check| check["what"] == "certificate")
        .map(|check| (check["message"].as_str().unwrap(), check["state"].as_str().unwrap()))
        .collect();
    // Both are valid for two days.
    assert_eq!((exit, dates.len()), (Some(0), 2), "{document}");
    for whose in ["in ca_file (CN=ca authority)", "of the registry (CN=localhost)"] {
        assert!(dates.iter().any(|(said, state)| said.contains(whose) && *state == "warning"), "{dates:?}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_told_before_the_night() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &one_image(folder.path()))
        .line("spool_dir: no-such-folder")
        .line("metrics: {textfile: no-folder/x.prom}")
        .site("one", &registry.host(), "ca_file: no-such.crt");
    let mut command = layercast();
    command.args(["config", "check", "-c"]).arg(file.write());
    let output = within(Duration::from_secs(60), command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for key in ["spool_dir: ", "metrics.textfile: ", "ca_file of one: "] {
        assert!(said.lines().any(|line| line.contains("warning: ") && line.contains(key)), "{key}: {said}");
    }
    let (exit, document) = check(&file);
    let machine = document["machine"].as_array().unwrap();
    let stands = |what: &str| {
        let found = machine.iter().find(|entry| entry["message"].as_str().unwrap().starts_with(what));
        found.map(|entry| entry["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(
        (exit, stands("spool "), stands("metrics.textfile")),
        (Some(2), Some("failed".into()), Some("warning".into())),
        "{document}"
    );
    assert_eq!(file.sync(&[]).exit, 2);
}

#[test]
fn a_site_that_waits_for_its_window_says_until_when() {
    let folder = folder();
    let registry = ScriptedRegistry::strict();
    // Closed for twelve hours at least, whatever the time.
    let now = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).hour();
    let opens = (now + 13) % 24;
    let keys = |outside: &str| {
        format!("window: {{hours: '{opens:02}:00-{opens:02}:30', time_zone: UTC, outside: {outside}}}")
    };
    let file = |outside: &str| {
        SitesFile::new(folder.path(), &one_image(folder.path())).site(
            "late",
            &registry.host(),
            &keys(outside),
        )
    };
    let mut plan = layercast();
    plan.args(["plan", "-c"]).arg(file("wait").write());
    let output = within(Duration::from_secs(60), plan);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("late: waits for its window") && said.contains(&format!("{opens:02}:00 UTC")),
        "{said}"
    );
    let run = file("wait").sync(&["--deadline", "1s"]);
    assert!(run.said().contains("late: waits for its window"), "{}", run.said());
    // Left for a later run it stands in one place only.
    let run = file("stop").sync(&[]);
    let report = &run.report;
    assert_eq!((run.exit, report["mirrors"].as_array().unwrap().len()), (0, 0), "{}", run.said());
    assert_eq!(
        (&report["deferred"][0]["name"], &report["deferred"][0]["why"]),
        (&"late".into(), &"window".into())
    );
}
