//! Files as people write them, right and wrong.

use std::path::{Path, PathBuf};

use super::*;
use crate::engine::Verification;

const SMALL: &str = "version: 1\nbundles: [{path: b.tar}]\nsites:\n- {name: a, registry: r.example}\n";

/// What is wrong: `line:column what / fix`.
pub(super) fn wrong(text: &str) -> Vec<String> {
    let reading = parse(Path::new("/etc/l/sites.yaml"), text);
    assert_eq!(reading.config.is_none(), reading.findings.iter().any(|it| it.severity == Severity::Error));
    let line = |it: &Finding| {
        format!("{}:{} {} / {}", it.line.unwrap_or(0), it.column.unwrap_or(0), it.what, it.fix)
    };
    reading.findings.iter().map(line).collect()
}

fn right(text: &str) -> Config {
    let found = wrong(text);
    assert!(found.is_empty(), "{found:#?}");
    parse(Path::new("/etc/l/sites.yaml"), text).config.unwrap()
}

/// A file with these lines for its only site.
fn site(lines: &[&str]) -> String {
    let lines = lines.iter().fold(String::new(), |all, line| all + "  " + line + "\n");
    format!("version: 1\nbundles: [{{path: b.tar}}]\nsites:\n- name: a\n  registry: r.example\n{lines}")
}

#[test]
fn the_examples_are_right_and_the_schema_says_so_too() {
    let mut files = vec![PathBuf::from("config/layercast.yaml")]; // tests run in the root of the repository
    files.extend(std::fs::read_dir("config/examples").unwrap().map(|entry| entry.unwrap().path()));
    assert_eq!(files.len(), 5);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let named = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
        assert!(path.parent().unwrap().join(named).exists(), "{}: there is no {named}", path.display());
        let reading = parse(&path, &text);
        assert_eq!(
            (reading.findings, schema::faults(&text)),
            (vec![], Vec::<String>::new()),
            "{}",
            path.display()
        );
    }
}

#[test]
fn the_file_of_the_pods_is_right() {
    let path = Path::new("config/kubernetes/base/layercast.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!((parse(path, &text).findings, schema::faults(&text)), (vec![], Vec::<String>::new()));
}

#[test]
fn the_commented_keys_of_the_default_file_are_all_there_are_and_right() {
    let text = std::fs::read_to_string("config/layercast.yaml").unwrap();
    let known = |line: &str| {
        let word = line.trim_start().split(':').next().unwrap_or_default();
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_') && line.contains(": ")
            || matches!(word, "groups" | "emea") && line.trim_end().ends_with(':')
    };
    // Every line that shows a key, without its #; of keys that stand twice the first.
    let mut seen = std::collections::HashSet::new();
    let shown: String = text
        .lines()
        .map(|line| {
            let bare = line.replacen("# ", "", 1);
            if line.trim_start().starts_with('#') && known(&bare) { bare } else { line.to_owned() }
        })
        .filter(|line| {
            let key = line.split(':').next().unwrap_or_default().to_owned();
            line.trim_start().starts_with(['#', '-'])
                || line.is_empty()
                || seen.insert((key, line.contains("emea")))
        })
        .fold(String::new(), |all, line| all + &line + "\n");
    let shown = shown.replace("canary, [berlin-1, berlin-2]", "berlin-1, emea");
    let missing: Vec<&str> =
        schema_keys().into_iter().filter(|key| !text.contains(&format!("{key}:"))).collect();
    assert_eq!(missing, Vec::<&str>::new());
    for line in text.lines().filter(|line| line.contains("credentials: ")) {
        let line = line.trim_start_matches([' ', '#']);
        assert_eq!(wrong(&site(&[line])), Vec::<String>::new(), "{line}");
    }
    assert_eq!(schema::faults(&shown), Vec::<String>::new(), "{shown}");
    let found = wrong(&shown);
    assert!(found.is_empty(), "{found:#?}\n{shown}");
}

#[test]
fn a_group_that_is_named_twice_counts_once() {
    let text = "version: 1\nbundles: [{path: b.tar}]\ngroups: {g: {shared_bandwidth: 8Mbit/s}, h: {threads: 2}}\n\
                sites:\n- {name: a, registry: r.example, groups: [g, h, g]}\n";
    let reading = parse(Path::new("/etc/l/sites.yaml"), text);
    let [finding] = &reading.findings[..] else { panic!("{:?}", reading.findings) };
    assert!(finding.severity == Severity::Warning && finding.what.contains("named twice"), "{finding:?}");
    assert_eq!(reading.config.unwrap().sites[0].groups, ["h", "g"]);
}

fn schema_keys() -> Vec<&'static str> {
    use keys::Section as _;
    let mut all = written::SitesFile::keys();
    all.extend(written::Settings::keys());
    all.extend(written::CredentialKeys::keys());
    all.extend(written::WindowKeys::keys());
    all.extend(written::GroupKeys::keys());
    all.extend(written::SiteKeys::keys());
    all
}

#[test]
fn every_key_is_explained() {
    let text = include_str!("../../docs/sites.md");
    let missing: Vec<&str> =
        schema_keys().into_iter().filter(|key| !text.contains(&format!("`{key}`"))).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn sites_inherit_from_groups_in_their_order_and_from_defaults() {
    let config = right(
        "version: 1
bundles: [{path: /b.tar}]
defaults: {registry: https://all.example, threads: 1, retries: 1, gate: scan, include: [a, b], window: {hours: '01:00-02:00', time_zone: UTC}}
groups:
  slow: {threads: 2, bandwidth: 1MB/s, namespace: slow}
  far: {threads: 3, window: {days: sat, hours: '22:00-05:00', time_zone: Asia/Tokyo, outside: stop}, shared_bandwidth: 2MB/s}
sites:
- {name: one, namespace: one}
- {name: two, groups: [far, slow]}
- {name: three, groups: [slow, far], registry: http://three.example:5000, gate: none, window: none, include: [c]}
",
    );
    let [one, two, three] = &config.sites[..] else { panic!() };
    let shown = |site: &Site| {
        (
            site.target.to_string(),
            site.threads.unwrap().get(),
            site.bandwidth.map(|rate| rate.to_string()),
            site.window.as_ref().map(ToString::to_string),
            site.gate.as_ref().map(|gate| gate.command.clone()),
        )
    };
    let some = |text: &str| Some(text.to_owned());
    let all_day = some("daily 01:00-02:00 UTC");
    assert_eq!(shown(one), ("all.example/one".into(), 1, None, all_day, some("scan")));
    let tokyo = some("sat 22:00-05:00 Asia/Tokyo");
    assert_eq!(shown(two), ("all.example/slow".into(), 2, some("8Mbit/s"), tokyo, some("scan")));
    assert_eq!(shown(three), ("three.example:5000/slow".into(), 3, some("8Mbit/s"), None, None));
    assert!(std::sync::Arc::ptr_eq(&one.rules, &two.rules) && one.rules != three.rules);
    assert_eq!(three.rules.include.texts(), ["c"]);
    assert_eq!(one.retries, Some(1));
    assert_eq!(config.groups[1].shared_bandwidth.unwrap().to_string(), "16Mbit/s");
}

#[test]
fn what_the_file_says_of_checks_holds_for_sites_that_do_not_say_otherwise() {
    let config = right(
        "version: 1
bundles: [{path: /b.tar}]
verify: pull
no_overwrite: true
defaults: {registry: https://all.example}
groups: {careless: {verify: none, no_overwrite: false}}
sites:
- {name: one, namespace: one}
- {name: two, namespace: two, groups: [careless], recheck: true}
- {name: three, namespace: three, groups: [careless], verify: sample}
",
    );
    let care: Vec<_> = config
        .sites
        .iter()
        .map(|site| (site.care.verify, site.care.no_overwrite, site.care.recheck))
        .collect();
    assert_eq!(
        care,
        [
            (Verification::Pull, true, false),
            (Verification::None, false, true),
            (Verification::Sample, false, false)
        ]
    );
}

#[test]
fn a_registry_that_may_be_meant_otherwise_costs_a_warning_and_no_more() {
    let text = |registry: &str| {
        format!(
            "version: 1\nbundles: [{{path: b}}]\ndefaults: {{registry: {registry}}}\n\
             sites: [{{name: a, namespace: a}}, {{name: b, namespace: b}}]\n"
        )
    };
    for fine in ["https://r.example:5000", "r.example", "http://127.0.0.1:5000"] {
        assert_eq!(wrong(&text(fine)), [""; 0], "{fine}");
    }
    // Once, for all that inherit it.
    let [no_scheme] = &wrong(&text("127.0.0.1:5000"))[..] else { panic!() };
    assert!(
        no_scheme.contains("TLS is spoken") && no_scheme.contains("http://127.0.0.1:5000"),
        "{no_scheme}"
    );
    let [path] = &wrong(&text("http://r.example/foo"))[..] else { panic!() };
    assert!(path.contains("has a path, foo") && path.contains("namespace: foo"), "{path}");
    let config = parse(Path::new("f.yaml"), &text("http://r.example/foo")).config.unwrap();
    assert_eq!(config.sites[0].target.to_string(), "r.example/foo/a");
}

#[test]
fn what_is_shown_of_a_file_says_the_same_as_the_file() {
    for path in ["config/layercast.yaml", "config/examples/many-sites.yaml", "config/examples/air-gap.yaml"] {
        let text = std::fs::read_to_string(path).unwrap();
        let first = parse(Path::new(path), &text).config.unwrap();
        let shown = |config: &Config| config.shown(&config.sites.iter().collect::<Vec<_>>());
        let text = shown(&first);
        let again = parse(Path::new(path), &text);
        assert_eq!(again.findings, vec![], "{text}");
        assert_eq!(shown(&again.config.unwrap()), text);
        assert_eq!(schema::faults(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn every_fault_is_named_with_its_place_and_the_right_word() {
    let found = wrong(
        "version: 2
bundels: []
bundles: [{path: /b/*.tar, newst: true}, {newest: true}]
paralel_sites: 20
state_dir:
defaults: {thread: 4, retries: many, window: {days: mo, hours: '5-6', time_zone: Europe/Belrin, outsides: wait}}
groups: {g: {namespace: UPPER}}
sites:
- {name: a, groups: [gg], registry: 'ftp://r'}
- {name: a b, registry: 'https://u:hunter2@r.example'}
- {registry: r.example, verfy: no}
",
    );
    let expected = [
        "1:10 version is not 1 / version: 1",
        "2:1 bundels is no key of the file / bundles: …",
        "3:28 newst is no key of a bundle / newest: …",
        "3:42 a bundle needs path or source / path: …",
        "4:1 paralel_sites is no key of the file / parallel_sites: …",
        "5:1 nothing stands behind state_dir / state_dir: and its value, or remove the line",
        "6:12 thread is no key of defaults / threads: …",
        "6:32 retries is not a whole number from 0 to 100",
        "6:53 days: \"mo\" is no day",
        "6:64 hours: \"5\" is no time of day",
        "6:82 time_zone: \"Europe/Belrin\" is no time zone of the database / time_zone: Europe/Berlin",
        "6:97 outsides is no key of a window / outside: …",
        "7:25 namespace: ",
        "9:22 there is no group gg",
        "9:37 registry: ",
        "10:10 a b is no name of a site",
        "10:25 registry: ",
        "11:3 a site needs name / name: …",
        "11:25 verfy is no key of a site",
    ];
    for expected in expected {
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\n{found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn a_secret_is_refused_with_the_keys_that_are_right() {
    for lines in [
        ["credentials: {username: u, password: hunter2}"],
        ["password: hunter2"],
        ["credentials: {token: hunter2}"],
    ] {
        let found = wrong(&site(&lines)).concat();
        assert!(found.contains("password_file: FILE") && found.contains("helper: NAME"), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn credentials_are_in_one_place() {
    let of = |text: &str| right(&site(&[&format!("credentials: {text}")])).sites[0].credentials.clone();
    let user = |password| SiteCredentials::User { name: "u".into(), password };
    assert_eq!(of("none"), SiteCredentials::Anonymous);
    assert_eq!(
        of("{docker_config: config.json}"),
        SiteCredentials::DockerConfig("/etc/l/config.json".into())
    );
    assert_eq!(of("{helper: ecr-login}"), SiteCredentials::Helper("ecr-login".into()));
    assert_eq!(of("{username: u, password_file: /p}"), user(PasswordSource::File("/p".into())));
    assert_eq!(of("{username: u, password_env: P}"), user(PasswordSource::Variable("P".into())));
    assert_eq!(
        of("{username: u, command: pass show x}"),
        user(PasswordSource::Command("pass show x".into()))
    );
    assert_eq!(right(SMALL).sites[0].credentials, SiteCredentials::Usual);
    for text in [
        "{}",
        "{username: u}",
        "{password_file: /p}",
        "{username: u, password_file: /p, password_env: P}",
        "{docker_config: c, helper: h}",
        "{username: u, docker_config: c}",
        "nothing",
    ] {
        assert_eq!(wrong(&site(&[&format!("credentials: {text}")])).len(), 1, "{text}");
    }
}

#[test]
fn names_and_places_stand_once() {
    let two = |second: &str| wrong(&format!("{SMALL}- {second}\n")).concat();
    assert!(
        two("{name: a, registry: s.example}")
            .starts_with("5:10 a is the name of another site or group (line 4)")
    );
    assert!(two("{name: b, registry: https://R.example}").contains("a and b are both r.example"));
    assert_eq!(two("{name: b, registry: r.example, namespace: b}"), "");
    assert_eq!(two("{name: b, registry: r.example, api_path: /repository/b}"), "");
    assert!(two("{name: b, registry: s.example, api_path: repository/b}").contains("5:44 api_path: "));
    assert!(two("{name: b, registry: s.example, groups: [a]}").contains("there is no group a"));
    assert!(
        wrong(&format!("{SMALL}groups: {{a: {{threads: 1}}}}\n"))
            .concat()
            .contains("name of another site or group")
    );
}

#[test]
fn waves_name_sites_and_groups() {
    let config =
        right(&format!("{SMALL}groups: {{g: {{threads: 1}}}}\nwaves: [a, [g]]\nmax_failed_sites: 2\n"));
    assert_eq!(config.waves, [Wave(vec!["a".into()]), Wave(vec!["g".into()])]);
    let found = wrong(&format!("{SMALL}waves: [b]\n")).concat();
    assert!(found.contains("5:9 b is neither a site nor a group"), "{found}");
}

#[test]
fn what_is_no_sites_file_is_named() {
    for (text, expected) in [
        ("", "1:1 the file says nothing"),
        ("- a\n", "1:1 the file has keys, and none stand here"),
        ("a: [", "not YAML"),
        ("version: 1\n---\nversion: 1\n", "3:1 a second document"),
        ("version: 1\nversion: 1\n", "2:1 version stands here for the second time"),
        ("version: 1\nbundles: []\nsites: []\n", "2:10 bundles is an empty list"),
    ] {
        let found = wrong(text).concat();
        assert!(found.contains(expected), "{text:?}: {found}");
    }
}

#[test]
fn a_file_with_commands_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("sites.yaml");
    let read_with = |lines: &[&str], mode| {
        std::fs::write(&path, site(lines)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read(&path).unwrap()
    };
    for line in ["gate: scan", "on_missing_repository: make", "credentials: {username: u, command: pass}"] {
        assert!(read_with(&[line], 0o644).config.is_some(), "{line}");
        let reading = read_with(&[line], 0o664);
        assert!(
            reading.config.is_none() && reading.findings[0].what.contains("can be written by others"),
            "{line}"
        );
    }
    assert!(read_with(&["threads: 4"], 0o666).config.is_some(), "nothing of it is run");
}

#[test]
fn whom_to_notify_is_judged_with_the_file_and_never_shown() {
    let with = |notify: &str| format!("{SMALL}notify: '{notify}'\n");
    let found = wrong(&with("https://hooks.example:99999/s3cret"));
    assert!(found.len() == 1 && found[0].starts_with("5:"), "{found:?}");
    assert!(!found[0].contains("s3cret"), "{found:?}");
    let shown = right(&with(" HTTPS://hooks.example/s3cret")).shown(&[]);
    assert!(shown.contains("https://hooks.example/…") && !shown.contains("s3cret"), "{shown}");
}
