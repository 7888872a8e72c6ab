//! A registry as the source of bundles: of a push, of the sites of a file, of a delta, of a bundle that is pulled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::make::{Made, digests, filled, make, pull_command, pushed, repack};
use crate::support::build::{self, Bundle};
use crate::support::containerd::Containerd;
use crate::support::registry::Registry;
use crate::support::scripted::{Action, Answer, Login, Request, Rule, ScriptedRegistry};
use crate::support::{Push, eventually, folder, layercast, tool, within};
use crate::sync::SitesFile;
use crate::tls::secured;

/// A registry at the head of a region that has a release, with the list of its images.
struct Head {
    room: tempfile::TempDir,
    registry: ScriptedRegistry,
}

const LIST: &str = "gcr.io/team/app:1\nquay.io/lib:2\n";

impl Head {
    fn new() -> Self {
        let head = Self { room: folder(), registry: ScriptedRegistry::strict() };
        let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["base", "one"]);
        head.gets(&bundle.index("quay.io/lib:2", &["base", "two"], &["amd64", "arm64"]));
        fs::write(head.room.path().join("list"), LIST).unwrap();
        head
    }

    fn gets(&self, bundle: &Bundle) {
        let bundle = bundle.clone().layer_bytes(100_000).write(&folder_in(self.room.path()));
        Push::to(&self.registry).source(&bundle).run().complete();
        self.registry.asked();
    }

    fn source(&self) -> String {
        format!("registry:http://{}@list", self.registry.host())
    }

    fn file(&self, stage: &str) -> SitesFile {
        SitesFile::of(self.room.path(), &format!("{{source: '{}', credentials: none}}", self.source()))
            .line(stage)
    }

    /// Layers that it was asked for since the last time.
    fn layers_given(&self) -> usize {
        let sizes = self.registry.store(|store| store.sizes());
        let is_layer = |request: &Request| {
            let named = |(digest, size): (&String, &usize)| *size > 50_000 && request.path.contains(digest);
            request.kind() == "GET blob" && sizes.iter().any(named)
        };
        self.registry.asked().iter().filter(|request| is_layer(request)).count()
    }

    /// Blobs that it was asked for since the last time.
    fn blobs_given(&self) -> usize {
        self.registry.asked().iter().filter(|request| request.kind() == "GET blob").count()
    }
}

fn folder_in(room: &Path) -> PathBuf {
    room.join(format!("bundle-{}", fs::read_dir(room).unwrap().count()))
}

const STAGE: &str = "stage: {dir: stage}";

#[test]
fn a_region_is_fed_from_its_head_and_late_sites_from_the_stage() {
    let head = Head::new();
    let is_whole = |site: &ScriptedRegistry| {
        site.store(|store| {
            assert_eq!(
                (store.faults(), store.shown()),
                (Vec::new(), vec!["lib:2".into(), "team/app:1".into()])
            );
            assert_eq!(store.tags, head.registry.store(|store| store.tags.clone()));
        });
    };
    let [first, late] = [ScriptedRegistry::strict(), ScriptedRegistry::strict()];
    let file = || head.file(STAGE).site("first", &first.host(), "");
    let run = file().sync(&[]).complete();
    is_whole(&first);
    // Three configurations, and three layers of which two images share one.
    assert_eq!(head.blobs_given(), 6);
    assert_eq!(run.report["bundles"][0]["path"], head.source(), "{}", run.report);
    // What is asked costs no layer, and a run with nothing new no blob.
    let words: [&[&str]; 3] = [&["plan"], &["verify"], &["sites", "check"]];
    for words in words {
        let mut command = layercast();
        command.args(words).arg("-c").arg(file().write());
        let output = within(Duration::from_secs(60), command);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(head.layers_given(), 0);
    let again = file().sync(&[]).complete();
    assert_eq!(
        (&again.mirror(0)["images_unchanged"], &again.mirror(0)["blobs_sent"]),
        (&2.into(), &0.into())
    );
    assert_eq!(head.blobs_given(), 0);
    // A site that comes later, with the state gone.
    fs::remove_dir_all(head.room.path().join("state")).unwrap();
    let run = file().site("late", &late.host(), "").sync(&[]).complete();
    is_whole(&late);
    assert_eq!(head.blobs_given(), 0);
    assert!(run.report["stage"]["blobs_read"].as_u64().unwrap() > 0, "{}", run.report["stage"]);
    // What no site takes is not fetched again either.
    let file = || head.file(STAGE).site("first", &first.host(), "include: ['gcr.io/*']");
    file().sync(&[]).complete();
    file().sync(&[]).complete();
    assert_eq!(head.blobs_given(), 0);
}

#[test]
fn the_next_release_at_the_head_costs_its_new_blobs_and_the_stage_forgets_the_last_one() {
    let head = Head::new();
    let site = ScriptedRegistry::strict();
    let file = || head.file(STAGE).site("one", &site.host(), "");
    file().sync(&[]).complete();
    head.gets(&Bundle::oci_layout().image("gcr.io/team/app:3", &["base", "new"]));
    fs::write(head.room.path().join("list"), "gcr.io/team/app:3\n").unwrap();
    head.blobs_given();
    let run = file().sync(&[]).complete();
    assert_eq!(head.blobs_given(), 2, "a configuration and a layer");
    assert_eq!(run.report["stage"]["bundles_removed"], 1, "{}", run.report["stage"]);
    let staged = fs::read_dir(head.room.path().join("stage/blobs/sha256")).unwrap().count();
    assert_eq!(staged, 4, "a manifest, a configuration, two layers");
}

#[test]
fn what_does_not_fit_into_the_stage_is_said_and_nothing_is_sent() {
    let head = Head::new();
    let site = ScriptedRegistry::strict();
    let file = |limit: &str| {
        head.file(&format!("stage: {{dir: stage, limit: {limit}}}")).site("one", &site.host(), "")
    };
    let run = file("150KiB").sync(&[]);
    assert_eq!(run.mirror(0)["error"]["class"], "no-space", "{}", run.said());
    assert!(run.exit != 0 && run.said().contains("limit"), "{}", run.said());
    assert!(!site.asked().iter().any(Request::sends));
    // What came is there when it has more room.
    head.blobs_given();
    file("10MiB").sync(&[]).complete();
    assert!(head.blobs_given() < 6);
}

#[test]
fn a_file_whose_source_has_no_stage_or_keys_that_do_not_fit_is_refused() {
    let head = Head::new();
    let check = |bundle: &str, stage: &str| {
        let file = SitesFile::of(head.room.path(), bundle).line(stage).site("one", "r.example", "").write();
        let mut command = layercast();
        command.args(["config", "check", "-c"]).arg(file);
        let output = within(Duration::from_secs(20), command);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (bundle, stage, says) in [
        ("{source: 'registry:https://h/ns'}", "", "a registry is pulled into the stage"),
        ("{source: 'registry:https://h/ns', path: b.tar}", STAGE, "path is for files"),
        ("{source: 'registry:https://h/ns', newest: true}", STAGE, "newest is for files"),
        ("{path: b.tar, ca_file: ca.crt}", STAGE, "ca_file is for a registry"),
        ("{source: 'https://h/ns'}", STAGE, "does not begin with registry:"),
        ("{source: 'registry:https://h/ns', password: x}", STAGE, "secret"),
        ("{newest: true}", STAGE, "needs path or source"),
    ] {
        let (exit, said) = check(bundle, stage);
        assert!(exit == Some(2) && said.contains(says), "{bundle}: {exit:?} {said}");
    }
    let (exit, said) = check("{source: 'registry:https://h/ns@nowhere', ca_file: gone.crt}", STAGE);
    assert!(exit == Some(0) && said.contains("nowhere") && said.contains("gone.crt"), "{said}");
}

#[test]
fn a_source_that_is_away_leaves_every_site_as_it_is() {
    let head = Head::new();
    let site = ScriptedRegistry::strict();
    head.registry.on(Rule::any(Action::ResetBefore));
    let bundle = format!("{{source: '{}', credentials: none, patience: 0s}}", head.source());
    let run = SitesFile::of(head.room.path(), &bundle).line(STAGE).site("one", &site.host(), "").sync(&[]);
    assert!(run.exit != 0 && run.mirror(0)["error"]["class"].is_string(), "{}", run.said());
    assert!(!site.asked().iter().any(Request::sends));
}

type Flags<'a> = &'a [&'a str];
type Variables<'a> = &'a [(&'a str, &'a str)];

#[test]
fn the_source_has_credentials_and_a_ca_of_its_own_and_mirrors_never_see_them() {
    let source = secured();
    let path = |name: &str| source.folder.path().join(name).display().to_string();
    fs::write(path("password"), "secret\n").unwrap();
    let host = format!("localhost:{}", source.registry.port);
    fs::write(path("config.json"), format!(r#"{{"auths":{{"{host}":{{"auth":"cHVzaGVyOnNlY3JldA=="}}}}}}"#))
        .unwrap();
    let ca = path("ca.crt");
    source.push(&["--cacert", &ca, "--username", "pusher", "--password-file", &path("password")]).complete();
    let bundle = pushed(&source.bundle, &[]).0;
    let list: Vec<String> = bundle.iter().map(|(name, _)| format!("x.example/{name}")).collect();
    fs::write(path("list"), list.join("\n")).unwrap();
    let named = format!("registry:{host}@{}", path("list"));
    let push = |flags: &[&str], variables: &[(&str, &str)]| {
        let mirror = ScriptedRegistry::strict();
        let run = Push::to(&mirror).source(Path::new(&named)).flags(flags);
        let mut command = run.command();
        command.envs(variables.iter().copied());
        let output = within(Duration::from_secs(60), command);
        assert!(mirror.asked().iter().all(|request| request.header("authorization").is_empty()));
        let shown = mirror.store(|store| store.tags.len());
        (output.status.code(), shown, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (password_file, config) = (path("password"), path("config.json"));
    let cat = format!("cat {password_file}");
    let file = ["--source-username", "pusher", "--source-password-file", &password_file];
    let command = ["--source-username", "pusher", "--source-password-command", &cat];
    let entries: [(Flags<'_>, Variables<'_>); 5] = [
        (&file, &[]),
        (&command, &[]),
        (&["--source-credential-file", &config], &[]),
        (&[], &[("LAYERCAST_SOURCE_USERNAME", "pusher"), ("LAYERCAST_SOURCE_PASSWORD", "secret")]),
        (&[], &[("REGISTRY_AUTH_FILE", &config)]),
    ];
    for (flags, variables) in entries {
        let flags = [&["--source-cacert", &ca], flags].concat();
        let (exit, shown, said) = push(&flags, variables);
        assert_eq!((exit, shown), (Some(0), bundle.len()), "{flags:?}: {said}");
    }
    // Without them it is said what is wanted; what is for mirrors is not for the source.
    let (exit, _, said) = push(&["--source-cacert", &ca], &[]);
    assert_eq!(exit, Some(4), "{said}");
    let (exit, _, said) = push(&file, &[]);
    assert!(exit == Some(6) && said.contains("certificate"), "{exit:?} {said}");
    let with_mirrors = [&["--cacert", &ca][..], &file].concat();
    assert_eq!(push(&with_mirrors, &[]).0, Some(6));
    // A secret is for one host.
    let other = Push::bare().source(Path::new(&named)).source(Path::new("registry:other.example/ns"));
    let run = other.flags(&file).flag("--private-registry").flag("127.0.0.1:1").run();
    assert!(run.exit == 2 && run.said().contains("for one registry"), "{}", run.said());
    // The same in a sites file.
    let site = ScriptedRegistry::strict();
    let keys = format!("ca_file: {ca}, credentials: {{username: pusher, password_file: {password_file}}}");
    let named = format!("{{source: 'registry:https://{host}@{}', {keys}}}", path("list"));
    let file = SitesFile::of(source.folder.path(), &named).line(STAGE).site("one", &site.host(), "");
    file.sync(&[]).complete();
    assert_eq!(site.store(|store| store.tags.len()), bundle.len());
    // And of `bundle pull`, whose registry is named like a mirror.
    let mut command = layercast();
    command.args(["bundle", "pull", "--private-registry", &host, "--cacert", &ca, "--images", &path("list")]);
    command.args(["--username", "pusher", "--password-file", &password_file, "-o", &path("out")]);
    let output = within(Duration::from_secs(60), command);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(pushed(Path::new(&path("out")), &[]).0.len(), bundle.len());
}

#[test]
fn a_token_of_the_source_is_fetched_with_its_credentials() {
    let login = Login { user: "reader", password: "s3cret", token: "canary-token-2" };
    let head = Head::new();
    let source = ScriptedRegistry::strict();
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["a"]).write(&folder_in(head.room.path()));
    Push::to(&source).source(&bundle).run().complete();
    let source = source.asks_for(login);
    let list = head.room.path().join("one");
    fs::write(&list, "gcr.io/team/app:1\n").unwrap();
    let named = format!("registry:{}@{}", source.host(), list.display());
    let mirror = ScriptedRegistry::strict();
    let push = Push::to(&mirror).source(Path::new(&named)).flag("--source-username").flag("reader");
    let mut command = push.command();
    command.env("LAYERCAST_SOURCE_PASSWORD", "s3cret");
    assert_eq!(within(Duration::from_secs(60), command).status.code(), Some(0));
    assert!(mirror.asked().iter().all(|request| request.header("authorization").is_empty()));
    mirror.store(|store| assert_eq!(store.shown(), ["team/app:1"]));
}

/// A source with one image of one large layer, and the command that pulls it.
struct LargeLayer {
    room: tempfile::TempDir,
    source: ScriptedRegistry,
}

const LARGE: usize = 4 << 20;
/// What of it comes before a kill.
const CAME: usize = 3 << 20;

impl LargeLayer {
    fn new() -> Self {
        let (room, source) = (folder(), ScriptedRegistry::strict());
        let bundle = build::large_layer(room.path(), LARGE as u64);
        Push::to(&source).source(&bundle).run().complete();
        source.asked();
        Self { room, source }
    }

    fn out(&self) -> PathBuf {
        self.room.path().join("out.tar.zst")
    }

    fn command(&self) -> std::process::Command {
        let mut command = layercast();
        command.args(["bundle", "pull", "--json", "--image", "images.example/large:1"]);
        command.args(["--private-registry", &self.source.host()]).arg("-o").arg(self.out());
        command
    }

    fn pull(&self) -> Value {
        let Output { status, stdout, stderr } = within(Duration::from_secs(60), self.command());
        assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    }

    /// The first bytes of the requests for the layer.
    fn ranges(&self) -> Vec<String> {
        let asked = self.source.asked();
        let blobs = asked.iter().filter(|request| request.kind() == "GET blob");
        blobs.map(|request| request.header("range").to_owned()).filter(|range| !range.is_empty()).collect()
    }

    /// Cuts the answers with the layer, which alone is long enough.
    fn on_the_layer(&self, action: Action) -> Rule {
        let sizes = self.source.store(|store| store.sizes());
        let large = sizes.into_iter().find(|(_, size)| *size >= LARGE).unwrap().0;
        Rule::on("GET", format!("/blobs/{large}"), action)
    }

    fn is_the_same(&self) {
        let theirs = self.source.store(|store| store.tags.values().cloned().collect::<Vec<_>>());
        let ours: Vec<String> = pushed(&self.out(), &[]).0.into_iter().map(|(_, digest)| digest).collect();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn a_pull_that_was_killed_goes_on_in_the_middle_of_a_layer() {
    let large = LargeLayer::new();
    large.source.on(large.on_the_layer(Action::HoldAfter(CAME)));
    let mut killed = large.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    large.source.wait_for_held();
    let incomplete = large.room.path().join("out.tar.zst.partial/incomplete");
    eventually("what came is on the disk", || {
        let files =
            fs::read_dir(&incomplete).map(|files| files.map(|file| file.unwrap().metadata().unwrap().len()));
        files.is_ok_and(|mut lengths| lengths.any(|len| len == CAME as u64))
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    large.source.forget_rules();
    large.ranges();
    let made = large.pull();
    assert_eq!(large.ranges(), [format!("bytes={CAME}-")]);
    assert_eq!(made["fetched"]["bytes"], LARGE - CAME, "{made}");
    assert_eq!(made["fetched"]["blobs"], 1, "{made}");
    large.is_the_same();
}

#[test]
fn a_layer_that_breaks_off_goes_on_from_there_and_a_registry_without_ranges_costs_it_again() {
    let large = LargeLayer::new();
    large.source.on(large.on_the_layer(Action::CutAfter(1 << 20)).times(2));
    let made = large.pull();
    assert_eq!(large.ranges(), ["bytes=1048576-", "bytes=2097152-"], "{made}");
    large.is_the_same();
    fs::remove_file(large.out()).unwrap();
    large.source.store(|store| store.gives_no_ranges = true);
    large.source.on(large.on_the_layer(Action::CutAfter(1 << 20)).times(1));
    large.pull();
    assert_eq!(large.ranges(), ["bytes=1048576-"]);
    large.is_the_same();
}

#[test]
fn what_lies_damaged_beside_the_output_is_fetched_again() {
    let large = LargeLayer::new();
    large.source.on(large.on_the_layer(Action::HoldAfter(1 << 20)));
    let mut killed = large.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    large.source.wait_for_held();
    let incomplete = large.room.path().join("out.tar.zst.partial/incomplete");
    let mut aside = None;
    eventually("what came is on the disk", || {
        aside = fs::read_dir(&incomplete)
            .ok()
            .and_then(|mut files| files.next())
            .map(|file| file.unwrap().path());
        aside.as_ref().is_some_and(|path| fs::metadata(path).is_ok_and(|facts| facts.len() == 1 << 20))
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    large.source.forget_rules();
    fs::write(aside.unwrap(), vec![0; 1 << 20]).unwrap();
    large.pull();
    large.is_the_same();
}

#[test]
fn a_pull_that_was_killed_asks_for_no_blob_twice() {
    let head = Head::new();
    let out = head.room.path().join("out");
    let command = || {
        let mut command = layercast();
        command.args([
            "bundle",
            "pull",
            "--json",
            "--threads",
            "1",
            "--private-registry",
            &head.registry.host(),
        ]);
        command.arg("--images").arg(head.room.path().join("list")).arg("-o").arg(&out);
        command
    };
    head.registry.on(Rule::on("GET", "/blobs/", Action::Hold).nth(4));
    let mut killed = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    head.registry.wait_for_held();
    let blobs = head.room.path().join("out.partial/blobs/sha256");
    eventually("three blobs are there", || fs::read_dir(&blobs).map_or(0, Iterator::count) >= 3);
    killed.kill().unwrap();
    killed.wait().unwrap();
    head.registry.forget_rules();
    head.blobs_given();
    let output = within(Duration::from_secs(60), command());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(head.blobs_given(), 3, "six in all");
    assert!(!head.room.path().join("out.partial").exists());
}

#[test]
fn a_mirror_is_the_old_and_the_new_one_of_a_delta() {
    let head = Head::new();
    let next = Bundle::oci_layout().image("gcr.io/team/app:1", &["base", "one"]);
    let next = next.image("gcr.io/team/app:2", &["base", "one", "new"]).layer_bytes(100_000);
    let (new, delta) = (next.write(&folder_in(head.room.path())), head.room.path().join("delta"));
    let old = format!("registry:{}@{}", head.registry.host(), head.room.path().join("list").display());
    let Made { exit, document, said } = make(&["diff"], &[Path::new(&old), &new], &delta);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(
        (&document["base"]["blobs"], &document["base"]["name"]),
        (&2.into(), &old.as_str().into()),
        "{document}"
    );
    // No layer is fetched of what is only compared.
    assert_eq!(head.layers_given(), 0);
    let shown = |bundles: [&Path; 2]| {
        let mirror = ScriptedRegistry::strict();
        Push::to(&mirror).source(&first(&head)).run().complete();
        for bundle in bundles {
            Push::to(&mirror).source(bundle).run().complete();
        }
        mirror.store(|store| {
            assert_eq!(store.faults(), [""; 0]);
            store.tags.clone()
        })
    };
    assert_eq!(shown([&delta, &delta]), shown([&new, &new]));
    // The new one at the head: only its new layer is fetched.
    let before = first(&head);
    Push::to(&head.registry).source(&new).run().complete();
    fs::write(head.room.path().join("list"), "gcr.io/team/app:1\ngcr.io/team/app:2\n").unwrap();
    head.registry.asked();
    let other = head.room.path().join("other-delta");
    let Made { exit, document, said } = make(&["diff"], &[&before, Path::new(&old)], &other);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(head.layers_given(), 1, "{document}");
    assert!(!head.room.path().join("other-delta.partial").exists());
    assert_eq!(shown([&other, &other]), shown([&new, &new]));
}

/// The release that the head has, as a file.
fn first(head: &Head) -> PathBuf {
    let path = head.room.path().join("first");
    if path.exists() {
        return path.join("bundle");
    }
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["base", "one"]);
    bundle.index("quay.io/lib:2", &["base", "two"], &["amd64", "arm64"]).layer_bytes(100_000).write(&path)
}

#[test]
fn a_registry_is_the_source_of_another_one() {
    let room = folder();
    let head = Registry::docker();
    let names = filled(&head, room.path());
    let list = room.path().join("list");
    fs::write(&list, format!("# of the region\n{}\n", names.join("\n"))).unwrap();
    let named = format!("registry:{}@{}", head.host(), list.display());
    let target = Registry::docker();
    Push::to(&target).source(Path::new(&named)).run().complete();
    assert_eq!(digests(&target, &names), digests(&head, &names));
    // All that the registry lists, with a stage: the second time nothing is fetched.
    let (all, stage) = (format!("registry:{}", head.host()), room.path().join("stage"));
    let push = |target: &Registry| {
        Push::to(target).source(Path::new(&all)).flag("--stage").flag(&stage).run().complete()
    };
    let target = Registry::docker();
    push(&target);
    assert_eq!(digests(&target, &names), digests(&head, &names));
    let again = push(&target);
    assert!(again.said().contains("0 blobs of 0 B fetched"), "{}", again.said());
    assert_eq!(again.mirror(0)["blobs_sent"], 0);
    assert!(
        !room.path().read_dir().unwrap().any(|it| it
            .unwrap()
            .path()
            .display()
            .to_string()
            .contains(".registry-"))
    );
}

/// What a registry lists is pushed, or named with its reason: a list that is cut short, a name that is none, a tag that belongs to no
/// image that came, an image that is not there.
#[test]
fn what_the_source_lists_is_pushed_or_named() {
    let head = Head::new();
    let list = |path: &'static str, body: &str, link: &'static str| {
        let body = body.to_owned();
        Rule::on(
            "GET",
            path,
            Action::make(move |_| Answer::status(200).body(body.clone().into_bytes()).header("Link", link)),
        )
    };
    let orphan = format!("sha256-{}.sig", "0".repeat(64));
    head.gets(&Bundle::oci_layout().image(&format!("gcr.io/team/app:{orphan}"), &["one"]));
    let listed = |last_page: Action| {
        head.registry.forget_rules();
        head.registry.on(Rule::on("GET", "_catalog?last=lib", last_page));
        // A proxy that does not know its own address.
        head.registry.on(list(
            "_catalog",
            r#"{"repositories":["lib"]}"#,
            "<http://other.example/v2/_catalog?last=lib>; rel=next",
        ));
        head.registry.on(list("/lib/tags/list", r#"{"tags":["2"]}"#, ""));
        let tags = format!(r#"{{"tags":["1","gone","{orphan}"]}}"#);
        head.registry.on(list("/team/app/tags/list", &tags, ""));
        head.registry.on(Rule::on("GET", "/gone/tags/list", Action::Answer(Answer::status(404))));
        let site = ScriptedRegistry::strict();
        let source = format!("registry:http://{}", head.registry.host());
        let pushed = Push::to(&site).source(Path::new(&source)).run();
        (pushed, site.store(|store| store.shown()))
    };
    let (cut, shown) = listed(Action::Answer(Answer::status(404)));
    assert_eq!((cut.exit, shown), (3, Vec::new()), "{}", cut.said());
    let page = r#"{"repositories":["team/app","gone","No/Name"]}"#;
    let (pushed, shown) = listed(Action::make(move |_| Answer::status(200).body(page.into())));
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    assert_eq!(shown, ["lib:2".to_owned(), "team/app:1".to_owned(), format!("team/app:{orphan}")]);
    let left_out = pushed.report["left_out"].as_array().unwrap();
    let class = |end: &str| {
        let it = left_out.iter().find(|it| it["path"].as_str().unwrap().ends_with(end));
        it.map(|it| it["class"].as_str().unwrap())
    };
    assert_eq!(class("team/app:gone"), Some("unreadable"), "{left_out:?}");
    assert_eq!((class("No/Name"), class("gone")), (Some("unreadable"), Some("no-image")), "{left_out:?}");
}

#[test]
fn skopeo_and_containerd_pull_what_a_pulled_bundle_was_pushed_to() {
    let room = folder();
    let source = Registry::embedded(&room.path().join("store"));
    let names = filled(&source, room.path());
    let out = room.path().join("out");
    let output = within(Duration::from_secs(120), pull_command(&source, &names, &out));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let target = Registry::docker();
    Push::to(&target).source(&out).run().complete();
    let tree = room.path().join("tree");
    fs::create_dir_all(tree.join("gcr.io")).unwrap();
    let hosts = format!(
        "server = \"https://gcr.io\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        target.host()
    );
    fs::write(tree.join("gcr.io/hosts.toml"), hosts).unwrap();
    let containerd = Containerd::start();
    for (name, digest) in names.iter().zip(digests(&source, &names)) {
        let place = name.strip_prefix("gcr.io/").unwrap();
        let copy = room.path().join(digest.replace(':', "-"));
        let (from, to) = (format!("docker://{}/{place}", target.host()), format!("dir:{}", copy.display()));
        let words = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &from, &to];
        tool("skopeo", &words.map(AsRef::as_ref));
        assert_eq!(build::digest(&fs::read(copy.join("manifest.json")).unwrap()), digest, "{name}");
        let pulled = containerd.pull(&tree, name);
        assert_eq!(pulled.digest, Some(digest), "{name}: {}", pulled.said);
    }
}

#[test]
fn two_releases_in_one_run_cost_the_blobs_of_both_once() {
    let room = folder();
    let release = |number: usize, new: &[&str]| {
        let name = |image: &str| format!("gcr.io/team/{image}:{number}");
        let bundle = Bundle::oci_layout().image(&name("same"), &["base", "same"]);
        let bundle = bundle.image(&name("grown"), &[&["base"], new].concat()).layer_bytes(1_100_000);
        let path = bundle.write(&room.path().join(number.to_string()));
        let out = path.with_extension("repacked");
        repack(&path, &out);
        out
    };
    let [first, second, third] = [release(1, &["one"]), release(2, &["two"]), release(3, &["two", "three"])];
    let registry = ScriptedRegistry::strict();
    Push::to(&registry).source(&first).run().complete();
    let held = || registry.store(|store| store.sizes().values().sum::<usize>()) as u64;
    let before = held();
    let run = Push::to(&registry).source(&second).source(&third).run().complete();
    let new = held() - before;
    registry.store(|store| assert_eq!((store.faults().len(), store.tags.len()), (0, 6)));
    // Two new layers, and a configuration for each of four images.
    assert_eq!(run.mirror(0)["blobs_sent"], 6, "{}", run.mirror(0));
    let sent = run.mirror(0)["bytes_sent"].as_u64().unwrap();
    assert!((new..new + 10_000).contains(&sent), "{sent} for {new}");
    let decoded = run.report["decode"]["bytes"].as_u64().unwrap();
    assert!(decoded <= new * 3 / 2, "{decoded} for {new}");
}
