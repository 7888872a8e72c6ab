//! Every form of bundle in every outer compression, to Debian's registry and to the embedded one: all of it arrives, an
//! independent judge says so, and a second run sends nothing. The same holds for what `bundle repack` makes of it.

use std::fs;
use std::path::Path;

use crate::make::repack;
use crate::support::registry::Registry;
use crate::support::{Push, bundle, folder, judge, push};

const OUTER: [(&str, &str); 7] = [
    ("none", "tar"),
    ("gz", "tar.gz"),
    ("xz", "tar.xz"),
    ("xz-multi", "multi.tar.xz"),
    ("zstd", "tar.zst"),
    ("zstd-multi", "multi.tar.zst"),
    ("zstd-long", "long.tar.zst"),
];

fn every_outer(format: &str, outers: &[(&str, &str)]) {
    let folder = folder();
    let stores = folder.path().join("stores");
    fs::create_dir(&stores).unwrap();
    for (outer, ending) in outers {
        let cache = folder.path().join("cache");
        let args = [
            "--preset",
            "tiny",
            "--format",
            format,
            "--outer",
            outer,
            "--block-size",
            "262144",
            "--cache",
            cache.to_str().unwrap(),
        ];
        let source = bundle(folder.path(), &format!("b.{ending}"), &args);
        let docker = Registry::docker();
        let embedded = Registry::embedded(&stores.join(outer));
        for registry in [&docker, &embedded] {
            arrives(registry, &source, &format!("{format} in {outer}"));
        }
        arrives_repacked(&stores.join(format!("{outer}-repacked")), &source);
    }
}

fn arrives(registry: &Registry, source: &Path, what: &str) {
    let args = [
        "--source",
        source.to_str().unwrap(),
        "--private-registry",
        &registry.host(),
        "--need-credential=false",
    ];
    let first = push(&args).complete();
    assert!(first.mirror(0)["bytes_sent"].as_u64().unwrap() > 0, "{what}");
    judge(&registry.url(), source);
    let second = push(&args).complete();
    assert_eq!(second.mirror(0)["bytes_sent"], 0, "{what}, the second run");
    assert_eq!(second.mirror(0)["blobs_sent"], 0, "{what}, the second run");
    assert_eq!(second.mirror(0)["images_unchanged"], second.report["images"], "{what}, the second run");
}

/// What `bundle repack` makes of it brings the same, and is the same each time.
fn arrives_repacked(store: &Path, source: &Path) {
    let out = |number: usize| store.with_extension(number.to_string());
    repack(source, &out(1));
    repack(source, &out(2));
    assert!(fs::read(out(1)).unwrap() == fs::read(out(2)).unwrap(), "{}", source.display());
    let registry = Registry::embedded(store);
    Push::to(&registry).source(&out(1)).run().complete();
    judge(&registry.url(), source);
}

#[test]
fn oci_layouts_arrive() {
    every_outer("oci-layout", &OUTER);
}

#[test]
fn docker_archives_of_old_arrive() {
    every_outer("docker-legacy", &OUTER);
}

#[test]
fn docker_archives_with_oci_blobs_arrive() {
    every_outer("docker-oci", &OUTER);
}

#[test]
fn docker_archives_of_the_containerd_store_arrive() {
    every_outer("docker-containerd", &OUTER);
}

#[test]
fn archives_of_docker_archives_arrive() {
    every_outer("archives", &OUTER);
}

#[test]
fn archives_of_oci_layouts_arrive() {
    every_outer("archives-oci", &OUTER);
}

#[test]
fn mixed_archives_arrive() {
    every_outer("nested", &OUTER);
}

#[test]
fn folders_arrive() {
    every_outer("oci-dir", &OUTER[..1]);
    every_outer("archives-dir", &OUTER[..1]);
}
