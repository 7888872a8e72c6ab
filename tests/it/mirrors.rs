//! Several mirrors, the rules of names, and what a run reports.

use std::time::Duration;

use crate::support::build::docker_archive;
use crate::support::http::{get, tags};
use crate::support::registry::{Registry, free_port};
use crate::support::{bundle, folder, judge, layercast, push, within};

#[test]
fn one_bundle_fills_several_mirrors_and_is_decoded_once() {
    let folder = folder();
    let args =
        ["--preset", "tiny", "--format", "oci-layout", "--outer", "xz-multi", "--block-size", "262144"];
    let source = bundle(folder.path(), "b.tar.xz", &args);
    let registries = [Registry::docker(), Registry::docker(), Registry::docker()];
    let mut args =
        vec!["--source".to_owned(), source.display().to_string(), "--need-credential=false".to_owned()];
    for registry in &registries {
        args.extend(["--private-registry".to_owned(), format!("{}/ns", registry.host())]);
    }
    let pushed = push(&args).complete();
    for registry in &registries {
        judge(&format!("{}/ns", registry.url()), &source);
    }
    let structure = inspect(&source);
    let parts = structure["sources"][0]["structure"]["parts"].as_u64().unwrap();
    assert!(parts > 2);
    assert_eq!(pushed.report["decode"]["parts"], parts, "each part once, for all mirrors together");
    assert_eq!(pushed.report["decode"]["spool_peak_bytes"], 0);
}

/// Frames that do not tell their sizes are decoded as the walk meets them; after that, only where something is wanted.
#[test]
fn three_missing_blobs_of_zstd_frames_without_sizes_need_neither_the_disk_nor_every_part() {
    let folder = folder();
    let mut args = vec!["--format", "oci-layout", "--outer", "zstd-multi", "--block-size", "524288"];
    args.extend(["--images", "4", "--layers", "2", "--share", "0", "--total", "48000000"]);
    args.extend(["--median", "6000000", "--sigma", "0.1", "--multi-arch", "0"]);
    let source = bundle(folder.path(), "b.tar.zst", &args);
    let structure = inspect(&source)["sources"][0]["structure"].clone();
    assert_eq!(structure["kind"], "blocks");
    let store = folder.path().join("store");
    let args = |host: &str| {
        let source = source.display().to_string();
        ["--source", &source, "--private-registry", host, "--need-credential=false"].map(str::to_owned)
    };
    let registry = Registry::embedded(&store);
    push(&args(&registry.host())).complete();
    drop(registry);

    let mut blobs: Vec<_> = files(&store).into_iter().filter(|file| !file.0.contains("/_")).collect();
    blobs.sort_by_key(|file| std::cmp::Reverse(file.1));
    let missing: Vec<&str> = blobs[..3].iter().filter_map(|file| file.0.rsplit('/').next()).collect();
    for (path, _) in files(&store) {
        let lost = missing.iter().any(|digest| path.ends_with(digest));
        if lost || path.contains("/_tags/") || path.contains("/_manifests/") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let registry = Registry::embedded(&store);
    let again = push(&args(&registry.host())).complete();
    judge(&registry.url(), &source);
    assert_eq!(again.mirror(0)["blobs_sent"], 3);
    let decode = &again.report["decode"];
    assert_eq!(decode["spool_peak_bytes"], 0);
    let whole = structure["decoded_bytes"].as_u64().unwrap();
    let beyond = decode["bytes"].as_u64().unwrap() - whole;
    assert!(beyond < whole, "{beyond} bytes decoded beyond the walk over {whole}");
}

/// A registry that lost blobs still has the manifests that name them, so an image looks unchanged.
#[test]
fn a_mirror_that_has_lost_blobs_is_repaired_by_asking_for_each() {
    let folder = folder();
    let source = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let store = folder.path().join("store");
    let docker = Registry::docker();
    let data = docker.data();
    for (registry, store) in [(Registry::embedded(&store), store), (docker, data)] {
        let source = source.display().to_string();
        let args = ["--source", &source, "--private-registry", &registry.host(), "--need-credential=false"];
        push(&args).complete();
        let mut blobs = files(&store);
        blobs.retain(|(path, _)| path.contains("sha256") && !path.ends_with("/link"));
        blobs.sort_by_key(|file| std::cmp::Reverse(file.1));
        for (path, _) in &blobs[..2] {
            std::fs::remove_file(path).unwrap();
        }
        let verify = || {
            within(Duration::from_secs(60), {
                let mut command = layercast();
                command.args(["verify", "--quiet"]).args(args);
                command
            })
        };
        let incomplete = verify();
        let said = String::from_utf8_lossy(&incomplete.stderr).into_owned();
        assert_eq!(incomplete.status.code(), Some(3), "{said}");
        assert!(said.contains("next: push again with --recheck"), "{said}");

        let repaired = push(&[&args[..], &["--recheck"]].concat()).complete();
        assert_eq!(repaired.mirror(0)["blobs_sent"], 2);
        judge(&registry.url(), source.as_ref());
        let complete = verify();
        assert_eq!((complete.status.code(), complete.stdout.len(), complete.stderr.len()), (Some(0), 0, 0));
    }
}

/// All files below a folder, with their sizes.
fn files(folder: &std::path::Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push((path.display().to_string(), path.metadata().unwrap().len()));
        }
    }
    all
}

pub(crate) fn inspect(source: &std::path::Path) -> serde_json::Value {
    let output = layercast().args(["inspect", "--json", "--source"]).arg(source).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_dead_mirror_costs_the_others_nothing_and_is_reported() {
    let folder = folder();
    let source =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "archives", "--outer", "none"]);
    let good = Registry::docker();
    let dead = format!("http://127.0.0.1:{}", free_port());
    let args = [
        "--source",
        source.to_str().unwrap(),
        "--private-registry",
        &dead,
        "--private-registry",
        &good.host(),
        "--need-credential=false",
        "--patience=1",
    ];
    let pushed = push(&args);
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    judge(&good.url(), &source);
    assert_eq!(pushed.mirror(0)["error"]["class"], "unreachable");
    assert_eq!(pushed.mirror(1)["images_failed"].as_array().unwrap().len(), 0);
    let alone = push(&[&args[..4], &["--need-credential=false", "--patience=1"]].concat());
    assert_eq!(alone.exit, 6, "{}", alone.said());
}

#[test]
fn names_are_rewritten_chosen_and_refused_by_rule() {
    let folder = folder();
    let source =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout", "--outer", "none"]);
    let registry = Registry::docker();
    let to = |namespace: &str| format!("{}/{namespace}", registry.host());
    let source = source.to_str().unwrap();
    let flags = ["--need-credential=false", "--source", source, "--private-registry"];
    push(&[&flags[..], &[&to("a"), "--rewrite", "gcr.io/(.*)=google/$1", "--include", "gcr.io/*"]].concat())
        .complete();
    let found = tags(&registry.url(), "a");
    assert!(!found.is_empty() && found.iter().all(|tag| tag.starts_with("a/google/")), "{found:?}");
    push(&[&flags[..], &[&to("b"), "--exclude", "gcr.io/*"]].concat()).complete();
    let found = tags(&registry.url(), "b");
    assert!(!found.is_empty() && found.iter().all(|tag| !tag.contains("anthos")), "{found:?}");
    let refused = push(&[&flags[..], &[&to("c"), "--rewrite", "[^/]*/.*=all"]].concat());
    assert_eq!(refused.exit, 2, "{}", refused.said());
    assert!(
        refused.said().contains("[conflict]") && tags(&registry.url(), "c").is_empty(),
        "{}",
        refused.said()
    );
    let first = push(&[&flags[..], &[&to("c"), "--rewrite", "[^/]*/.*=all", "--on-conflict=first"]].concat())
        .complete();
    assert_eq!(tags(&registry.url(), "c").len(), 4, "{}", first.said());
    let nothing = push(&[&flags[..], &[&to("d"), "--include", "nowhere/*"]].concat());
    assert_eq!(nothing.exit, 2, "{}", nothing.said());
    assert!(tags(&registry.url(), "d").is_empty());
}

#[test]
fn a_pattern_that_matches_nothing_is_named_at_the_end_with_the_nearest_names() {
    let folder = folder();
    let archives = ["gcr.io/team/app:1", "quay.io/team/app:1"].map(|name| docker_archive(name, name));
    for (bytes, name) in archives.iter().zip(["one.tar", "two.tar"]) {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let registry = Registry::docker();
    let (source, host) = (folder.path().display().to_string(), registry.host());
    let given = ["--source", &source, "--private-registry", &host, "--need-credential=false"];
    let typo = ["--rewrite", "quya.io/(.*)=quay/$1"];
    let pushed = push(&[&given[..], &typo].concat());
    assert_eq!(pushed.exit, 2);
    for words in [
        "two.tar",
        "one.tar",
        "no image matches --rewrite 'quya.io/(.*)=quay/$1'",
        "nearest is quay.io/team/app",
    ] {
        assert!(pushed.stderr.contains(words), "{words} in {}", pushed.stderr);
    }
    let pushed = push(&[&given[..], &typo, &["--include", "gcr.io/*"]].concat()).complete();
    let last = pushed.stderr.lines().last().unwrap();
    assert!(
        last.starts_with("warning: no image matches --rewrite 'quya.io/(.*)=quay/$1'"),
        "{}",
        pushed.stderr
    );
}

#[test]
fn plan_foretells_verify_agrees_and_finds_what_is_gone() {
    let folder = folder();
    let source =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout", "--outer", "none"]);
    let registry = Registry::docker();
    let host = registry.host();
    let run = |words: &[&str]| {
        let mut command = layercast();
        command
            .args(words)
            .args(["--json", "--need-credential=false", "--private-registry", &host, "--source"])
            .arg(&source);
        let output = command.output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), json)
    };
    let (exit, plan) = run(&["plan"]);
    assert_eq!(exit, 0);
    let foretold = plan["mirrors"][0]["bytes_to_send"].as_u64().unwrap();
    let (exit, before) = run(&["verify"]);
    assert_eq!((exit, before["mirrors"][0]["images_complete"].as_u64()), (3, Some(0)));
    let pushed =
        push(&["--source", source.to_str().unwrap(), "--private-registry", &host, "--need-credential=false"])
            .complete();
    assert_eq!(pushed.mirror(0)["bytes_sent"].as_u64(), Some(foretold));
    let (_, plan) = run(&["plan"]);
    assert_eq!(plan["mirrors"][0]["bytes_to_send"], 0);
    for verb in [&["verify"][..], &["verify", "--deep"][..]] {
        let (exit, after) = run(verb);
        assert_eq!((exit, &after["mirrors"][0]["images_complete"]), (0, &pushed.report["images"]));
    }
    let image = pushed_image(&source);
    let answer = get(&registry.url(), &format!("{}/manifests/{}", image.0, image.1));
    delete(&registry.url(), &format!("{}/manifests/{}", image.0, answer.digest.unwrap()));
    let (exit, after) = run(&["verify"]);
    assert_eq!(exit, 3);
    assert_eq!(after["mirrors"][0]["images_failed"][0]["class"], "missing");
    assert!(after["mirrors"][0]["images_failed"][0]["hint"].is_string());
}

/// Repository and tag of the bundle's first image.
fn pushed_image(source: &std::path::Path) -> (String, String) {
    let inspected = inspect(source);
    let name = inspected["images"][0]["names"][0].as_str().unwrap();
    let (path, tag) = name.split_once('/').unwrap().1.rsplit_once(':').unwrap();
    (path.to_owned(), tag.to_owned())
}

fn delete(registry: &str, path: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        client.delete(format!("{registry}/v2/{path}")).send().await.unwrap().status()
    });
    assert!(status.is_success(), "{status}");
}

#[test]
fn a_docker_archive_that_is_there_is_foretold_as_unchanged() {
    let folder = folder();
    let source =
        bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "archives", "--outer", "none"]);
    let registry = Registry::docker();
    let host = registry.host();
    let flags =
        ["--source", source.to_str().unwrap(), "--private-registry", &host, "--need-credential=false"];
    let plan = || {
        let output = layercast().args(["plan", "--json"]).args(flags).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["mirrors"][0].clone()
    };
    assert_eq!(
        (&plan()["images"][0]["verdict"], &plan()["bytes_are_exact"]),
        (&"compress".into(), &false.into())
    );
    push(&flags).complete();
    let after = plan();
    assert!(
        after["images"].as_array().unwrap().iter().all(|image| image["verdict"] == "unchanged"),
        "{after}"
    );
    assert_eq!((&after["bytes_to_send"], &after["bytes_are_exact"]), (&0.into(), &true.into()));
}

#[test]
fn a_pipe_is_a_bundle() {
    let folder = folder();
    let source =
        bundle(folder.path(), "b.tar.gz", &["--preset", "tiny", "--format", "archives", "--outer", "gz"]);
    let registry = Registry::docker();
    let mut command = layercast();
    command.args([
        "push",
        "images",
        "--source",
        "-",
        "--need-credential=false",
        "--private-registry",
        &registry.host(),
    ]);
    let output = command.stdin(std::fs::File::open(&source).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    judge(&registry.url(), &source);
}

/// As of Nexus and Artifactory, whose registries lie below paths of one host.
#[test]
fn a_registry_below_a_path_is_planned_filled_and_verified() {
    use crate::support::Push;
    use crate::support::build::Bundle;
    use crate::support::scripted::ScriptedRegistry;

    let folder = folder();
    let registry = ScriptedRegistry::strict().below("/repository/docker");
    let path = Bundle::oci_layout().image("images.example/a/one:1", &["base", "one"]).write(folder.path());
    let to = format!("{}/team", registry.host());
    let below = format!("--api-path={}=/repository/docker/v2/", registry.host());
    Push::to(to.as_str()).source(&path).flag(&below).run().complete();
    assert_eq!(
        registry.store(|store| (store.shown(), store.faults())),
        (vec!["team/a/one:1".to_owned()], vec![])
    );
    for verb in ["plan", "verify"] {
        let mut command = layercast();
        command
            .args([verb, "--need-credential=false", "--private-registry", &to, &below, "--source"])
            .arg(&path);
        let output = within(Duration::from_secs(60), command);
        assert_eq!(output.status.code(), Some(0), "{verb}: {output:?}");
    }
    assert_eq!(Push::to(to.as_str()).source(&path).run().exit, 6, "nothing is there without it");
}
