//! Archives made by other people's tools, each with an independent reader's truth about it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::http::{get, tags};
use crate::support::registry::Registry;
use crate::support::{Pushed, push, root};

/// Another folder of fixtures may be named, to judge by more than the repository keeps.
fn folder() -> PathBuf {
    std::env::var_os("LAYERCAST_FIXTURES").map_or_else(|| root().join("tests/fixtures"), PathBuf::from)
}

struct Fixture {
    name: String,
    data: PathBuf,
    expect: Value,
}

fn fixtures() -> Vec<Fixture> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let read = |path: &Path| {
        let truth: Value =
            serde_json::from_slice(&std::fs::read(path.join("expected.json")).unwrap()).unwrap();
        Fixture {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            data: path.join(truth["data"].as_str().unwrap()),
            expect: truth["expect"].clone(),
        }
    };
    folders.iter().map(|path| read(path)).collect()
}

/// A namespace each, so that one registry serves them all.
fn push_fixture(registry: &Registry, fixture: &Fixture, flags: &[&str]) -> Pushed {
    let target = format!("{}/{}", registry.host(), fixture.name);
    let source = fixture.data.to_str().unwrap();
    let mut args = vec!["--source", source, "--private-registry", &target, "--need-credential=false"];
    args.extend(flags);
    push(&args)
}

/// Whether an image of the truth is where it belongs; what is wrong otherwise.
fn image_problem(registry: &Registry, namespace: &str, image: &Value, name: Option<&str>) -> Option<String> {
    let digest = image["digest"].as_str();
    let (path, reference) = match name {
        Some(name) => {
            let path = name.split_once('/').map_or(name, |(_, path)| path);
            let (path, at) = path.split_once('@').map_or((path, None), |(path, at)| (path, Some(at)));
            let (path, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
            (path, at.unwrap_or(tag))
        }
        None => ("x", digest?),
    };
    let answer = get(&registry.url(), &format!("{namespace}/{path}/manifests/{reference}"));
    if answer.status != 200 {
        return Some(format!("{path}:{reference} answers {}", answer.status));
    }
    if let Some(digest) = digest {
        return (answer.digest.as_deref() != Some(digest))
            .then(|| format!("{path}:{reference} is {:?}, not {digest}", answer.digest));
    }
    let manifest = answer.json();
    let config = manifest["config"]["digest"].as_str();
    if config != image["config_digest"].as_str() {
        return Some(format!("{path}:{reference} has configuration {config:?}"));
    }
    let layers = manifest["layers"].as_array().map_or(0, Vec::len);
    let wanted = image["diff_ids"].as_array().map_or(0, Vec::len);
    (layers != wanted).then(|| format!("{path}:{reference} has {layers} layers, not {wanted}"))
}

fn names(image: &Value) -> Vec<String> {
    match (&image["names"], &image["name"]) {
        (Value::Array(names), _) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        (_, Value::String(name)) => vec![name.clone()],
        _ => Vec::new(),
    }
}

fn images(fixture: &Fixture) -> Vec<Value> {
    fixture.expect["images"].as_array().cloned().unwrap_or_default()
}

fn check_push(registry: &Registry, fixture: &Fixture) -> Vec<String> {
    let pushed = push_fixture(registry, fixture, &[]);
    if pushed.exit != 0 {
        return vec![format!("exit {}: {}", pushed.exit, pushed.said())];
    }
    // The truth lists an image once for each view of it; a view that fixes the digest decides.
    let truths = images(fixture);
    let fixed: Vec<String> =
        truths.iter().filter(|image| image["digest"].is_string()).flat_map(names).collect();
    let decisive =
        |image: &&Value| image["digest"].is_string() || !names(image).iter().any(|name| fixed.contains(name));
    let problems = truths.iter().filter(decisive).flat_map(|image| {
        names(image)
            .into_iter()
            .filter_map(|name| image_problem(registry, &fixture.name, image, Some(&name)))
            .collect::<Vec<_>>()
    });
    let mut problems: Vec<String> = problems.collect();
    let again = push_fixture(registry, fixture, &[]);
    if again.exit != 0 || again.mirror(0)["bytes_sent"] != 0 {
        problems.push(format!("the second run: exit {}, sent {}", again.exit, again.mirror(0)["bytes_sent"]));
    }
    problems
}

fn check_needs(registry: &Registry, fixture: &Fixture, flag: &str) -> Vec<String> {
    let refused = push_fixture(registry, fixture, &[]);
    let mut problems = Vec::new();
    if refused.exit != 2 || !refused.stderr.contains(flag) {
        problems.push(format!("without {flag}: exit {}: {}", refused.exit, refused.said()));
    }
    let images = images(fixture);
    let one = flag == "--name" && images.len() == 1;
    let flags = if one { ["--name", "fixture.test/x:1"] } else { ["--repository", "fixture.test/x"] };
    let pushed = push_fixture(registry, fixture, &flags);
    if pushed.exit != 0 {
        problems.push(format!("with {flags:?}: exit {}: {}", pushed.exit, pushed.said()));
        return problems;
    }
    for image in &images {
        let name = match (one, image["name"].as_str()) {
            (true, _) => Some("fixture.test/x:1".to_owned()),
            (false, Some(tag)) => Some(format!("fixture.test/x:{tag}")),
            (false, None) => None,
        };
        // apko's two images are one multi-arch image: its platforms are there by digest.
        problems.extend(image_problem(registry, &fixture.name, image, name.as_deref()));
    }
    problems
}

fn check_sparse(registry: &Registry, fixture: &Fixture) -> Vec<String> {
    let pushed = push_fixture(registry, fixture, &[]);
    if pushed.exit != 0 {
        return vec![format!("exit {}: {}", pushed.exit, pushed.said())];
    }
    let whole: Vec<Value> = images(fixture).into_iter().filter(|image| image["complete"] == true).collect();
    whole
        .iter()
        .flat_map(|image| {
            names(image)
                .into_iter()
                .filter_map(|name| image_problem(registry, &fixture.name, image, Some(&name)))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn check_refused(registry: &Registry, fixture: &Fixture, exit: i32, class: &str) -> Vec<String> {
    let pushed = push_fixture(registry, fixture, &[]);
    let mut problems = Vec::new();
    if pushed.exit != exit || !pushed.stderr.contains(class) {
        problems.push(format!("exit {}: {}", pushed.exit, pushed.said()));
    }
    let tags = tags(&registry.url(), &fixture.name);
    if !tags.is_empty() {
        problems.push(format!("tags were made: {tags:?}"));
    }
    problems
}

#[test]
fn every_archive_of_other_tools_gets_its_verdict() {
    let registry = Registry::docker();
    let fixtures = fixtures();
    assert!(fixtures.len() >= 20, "only {} fixtures", fixtures.len());
    let mut problems = Vec::new();
    for fixture in &fixtures {
        let verdict = match fixture.name.as_str() {
            // The truth's reader knows no registry storage trees; this one holds two images.
            "oras-registry-storage" => "push",
            // Nor skopeo's `dir:`, whose image has no name.
            "skopeo-dir-s2" => "push-needs-name",
            _ => fixture.expect["verdict"].as_str().unwrap(),
        };
        let found = match verdict {
            "push" => check_push(&registry, fixture),
            "push-needs-name" => check_needs(&registry, fixture, "--name"),
            "push-needs-repository" => check_needs(&registry, fixture, "--repository"),
            "sparse-index" => check_sparse(&registry, fixture),
            "size-mismatch" => check_refused(&registry, fixture, 5, "size-mismatch"),
            "conflict" => check_refused(&registry, fixture, 2, "conflict"),
            "refuse" => check_refused(&registry, fixture, 5, "error: "),
            other => vec![format!("unknown verdict {other}")],
        };
        problems.extend(found.into_iter().map(|problem| format!("{} ({verdict}): {problem}", fixture.name)));
    }
    assert!(
        problems.is_empty(),
        "{} of {} fixtures:\n{}",
        problems.len(),
        fixtures.len(),
        problems.join("\n")
    );
}
