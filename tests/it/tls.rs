//! A registry behind TLS with a private CA and a password: what is right works, what is wrong is said, and nothing falls
//! back to plain text or to nobody.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::support::registry::{Registry, Setup};
use crate::support::{Pushed, bundle, folder, push, tool};

struct Secured {
    registry: Registry,
    folder: tempfile::TempDir,
    bundle: PathBuf,
}

/// `openssl` and `htpasswd` make what an operator would make.
fn secured() -> Secured {
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
    fn push(&self, flags: &[&str]) -> Pushed {
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

#[test]
fn the_wrong_authority_is_an_error_and_nothing_is_sent_in_clear() {
    let secured = secured();
    let other = secured.file("other.crt");
    for flags in [&["--cacert", &other][..], &[][..]] {
        let refused = secured.push(&[flags, &["--username=pusher", "--password=secret"]].concat());
        assert_eq!(refused.exit, 3, "{}", refused.said());
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
    assert_eq!(refused.exit, 3, "{}", refused.said());
    assert!(refused.said().contains("--client-cert"), "{}", refused.said());
    push(&[&flags[..], &["--client-cert", &cert, "--client-key", &key]].concat()).complete();
}
