use super::*;

const SAMPLE: &str = include_str!("../../../../tests/cluster/admin1.yaml");

fn endpoint(text: &str) -> EntryEdit {
    EntryEdit::Endpoint(text.to_owned())
}

fn ca(path: &str) -> EntryEdit {
    EntryEdit::Ca(Some(path.into()))
}

fn wish(change: EntryEdit) -> Edit {
    Edit { of: None, change }
}

#[track_caller]
fn edited(text: &str, change: EntryEdit) -> String {
    edit(text, &wish(change)).unwrap()
}

#[test]
fn only_the_value_changes() {
    assert_eq!(
        edited(SAMPLE, endpoint("https://10.0.0.1:5000/v2/ns")),
        SAMPLE.replace("https://172.18.0.20:5000", "https://10.0.0.1:5000/v2/ns")
    );
    assert_eq!(edited(SAMPLE, ca("/etc/new ca.crt")), SAMPLE.replace("/root/ca.crt", "\"/etc/new ca.crt\""));
    assert_eq!(
        edited(SAMPLE, EntryEdit::Credentials(None)),
        SAMPLE.replace("Path: /root/.docker/config.json", "Path: \"\"")
    );
    assert_eq!(edited(SAMPLE, ca("/root/ca.crt")), SAMPLE);
}

#[test]
fn every_way_of_writing_is_kept() {
    let file = |mirrors: &str| format!("# head\r\nregistryMirrors: # all\n{mirrors}\n# tail\nother: 1");
    let odd = |text: &str, change| {
        let new = edit(text, &wish(change));
        new.unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    for (old, change, new) in [
        ("- endpoint: 'https://a' # x", endpoint("https://b"), "- endpoint: 'https://b' # x"),
        ("- endpoint: \"https://a\"", endpoint("https://b"), "- endpoint: \"https://b\""),
        (
            "-   endpoint: https://a\n    hosts: [b]",
            ca("/c"),
            "-   endpoint: https://a\n    caCertPath: /c\n    hosts: [b]",
        ),
        (
            "- {endpoint: https://a, hosts: [b]}",
            ca("/c"),
            "- {endpoint: https://a, caCertPath: /c, hosts: [b]}",
        ),
        (
            "- endpoint: https://a\n  caCertPath: # none",
            ca("/c"),
            "- endpoint: https://a\n  caCertPath: /c # none",
        ),
        ("- endpoint: https://a\n  caCertPath:", ca("/c"), "- endpoint: https://a\n  caCertPath: /c"),
        ("- caCertPath: ~\n  endpoint: https://a", ca("/c"), "- caCertPath: /c\n  endpoint: https://a"),
        (
            "- endpoint: https://a\r\n  hosts: []",
            ca("/c"),
            "- endpoint: https://a\r\n  caCertPath: /c\r\n  hosts: []",
        ),
        ("- endpoint: https://a", EntryEdit::Ca(None), "- endpoint: https://a"),
        ("- endpoint: https://a\n  caCertPath:", EntryEdit::Ca(None), "- endpoint: https://a\n  caCertPath:"),
    ] {
        assert_eq!(odd(&file(old), change), file(new));
    }
}

#[test]
fn the_first_mirror_is_added() {
    for (old, new) in [
        ("gcrKeyPath: /a # key\n", "gcrKeyPath: /a # key\nregistryMirrors:\n- endpoint: https://b\n"),
        ("gcrKeyPath: /a", "gcrKeyPath: /a\nregistryMirrors:\n- endpoint: https://b"),
        ("registryMirrors: # none\n---\n", "registryMirrors: # none\n- endpoint: https://b\n---\n"),
        (
            "gcrKeyPath:\n---\nkind: Namespace\n",
            "gcrKeyPath:\nregistryMirrors:\n- endpoint: https://b\n---\nkind: Namespace\n",
        ),
        ("gcrKeyPath: |\n  /a\n# x\n", "gcrKeyPath: |\n  /a\nregistryMirrors:\n- endpoint: https://b\n# x\n"),
    ] {
        assert_eq!(edited(old, endpoint("https://b")), new);
    }
}

#[test]
fn the_entry_is_found_by_its_endpoint() {
    let two = "registryMirrors:\n- endpoint: https://a:1/v2/x\n- endpoint: https://b:1\n";
    let of = |of: &str, change| edit(two, &Edit { of: Some(of.to_owned()), change });
    assert_eq!(of("a:1/v2/x", endpoint("https://c")).unwrap(), two.replace("https://a:1/v2/x", "https://c"));
    assert_eq!(of("https://b:1", ca("/c")).unwrap(), format!("{two}  caCertPath: /c\n"));
    let said = |result: Result<String, EditError>| result.unwrap_err().to_string();
    assert!(said(of("https://d", ca("/c"))).contains("https://a:1/v2/x, https://b:1"));
    assert!(said(edit(two, &wish(ca("/c")))).contains("--of"));
    assert!(said(of("https://b:1", endpoint("https://a:1/v2/x"))).contains("twice"));
    assert!(said(edit("gcrKeyPath: /a\n", &wish(ca("/c")))).contains("endpoint first"));
}

#[test]
fn what_cannot_be_done_safely_is_refused() {
    let said = |text: &str, change| edit(text, &wish(change)).unwrap_err().to_string();
    let shared = "registryMirrors:\n- endpoint: &e https://a\n  caCertPath: /c\nother: *e\n";
    assert!(said(shared, endpoint("https://b")).contains("only one"));
    let alias = "x: &c /c\nregistryMirrors:\n- endpoint: https://a\n  caCertPath: *c\n";
    assert!(said(alias, ca("/d")).contains("alias"));
    let block = "registryMirrors:\n- endpoint: |\n    https://a\n";
    assert!(
        said(block, endpoint("https://b")).contains("line 3")
            || said(block, endpoint("https://b")).contains("line 2")
    );
    assert!(said(SAMPLE, endpoint("https://a/ns")).contains("/v2/ns"));
    assert!(said(SAMPLE, endpoint("10.0.0.1:5000/v2/ns")).contains("give it as https://10.0.0.1:5000/v2/ns"));
    assert!(said(SAMPLE, ca("ca.crt")).contains("absolute"));
    assert!(said(SAMPLE, ca("/a\nb: c")).contains("absolute"));
    assert!(said("kind: Namespace\n", ca("/c")).contains("header"));
}

#[test]
fn a_file_keeps_its_mode_and_a_link_stays_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("a.yaml"), folder.path().join("link"));
    fs::write(&file, SAMPLE).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("a.yaml", &link).unwrap();
    let result = edit_file(&link, &wish(ca("/new.crt"))).unwrap();
    assert_eq!(result.before, SAMPLE);
    assert_eq!(fs::read_to_string(&file).unwrap(), SAMPLE.replace("/root/ca.crt", "/new.crt"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
    assert!(edit_file(&file, &wish(endpoint("https://a/ns"))).is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), result.after);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
