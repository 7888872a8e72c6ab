use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};

use super::*;

impl Host {
    /// What it is asked for an image, as containerd writes it: `kind` is `manifests` or `blobs`, `reference` a tag or a
    /// digest. The upstream goes along as `ns` wherever another host is asked for it.
    pub(crate) fn url(&self, upstream: &str, repository: &str, kind: &str, reference: &str) -> String {
        let own =
            upstream == self.authority || upstream == "docker.io" && self.authority == "registry-1.docker.io";
        let path = go::clean(&format!("/{}/{repository}/{kind}/{reference}", self.path));
        let query = if own { String::new() } else { format!("?ns={}", encoded(upstream)) };
        format!("{}://{}{path}{query}", self.scheme, self.authority)
    }
}

/// The host, as a part of a query: `[::1]:5000` has characters that a query cannot hold.
fn encoded(upstream: &str) -> String {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(upstream, &KEPT).to_string()
}

/// The hosts among `hosts` that are asked for a tag (`by_tag`) or a digest, in order.
pub(crate) fn ask(hosts: &[Host], by_tag: bool) -> impl Iterator<Item = &Host> {
    hosts.iter().filter(move |host| host.may(Capability::Pull) && (!by_tag || host.may(Capability::Resolve)))
}

const OLD: Version = Version::new(1, 6, 20);
const NEW: Version = Version::NEWEST;

fn parse(text: &str, version: Version) -> HostsFile {
    HostsFile::parse(text, version).unwrap_or_else(|ignored| panic!("{ignored} at {:?}\n{text}", ignored.at))
}

fn ignored(text: &str, version: Version) -> Ignored {
    HostsFile::parse(text, version).expect_err(text)
}

fn resolve(text: &str, upstream: &str, version: Version) -> Vec<Host> {
    parse(text, version).resolve(upstream, Path::new("/etc/containerd/certs.d/x"), version)
}

fn urls(text: &str, upstream: &str, version: Version) -> Vec<String> {
    resolve(text, upstream, version)
        .iter()
        .map(|host| host.url(upstream, "a/b", "manifests", "1.0"))
        .collect()
}

#[test]
fn a_mirror_with_a_namespace_is_asked_there_and_then_the_upstream() {
    let text = r#"
server = "https://gcr.io"
[host."https://172.18.0.20:5000/v2/test-namespace"]
  capabilities = ["pull", "resolve"]
  ca = "ca.crt"
  override_path = true
"#;
    for version in [OLD, NEW] {
        let asked = [
            "https://172.18.0.20:5000/v2/test-namespace/a/b/manifests/1.0?ns=gcr.io",
            "https://gcr.io/v2/a/b/manifests/1.0",
        ];
        assert_eq!(urls(text, "gcr.io", version), asked);
    }
    let hosts = resolve(text, "gcr.io", NEW);
    assert_eq!(hosts[0].ca, [PathBuf::from("/etc/containerd/certs.d/x/ca.crt")]);
    assert_eq!(hosts[0].capabilities, [Capability::Pull, Capability::Resolve]);
    assert_eq!((hosts[0].origin, hosts[1].origin), (HostOrigin::Table, HostOrigin::Server));
    // 1.5 does not know the key: the path gets a second /v2.
    let old = urls(text, "gcr.io", Version::new(1, 5, 18));
    assert_eq!(old[0], "https://172.18.0.20:5000/v2/test-namespace/v2/a/b/manifests/1.0?ns=gcr.io");
}

#[test]
fn paths_are_completed_unless_they_are_told_to_stand() {
    for (host, verbatim, expected) in [
        ("https://m:5000", false, "https://m:5000/v2/a/b/manifests/1.0?ns=gcr.io"),
        ("https://m:5000/", false, "https://m:5000/v2/a/b/manifests/1.0?ns=gcr.io"),
        ("m:5000", false, "https://m:5000/v2/a/b/manifests/1.0?ns=gcr.io"),
        ("http://m/v2/", false, "http://m/v2/a/b/manifests/1.0?ns=gcr.io"),
        ("https://m/v2/ns", false, "https://m/v2/ns/v2/a/b/manifests/1.0?ns=gcr.io"),
        ("https://m/ns", true, "https://m/ns/a/b/manifests/1.0?ns=gcr.io"),
        ("https://m", true, "https://m/a/b/manifests/1.0?ns=gcr.io"),
        ("https://gcr.io", false, "https://gcr.io/v2/a/b/manifests/1.0"),
    ] {
        let text = format!("[host.\"{host}\"]\noverride_path = {verbatim}\n");
        assert_eq!(urls(&text, "gcr.io", NEW)[0], expected, "{host}");
    }
}

#[test]
fn the_upstream_comes_last_where_no_server_is_named() {
    let text = "capabilities = [\"push\"]\nca = \"/ca\"\n[host.\"https://m\"]\n";
    let last = resolve(text, "docker.io", OLD).pop().unwrap();
    assert_eq!(last.origin, HostOrigin::Upstream);
    assert_eq!(
        last.url("docker.io", "library/x", "blobs", "sha256:0"),
        "https://registry-1.docker.io/v2/library/x/blobs/sha256:0"
    );
    assert!(last.may(Capability::Resolve), "the capabilities of the file are not the upstream's");
    assert_eq!(last.ca, [PathBuf::from("/ca")], "but its certificates are");
    let here = resolve("[host.\"https://m\"]", "localhost:5000", OLD).pop().unwrap();
    assert_eq!((here.scheme.as_str(), here.skip_verify), ("http", true));
    assert_eq!(
        urls("[host.\"https://m\"]", "[::1]:5000", NEW)[0],
        "https://m/v2/a/b/manifests/1.0?ns=%5B%3A%3A1%5D%3A5000"
    );
}

#[test]
fn hosts_come_in_the_order_of_the_file() {
    let text = "[host.\"https://z\"]\n[host.\"https://a\"]\n[host.\"https://m\".header]\nx = \"1\"\n";
    for version in [OLD, NEW] {
        let order: Vec<String> = parse(text, version).hosts.into_iter().map(|(url, _)| url).collect();
        assert_eq!(order, ["https://z", "https://a", "https://m"]);
    }
    // What is not a table of its own is seen by 1.x alone.
    let inline = "[host]\n\"https://m\" = { skip_verify = true }\n";
    assert_eq!(parse(inline, OLD).hosts.len(), 1);
    assert_eq!(parse(inline, NEW).hosts.len(), 0);
}

#[test]
fn files_that_are_ignored_and_by_whom() {
    for (text, line, why) in [
        ("", None, "empty"),
        ("server = ", Some(1), "string"),
        (
            "[host.\"https://m\"]\n\ncapabilities = [\"pull\", \"list\"]",
            Some(3),
            "unknown capability \"list\"",
        ),
        ("[host.\"https://m\"]\ncapabilities = \"pull\"", Some(2), "not a list"),
        ("[host.\"https://m\"]\nskip_verify = \"true\"", Some(2), "neither true nor false"),
        ("[host.\"https://m\"]\n[host.\"https://m\"]", Some(2), "duplicate"),
        ("[host.\"https://m:x\"]", Some(1), "invalid port"),
        ("[host.\"https://m\"]\nca = 1", Some(2), "neither a text nor a list"),
        ("[host.\"https://m\"]\nclient = [[\"a\"]]", Some(2), "not two files"),
        ("[host.\"https://m\"]\noverride_path = 1", Some(2), "neither true nor false"),
        ("host = 1", Some(1), "not a table"),
        ("[host]\na = 1", Some(2), "not a table"),
        ("server = 1\n[host.\"https://m\"]", Some(1), "not a text"),
    ] {
        for version in [OLD, NEW] {
            let error = ignored(text, version);
            assert!(error.why.contains(why), "{text}: {error}");
            assert_eq!(error.at.map(|at| at.line), line, "{text}: {error}");
        }
    }
    let referrers = "[host.\"https://m\"]\ncapabilities = [\"Pull\", \"referrers\"]";
    assert_eq!(ignored(referrers, Version::new(2, 1, 9)).at.map(|at| at.line), Some(2));
    assert!(parse(referrers, NEW).hosts[0].1.capabilities.contains(&Capability::Referrers));
    let timeout = "[host.\"https://m\"]\ndial_timeout = \"5\"";
    assert!(ignored(timeout, Version::DIAL_TIMEOUT).why.contains("missing unit"));
    assert_eq!(parse(timeout, OLD).hosts[0].1.dial_timeout, None, "a key that is not known does not disturb");
    let no_table = "server = \"https://m\"";
    assert!(ignored(no_table, OLD).why.contains("no [host] table"));
    assert_eq!(parse(no_table, NEW).resolve("gcr.io", Path::new("/"), NEW).len(), 1);
}

#[test]
fn directories_are_looked_for_in_this_order() {
    assert_eq!(directory::names("gcr.io"), ["gcr.io", "_default"]);
    assert_eq!(directory::names("m:5000"), ["m_5000_", "m:5000", "_default"]);
    assert_eq!(directory::upstream("m_5000_").as_deref(), Some("m:5000"));
    assert_eq!(directory::upstream("m:5000").as_deref(), Some("m:5000"));
    assert_eq!(directory::upstream("my_host_").as_deref(), Some("my_host_"));
    assert_eq!(directory::upstream("_default"), None);
}

#[test]
fn the_first_directory_that_exists_speaks_alone() {
    let disk = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| disk.path().join(name));
    let write = |folder: &Path, file: &str, text: &str| {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(file), text).unwrap();
    };
    let roots = [one.clone(), two.clone()];
    let first = |upstream: &str| directory::load(&roots, upstream, OLD).unwrap();
    assert_eq!((first("gcr.io").folder, first("gcr.io").hosts.len()), (None, 1));
    write(&two.join("gcr.io"), FILE_NAME, "[host.\"https://two\"]");
    assert_eq!(first("gcr.io").hosts[0].authority, "two");
    write(&one.join("_default"), FILE_NAME, "[host.\"https://all\"]");
    assert_eq!(first("gcr.io").hosts[0].authority, "all", "_default of an earlier root hides it");
    write(&one.join("m:5000"), "ca.crt", "");
    write(&one.join("m:5000"), "me.cert", "");
    write(&one.join("m:5000"), "me.key", "");
    write(&one.join("m:5000"), FILE_NAME, "capabilities = [\"all\"]");
    let loaded = first("m:5000");
    assert!(loaded.ignored.unwrap().why.contains("unknown capability"));
    assert_eq!(loaded.hosts.len(), 1);
    assert_eq!(loaded.hosts[0].origin, HostOrigin::Upstream);
    assert_eq!(loaded.hosts[0].ca, [one.join("m:5000/ca.crt")]);
    let key = Some(one.join("m:5000/me.key"));
    assert_eq!(loaded.hosts[0].client, [(one.join("m:5000/me.cert"), key)]);
}

#[test]
fn hosts_are_chosen_by_what_they_may_be_asked() {
    let text = "[host.\"https://m\"]\ncapabilities = [\"pull\"]\n";
    let hosts = resolve(text, "gcr.io", OLD);
    assert_eq!(ask(&hosts, false).count(), 2);
    assert_eq!(ask(&hosts, true).map(|host| host.authority.as_str()).collect::<Vec<_>>(), ["gcr.io"]);
}

#[test]
fn versions_are_read_as_containerd_prints_them() {
    for (text, version) in [
        // Without a patch, the newest of the line.
        ("1.6", Version::new(1, 6, u16::MAX)),
        ("v2.1.4", Version::new(2, 1, 4)),
        ("1.6.20~ds1", OLD),
        ("2.2.0-rc.1", Version::new(2, 2, 0)),
    ] {
        assert_eq!(text.parse(), Ok(version));
    }
    for text in ["", "2", "two", "1.6.", "1.2.3.4", "1.6x"] {
        assert!(text.parse::<Version>().is_err(), "{text}");
    }
}

fn settings() -> impl Strategy<Value = HostSettings> {
    let capabilities = proptest::sample::subsequence(Capability::ALL.to_vec(), 0..=4);
    let text = || ".{0,12}".prop_map(|text: String| text);
    let pair =
        (text(), proptest::option::of(text())).prop_map(|(certificate, key)| ClientPair { certificate, key });
    let header = proptest::collection::btree_map(text(), proptest::collection::vec(text(), 1..3), 0..3);
    let timeout = (0u64..100_000, 0u32..1000).prop_map(|(s, ms)| Duration::new(s, ms * 1_000_000));
    (
        capabilities,
        proptest::collection::vec(text(), 0..3),
        proptest::collection::vec(pair, 0..3),
        any::<Option<bool>>(),
        any::<bool>(),
        header,
        proptest::option::of(timeout),
    )
        .prop_map(|(capabilities, ca, client, skip_verify, override_path, header, dial_timeout)| {
            let secret = |values: Vec<String>| values.into_iter().map(SecretString::from).collect();
            let header = header.into_iter().map(|(name, values)| (name, secret(values))).collect();
            HostSettings { capabilities, ca, client, skip_verify, override_path, header, dial_timeout }
        })
}

/// All of a file as one text that compares, with the secrets in it.
fn plain(file: &HostsFile) -> String {
    let one = |settings: &HostSettings| {
        let header: Vec<(&String, Vec<&str>)> = settings
            .header
            .iter()
            .map(|(name, values)| (name, values.iter().map(ExposeSecret::expose_secret).collect()))
            .collect();
        format!("{settings:?} {header:?}")
    };
    let hosts: Vec<String> =
        file.hosts.iter().map(|(url, settings)| format!("{url:?} {}", one(settings))).collect();
    format!("{:?} {} {hosts:#?}", file.server, one(&file.root))
}

proptest! {
    #[test]
    fn what_is_written_parses_back_to_the_same(
        server in proptest::option::of("https?://[a-z]{1,8}(:[0-9]{1,4})?(/[^\\p{Cc}%?#]{0,10})?"),
        root in settings(),
        hosts in proptest::collection::btree_map("(https?://)?[a-gi-z][a-z]{0,8}(/[^\\p{Cc}%?#:]{0,10})?", settings(), 1..4),
    ) {
        let file = HostsFile { server, root, hosts: hosts.into_iter().collect() };
        let text = file.to_string();
        let back = HostsFile::parse(&text, NEW).map_err(|ignored| TestCaseError::fail(format!("{ignored:?}\n{text}")))?;
        prop_assert_eq!(plain(&back), plain(&file), "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|\\n|[\\[\\]\"=.]|host|server){0,60}", upstream in ".{0,20}") {
        for version in [OLD, NEW] {
            if let Ok(file) = HostsFile::parse(&text, version) {
                for host in file.resolve(&upstream, Path::new("/"), version) {
                    let _ = host.url(&upstream, "a", "blobs", "b");
                }
            }
        }
        let _ = directory::names(&text);
        let _ = directory::upstream(&text);
    }
}
