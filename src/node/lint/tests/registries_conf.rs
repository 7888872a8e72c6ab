//! registries.conf. What is an error here was tried with skopeo 1.9.3, which refused to pull.

use super::memory::{found, rules};
use crate::node::lint::FileKind::RegistriesConf;
use crate::node::lint::LintOptions;

const PATH: &str = "/etc/containers/registries.conf";
const HUB: &str = "[[registry]]\nlocation = \"docker.io\"\n";
const MIRROR: &str = "[[registry.mirror]]\nlocation = \"m.example/hub\"\n";

#[test]
fn types_that_do_not_fit_make_the_library_refuse_the_file() {
    for (text, line) in [
        (format!("{HUB}{MIRROR}insecure = \"true\"\n"), 5),
        (format!("{HUB}blocked = 0\n"), 3),
        (format!("{HUB}mirror-by-digest-only = \"no\"\n"), 3),
        (format!("{HUB}{MIRROR}pull-from-mirror = true\n"), 5),
        (format!("{HUB}mirror = [\"m.example\"]\n"), 3),
        ("[[registry]]\nlocation = [\"docker.io\"]\n".to_owned(), 2),
        ("unqualified-search-registries = \"docker.io\"\n".to_owned(), 1),
        ("credential-helpers = \"secretservice\"\n".to_owned(), 1),
        ("short-name-mode = true\n".to_owned(), 1),
        ("[aliases]\nnginx = [\"docker.io/library/nginx\"]\n".to_owned(), 2),
        ("[[registries]]\nlocation = \"docker.io\"\n".to_owned(), 1),
        ("[registries.search]\nregistries = \"docker.io\"\n".to_owned(), 2),
        ("[registries]\nsearch = [\"docker.io\"]\n".to_owned(), 2),
    ] {
        assert_eq!(rules(PATH, RegistriesConf, &text), [format!("error wrong-type {line}")], "{text}");
    }
}

#[test]
fn places_that_are_no_names_are_errors_and_prefixes_may_be_images() {
    for (text, expected) in [
        (format!("{HUB}{}", MIRROR.replace("m.example", "nexus")), &["error not-a-name 4"][..]),
        (format!("{HUB}{}", MIRROR.replace("hub", "hub:latest")), &["error not-a-name 4"]),
        (format!("{HUB}{}", MIRROR.replace("hub", "Hub")), &["error not-a-name 4"]),
        (
            "[[registry]]\nprefix = \"r.example/library\"\nlocation = \"docker.io\"\n".to_owned(),
            &["error not-a-name 3"],
        ),
        ("[[registry]]\nprefix = \"r.example\"\nlocation = \"docker.io\"\n".to_owned(), &[]),
        (
            "[[registry]]\nlocation = \"*.corp.example\"\nblocked = true\n".to_owned(),
            &["error bad-wildcard 2"],
        ),
        ("[[registry]]\nlocation = \"quay.io/a/b:1\"\nblocked = true\n".to_owned(), &[]),
        ("[[registry]]\nlocation = \"registry\"\nblocked = true\n".to_owned(), &["warning not-a-name 2"]),
        (
            format!("[[registry]]\nlocation = \"registry-1.docker.io\"\n{MIRROR}"),
            &["error wrong-registry-name 2"],
        ),
        (
            "[registries.block]\nregistries = [\"\"]\n".to_owned(),
            &["warning first-form 1", "error no-location 2"],
        ),
        (
            "[registries.insecure]\nregistries = [\"http://r.example\"]\n".to_owned(),
            &["warning first-form 1", "error scheme-in-location 2"],
        ),
        (
            "[registries.search]\nregistries = [\"docker.io/a\"]\n".to_owned(),
            &["warning first-form 1", "error search-registry 2"],
        ),
        (
            "[aliases]\n\"x:1\" = \"docker.io/a/b\"\n\"quay.io/x\" = \"quay.io/x/x\"\n".to_owned(),
            &["error bad-alias 2", "error bad-alias 3"],
        ),
        (
            "unqualified-search-registries = [\"my_registry\", \"\"]\n".to_owned(),
            &["error search-registry 1", "error search-registry 1"],
        ),
    ] {
        assert_eq!(rules(PATH, RegistriesConf, &text), expected, "{text}");
    }
}

#[test]
fn files_where_nobody_looks_are_named_and_the_way_out_of_the_site_too() {
    let text = format!("{HUB}{MIRROR}");
    for (path, expected) in [
        (PATH, &[][..]),
        ("/etc/containers/registries.conf.d/site/mirror.conf", &["error misplaced-file"]),
        ("/etc/containers/registries.d/mirror.conf", &["error misplaced-file"]),
        ("/etc/containers/registry.conf", &["error misnamed-file"]),
    ] {
        assert_eq!(rules(path, RegistriesConf, &text), expected, "{path}");
    }
    let closed = LintOptions { no_fallback: true, ..LintOptions::default() };
    let said = found(&[(PATH, RegistriesConf, &text)], &closed);
    assert!(
        said.len() == 1 && said[0].0 == "warning asks-upstream 1" && said[0].1.contains("blocked = true"),
        "{said:?}"
    );
    let blocked = text.replace(HUB, &format!("{HUB}blocked = true\n"));
    assert_eq!(found(&[(PATH, RegistriesConf, &blocked)], &closed), []);
}
