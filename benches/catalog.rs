//! From a tar to a catalog, and from a catalog to a plan: what bundles of many images cost before a byte is sent.
#![allow(clippy::unwrap_used)] // what cannot be set up cannot be measured

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use layercast::measured::{Accept, Plan, Rules};
use layercast::measured::{Blob, Catalog, Content, Image, ImageName, Limits, read_archive};
use layercast::measured::{ByteSpace, Extent};
use layercast::measured::{Digest, Manifest, Reference, media_type};
use serde_json::{Value, json};

const WALKED_IMAGES: usize = 1_000;
const PLANNED_IMAGES: usize = 10_000;
const LAYER_BYTES: usize = 1 << 10;

/// An image of one small layer, with the name it has in the bundle.
struct Made {
    name: String,
    config: Vec<u8>,
    layer: Vec<u8>,
    manifest: Vec<u8>,
}

fn image(number: usize) -> Made {
    let name = format!("registry.example/team-{}/app-{number}:1.{number}", number % 40);
    let layer = support::content(LAYER_BYTES, number as u64);
    let diff_ids = [Digest::of(&layer)];
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(&config, media_type::OCI_CONFIG),
        "layers": [descriptor(&layer, media_type::OCI_LAYER)],
    });
    Made { name, config, layer, manifest: manifest.to_string().into_bytes() }
}

fn descriptor(bytes: &[u8], media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// An OCI layout as a tar, and how many members it has.
fn layout(images: usize) -> (Vec<u8>, u64) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut members = 0;
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
        members += 1;
    };
    let mut listed = Vec::new();
    for image in (0..images).map(image) {
        for bytes in [&image.config, &image.layer, &image.manifest] {
            add(&format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes);
        }
        let mut entry = descriptor(&image.manifest, media_type::OCI_MANIFEST);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": image.name});
        listed.push(entry);
    }
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    add("index.json", json!({"schemaVersion": 2, "manifests": listed}).to_string().as_bytes());
    (tar.into_inner().unwrap(), members)
}

/// What reading such a layout gives, without its bytes.
fn catalog(images: usize) -> Catalog {
    let nowhere: Arc<dyn ByteSpace> = Arc::new(Bytes::new());
    let mut catalog = Catalog::default();
    for image in (0..images).map(image) {
        for bytes in [&image.config, &image.layer] {
            let (size, order) = (bytes.len() as u64, catalog.blobs.len() as u64);
            let extent = Extent::new(Arc::clone(&nowhere), 0, size);
            catalog.blobs.insert(Digest::of(bytes), Blob { size, extent, order });
        }
        let digest = Digest::of(&image.manifest);
        let manifest = Manifest::parse(image.manifest.into(), media_type::OCI_MANIFEST).unwrap();
        catalog.manifests.insert(digest, Arc::new(manifest));
        catalog.images.push(Image {
            names: vec![ImageName::Full(image.name.parse::<Reference>().unwrap())],
            content: Content::Manifest(digest),
            origin: String::new(),
            annotations: BTreeMap::new(),
            partial: None,
            attachment: None,
            unit: None,
        });
    }
    catalog
}

fn walk(c: &mut Criterion) {
    let (tar, members) = layout(WALKED_IMAGES);
    let space: Arc<dyn ByteSpace> = Arc::new(Bytes::from(tar));
    let mut group = c.benchmark_group("catalog");
    group.throughput(Throughput::Elements(members)).sample_size(10);
    group.bench_function("tar walk", |b| {
        b.iter(|| {
            let catalog = read_archive(&space, &Ok, &Limits::default(), &|_| {}).unwrap();
            assert_eq!(catalog.images.len(), WALKED_IMAGES);
            catalog
        });
    });
}

fn plan(c: &mut Criterion) {
    let (catalog, rules) = (catalog(PLANNED_IMAGES), Rules::default());
    let mut group = c.benchmark_group("plan");
    group.throughput(Throughput::Elements(PLANNED_IMAGES as u64)).sample_size(10);
    group.bench_function("images", |b| {
        b.iter(|| {
            let plan = Plan::new(&catalog, &rules, Accept::default()).unwrap();
            assert_eq!(plan.images.len(), PLANNED_IMAGES);
            plan
        });
    });
}

criterion_group!(benches, walk, plan);
criterion_main!(benches);
