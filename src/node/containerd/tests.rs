//! What each line of versions makes of a set of files.

use super::*;
use crate::document::toml;

const OLD_PATH: &str = "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/old\"\n";
const NEW_PATH: &str = "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/new\"\n";
const RUNTIME: &str =
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"nvidia\"\n";
const MIRRORS: &str =
    "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"gcr.io\"]\nendpoint = [\"https://m\"]\n";

fn effective(version: &str, texts: &[String]) -> Effective {
    let files: Vec<Node> = texts.iter().map(|text| toml::read(text).unwrap()).collect();
    read(&files, version.parse().unwrap())
}

fn two(table: &str) -> String {
    format!("version = 2\n{table}")
}

fn three(table: &str) -> String {
    format!("version = 3\n{table}")
}

fn folders(version: &str, texts: &[String]) -> Vec<String> {
    effective(version, texts).registry.folders
}

#[test]
fn each_line_of_versions_reads_its_own_table() {
    for (text, versions, read) in [
        (two(OLD_PATH), &["1.6", "1.7", "2.0", "2.1", "2.2", "2.3"][..], Some("/old")),
        (two(NEW_PATH), &["2.0", "2.1", "2.3"], Some("/new")),
        (two(NEW_PATH), &["1.7"], None),
        (three(NEW_PATH), &["2.0", "2.2", "2.3"], Some("/new")),
        (three(OLD_PATH), &["2.0", "2.1"], None),
        // 2.3 brings files of version 3 to version 4, and the old table with them.
        (three(OLD_PATH), &["2.3"], Some("/old")),
        (format!("version = 4\n{OLD_PATH}"), &["2.3"], None),
        (OLD_PATH.to_owned(), &["1.7"], None),
        (OLD_PATH.replace("io.containerd.grpc.v1.cri", "cri"), &["1.6", "1.7", "2.3"], Some("/old")),
        // 2.0 to 2.2 take a main file of version 1 for one of version 3 once its names are changed.
        (OLD_PATH.replace("io.containerd.grpc.v1.cri", "cri"), &["2.0", "2.1"], None),
    ] {
        for version in versions {
            let found = effective(version, std::slice::from_ref(&text));
            let path = found.registry.config_path.as_ref().map(|(path, _)| path.as_str());
            assert_eq!(path, read, "{version}: {text}");
            assert_eq!(found.unread.is_empty(), read.is_some(), "{version}: {:?}", found.unread);
            assert_eq!(found.stops, [], "{version}: {text}");
        }
    }
}

#[test]
fn an_imported_file_replaces_the_table_in_1_x_and_adds_to_it_in_2_x() {
    let set = [two(OLD_PATH), two(RUNTIME)];
    assert_eq!(effective("1.7", &set).unread[0].why, Unread::Replaced { by: 1 });
    assert!(folders("1.7", &set).is_empty());
    for version in ["2.0", "2.1", "2.3"] {
        assert_eq!(folders(version, &set), ["/old"], "{version}");
    }
    // The later one of two values counts, also where it is blank.
    let blank = OLD_PATH.replace("/old", "");
    assert!(folders("2.0", &[two(OLD_PATH), two(&blank)]).is_empty());
}

#[test]
fn a_newer_imported_file_hides_the_tables_of_the_main_one() {
    let set = [two(OLD_PATH), three("[plugins.\"io.containerd.cri.v1.runtime\"]\n")];
    for version in ["2.0", "2.1"] {
        let found = effective(version, &set);
        assert_eq!(found.unread[0].why, Unread::NewerFile { by: 1 }, "{version}");
        assert_eq!(found.registry.config_path, None);
    }
    assert!(matches!(effective("2.3", &set).stops[..], [(_, Stop::NewerImport { number: 3, main: 2 })]));
    let older = [three(NEW_PATH), two(RUNTIME)];
    assert_eq!(folders("2.0", &older), ["/new"]);
    assert_eq!(folders("2.3", &older), ["/new"]);
    // The old table takes the place of the new one, where the whole is of version 2.
    let both = effective("2.1", &[three(NEW_PATH), two(OLD_PATH)]);
    assert!(matches!(both.unread[0].why, Unread::OldTable(_)));
    assert_eq!(both.registry.folders, ["/old"]);
}

#[test]
fn what_excludes_each_other_stops_the_plugin() {
    let tls = "[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"m\".tls]\nca_file = \"/ca\"\n";
    let stops = |version: &str, text: String| -> Vec<Stop> {
        effective(version, &[text]).stops.into_iter().map(|(_, stop)| stop).collect()
    };
    for version in ["1.6", "1.7", "2.0", "2.3"] {
        let found = stops(version, two(&format!("{OLD_PATH}{MIRRORS}")));
        assert!(matches!(found[..], [Stop::MirrorsBesideConfigPath(_)]), "{version}: {found:?}");
    }
    assert!(matches!(stops("1.7", two(&format!("{OLD_PATH}{tls}")))[..], [Stop::TlsBesideConfigPath(_)]));
    assert!(stops("2.1", two(&format!("{OLD_PATH}{tls}"))).is_empty());
    for (version, stop) in
        [("2.1", false), ("2.2.0", true), ("2.2.1", true), ("2.2.2", false), ("2.2", false)]
    {
        assert_eq!(stops(version, two(MIRRORS)) == [Stop::MirrorsBesideDefault], stop, "{version}");
    }
    assert_eq!(stops("1.7", three("")), [Stop::FileVersion { number: 3, newest: 2 }]);
    assert_eq!(stops("1.7.10", three("")), []);
    assert_eq!(stops("2.2", "version = 4\n".to_owned()), [Stop::FileVersion { number: 4, newest: 3 }]);
    assert_eq!(stops("1.7", two("[plugins.cri]\na = 1\n")), [Stop::PluginName("cri".to_owned())]);
    let texts = MIRRORS.replace("[\"https://m\"]", "\"https://m\"");
    assert!(matches!(&stops("1.7", two(&texts))[..], [Stop::Type { key, .. }] if key.contains("endpoint")));
}

#[test]
fn a_list_of_folders_is_one_folder_where_pulls_go_through_the_transfer_service() {
    let list = OLD_PATH.replace("/old", "/a:/b");
    let local = "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndiscard_unpacked_layers = true\n";
    for (version, text, expected) in [
        ("1.7", two(&list), &["/a", "/b"][..]),
        ("2.0", two(&list), &["/a", "/b"]),
        ("2.1", two(&list), &["/a:/b"]),
        ("2.3.4", two(&list), &["/a:/b"]),
        ("2.1", two(&format!("{list}{local}")), &["/a", "/b"]),
        (
            "2.1",
            two(&list.replace("config_path", "headers = {}\nconfigs.m.auth.username = \"u\"\nconfig_path")),
            &["/a", "/b"],
        ),
        ("2.1", two(""), &[]),
        ("2.2", two(""), &[DEFAULT_FOLDERS]),
        ("2.2", two(local), &["/etc/containerd/certs.d", "/etc/docker/certs.d"]),
        ("2.2.0", two(&list.replace("/a:/b", "")), &[DEFAULT_FOLDERS]),
        ("2.2", two(MIRRORS), &[]),
    ] {
        assert_eq!(folders(version, std::slice::from_ref(&text)), expected, "{version}: {text}");
    }
}
