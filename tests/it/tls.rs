//! A registry behind TLS with a private CA and a password: what is right works, what is wrong is said, and nothing falls
//! back to plain text or to nobody.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::registry::{Registry, Setup};
use crate::support::{Pushed, bundle, folder, layercast, push, tool, within};

pub(crate) struct Secured {
    pub(crate) registry: Registry,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) bundle: PathBuf,
}

/// `openssl` and `htpasswd` make what an operator would make.
pub(crate) fn secured() -> Secured {
    let folder = folder();
    authority(folder.path(), "ca");
    authority(folder.path(), "other");
    let path = |name: &str| folder.path().join(name);
    let htpasswd = tool("htpasswd", &["-Bbn".as_ref(), "pusher".as_ref(), "secret".as_ref()]).stdout;
    std::fs::write(path("htpasswd"), htpasswd).unwrap();
    let setup = Setup {
        certificate: Some((path("ca-server.crt"), path("ca-server.key"))),
        htpasswd: Some(path("htpasswd")),
        client_ca: None,
    };
    let bundle =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout", "--outer", "none"]);
    Secured { registry: Registry::docker_with(&setup), folder, bundle }
}

pub(crate) fn authority(folder: &Path, name: &str) {
    let path = |ending: &str| folder.join(format!("{name}{ending}"));
    let subject = format!("/CN={name} authority");
    let (key, cert) = (path(".key"), path(".crt"));
    let common =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            .map(OsStr::new);
    let mut words = common.to_vec();
    words.extend([
        "-subj".as_ref(),
        subject.as_ref(),
        "-keyout".as_ref(),
        key.as_os_str(),
        "-out".as_ref(),
        cert.as_os_str(),
    ]);
    tool("openssl", &words);
    let (server_key, server_cert) = (path("-server.key"), path("-server.crt"));
    let mut words = common.to_vec();
    words.extend(
        [
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=CA:FALSE",
        ]
        .map(OsStr::new),
    );
    words.extend(["-CA".as_ref(), cert.as_os_str(), "-CAkey".as_ref(), key.as_os_str()]);
    words.extend(["-keyout".as_ref(), server_key.as_os_str(), "-out".as_ref(), server_cert.as_os_str()]);
    tool("openssl", &words);
}

impl Secured {
    pub(crate) fn push(&self, flags: &[&str]) -> Pushed {
        let host = self.registry.host();
        let mut args = vec!["--source", self.bundle.to_str().unwrap(), "--private-registry", &host];
        args.extend(flags);
        push(&args)
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn a_private_authority_and_a_password_work() {
    let secured = secured();
    let ca = secured.file("ca.crt");
    let pushed = secured.push(&["--cacert", &ca, "--username=pusher", "--password=secret"]).complete();
    assert_eq!(pushed.mirror(0)["images_complete"], pushed.report["images"]);
    assert!(pushed.stderr.contains("--password-stdin"), "the warning about ps is missing: {}", pushed.stderr);
    assert!(!pushed.said().contains("secret"));
    let password = secured.file("password");
    std::fs::write(&password, "secret\n").unwrap();
    let again =
        secured.push(&["--cacert", &ca, "--username=pusher", "--password-file", &password]).complete();
    assert_eq!(again.mirror(0)["bytes_sent"], 0);
}

/// As after a change of keys: the new authority is in the system's store, the old one, of the same name, still in the
/// command line.
#[test]
fn the_systems_authorities_are_trusted_too_beside_a_given_one_of_the_same_name() {
    let secured = secured();
    let old = secured.folder.path().join("old");
    std::fs::create_dir(&old).unwrap();
    authority(&old, "ca");
    let old = old.join("ca.crt").to_str().unwrap().to_owned();
    let push = |system: &str, flags: &[&str]| {
        let mut command = layercast();
        command.env("SSL_CERT_FILE", system).env_remove("SSL_CERT_DIR").args(["push", "images", "--source"]);
        command.arg(&secured.bundle).args(["--private-registry", &secured.registry.host()]);
        command.args(["--username=pusher", "--password=secret"]).args(flags);
        within(Duration::from_secs(60), command)
    };
    let right = secured.file("ca.crt");
    for flags in [&[][..], &["--cacert", &old][..], &["--cacert", &secured.file("other.crt")][..]] {
        let pushed = push(&right, flags);
        assert_eq!(pushed.status.code(), Some(0), "{flags:?}: {}", String::from_utf8_lossy(&pushed.stderr));
    }
    let refused = push(&secured.file("other.crt"), &["--cacert", &old]);
    assert_eq!(refused.status.code(), Some(6), "neither of them vouches");
}

#[test]
fn the_wrong_authority_is_an_error_and_nothing_is_sent_in_clear() {
    let secured = secured();
    let other = secured.file("other.crt");
    for flags in [&["--cacert", &other][..], &[][..]] {
        let refused = secured.push(&[flags, &["--username=pusher", "--password=secret"]].concat());
        assert_eq!(refused.exit, 6, "{}", refused.said());
        assert!(
            refused.said().contains("[tls]") && refused.said().contains("--cacert"),
            "{}",
            refused.said()
        );
    }
    let plain = format!("http://{}", secured.registry.host());
    let args = [
        "--source",
        secured.bundle.to_str().unwrap(),
        "--private-registry",
        &plain,
        "--need-credential=false",
    ];
    let refused = push(&args);
    assert_ne!(refused.exit, 0);
    assert!(refused.said().contains("https"), "{}", refused.said());
}

#[test]
fn wrong_and_missing_passwords_are_told_apart() {
    let secured = secured();
    let ca = secured.file("ca.crt");
    let wrong = secured.push(&["--cacert", &ca, "--username=pusher", "--password=wrong"]);
    assert_eq!(wrong.exit, 4, "{}", wrong.said());
    assert!(wrong.said().contains("[auth]") && !wrong.said().contains("wrong\""), "{}", wrong.said());
    let none = secured.push(&["--cacert", &ca]);
    assert_eq!(none.exit, 4, "{}", none.said());
    assert!(none.said().contains("--password-stdin"), "{}", none.said());
    let unasked = secured.push(&["--cacert", &ca, "--need-credential=false"]);
    assert_eq!(unasked.exit, 4, "{}", unasked.said());
}

#[test]
fn a_client_certificate_opens_a_registry_that_wants_one() {
    let folder = folder();
    authority(folder.path(), "ca");
    let path = |name: &str| folder.path().join(name);
    let setup = Setup {
        certificate: Some((path("ca-server.crt"), path("ca-server.key"))),
        client_ca: Some(path("ca.crt")),
        htpasswd: None,
    };
    let registry = Registry::docker_with(&setup);
    let source =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout", "--outer", "none"]);
    let file = |name: &str| path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (file("ca.crt"), file("ca-server.crt"), file("ca-server.key"));
    let host = registry.host();
    let flags = [
        "--source",
        source.to_str().unwrap(),
        "--private-registry",
        &host,
        "--need-credential=false",
        "--cacert",
        &ca,
    ];
    let refused = push(&flags);
    assert_eq!(refused.exit, 6, "{}", refused.said());
    assert!(refused.said().contains("--client-cert"), "{}", refused.said());
    push(&[&flags[..], &["--client-cert", &cert, "--client-key", &key]].concat()).complete();
}

/// A cluster's file has all there is to say of a mirror; what it pushes is where its nodes pull.
#[test]
fn a_clusters_file_says_where_with_which_authority_and_as_whom() {
    let secured = secured();
    let sample = include_str!("../cluster/admin1.yaml");
    let cluster = secured.folder.path().join("admin1.yaml");
    let docker = secured.folder.path().join("docker.json");
    let host = format!("localhost:{}", secured.registry.port);
    // pusher:secret
    let auths = format!(r#"{{"auths":{{"{host}":{{"auth":"cHVzaGVyOnNlY3JldA=="}}}}}}"#);
    std::fs::write(&docker, auths).unwrap();
    std::fs::write(&cluster, sample).unwrap();
    let run = |words: &[&str]| {
        let mut command = layercast();
        command.args(words).arg("--cluster").arg(&cluster);
        let output = within(std::time::Duration::from_secs(60), command);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap(), said)
    };
    let source = secured.bundle.to_str().unwrap();
    for words in [
        ["mirror", "set-endpoint", &format!("https://{host}/v2/test-namespace")],
        ["mirror", "set-ca", &secured.file("ca.crt")],
        ["mirror", "set-credentials", docker.to_str().unwrap()],
    ] {
        assert_eq!(run(&words).0, 0, "{words:?}");
    }
    let target = format!("{host}/test-namespace");
    assert_eq!(run(&["mirror", "targets", "--need-fallback", "--pushed-to", &target]).0, 0);
    let (exit, said) = run(&["mirror", "targets", "--pushed-to", &host]);
    assert!(exit == 2 && said.contains("admin1.yaml:6:") && said.contains(&target), "{said}");

    let (exit, said) = run(&["verify", "--source", source]);
    assert_eq!(exit, 3, "{said}");
    let (exit, said) = run(&["push", "images", "--source", source]);
    assert!(exit == 0 && said.contains(&target), "{said}");
    for verb in ["verify", "plan"] {
        let (exit, said) = run(&[verb, "--source", source]);
        assert!(exit == 0 && said.contains(&target), "{said}");
    }

    // What the nodes are told of it, and what they would make of it.
    let image = "gcr.io/kubernetes-e2e-test-images/nautilus:1.0";
    let (exit, said) = run(&["mirror", "check", "--upstream-down", image]);
    assert!(exit == 0 && said.contains(&format!("mirror {host}")), "{said}");
    let (exit, said) = run(&["verify", "--as-node", "--upstream-down", "--source", source]);
    assert!(exit == 3 && said.contains(&format!("mirror {host}  {image}")), "{said}");
    let (exit, said) = run(&["mirror", "check", "--endpoint=https://r:1", "--host=gcr.io", "gcr.io/a:1"]);
    assert!(exit == 2 && said.contains("cannot be used with"), "{said}");
    let (exit, said) = run(&["mirror", "render", "--runtime=containerd"]);
    let api = format!("https://{host}/v2/test-namespace");
    assert!(exit == 0 && said.contains(&api) && said.contains("gcr.io/ca.crt"), "{said}");

    let (exit, said) = run(&["push", "images", "--source", source, "--private-registry", "r:1"]);
    assert!(exit == 2 && said.contains("cannot be used with"), "{said}");
    assert_eq!(run(&["mirror", "set-ca", &secured.file("other.crt")]).0, 0);
    let (exit, said) = run(&["push", "images", "--patience=0", "--source", source]);
    assert!(exit != 0 && said.contains("certificate"), "{said}");
    let text = std::fs::read_to_string(&cluster).unwrap();
    std::fs::write(&cluster, text.replace("/v2/test-namespace", "/test-namespace")).unwrap();
    let (exit, said) = run(&["push", "images", "--source", source]);
    assert!(exit == 2 && said.contains("admin1.yaml:6:") && said.contains("/v2/test-namespace"), "{said}");
}
