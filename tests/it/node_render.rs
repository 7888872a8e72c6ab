//! `mirror render`: golden files for every runtime, written below a folder, and clean in the eyes of `mirror lint`.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::node_lint::lint;
use crate::support::{eventually, folder, layercast, root, within};

const RUNTIMES: [&str; 14] = [
    "containerd",
    "containerd-legacy",
    "crio",
    "podman",
    "docker",
    "k3s",
    "rke2",
    "talos",
    "talos-legacy",
    "kind",
    "openshift",
    "eks-anywhere",
    "image-pull-secret",
    "daemonset",
];

/// With and without a namespace, an authority, credentials and a fall-back.
const VARIANTS: [(&str, &[&str]); 5] = [
    ("a root of its own", &["--endpoint=https://mirror.example:5000"]),
    ("a namespace", &["--endpoint=https://172.18.0.20:5000/v2/test-namespace"]),
    (
        "a namespace and an authority",
        &["--endpoint=https://172.18.0.20:5000/v2/test-namespace", "--ca=ca.pem"],
    ),
    (
        "no fall-back, credentials",
        &[
            "--endpoint=https://mirror.example/v2/gdc",
            "--ca=ca.pem",
            "--pull-credentials=config.json",
            "--no-fallback",
        ],
    ),
    (
        "two upstreams, one with a port, on containerd 2.2",
        &[
            "--endpoint=https://mirror.example:5000",
            "--host=registry.example:5000=other",
            "--containerd-version=2.2",
        ],
    ),
];

/// A folder with what the variants name.
fn node() -> tempfile::TempDir {
    let folder = folder();
    std::fs::write(folder.path().join("ca.pem"), include_str!("support/authority.crt")).unwrap();
    let auth = r#"{"auths":{"mirror.example":{"auth":"cHVsbGVyOnBhc3M6d29yZA=="}}}"#;
    std::fs::write(folder.path().join("config.json"), auth).unwrap();
    folder
}

fn render(at: &Path, runtime: &str, args: &[&str]) -> Command {
    let mut command = layercast();
    let host = if runtime == "docker" { "--host=docker.io" } else { "--host=gcr.io" };
    command.current_dir(at).args(["mirror", "render", "--runtime", runtime, host]).args(args);
    command
}

#[test]
fn golden_files() {
    let node = node();
    for runtime in RUNTIMES {
        let mut golden = String::new();
        for (name, args) in VARIANTS {
            let output = within(Duration::from_secs(60), render(node.path(), runtime, args));
            let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
            let _ = writeln!(golden, "######## {name}: exit {}\n{out}{err}", output.status.code().unwrap());
        }
        insta::assert_snapshot!(format!("render_{runtime}"), golden);
    }
}

#[test]
fn what_is_rendered_has_no_mistakes() {
    let node = node();
    let mut linted = 0;
    for runtime in RUNTIMES {
        for (number, (_, args)) in VARIANTS.into_iter().enumerate() {
            let out = node.path().join(format!("{runtime}-{number}"));
            let mut command = render(node.path(), runtime, args);
            command.arg("--output").arg(&out);
            let output = within(Duration::from_secs(60), command);
            let has_files = ["containerd", "crio", "podman", "docker", "k3s", "rke2", "kind"]
                .iter()
                .any(|prefix| runtime.starts_with(prefix));
            if !output.status.success() || !has_files {
                continue;
            }
            for version in [None, Some("1.6"), Some("2.2")] {
                if version == Some("1.6") && args.contains(&"--containerd-version=2.2") {
                    continue;
                }
                // Tables of config.toml differ between 1.x and 2.x.
                if runtime == "containerd-legacy"
                    && (version == Some("2.2")) != args.contains(&"--containerd-version=2.2")
                {
                    continue;
                }
                // A file for 2.2 alone is warned of where older ones may be about.
                if version.is_none() && args.contains(&"--containerd-version=2.2") {
                    continue;
                }
                let mut flags: Vec<&str> =
                    version.iter().flat_map(|version| ["--containerd-version", *version]).collect();
                flags.extend(args.iter().filter(|arg| **arg == "--no-fallback"));
                let (exit, found) = lint(&out, &flags);
                assert_eq!((exit, found), (0, Vec::new()), "{runtime} {args:?} {version:?}");
                linted += 1;
            }
        }
    }
    assert!(linted > 50, "{linted}");
}

#[test]
fn files_are_written_where_a_node_has_them_and_as_secret_as_they_are() {
    let node = node();
    let mut command = render(node.path(), "containerd", VARIANTS[3].1);
    command.args(["--output", "out"]);
    let output = within(Duration::from_secs(60), command);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = node.path().join("out/etc/containerd/certs.d/gcr.io");
    let mode = |file: &str| std::fs::metadata(tree.join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("hosts.toml"), mode("ca.crt")), (0o600, 0o644));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn what_an_administrator_wrote_is_not_replaced() {
    let node = node();
    let config = node.path().join("etc/containerd/config.toml");
    let run = |args: &[&str]| {
        let mut command = render(node.path(), "containerd-legacy", args);
        command.args(["--output", "."]);
        within(Duration::from_secs(60), command).status.code()
    };
    assert_eq!(run(VARIANTS[0].1), Some(0));
    assert_eq!(run(VARIANTS[1].1), Some(0), "its own files are replaced");
    std::fs::write(&config, "version = 2\n").unwrap();
    assert_eq!(run(VARIANTS[1].1), Some(2));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "version = 2\n");
}

#[test]
fn what_an_earlier_render_left_is_named() {
    let node = node();
    let run = |args: &[&str]| {
        let mut command = render(node.path(), "containerd", &["--endpoint=https://mirror.example:5000"]);
        command.args(["--output", "out"]).args(args);
        let output = within(Duration::from_secs(60), command);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let both = ["--host=quay.io=quay", "--host=registry.example:5000=other"];
    assert!(!run(&both).contains("also there"));
    assert!(!run(&both).contains("also there"));
    let said = run(&[]);
    assert!(
        said.contains("also there, not written by this render: quay.io, registry.example:5000;"),
        "{said}"
    );
}

/// The script of the DaemonSet, on a folder instead of a node.
#[test]
fn the_daemonset_installs_keeps_what_was_there_and_takes_its_own_away() {
    let node = folder();
    let [files, run, tree] = ["files", "run", "certs.d"].map(|name| node.path().join(name));
    for folder in [&files, &run, &tree.join("quay.io"), &tree.join("other.example")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(files.join("f0"), "authority").unwrap();
    std::fs::write(files.join("f1"), "# Made by `layercast mirror render`.\ngcr").unwrap();
    std::fs::write(files.join("f2"), "# Made by `layercast mirror render`.\nquay").unwrap();
    let index = "f0 0644 gcr.io/ca.crt\nf1 0600 gcr.io/hosts.toml\nf2 0644 quay.io/hosts.toml\n";
    std::fs::write(files.join("index"), index).unwrap();
    std::fs::write(tree.join("quay.io/hosts.toml"), "the administrator's").unwrap();
    std::fs::write(tree.join("other.example/hosts.toml"), "untouched").unwrap();
    let script = std::fs::read_to_string(root().join("src/node/render/install.sh")).unwrap();
    let here = |path: &Path| path.to_str().unwrap().to_owned();
    let script = script
        .replace("/node/certs.d", &here(&tree))
        .replace("/files", &here(&files))
        .replace("/run/layercast", &here(&run));
    let mut child = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).spawn().unwrap();
    eventually("the files are installed", || run.join("installed").exists());
    let read = |path: &str| std::fs::read_to_string(tree.join(path)).unwrap_or_default();
    assert!(read("gcr.io/hosts.toml").ends_with("gcr"));
    assert!(read("quay.io/hosts.toml").ends_with("quay"));
    let mode = std::fs::metadata(tree.join("gcr.io/hosts.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(!tree.join("gcr.io").exists(), "its own folder is gone");
    assert_eq!(read("quay.io/hosts.toml"), "the administrator's");
    assert_eq!(std::fs::read_dir(tree.join("quay.io")).unwrap().count(), 1, "and nothing lies beside it");
    assert_eq!(read("other.example/hosts.toml"), "untouched");
}
