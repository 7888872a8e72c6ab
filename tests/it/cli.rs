//! The command line: every line of the vendor's documentation, help, and the words of errors.

use std::process::Command;
use std::time::Duration;

use crate::support::build::docker_archive;
use crate::support::registry::Registry;
use crate::support::{bundle, folder, judge, layercast, named, within};

fn text(command: Command) -> String {
    let output = within(Duration::from_secs(60), command);
    let said = [output.stdout, output.stderr].concat();
    format!("exit {}\n{}", output.status.code().unwrap(), String::from_utf8_lossy(&said))
}

fn snapshot(words: &[&str]) -> String {
    let mut command = layercast();
    command.args(words).env("COLUMNS", "100");
    text(command)
}

#[test]
fn help_is_what_it_was() {
    insta::assert_snapshot!("help", snapshot(&["--help"]));
    insta::assert_snapshot!("help_push_images", snapshot(&["push", "images", "--help"]));
    insta::assert_snapshot!("help_mirror_check", snapshot(&["mirror", "check", "--help"]));
    for verb in ["plan", "verify", "inspect", "history", "serve", "quickstart"] {
        insta::assert_snapshot!(format!("help_{verb}"), snapshot(&[verb, "--help"]));
    }
    for verb in ["check", "show"] {
        insta::assert_snapshot!(format!("help_config_{verb}"), snapshot(&["config", verb, "--help"]));
    }
    insta::assert_snapshot!("help_bench_decode", snapshot(&["bench", "decode", "--help"]));
    insta::assert_snapshot!("help_bench_link", snapshot(&["bench", "link", "--help"]));
    insta::assert_snapshot!("help_bench_compare", snapshot(&["bench", "compare", "--help"]));
    insta::assert_snapshot!("help_update_cluster", snapshot(&["update", "cluster", "--help"]));
    for verb in ["render", "lint", "apply"] {
        insta::assert_snapshot!(format!("help_mirror_{verb}"), snapshot(&["mirror", verb, "--help"]));
    }
}

/// A build without the feature knows the commands that need it, reads what they are given, and refuses.
#[cfg(not(feature = "kube"))]
#[test]
fn what_was_not_built_in_is_told() {
    let words = [
        "mirror",
        "apply",
        "--kubeconfig=k",
        "--endpoint=https://mirror.example",
        "--host=gcr.io",
        "--quiet",
    ];
    let said = snapshot(&words);
    assert!(said.starts_with("exit 2") && said.contains("--features kube"), "{said}");
}

#[test]
fn errors_say_what_where_why_and_what_next() {
    let folder = folder();
    std::env::set_current_dir(folder.path()).unwrap();
    std::fs::write("page.tar.xz", "<!doctype html><title>404</title>").unwrap();
    std::fs::write("empty.tar.xz", "").unwrap();
    let cut =
        bundle(folder.path(), "cut.tar.xz", &["--preset", "tiny", "--format", "oci-layout", "--outer", "xz"]);
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let push = |source: &str, more: &[&str]| {
        let mut words = vec![
            "push",
            "images",
            "--need-credential=false",
            "--private-registry",
            "127.0.0.1:1",
            "--source",
            source,
        ];
        words.extend(more);
        // How far it came with a mirror that is not there is a matter of time.
        let said = snapshot(&words);
        said.lines().filter(|line| !line.starts_with("127.0.0.1:1: ")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!("error_no_such_file", push("missing.tar.xz", &[]));
    insta::assert_snapshot!("error_not_a_bundle", push("page.tar.xz", &[]));
    insta::assert_snapshot!("error_empty", push("empty.tar.xz", &[]));
    insta::assert_snapshot!("error_truncated", push("cut.tar.xz", &[]));
    insta::assert_snapshot!("error_bad_rewrite", push("page.tar.xz", &["--rewrite", "quay.io"]));
    insta::assert_snapshot!(
        "error_bad_target",
        snapshot(&["push", "images", "--source", "page.tar.xz", "--private-registry", "https://reg/v2/ns"])
    );
    insta::assert_snapshot!("error_no_mirror", snapshot(&["push", "images", "--source", "page.tar.xz"]));
    insta::assert_snapshot!("error_two_passwords", push("x", &["--password=a", "--password-stdin"]));
}

/// What is written into a cluster's file is what other commands take, and the files it names are what they should be.
#[test]
fn a_clusters_file_gets_nothing_that_nodes_cannot_use() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cluster, sample) = (path("admin1.yaml"), include_str!("../cluster/admin1.yaml"));
    std::fs::write(&cluster, sample).unwrap();
    let certificate = rcgen::generate_simple_self_signed(["mirror.example".to_owned()]).unwrap();
    let auths = r#"{"auths":{"172.18.0.20:5000":{"auth":"cHVzaGVyOnNlY3JldA=="}}}"#;
    let key = r#"{"type":"service_account","project_id":"p"}"#;
    let pem = certificate.cert.pem();
    for (name, text) in
        [("ca.crt", pem.as_str()), ("docker.json", auths), ("key.json", key), ("text", "hello")]
    {
        std::fs::write(path(name), text).unwrap();
    }
    let run = |verb: &str, value: &[&str]| {
        let mut command = layercast();
        command.args(["mirror", verb, "--cluster", &cluster]).args(value);
        text(command)
    };
    for (verb, value, why) in [
        ("set-endpoint", "10.0.0.1:5000".to_owned(), "give it as https://10.0.0.1:5000"),
        ("set-endpoint", "https://a,https://b".to_owned(), "more than one address"),
        ("set-ca", path("text"), "no certificate in PEM form"),
        ("set-ca", path("."), "directory"),
        ("set-ca", path("docker.json"), "no certificate in PEM form"),
        ("set-credentials", path("text"), "not a file of credentials"),
        ("set-credentials", path("key.json"), "neither auths nor"),
        ("set-credentials", path("ca.crt"), "not a file of credentials"),
    ] {
        let said = run(verb, &[&value]);
        assert!(said.starts_with("exit 2") && said.contains(why), "{verb} {value}: {said}");
        assert_eq!(std::fs::read_to_string(&cluster).unwrap(), sample, "{verb} {value}");
    }
    let said = run("set-ca", &[&path("elsewhere.crt")]);
    assert!(said.starts_with("exit 0") && said.contains("is not on this machine"), "{said}");
    assert!(run("set-ca", &[&path("ca.crt")]).starts_with("exit 0"));
    let said = run("set-credentials", &[&path("docker.json")]);
    assert!(said.starts_with("exit 0") && !said.contains("no entry"), "{said}");
    let said = run("targets", &[]);
    assert!(said.starts_with("exit 0") && !said.contains("write:"), "{said}");
    let said = run("set-endpoint", &["https://10.0.0.1:5000"]);
    assert!(
        said.starts_with("exit 0") && said.contains("docker.json has no entry for 10.0.0.1:5000"),
        "{said}"
    );
    let said = run("targets", &[]);
    assert!(said.starts_with("exit 0") && said.contains("has no entry for 10.0.0.1:5000"), "{said}");
    for (name, why) in [("ca.crt", "caCertPath: "), ("docker.json", "pullCredentialConfigPath: ")] {
        let before = std::fs::read(path(name)).unwrap();
        std::fs::write(path(name), "hello").unwrap();
        let said = run("targets", &[]);
        assert!(said.starts_with("exit 2") && said.contains(&format!("error: {why}")), "{said}");
        std::fs::write(path(name), before).unwrap();
    }
}

#[test]
fn files_that_a_cluster_names_are_named_with_line_and_key() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let cluster = path("admin1.yaml");
    let write = |ca: &str, config: &str| {
        let sample = include_str!("../cluster/admin1.yaml");
        let text = sample.replace("/root/ca.crt", ca).replace("/root/.docker/config.json", config);
        std::fs::write(&cluster, &text).unwrap();
        let at = |key: &str| text.lines().position(|line| line.contains(key)).unwrap() + 1;
        [at("caCertPath"), at("pullCredentialConfigPath")]
    };
    let certificate = rcgen::generate_simple_self_signed(["mirror.example".to_owned()]).unwrap();
    std::fs::write(path("ca.crt"), certificate.cert.pem()).unwrap();
    std::fs::write(path("x.tar"), docker_archive("x", "gcr.io/x:1")).unwrap();
    let run = |words: &[&str]| {
        let mut command = layercast();
        command.args(words).args(["--cluster", &cluster]);
        text(command)
    };
    let (check, render) =
        (["mirror", "check", "gcr.io/a/b:1"], ["mirror", "render", "--runtime", "containerd"]);
    let (source, targets) = (path("x.tar"), ["mirror", "targets"]);
    let plan = ["plan", "--source", &source];
    let commands: [&[&str]; 3] = [&check, &render, &plan];

    let [ca, config] = write("/nowhere/ca.crt", "/nowhere/config.json");
    let said = run(&targets);
    for (line, key) in
        [(ca, "caCertPath: /nowhere/ca.crt"), (config, "pullCredentialConfigPath: /nowhere/config.json")]
    {
        let place = format!("admin1.yaml:{line}:");
        let told =
            said.lines().any(|told| told.contains(&place) && told.contains(&format!("warning: {key}")));
        assert!(told, "{said}");
    }
    for words in commands {
        let said = run(words);
        let place = format!("admin1.yaml:{ca}: caCertPath: /nowhere/ca.crt");
        assert!(said.starts_with("exit 2") && said.contains(&place), "{words:?}: {said}");
    }
    let [_, config] = write(&path("ca.crt"), "/nowhere/config.json");
    for words in commands {
        let said = run(words);
        let place = format!("admin1.yaml:{config}: pullCredentialConfigPath: /nowhere/config.json");
        assert!(said.contains(&place) && !said.contains("containerd ends the pull"), "{words:?}: {said}");
        assert!(!said.starts_with("exit 0") && !said.starts_with("exit 3"), "{words:?}: {said}");
    }
}

/// The lines of the vendor's page, with this test's addresses; continued lines are joined, as a shell does.
#[test]
fn the_vendors_command_lines_run_as_they_stand() {
    let folder = folder();
    let registry = Registry::docker();
    let made = bundle(
        folder.path(),
        "bmpackages_1.8.0.tar.xz",
        &["--preset", "tiny", "--format", "archives", "--outer", "xz-multi"],
    );
    let certificate = rcgen::generate_simple_self_signed(["mirror.example".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.crt"), certificate.cert.pem()).unwrap();
    let link = folder.path().join("bmctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_layercast"), &link).unwrap();
    let host = registry.host();
    let lines = [
        format!(
            "push images --source=./bmpackages_1.8.0.tar.xz --private-registry={host} --need-credential=false"
        ),
        format!(
            "push images --source ./bmpackages_1.8.0.tar.xz --private-registry {host} --need-credential=false --threads 4"
        ),
        format!(
            "push images --source=./bmpackages_1.8.0.tar.xz --private-registry=http://{host}/test-namespace --username=u --password=p --cacert cert.crt"
        ),
        format!("images push --images . --private-registry {host}/actl --no-registry-credential"),
    ];
    for line in &lines {
        let mut command = named(&link);
        command.args(line.split(' ')).current_dir(folder.path());
        let said = text(command);
        assert!(said.starts_with("exit 0\n"), "{line}: {said}");
    }
    for namespace in ["", "/test-namespace", "/actl"] {
        judge(&format!("{}{namespace}", registry.url()), &made);
    }
    let mut help = named(&link);
    help.args(["push", "images", "--help"]);
    assert!(text(help).contains("Usage: bmctl push images"));
}

/// A proxy in the environment is used, NO_PROXY keeps a host from it, and this machine itself is never asked for there.
#[test]
fn proxies_of_the_environment_are_used() {
    let folder = folder();
    let registry = Registry::docker();
    let made =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout", "--outer", "none"]);
    let proxy = Proxy::start();
    let run = |target: &str, no_proxy: Option<&str>| {
        let mut command = layercast();
        command.args(["push", "images", "--need-credential=false", "--patience=0", "--source"]).arg(&made);
        command.args(["--private-registry", target]);
        command
            .env("HTTP_PROXY", format!("http://{}", proxy.address))
            .envs(no_proxy.map(|hosts| ("NO_PROXY", hosts)));
        text(command)
    };
    let local = run(&registry.url(), None);
    assert!(local.starts_with("exit 0"), "{local}");
    let unproxied = run("http://mirror.invalid:5000", Some("mirror.invalid"));
    assert!(unproxied.starts_with("exit 6"), "{unproxied}");
    assert_eq!(proxy.seen(), 0);
    let proxied = run("http://mirror.invalid:5000", None);
    assert!(proxied.starts_with("exit 4") && proxied.contains("403"), "{proxied}");
    assert!(proxy.seen() > 0);
}

/// A proxy that lets nobody through, and counts who tried.
struct Proxy {
    address: std::net::SocketAddr,
    seen: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Proxy {
    fn start() -> Self {
        use std::io::{BufRead as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), seen: std::sync::Arc::default() };
        let seen = std::sync::Arc::clone(&proxy.seen);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = std::io::BufReader::new(connection.unwrap());
                let mut line = String::new();
                while connection.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let _ = connection
                    .get_mut()
                    .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        proxy
    }

    fn seen(&self) -> usize {
        self.seen.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// What cron sees: nothing when all is well, the reason when it is not; and a reader who has gone away stops nothing.
#[test]
fn failures_are_told_whatever_the_form_of_the_output() {
    let folder = folder();
    let registry = Registry::docker();
    let made =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout", "--outer", "none"]);
    let run = |flags: &[&str], target: &str| {
        let mut command = layercast();
        command
            .args(flags)
            .args(["push", "images", "--need-credential=false", "--patience=0", "--source"])
            .arg(&made);
        command.args(["--private-registry", target]);
        text(command)
    };
    assert_eq!(run(&["--quiet"], &registry.host()), "exit 0\n");
    assert_eq!(run(&["--quiet", "--log-format=json"], &registry.host()), "exit 0\n");
    let both = run(&["--quiet", "--log-format=json"], "127.0.0.1:1");
    let lines: Vec<&str> = both.lines().skip(1).collect();
    assert!(lines.len() == 1 && lines[0].contains(r#""class":"unreachable""#), "only the error: {both}");
    let quiet = run(&["--quiet"], "127.0.0.1:1");
    assert!(quiet.starts_with("exit 6\nerror: 127.0.0.1:1: ") && quiet.contains("[unreachable]"), "{quiet}");
    let json = run(&["--log-format=json"], "127.0.0.1:1");
    assert!(json.lines().skip(1).all(|line| line.starts_with('{')), "{json}");
    assert!(json.contains(r#""class":"unreachable""#), "{json}");
    let secret = run(&[], "http://user:hunter2@127.0.0.1:1");
    assert!(secret.starts_with("exit 2") && !secret.contains("hunter2"), "{secret}");

    let mut command = layercast();
    command.args(["push", "images", "--need-credential=false", "--source"]).arg(&made);
    let target = format!("{}/unheard", registry.host());
    let mut child =
        command.args(["--private-registry", &target]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_no_bug() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = layercast();
    command
        .args(["serve", "--listen", &taken.local_addr().unwrap().to_string(), "--root"])
        .arg(folder.path());
    let told = text(command);
    assert!(told.contains("[io]") && told.contains("--listen") && !told.contains("[internal]"), "{told}");
}

#[test]
fn a_run_over_nothing_is_an_error_and_a_wrong_report_path_costs_nothing() {
    let folder = folder();
    let registry = Registry::docker();
    let made =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "archives", "--outer", "none"]);
    let run = |words: &[&str]| {
        let mut command = layercast();
        command
            .args(words)
            .args(["--need-credential=false", "--private-registry", &registry.host(), "--source"])
            .arg(&made);
        text(command)
    };
    for verb in [&["push", "images"][..], &["plan"], &["verify"]] {
        let said = run(&[verb, &["--include", "nowhere/*"]].concat());
        assert!(said.starts_with("exit 2") && said.contains("--include"), "{said}");
    }
    let said = run(&["push", "images", "--report", "/nonexistent/report.json"]);
    assert!(said.starts_with("exit 2") && said.contains("--report"), "{said}");
    assert!(
        crate::support::http::get(&registry.url(), "_catalog").json()["repositories"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let mut inspect = layercast();
    inspect.arg("inspect").arg(&made);
    assert!(text(inspect).starts_with("exit 0"));
}

#[test]
fn what_flags_say_about_mirrors_is_held_against_itself_before_anything_is_read() {
    let run = |flags: &[&str]| {
        let mut command = layercast();
        text({
            command.args(["push", "images", "--private-registry", "h.example:5000", "--source"]);
            command.arg(crate::support::root().join("Cargo.toml")).args(flags);
            command
        })
    };
    for (flags, said, next) in [
        (&["--need-credential=false", "--username=u"][..], "--username is given, and", "leave out one"),
        (&["--no-registry-credential", "--password-command=x"], "--no-registry-credential says", "leave out"),
        (
            &["--private-registry=http://h.example:5000"],
            "h.example:5000 and http://h.example:5000 are one",
            "once",
        ),
        (
            &["--cacert=h.example:500=ca.crt"],
            "h.example:500 is none of the mirrors",
            "did you mean h.example:5000?",
        ),
        (&["--password-file=g.example=x"], "--password-file: g.example is none", "h.example:5000"),
        (&["--bandwidth=20M"], "--bandwidth: \"20M\" does not say whether bits or bytes", "write 20Mbit/s"),
        (&["--bandwidth=h.example:500=1MB/s"], "h.example:500 is none of the mirrors", "did you mean"),
    ] {
        let told = run(flags);
        assert!(
            told.starts_with("exit 2") && told.contains(said) && told.contains(next),
            "{flags:?}: {told}"
        );
    }
}
