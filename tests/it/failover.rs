//! What a node does when it is told of a mirror: a real containerd pulls by a hosts tree that layercast rendered, and
//! `mirror check` had said the same before.
//!
//! A registry of this machine stands for gcr.io: the tree's `server` is pointed at it. Where mirror and upstream have
//! different images under one name, the digest tells who served. Each pull has a containerd of its own, as one that has
//! content does not ask for it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::answers::Parrot;
use crate::support::containerd::Containerd;
use crate::support::registry::{Registry, Setup, free_port};
use crate::support::{bundle, folder, layercast, push, tool, within};

/// Debian's.
const VERSION: &str = "1.6.20";
/// The example of the vendor's page on mirrors.
const IMAGE: &str = "gcr.io/kubernetes-e2e-test-images/nautilus";
const TAG: &str = "1.0";

/// A bundle, and what is in it.
struct Bundle {
    path: PathBuf,
    truth: Value,
}

impl Bundle {
    fn made(folder: &Path, name: &str, seed: &str) -> Self {
        let args = ["--preset", "tiny", "--images", "3", "--total", "200000", "--median", "20000"];
        let args = [&args[..], &["--seed", seed, "--format", "oci-layout", "--outer", "none"]].concat();
        let path = bundle(folder, name, &args);
        let truth = fs::read(path.with_extension("tar.TRUTH.json")).unwrap();
        Self { path, truth: serde_json::from_slice(&truth).unwrap() }
    }

    fn image(&self) -> &Value {
        let name = format!("{IMAGE}:{TAG}");
        self.truth["images"].as_array().unwrap().iter().find(|image| image["name"] == name.as_str()).unwrap()
    }

    fn digest(&self) -> String {
        self.image()["digest"].as_str().unwrap().to_owned()
    }

    fn push(&self, target: &str, flags: &[&str]) {
        let args = ["--source", self.path.to_str().unwrap(), "--private-registry", target];
        push(&[&args[..], flags].concat()).complete();
    }
}

/// A node, its upstream, and the bundle that the mirror ought to have.
struct Site {
    folder: tempfile::TempDir,
    bundle: Bundle,
    /// The same names with other images behind them.
    other: Bundle,
    upstream: Registry,
}

/// How the mirror is described to the node.
struct Mirror<'a> {
    endpoint: String,
    ca: Option<&'a Path>,
    fallback: bool,
}

impl Mirror<'_> {
    fn at(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), ca: None, fallback: true }
    }
}

/// Who has to serve.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected<'a> {
    Mirror,
    /// Because of something that the reasons name.
    FailOver(&'a str),
    Fail(&'a str),
}

impl Site {
    /// The upstream has the bundle.
    fn new() -> Self {
        let folder = folder();
        let bundle = Bundle::made(folder.path(), "bundle.tar", "1");
        let other = Bundle::made(folder.path(), "other.tar", "2");
        assert_ne!(bundle.digest(), other.digest());
        let upstream = Registry::embedded(&folder.path().join("upstream"));
        bundle.push(&upstream.host(), &[]);
        Self { folder, bundle, other, upstream }
    }

    /// The embedded registry with the bundle in it, below the namespace of the target.
    fn mirror(&self, namespace: &str) -> Registry {
        let mirror = Registry::embedded(&self.folder.path().join("mirror"));
        self.bundle.push(&format!("{}{namespace}", mirror.host()), &[]);
        mirror
    }

    /// Renders the tree of the node and points its `server` at the upstream of this test.
    fn tree(&self, mirror: &Mirror<'_>) -> PathBuf {
        let tree = render(self.folder.path(), mirror);
        let file = tree.join("gcr.io/hosts.toml");
        let text = fs::read_to_string(&file).unwrap();
        let upstream = format!("server = \"{}\"", self.upstream.url());
        fs::write(&file, text.replace("server = \"https://gcr.io\"", &upstream)).unwrap();
        assert_eq!(text.contains("https://gcr.io"), mirror.fallback, "{text}");
        tree
    }

    /// What `mirror check` says, by name.
    fn foretold(&self, tree: &Path, flags: &[&str]) -> (i32, Value) {
        let mut command = layercast();
        command.args(["mirror", "check", "--json", "--containerd-version", VERSION, "--hosts-dir"]).arg(tree);
        command.arg("--source").arg(&self.bundle.path).args(["--include", &format!("{IMAGE}*")]).args(flags);
        let output = within(Duration::from_secs(60), command);
        let said = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), value)
    }

    /// Foretells, pulls by tag and by digest, and holds one against the other.
    #[track_caller]
    fn holds(&self, tree: &Path, expected: Expected<'_>) {
        let digest = self.bundle.digest();
        let (exit, said) = self.foretold(tree, &[]);
        for name in [format!("{IMAGE}:{TAG}"), format!("{IMAGE}@{digest}")] {
            let verdict =
                said["images"].as_array().unwrap().iter().find(|image| image["image"] == name.as_str());
            let verdict = verdict.unwrap_or_else(|| panic!("{name} is not in {said}"));
            let (word, because) = match expected {
                Expected::Mirror => ("mirror", ""),
                Expected::FailOver(because) => ("fail-over", because),
                Expected::Fail(because) => ("fail", because),
            };
            assert_eq!(verdict["verdict"], word, "{said:#}");
            assert!(verdict["because"].to_string().contains(because), "{because:?} is not in {said:#}");
            let pulled = Containerd::start().pull(tree, &name);
            let succeeds = !matches!(expected, Expected::Fail(_));
            assert_eq!(pulled.digest, succeeds.then(|| digest.clone()), "{name}: {}", pulled.said);
        }
        assert_eq!(exit, if matches!(expected, Expected::Fail(_)) { 3 } else { 0 }, "{said:#}");
        let (exit, said) = self.foretold(tree, &["--upstream-down"]);
        assert_eq!(exit, if expected == Expected::Mirror { 0 } else { 3 }, "{said:#}");
    }

    /// The cases of a mirror that does not serve: the pull goes to the upstream, and fails where there is none.
    #[track_caller]
    fn holds_with_and_without_fallback(&self, mirror: Mirror<'_>, because: &str) {
        self.holds(&self.tree(&mirror), Expected::FailOver(because));
        self.holds(&self.tree(&Mirror { fallback: false, ..mirror }), Expected::Fail(because));
    }

    /// A registry on TLS with a certificate by an authority of its own; its files are `ca.crt` and `other.crt`.
    fn secured(&self, htpasswd: Option<PathBuf>) -> Registry {
        let folder = self.folder.path();
        crate::tls::authority(folder, "ca");
        crate::tls::authority(folder, "other");
        let certificate = Some((folder.join("ca-server.crt"), folder.join("ca-server.key")));
        Registry::docker_with(&Setup { certificate, htpasswd, client_ca: None })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn a_mirror_at_the_root_serves_tags_and_digests() {
    let site = Site::new();
    let mirror = site.mirror("");
    site.holds(&site.tree(&Mirror::at(mirror.url())), Expected::Mirror);
    site.holds(&site.tree(&Mirror { fallback: false, ..Mirror::at(mirror.url()) }), Expected::Mirror);
}

#[test]
fn a_mirror_below_a_namespace_serves_tags_and_digests() {
    let site = Site::new();
    let mirror = site.mirror("/test-namespace");
    let endpoint = format!("{}/v2/test-namespace", mirror.url());
    site.holds(&site.tree(&Mirror::at(&endpoint)), Expected::Mirror);
    site.holds(&site.tree(&Mirror { fallback: false, ..Mirror::at(endpoint) }), Expected::Mirror);
    // At its root it has nothing.
    site.holds_with_and_without_fallback(Mirror::at(mirror.url()), "404");
}

#[test]
fn a_second_v2_in_the_path_is_a_fail_over_that_nobody_sees() {
    let site = Site::new();
    let mirror = site.mirror("/test-namespace");
    let tree = site.tree(&Mirror::at(format!("{}/v2/test-namespace", mirror.url())));
    let file = tree.join("gcr.io/hosts.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("override_path = true"), "{text}");
    fs::write(&file, text.replace("override_path = true", "")).unwrap();
    site.holds(
        &tree,
        Expected::FailOver("/v2/test-namespace/v2/kubernetes-e2e-test-images/nautilus/manifests/"),
    );
}

#[test]
fn a_mirror_that_is_down_is_passed_over() {
    let site = Site::new();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    site.holds_with_and_without_fallback(Mirror::at(nobody), "no connection");
}

#[test]
fn a_mirror_without_the_image_is_passed_over() {
    let site = Site::new();
    let empty = Registry::embedded(&site.file("mirror"));
    site.holds_with_and_without_fallback(Mirror::at(empty.url()), "404");
}

#[test]
fn a_mirror_that_lacks_one_layer_is_passed_over_for_that_layer() {
    let site = Site::new();
    let mirror = site.mirror("");
    let layer = site.bundle.image()["manifests"][0]["layers"][0]["digest"].as_str().unwrap().to_owned();
    lose_blob(&site.file("mirror"), layer.split_once(':').unwrap().1);
    site.holds_with_and_without_fallback(Mirror::at(mirror.url()), &layer);
}

#[test]
fn a_mirror_that_answers_500_is_passed_over() {
    let site = Site::new();
    let broken = Parrot::saying("500 Internal Server Error");
    let endpoint = format!("http://127.0.0.1:{}", broken.port);
    site.holds_with_and_without_fallback(Mirror::at(endpoint), "500");
    let asked = broken.heard();
    let wanted = format!("HEAD /v2/kubernetes-e2e-test-images/nautilus/manifests/{TAG}?ns=gcr.io HTTP/1.1");
    let times = asked.iter().filter(|line| **line == wanted).count();
    // Both of them, word for word the same: the check and the pull, with and without fall-back.
    assert!(times >= 4, "{asked:#?}");
    assert!(asked.iter().all(|line| line.contains("?ns=gcr.io ")), "{asked:#?}");
}

#[test]
fn the_authority_has_to_be_the_right_one() {
    let site = Site::new();
    let mirror = site.secured(None);
    let (right, wrong) = (site.file("ca.crt"), site.file("other.crt"));
    site.bundle.push(&mirror.host(), &["--cacert", right.to_str().unwrap()]);
    let endpoint = format!("https://{}", mirror.host());
    let with = |ca| Mirror { ca: Some(ca), ..Mirror::at(&endpoint) };
    site.holds(&site.tree(&with(&right)), Expected::Mirror);
    site.holds_with_and_without_fallback(with(&wrong), "no secure connection");
    // A file that is not there is worse: containerd then asks nobody, not even the upstream.
    let tree = site.tree(&with(&right));
    for folder in fs::read_dir(&tree).unwrap() {
        let _ = fs::remove_file(folder.unwrap().path().join("ca.crt"));
    }
    site.holds(&tree, Expected::Fail("ca.crt"));
}

#[test]
fn pull_credentials_open_a_mirror_that_wants_them() {
    let site = Site::new();
    let htpasswd = tool("htpasswd", &["-Bbn".as_ref(), "puller".as_ref(), "secret".as_ref()]).stdout;
    fs::write(site.file("htpasswd"), htpasswd).unwrap();
    let mirror = site.secured(Some(site.file("htpasswd")));
    let right = site.file("ca.crt");
    let flags = ["--cacert", right.to_str().unwrap(), "--username=puller", "--password=secret"];
    site.bundle.push(&mirror.host(), &flags);
    let tree = site.tree(&Mirror { ca: Some(&right), ..Mirror::at(format!("https://{}", mirror.host())) });
    site.holds(&tree, Expected::FailOver("no pull credentials for 127.0.0.1"));
    let config = site.file("config.json");
    let entry = r#"{"auths":{"HOST":{"username":"puller","password":"secret"}}}"#;
    fs::write(&config, entry.replace("HOST", &mirror.host())).unwrap();
    let (exit, said) =
        site.foretold(&tree, &["--upstream-down", "--pull-credentials", config.to_str().unwrap()]);
    assert_eq!(exit, 0, "{said:#}");
    assert!(!said.to_string().contains("secret"));
    fs::write(&config, entry.replace("HOST", &mirror.host()).replace("secret", "wrong")).unwrap();
    let (exit, said) = site.foretold(&tree, &["--pull-credentials", config.to_str().unwrap()]);
    assert_eq!((exit, &said["images"][0]["verdict"]), (0, &Value::from("fail-over")), "{said:#}");
    let pulled = Containerd::start().pull_as(&tree, &format!("{IMAGE}:{TAG}"), Some("puller:secret"));
    assert_eq!(pulled.digest, Some(site.bundle.digest()), "{}", pulled.said);
}

#[test]
fn an_old_tag_on_the_mirror_wins_and_only_the_check_says_so() {
    let site = Site::new();
    let mirror = Registry::embedded(&site.file("mirror"));
    site.other.push(&mirror.host(), &[]);
    let tree = site.tree(&Mirror::at(mirror.url()));
    let (exit, said) = site.foretold(&tree, &[]);
    assert_eq!(exit, 3, "{said:#}");
    let verdict = &said["images"][0];
    assert_eq!(verdict["verdict"], "other-image", "{said:#}");
    assert_eq!(verdict["found"], site.other.digest());
    assert_eq!(verdict["wanted"], site.bundle.digest());
    // By digest there is no doubt, and the upstream has it.
    assert_eq!(said["images"][1]["verdict"], "fail-over", "{said:#}");
    let by_tag = Containerd::start().pull(&tree, &format!("{IMAGE}:{TAG}"));
    assert_eq!(by_tag.digest, Some(site.other.digest()), "{}", by_tag.said);
    let by_digest = Containerd::start().pull(&tree, &format!("{IMAGE}@{}", site.bundle.digest()));
    assert_eq!(by_digest.digest, Some(site.bundle.digest()), "{}", by_digest.said);
}

#[test]
fn a_file_that_containerd_cannot_read_is_as_good_as_none() {
    let site = Site::new();
    let mirror = site.mirror("");
    let tree = site.tree(&Mirror::at(mirror.url()));
    let file = tree.join("gcr.io/hosts.toml");
    let text = fs::read_to_string(&file).unwrap();
    // A word of 2.2; to 1.6 it spoils the file.
    let spoiled = text.replacen("\"resolve\"", "\"resolve\", \"referrers\"", 1);
    assert_ne!(spoiled, text);
    fs::write(&file, spoiled).unwrap();
    let (exit, said) = site.foretold(&tree, &["--upstream-down"]);
    assert_eq!(exit, 3, "{said:#}");
    let notes = said["configuration_notes"]["gcr.io"].to_string();
    assert!(notes.contains("ignores the whole file") && notes.contains("referrers"), "{said:#}");
    let (wall, pulled) = pull_behind_a_wall(&tree, &format!("{IMAGE}:{TAG}"));
    assert_eq!(pulled.digest, None, "{}", pulled.said);
    assert!(wall.heard().contains(&"CONNECT gcr.io:443 HTTP/1.1".to_owned()), "{:?}", wall.heard());
}

#[test]
fn hosts_that_are_not_mirrored_are_left_alone() {
    let site = Site::new();
    let mirror = site.mirror("");
    let tree = site.tree(&Mirror::at(mirror.url()));
    // The mirror has something of this name; a node must not get it from there.
    let name = format!("k8s.gcr.io/kubernetes-e2e-test-images/nautilus:{TAG}");
    let wall = Parrot::saying("502 Bad Gateway");
    let mut command = layercast();
    command.args(["mirror", "check", "--json", &name, "--hosts-dir"]).arg(&tree);
    command.env("HTTPS_PROXY", format!("http://127.0.0.1:{}", wall.port));
    let output = within(Duration::from_secs(60), command);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &said["images"][0]["verdict"]),
        (Some(3), &Value::from("fail")),
        "{said:#}"
    );
    let connect = "CONNECT k8s.gcr.io:443 HTTP/1.1".to_owned();
    assert!(
        wall.heard().iter().all(|line| *line == connect) && !wall.heard().is_empty(),
        "{:?}",
        wall.heard()
    );
    let (wall, pulled) = pull_behind_a_wall(&tree, &name);
    assert_eq!(pulled.digest, None, "{}", pulled.said);
    assert!(
        wall.heard().iter().all(|line| *line == connect) && !wall.heard().is_empty(),
        "{:?}",
        wall.heard()
    );
    // One that can be reached is pulled from as ever.
    let name = format!("{}/kubernetes-e2e-test-images/nautilus:{TAG}", site.upstream.host());
    let (exit, said) = check(&["--json", &name, "--hosts-dir", tree.to_str().unwrap()]);
    assert_eq!(exit, 0, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["images"][0]["verdict"], "not-mirrored", "{said:#}");
    let pulled = Containerd::start().pull(&tree, &name);
    assert_eq!(pulled.digest, Some(site.bundle.digest()), "{}", pulled.said);
}

#[test]
fn the_check_needs_no_tree_and_is_a_kind_of_verify() {
    let site = Site::new();
    let mirror = site.mirror("/ns");
    let endpoint = format!("{}/v2/ns", mirror.url());
    let source = site.bundle.path.to_str().unwrap();
    let node = ["--endpoint", &endpoint, "--host", "gcr.io", "--no-fallback", "--source", source];
    let gcr = ["--include", "gcr.io/*"];
    let (exit, said) = check(&[&node[..], &gcr].concat());
    assert_eq!(exit, 0, "{said}");
    assert!(!said.contains("would fail") && said.contains("from the mirror"), "{said}");
    let mut command = layercast();
    command.args(["verify", "--as-node"]).args(node).args(gcr);
    let verified = within(Duration::from_secs(60), command);
    assert_eq!(String::from_utf8_lossy(&verified.stdout), said);
    let mut command = layercast();
    command.args(["verify", "--as-node", "--rewrite", "gcr.io/(.*)=x/$1"]).args(node);
    assert_eq!(within(Duration::from_secs(60), command).status.code(), Some(2));
    // Without the namespace nothing is there, and nobody else is asked.
    let node = ["--endpoint", &mirror.url(), "--host", "gcr.io", "--no-fallback", "--source", source];
    let (exit, said) = check(&[&node[..], &gcr].concat());
    assert_eq!(exit, 3, "{said}");
    assert!(said.contains("would fail") && said.contains("404"), "{said}");
    let (exit, said) = check(&["gcr.io/a/b:1"]);
    assert_eq!(exit, 2, "{said}");
    // What could not be read was not checked either.
    let many = site.folder.path().join("many");
    fs::create_dir(&many).unwrap();
    fs::copy(&site.bundle.path, many.join("bundle.tar")).unwrap();
    fs::write(many.join("x.tar.xz"), "").unwrap();
    let source = many.to_str().unwrap();
    let node = ["--endpoint", &endpoint, "--host", "gcr.io", "--no-fallback", "--source", source];
    assert_eq!(check(&[&node[..], &gcr].concat()).0, 3);
    assert_eq!(check(&[&node[..], &gcr, &["--accept", "unreadable"]].concat()).0, 0);
}

#[test]
fn hosts_that_the_tree_does_not_know_are_named() {
    let site = Site::new();
    let mirror = site.mirror("");
    let tree = site.tree(&Mirror::at(mirror.url()));
    let dir = tree.to_str().unwrap();
    let images = ["k8s.gcr.io/pause:3.1", "quay.io/a/b:1"];
    let (exit, said) = check(&[&images[..], &["--upstream-down", "--hosts-dir", dir]].concat());
    assert_eq!(exit, 3, "{said}");
    let why = "nothing in the tree covers k8s.gcr.io (add --host k8s.gcr.io to mirror render), and the upstream is taken";
    assert!(said.contains(why), "{said}");
    let last = "no mirror covers k8s.gcr.io, quay.io (add --host k8s.gcr.io --host quay.io to mirror render)";
    assert_eq!(said.lines().last(), Some(last), "{said}");
    let (_, said) = check(&[&images[..], &["--upstream-down", "--json", "--hosts-dir", dir]].concat());
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["hosts_not_covered"], serde_json::json!(["k8s.gcr.io", "quay.io"]));
    let node = ["--upstream-down", "--endpoint", &mirror.url(), "--host", "gcr.io"];
    let (exit, said) = check(&[&images[..1], &node].concat());
    assert!(
        exit == 3 && said.contains("no mirror is given for k8s.gcr.io (add --host k8s.gcr.io)"),
        "{said}"
    );
    // What is covered is not named, whatever comes of it.
    let (_, said) = check(&["gcr.io/a/b:1", "--upstream-down", "--hosts-dir", dir]);
    assert!(!said.contains("covers"), "{said}");
}

#[test]
fn a_folder_that_is_no_tree_is_refused_with_the_one_that_was_meant() {
    let folder = folder();
    let tree = render(folder.path(), &Mirror::at("https://mirror.example"));
    let dir = |path: &Path| path.to_str().unwrap().to_owned();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let meant = format!("did you mean --hosts-dir {}?", tree.display());
    for (given, hint) in [
        (folder.path().join("node"), meant.as_str()),
        (tree.parent().unwrap().to_owned(), &meant),
        (tree.join("gcr.io"), &meant),
        (empty, "mirror render"),
    ] {
        let (exit, said) = refused(&["gcr.io/a/b:1", "--hosts-dir", &dir(&given)]);
        assert_eq!(exit, 2, "{said}");
        assert!(said.contains("no folder in it has a hosts.toml") && said.contains(hint), "{said}");
    }
}

#[test]
fn a_bundle_is_not_taken_for_the_name_of_an_image() {
    let site = Site::new();
    let mirror = Mirror::at("https://mirror.example");
    let (tree, bundle) = (site.tree(&mirror), site.bundle.path.to_str().unwrap());
    let mut command = layercast();
    command.current_dir(site.folder.path()).args(["mirror", "check", "bundle.tar", "--hosts-dir"]).arg(tree);
    let output = within(Duration::from_secs(60), command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("bundle.tar is a file") && said.contains("--source bundle.tar"), "{said}");
    let (exit, said) = refused(&[bundle, "--endpoint=https://mirror.example", "--host=gcr.io"]);
    assert!(exit == 2 && said.contains("--source"), "{said}");
}

/// The exit code, and what was said of it.
fn refused(args: &[&str]) -> (i32, String) {
    let mut command = layercast();
    command.args(["mirror", "check"]).args(args);
    let output = within(Duration::from_secs(60), command);
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What `mirror render` makes of it.
fn render(folder: &Path, mirror: &Mirror<'_>) -> PathBuf {
    let root = folder.join("node");
    let _ = fs::remove_dir_all(&root);
    let mut command = layercast();
    command.args(["mirror", "render", "--runtime", "containerd", "--host", "gcr.io"]);
    command.args(["--containerd-version", VERSION, "--endpoint", &mirror.endpoint, "--output"]).arg(&root);
    if let Some(ca) = mirror.ca {
        command.arg("--ca").arg(ca);
    }
    if !mirror.fallback {
        command.arg("--no-fallback");
    }
    let output = within(Duration::from_secs(60), command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    root.join("etc/containerd/certs.d")
}

fn check(args: &[&str]) -> (i32, String) {
    let mut command = layercast();
    command.args(["mirror", "check"]).args(args);
    let output = within(Duration::from_secs(60), command);
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Pulls with a proxy that lets nothing through: what it hears is what leaves the machine.
fn pull_behind_a_wall(tree: &Path, image: &str) -> (Parrot, crate::support::containerd::Pulled) {
    let wall = Parrot::saying("502 Bad Gateway");
    let pulled = Containerd::start().behind(wall.port).pull(tree, image);
    (wall, pulled)
}

/// Removes what a store has of a blob, as a damaged disk may.
fn lose_blob(folder: &Path, hex: &str) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != hex) {
            lose_blob(&path, hex);
        } else if path.file_name().is_some_and(|name| name == hex) {
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        }
    }
}
