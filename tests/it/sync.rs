//! `sync`: many sites from one file, run after run.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::build::{Bundle, digest};
use crate::support::registry::{Registry, free_port};
use crate::support::scripted::{Action, Answer, Request, Rule, ScriptedRegistry};
use crate::support::{Pushed, folder, layercast, tool, within};

/// A sites file, to be written line by line.
pub(crate) struct SitesFile {
    text: String,
    folder: PathBuf,
}

impl SitesFile {
    pub(crate) fn new(folder: &Path, bundle: &Path) -> Self {
        Self::of(folder, &format!("{{path: {}}}", bundle.display()))
    }

    /// With this entry of `bundles`.
    pub(crate) fn of(folder: &Path, bundle: &str) -> Self {
        let text = format!("version: 1\nbundles: [{bundle}]\ndefaults: {{credentials: none}}\n");
        Self { text, folder: folder.to_owned() }
    }

    pub(crate) fn line(mut self, line: &str) -> Self {
        self.text.push_str(line);
        self.text.push('\n');
        self
    }

    /// A site, with these keys beside its name and its registry.
    pub(crate) fn site(self, name: &str, host: &str, keys: &str) -> Self {
        let begin = if self.text.contains("\nsites:\n") { "" } else { "sites:\n" };
        let comma = if keys.is_empty() { "" } else { ", " };
        self.line(&format!("{begin}- {{name: {name}, registry: 'http://{host}'{comma}{keys}}}"))
    }

    pub(crate) fn write(&self) -> PathBuf {
        let path = self.folder.join("sites.yaml");
        std::fs::write(&path, &self.text).unwrap();
        path
    }

    /// `sync` of this file with these flags.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = layercast();
        command
            .env_remove("LAYERCAST_NO_STATE")
            .env_remove("JOB_COMPLETION_INDEX")
            .env_remove("LAYERCAST_SHARDS");
        command.arg("sync").arg("-c").arg(self.write()).args(flags);
        if !flags.contains(&"--state-dir") {
            command.arg("--state-dir").arg(self.folder.join("state"));
        }
        command
    }

    pub(crate) fn start(&self, flags: &[&str]) -> Child {
        self.command(flags).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub(crate) fn sync(&self, flags: &[&str]) -> Pushed {
        let report = self.folder.join("report.json");
        let _ = std::fs::remove_file(&report);
        let mut command = self.command(flags);
        command.arg("--report").arg(&report);
        let Output { status, stdout, stderr } = within(Duration::from_secs(120), command);
        let report = std::fs::read(&report).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Pushed {
            exit: status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            report: report.unwrap_or(Value::Null),
        }
    }
}

fn two_images() -> Bundle {
    Bundle::oci_layout().image("gcr.io/team/app:1", &["base", "one"]).image("quay.io/lib:2", &["base", "two"])
}

fn shown(registry: &ScriptedRegistry) -> Vec<String> {
    registry.store(|store| {
        assert_eq!(store.faults(), [""; 0]);
        store.shown()
    })
}

/// How a run left each site: `a: complete`, `b: unreachable`.
fn left(run: &Pushed) -> Vec<String> {
    let site = |site: &Value| {
        let class = site["error"]["class"].as_str().or_else(|| site["images_failed"][0]["class"].as_str());
        format!("{}: {}", site["name"].as_str().unwrap(), class.unwrap_or("complete"))
    };
    run.report["mirrors"].as_array().unwrap().iter().map(site).collect()
}

#[test]
fn a_site_that_is_down_does_not_keep_the_others_from_being_filled() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let (one, three) = (Registry::embedded(&folder.path().join("one")), Registry::docker());
    let file = SitesFile::new(folder.path(), &path)
        .site("one", &one.host(), "namespace: test")
        .site("two", &format!("127.0.0.1:{}", free_port()), "patience: 1s, retries: 1")
        .site("three", &three.host(), "");
    let run = file.sync(&[]);
    assert_eq!(left(&run), ["one: complete", "two: unreachable", "three: complete"]);
    assert_eq!(run.exit, 6, "every site that is not complete could not be reached");
    let again = file.sync(&["--skip-site", "two"]).complete();
    assert_eq!(
        (&again.mirror(0)["images_unchanged"], &again.mirror(1)["blobs_sent"]),
        (&2.into(), &0.into())
    );
}

#[test]
fn what_is_wrong_with_one_site_is_said_of_it_alone() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &path)
        .site("no-ca", &registry.host(), "namespace: a, ca_file: /nonexistent/ca.crt")
        .site(
            "no-password",
            &registry.host(),
            "namespace: b, credentials: {username: u, password_env: NO_SUCH_VARIABLE}",
        )
        .site("fine", &registry.host(), "namespace: c");
    let run = file.sync(&[]);
    assert_eq!(left(&run), ["no-ca: usage", "no-password: auth", "fine: complete"]);
    assert_eq!(run.exit, 3);
    assert!(run.said().contains("NO_SUCH_VARIABLE is not set"), "{}", run.said());
    assert_eq!(shown(&registry), ["c/lib:2", "c/team/app:1"]);
    assert_eq!(file.sync(&["--site", "no-password"]).exit, 4);
}

#[test]
fn each_site_has_a_choice_and_names_of_its_own() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registries: Vec<ScriptedRegistry> = (0..3).map(|_| ScriptedRegistry::strict()).collect();
    let file = SitesFile::new(folder.path(), &path)
        .line("groups: {small: {include: ['gcr.io/*']}}")
        .site("few", &registries[0].host(), "groups: [small]")
        .site("kept", &registries[1].host(), "keep_host: true, namespace: ns")
        .site("moved", &registries[2].host(), "rewrite: ['quay.io/(.*)=quay/$1']");
    let run = file.sync(&[]).complete();
    assert_eq!(shown(&registries[0]), ["team/app:1"]);
    assert_eq!(shown(&registries[1]), ["ns/gcr.io/team/app:1", "ns/quay.io/lib:2"]);
    assert_eq!(shown(&registries[2]), ["quay/lib:2", "team/app:1"]);
    assert_eq!(run.report["decode"]["parts"], 0);
}

#[test]
fn plan_and_verify_take_the_file_and_send_nothing() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &path).site("one", &registry.host(), "namespace: a").site(
        "idle",
        &registry.host(),
        "namespace: b, enabled: false",
    );
    let plan = file.sync(&["--dry-run"]);
    assert_eq!(plan.exit, 0, "{}", plan.said());
    assert!(plan.stdout.starts_with("one\n") && plan.stdout.contains("a/team/app:1"), "{}", plan.stdout);
    let ask = |verb: &str| {
        let mut command = layercast();
        command.arg(verb).arg("-c").arg(file.write()).arg("--json");
        let output = within(Duration::from_secs(60), command);
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (exit, planned) = ask("plan");
    assert_eq!((exit, &planned["mirrors"][0]["images"][0]["verdict"]), (0, &"push".into()));
    assert_eq!(ask("verify").0, 3);
    assert!(!registry.asked().iter().any(crate::support::scripted::Request::sends));
    file.sync(&[]).complete();
    let (exit, verified) = ask("verify");
    assert_eq!(
        (exit, &verified["mirrors"][0]["images_complete"], verified["mirrors"].get(1)),
        (0, &2.into(), None)
    );
    assert_eq!(verified["mirrors"][0]["site"]["registry"], format!("{}/a", registry.host()), "{verified}");
}

#[test]
fn a_sum_that_is_wrong_moves_no_tag() {
    let folder = folder();
    let bundle = two_images().write(folder.path());
    let path = folder.path().join("named.tar");
    std::fs::rename(&bundle, &path).unwrap();
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &path).site("one", &registry.host(), "");
    let beside = folder.path().join("named.tar.sha256");
    std::fs::write(&beside, format!("{}  named.tar\n", "0".repeat(64))).unwrap();
    let run = file.sync(&[]);
    assert_eq!((run.exit, left(&run)), (5, vec!["one: digest-mismatch".to_owned()]), "{}", run.said());
    assert_eq!(shown(&registry), [""; 0]);
    let sum = digest(&std::fs::read(&path).unwrap());
    std::fs::write(&beside, format!("SHA256 (named.tar) = {}\n", sum.trim_start_matches("sha256:"))).unwrap();
    file.sync(&[]).complete();
    assert_eq!(shown(&registry), ["lib:2", "team/app:1"]);
}

#[test]
fn the_sum_of_a_bundle_is_in_the_report_and_remembered_until_somebody_touches_it() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let sum = digest(&std::fs::read(&path).unwrap()).replace("sha256:", "");
    let beside = PathBuf::from(format!("{}.sha256", path.display()));
    std::fs::write(&beside, format!("{sum}  {}\n", path.file_name().unwrap().to_str().unwrap())).unwrap();
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &path).site("one", &registry.host(), "");
    let known = || file.sync(&[]).complete().report["bundles"][0]["sha256"].clone();
    assert_eq!(known(), Value::from(sum.clone()));
    std::fs::remove_file(&beside).unwrap();
    assert_eq!(known(), Value::from(sum));
    tool("touch", &[path.as_os_str()]);
    assert_eq!(known(), Value::Null);
}

#[test]
fn a_site_that_another_run_is_at_is_left_to_it() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let (slow, free) = (ScriptedRegistry::strict(), ScriptedRegistry::strict());
    slow.on(Rule::on("POST", "/blobs/uploads/", Action::Hold));
    let first = SitesFile::new(folder.path(), &path).site("slow", &slow.host(), "");
    let mut running = first.start(&[]);
    slow.wait_for_held();
    let both = SitesFile::new(folder.path(), &path)
        .line("if_running: fail")
        .site("slow", &slow.host(), "")
        .site("free", &free.host(), "");
    let run = both.sync(&[]);
    assert_eq!((run.exit, left(&run)), (7, vec!["slow: locked".to_owned(), "free: complete".to_owned()]));
    let run = both.sync(&["--if-running", "skip"]);
    assert_eq!((run.exit, left(&run)), (0, vec!["free: complete".to_owned()]), "{}", run.said());
    let deferred = &run.report["deferred"][0];
    assert_eq!((&deferred["name"], &deferred["why"]), (&"slow".into(), &"running".into()));
    let message = deferred["message"].as_str().unwrap();
    assert!(message.contains(&format!("process {} since 20", running.id())), "{message}");
    assert!(run.stdout.contains("slow: deferred: "), "{}", run.stdout);
    // One that is killed gives its lock back, and is waited for meanwhile.
    running.kill().unwrap();
    slow.forget_rules();
    let run = both.sync(&[]).complete();
    running.wait().unwrap();
    assert_eq!(left(&run), ["slow: complete", "free: complete"]);
}

#[test]
fn four_shards_ask_of_each_site_exactly_what_one_run_asks() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registry = ScriptedRegistry::start();
    let mut file = SitesFile::new(folder.path(), &path);
    for site in 0..12 {
        file = file.site(
            &format!("site-{site}"),
            &registry.host(),
            &format!("namespace: ns-{site}, threads: 1"),
        );
    }
    let asked = || {
        registry.asked().iter().fold(BTreeMap::<String, usize>::new(), |mut all, request| {
            // By kind and site. Which site is first to bring blobs that others mount, chance decides; and how long an answer
            // takes, whether sessions are opened ahead. Nobody knocks.
            let site = request.path.split('/').nth(2).unwrap_or_default();
            if let kind @ ("HEAD manifest" | "PUT manifest" | "GET base") = request.kind().as_str() {
                *all.entry(format!("{kind} {site}")).or_default() += 1;
            }
            all
        })
    };
    file.sync(&[]).complete();
    let once = asked();
    registry.store(|store| {
        store.empty();
    });
    for shard in 0..4 {
        let state = folder.path().join(format!("state-{shard}"));
        let run = within(Duration::from_secs(60), {
            let mut command = file.command(&["--shards", "4", "--state-dir", state.to_str().unwrap()]);
            command.env("JOB_COMPLETION_INDEX", shard.to_string());
            command
        });
        assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    }
    assert_eq!(asked(), once);
    for (flags, index) in [(&["--shards", "4"][..], None), (&["--shards", "4"], Some("4")), (&[], Some("0"))]
    {
        let mut command = file.command(flags);
        if let Some(index) = index {
            command.env("JOB_COMPLETION_INDEX", index);
        }
        assert_eq!(within(Duration::from_secs(60), command).status.code(), Some(2), "{flags:?} {index:?}");
    }
}

#[test]
fn two_hundred_sites_that_have_everything_cost_a_request_for_each_name() {
    let folder = folder();
    let path = Bundle::oci_layout().image("gcr.io/team/app:1", &["one"]).write(folder.path());
    let registries: Vec<ScriptedRegistry> = (0..5).map(|_| ScriptedRegistry::start()).collect();
    let mut file = SitesFile::new(folder.path(), &path);
    for site in 0..200 {
        let host = registries[site % 5].host();
        file = file.site(&format!("site-{site}"), &host, &format!("namespace: ns-{site}"));
    }
    // The first five have the hosts to themselves: what they got is mounted by the others.
    let first: Vec<String> = (0..5).map(|site| format!("site-{site}")).collect();
    let file = file.line(&format!("waves: [[{}]]", first.join(", ")));
    let costs = || {
        let run = file.sync(&[]).complete();
        assert_eq!(run.report["mirrors"].as_array().unwrap().len(), 200);
        let mut kinds = BTreeMap::<String, usize>::new();
        for request in registries.iter().flat_map(ScriptedRegistry::asked) {
            *kinds.entry(request.kind()).or_default() += 1;
        }
        kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    };
    // A configuration and a layer for each site, which are sent once to each host.
    let cold = "200 HEAD manifest, 390 POST mount, 10 POST upload, 200 PUT manifest, 10 PUT upload";
    assert_eq!([costs(), costs()], [cold, "200 HEAD manifest"]);
}

#[test]
fn a_site_keeps_its_tags_or_is_asked_for_every_blob_where_it_says_so() {
    let folder = folder();
    let bundle = |layer| Bundle::oci_layout().image("gcr.io/team/app:1", &["base", layer]);
    let path = bundle("one").write(folder.path());
    let registry = ScriptedRegistry::strict();
    let file = |path: &Path| {
        SitesFile::new(folder.path(), path)
            .line("parallel_sites: 1")
            .site("keeps", &registry.host(), "namespace: keeps, no_overwrite: true")
            .site("moves", &registry.host(), "namespace: moves")
            .site("asks", &registry.host(), "namespace: asks, recheck: true, verify: none")
    };
    file(&path).sync(&[]).complete();
    registry.asked();
    file(&path).sync(&[]).complete();
    let asked = registry.asked();
    let blobs_of = |site: &str| {
        let of_site = |request: &&Request| {
            request.path.starts_with(&format!("/v2/{site}/")) && request.path.contains("/blobs/")
        };
        asked.iter().filter(of_site).map(|request| request.method.clone()).collect::<Vec<_>>()
    };
    assert_eq!((blobs_of("keeps"), blobs_of("moves")), (vec![], vec![]));
    assert_eq!(blobs_of("asks"), ["HEAD"; 3]);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let run = file(&bundle("two").write(&other)).sync(&[]);
    assert_eq!(left(&run), ["keeps: tag-exists", "moves: complete", "asks: complete"]);
    assert_eq!(run.exit, 3);
}

#[test]
fn a_wrong_file_and_a_wrong_choice_end_with_2() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &path).site("one", &registry.host(), "");
    for flags in [&["--site", "two"][..], &["--group", "g"], &["--shard", "0"]] {
        assert_eq!(file.sync(flags).exit, 2, "{flags:?}");
    }
    let run = SitesFile::new(folder.path(), &folder.path().join("no-such.tar"))
        .site("one", &registry.host(), "")
        .sync(&[]);
    assert!(run.exit == 2 && run.said().contains("no-such.tar"), "{}", run.said());
    let run = SitesFile::new(folder.path(), &path).site("one", &registry.host(), "thread: 4").sync(&[]);
    assert!(run.exit == 2 && run.said().contains("write: threads: …"), "{}", run.said());
    assert!(registry.asked().is_empty());
}

#[test]
fn a_site_that_was_given_up_and_comes_back_within_the_run_is_finished() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let one = Registry::embedded(&folder.path().join("one"));
    let (back, go) = (format!("127.0.0.1:{}", free_port()), folder.path().join("go"));
    // The other site is held up by its gate until the one that was away is complete.
    let gate = format!("gate: 'while [ ! -e {} ]; do sleep 0.02; done'", go.display());
    let file = SitesFile::new(folder.path(), &path).site("one", &one.host(), &gate).site(
        "back",
        &back,
        "patience: 200ms",
    );
    let report = folder.path().join("report.json");
    let mut run = file.command(&["--report", report.to_str().unwrap()]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut wait_for = |what: &str| assert!(lines.any(|line| line.starts_with(what)), "never heard: {what}");
    wait_for("back: no image complete");
    let mut serve = layercast();
    serve.args(["serve", "--listen", &back, "--root"]).arg(folder.path().join("back"));
    let mut serve = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("back: 2 images complete");
    std::fs::write(&go, "").unwrap();
    lines.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    let _ = serve.kill();
    let _ = serve.wait();
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["mirrors"][1]["images_complete"], 2);
}

/// `sites check --json` of a file: its exit code and its document.
fn check(file: &SitesFile, flags: &[&str]) -> (i32, Value) {
    let mut command = layercast();
    command.args(["sites", "check", "--json", "-c"]).arg(file.write()).args(flags);
    let output = within(Duration::from_secs(60), command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), document.unwrap_or_else(|error| panic!("{error}: {said}")))
}

/// How a site stands: `connection good, login good`.
fn stands(document: &Value, site: usize) -> String {
    let checks = document["sites"][site]["checks"].as_array().unwrap().iter();
    let words =
        checks.map(|it| format!("{} {}", it["what"].as_str().unwrap(), it["state"].as_str().unwrap()));
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_way_to_a_site_is_looked_at_step_by_step() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let (clear, closed) = (Registry::embedded(&folder.path().join("clear")), ScriptedRegistry::strict());
    let challenge = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"r\"");
    closed.on(Rule::on("GET", "/v2/", Action::Answer(challenge)));
    let password = folder.path().join("password");
    std::fs::write(&password, "wrong").unwrap();
    let login = format!("credentials: {{username: u, password_file: {}}}", password.display());
    let hurry = "patience: 0s, retries: 0";
    let port = free_port();
    let file = SitesFile::new(folder.path(), &path)
        .site("no-name", "no-such-name.invalid:5000", hurry)
        .site("no-port", &format!("localhost:{port}"), hurry)
        .line(&format!("- {{name: no-tls, registry: 'https://localhost:{}', {hurry}}}", clear.port))
        .site("no-login", &closed.host(), &format!("{hurry}, {login}"));
    let (exit, document) = check(&file, &["--without-bundles"]);
    let all: Vec<String> = (0..4).map(|site| stands(&document, site)).collect();
    assert_eq!(
        all,
        [
            "name failed",
            "name good, connection failed",
            "name good, connection good, tls failed",
            "connection good, login failed",
        ]
    );
    assert_eq!(exit, 3);
    let address = document["sites"][1]["checks"][0]["message"].as_str().unwrap();
    assert!(address.contains("127.0.0.1") || address.contains("::1"), "{address}");
}

#[test]
fn the_day_before_every_site_is_looked_at_and_nothing_is_sent() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let (fine, denying, lacking) =
        (ScriptedRegistry::strict(), ScriptedRegistry::start(), ScriptedRegistry::start());
    let late = "Thu, 01 Jan 2026 00:00:00 GMT";
    fine.on(Rule::on("GET", "/v2/", Action::make(move |_| Answer::status(200).header("Date", late))));
    let no = Answer::error(403, "DENIED", "you may not push here");
    denying.on(Rule::on("POST", "/blobs/uploads/", Action::Answer(no)));
    let none = Answer::error(404, "NAME_UNKNOWN", "project c not found");
    lacking.on(Rule::on("POST", "/v2/c/lib/", Action::Answer(none)));
    let file = SitesFile::new(folder.path(), &path)
        .site("fine", &fine.host(), "namespace: a")
        .site("denying", &denying.host(), "namespace: b")
        .site("lacking", &lacking.host(), "namespace: c")
        .site("down", &format!("127.0.0.1:{}", free_port()), "patience: 0s, retries: 0")
        .site("no-ca", &fine.host(), "namespace: d, ca_file: /nonexistent/ca.crt");
    let (exit, document) = check(&file, &[]);
    assert_eq!(exit, 3);
    let all: Vec<String> = (0..5).map(|site| stands(&document, site)).collect();
    assert_eq!(
        all,
        [
            "connection good, clock warning, login good, push good",
            "connection good, login good, push failed",
            "connection good, login good, push good, repositories failed",
            "connection failed",
            "settings failed",
        ]
    );
    let missing = &document["sites"][2]["checks"][3];
    assert_eq!(missing["repositories"], serde_json::json!(["c/lib"]));
    assert_eq!(document["machine"][0]["what"], "disk");
    let sent = [&fine, &denying, &lacking].map(|registry| {
        let kinds = registry.asked().iter().map(crate::support::scripted::Request::kind).collect::<Vec<_>>();
        kinds.into_iter().filter(|kind| kind.starts_with("PUT") || kind.starts_with("PATCH")).count()
    });
    assert_eq!(sent, [0, 0, 0]);
    let (exit, document) = check(&file, &["--site", "fine", "--without-bundles"]);
    assert_eq!((exit, stands(&document, 0).as_str()), (0, "connection good, clock warning, login good"));
    assert_eq!(check(&file, &["--site", "down"]).0, 6);
}

#[test]
fn repositories_that_must_be_there_can_be_listed_without_asking_anybody() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &path).site("one", &registry.host(), "namespace: a").site(
        "two",
        &registry.host(),
        "namespace: b, include: ['gcr.io/*']",
    );
    let mut command = layercast();
    command.args(["plan", "--repositories", "-c"]).arg(file.write());
    let output = within(Duration::from_secs(60), command);
    let host = registry.host();
    let expected = format!("{host}/a/lib\n{host}/a/team/app\n{host}/b/team/app\n");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(registry.asked().is_empty());
}

/// Hours of a window that is closed now, by UTC: it opens in some hours.
fn closed_hours() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let hour = seconds / 3600 % 24;
    format!("{:02}:00-{:02}:00", (hour + 6) % 24, (hour + 8) % 24)
}

#[test]
fn a_site_whose_window_is_closed_is_deferred_and_that_is_no_failure() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let (now, later) = (ScriptedRegistry::strict(), ScriptedRegistry::strict());
    let window = format!("window: {{hours: '{}', time_zone: UTC, outside: stop}}", closed_hours());
    let file = SitesFile::new(folder.path(), &path).site("now", &now.host(), "").site(
        "later",
        &later.host(),
        &window,
    );
    let metrics = folder.path().join("layercast.prom");
    let run = file.sync(&["--metrics-textfile", metrics.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.said());
    let deferred = &run.report["deferred"][0];
    assert_eq!((&deferred["name"], &deferred["why"]), (&"later".into(), &"window".into()));
    assert_eq!((shown(&now).len(), later.asked().len()), (2, 0));
    let quiet = file.sync(&["--quiet"]).complete();
    assert_eq!(quiet.said().trim(), "", "nobody gets mail from cron for it");
    let metrics = std::fs::read_to_string(&metrics).unwrap();
    let gauge = |site: &str| {
        let mut lines = metrics.lines().filter(|line| line.starts_with("layercast_site_deferred{"));
        lines.find(|line| line.contains(&format!("site=\"{site}\""))).unwrap().ends_with(" 1")
    };
    assert!(gauge("later") && !gauge("now"), "{metrics}");
}

#[test]
fn a_run_that_takes_too_long_ends_at_its_deadline_with_3() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let (slow, fast) = (ScriptedRegistry::strict(), ScriptedRegistry::strict());
    slow.on(Rule::on("POST", "/blobs/uploads/", Action::Hold));
    let file = SitesFile::new(folder.path(), &path).line("deadline: 2s").site("slow", &slow.host(), "").site(
        "fast",
        &fast.host(),
        "",
    );
    let run = file.sync(&[]);
    assert_eq!((run.exit, left(&run)), (3, vec!["slow: deadline".to_owned(), "fast: complete".to_owned()]));
}

#[test]
fn a_canary_that_fails_keeps_all_others_as_they_are() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registries: Vec<ScriptedRegistry> = (0..3).map(|_| ScriptedRegistry::start()).collect();
    let no = || Answer::error(403, "DENIED", "you may not push here");
    registries[1].on(Rule::on("POST", "/blobs/uploads/", Action::Answer(no())));
    let file = SitesFile::new(folder.path(), &path)
        .line("groups: {canaries: {threads: 1}}\nwaves: [canaries]\nmax_failed_sites: 1")
        .site("one", &registries[0].host(), "")
        .site("canary", &registries[1].host(), "groups: [canaries]")
        .site("two", &registries[2].host(), "");
    let run = file.sync(&[]);
    assert_eq!(left(&run), ["one: not-begun", "canary: denied", "two: not-begun"]);
    assert_eq!((run.exit, registries[0].asked().len(), registries[2].asked().len()), (3, 0, 0));
    registries[1].forget_rules();
    file.sync(&[]).complete();
    assert_eq!([shown(&registries[0]).len(), shown(&registries[2]).len()], [2, 2]);
}

#[test]
fn the_file_of_credentials_of_a_site_may_have_entries_for_its_repositories() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    let challenge = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"r\"");
    registry.on(Rule::on("GET", "/v2/", Action::Answer(challenge)).times(1));
    let config = folder.path().join("config.json");
    let entry = |path: &str, auth: &str| format!(r#""{}/{path}": {{"auth": "{auth}"}}"#, registry.host());
    // `a:x` and `b:x`.
    let entries = [entry("ns/team", "YTp4"), entry("ns/lib", "Yjp4")].join(",");
    std::fs::write(&config, format!(r#"{{"auths": {{{entries}}}}}"#)).unwrap();
    let keys = format!("namespace: ns, credentials: {{docker_config: {}}}", config.display());
    let run = SitesFile::new(folder.path(), &path).site("one", &registry.host(), &keys).sync(&[]).complete();
    assert_eq!(left(&run), ["one: complete"]);
    assert!(!run.said().contains("has no credentials"), "{}", run.said());
    // The very first question is asked of whoever answers, to hear what it wants.
    for request in registry.asked().iter().skip(1).filter(|request| request.path.len() > "/v2/".len()) {
        let expected = if request.path.contains("/ns/lib/") { "Basic Yjp4" } else { "Basic YTp4" };
        assert_eq!(request.header("authorization"), expected, "{}", request.path);
    }
}

#[test]
fn a_gate_refuses_an_image_of_one_site_and_somebody_is_told() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let (gated, open) = (ScriptedRegistry::strict(), ScriptedRegistry::strict());
    let told = folder.path().join("told.json");
    let gate = r#"gate: 'echo "$SECRET"; case $LAYERCAST_REFERENCE in */lib*) exit 1;; esac'"#;
    let file = SitesFile::new(folder.path(), &path)
        .line(&format!("notify: cat > {}", told.display()))
        .site("gated", &gated.host(), gate)
        .site("open", &open.host(), "credentials: {username: u, password_env: SECRET}");
    let mut command = file.command(&[]);
    command.env("SECRET", "hunter2");
    let output = within(Duration::from_secs(60), command);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!((shown(&gated), shown(&open).len()), (vec!["team/app:1".to_owned()], 2));
    assert!(!said.contains("hunter2"), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(&told).unwrap()).unwrap();
    assert_eq!((&report["exit_code"], &report["mirrors"][1]["name"]), (&3.into(), &"open".into()));
}

#[test]
fn a_repository_that_is_missing_is_made_by_the_command_of_the_site() {
    let folder = folder();
    // They share no layer: the one that comes second might be mounted, and a mount that is refused makes no repository.
    let images = Bundle::oci_layout().image("gcr.io/team/app:1", &["one"]).image("quay.io/lib:2", &["two"]);
    let path = images.write(folder.path());
    let registry = ScriptedRegistry::strict();
    let none = Answer::error(404, "NAME_UNKNOWN", "no such repository");
    registry.on(Rule::on("POST", "/v2/ns/lib/", Action::Answer(none)).times(1));
    let made = folder.path().join("made");
    let command = r#"echo "$LAYERCAST_SITE $LAYERCAST_REGISTRY $LAYERCAST_REPOSITORY""#;
    let keys = format!("namespace: ns, threads: 1, on_missing_repository: '{command} >> {}'", made.display());
    SitesFile::new(folder.path(), &path).site("one", &registry.host(), &keys).sync(&[]).complete();
    let expected = format!("one {} ns/lib\n", registry.host());
    assert_eq!(std::fs::read_to_string(&made).unwrap(), expected);
    assert_eq!(shown(&registry), ["ns/lib:2", "ns/team/app:1"]);
}

#[test]
fn a_state_that_cannot_be_used_costs_no_site_anything() {
    let folder = folder();
    let path = two_images().write(folder.path());
    let registry = ScriptedRegistry::strict();
    let file = SitesFile::new(folder.path(), &path).site("one", &registry.host(), "");
    let no_folder = folder.path().join("a-file");
    std::fs::write(&no_folder, "not a folder").unwrap();
    file.sync(&["--state-dir", no_folder.to_str().unwrap()]).complete();
    let damaged = folder.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    file.sync(&["--state-dir", damaged.to_str().unwrap()]).complete();
    for entry in std::fs::read_dir(&damaged).unwrap().map(Result::unwrap).filter(|it| it.path().is_file()) {
        std::fs::write(entry.path(), "rubbish".repeat(1000)).unwrap();
    }
    let run = file.sync(&["--state-dir", damaged.to_str().unwrap()]).complete();
    assert_eq!(run.mirror(0)["images_unchanged"], 2);
    assert_eq!(shown(&registry), ["lib:2", "team/app:1"]);
}
