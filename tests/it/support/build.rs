//! Small bundles, made by code: a test says only what matters to it.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Where containerd and Docker put the name of an image.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Where everybody else puts it.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A tar of these files.
pub(crate) fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer that no other seed has.
fn layer(seed: &str) -> Vec<u8> {
    tar(&[(format!("etc/{seed}"), seed.repeat(40).into_bytes())])
}

fn config(seed: &str, architecture: &str) -> Vec<u8> {
    let rootfs = json!({"type": "layers", "diff_ids": [digest(&layer(seed))]});
    json!({"os": "linux", "architecture": architecture, "author": seed, "rootfs": rootfs}).to_string().into()
}

/// What `docker save` wrote before Docker 25: one image of one plain layer.
pub(crate) fn docker_archive(seed: &str, name: &str) -> Vec<u8> {
    let (config, layer) = (config(seed, "amd64"), layer(seed));
    let config_name = format!("{}.json", &digest(&config)[7..]);
    let layer_name = format!("{}/layer.tar", &digest(&layer)[7..]);
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]);
    tar(&[
        (config_name, config),
        (layer_name, layer),
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
    ])
}

/// An OCI layout.
#[derive(Default)]
pub(crate) struct Layout {
    blobs: BTreeMap<String, Vec<u8>>,
    listed: Vec<Value>,
}

impl Layout {
    fn add(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let descriptor = json!({"mediaType": media_type, "digest": digest(&bytes), "size": bytes.len()});
        self.blobs.insert(digest(&bytes), bytes);
        descriptor
    }

    /// An image of one layer; gives its descriptor.
    pub(crate) fn image(&mut self, seed: &str, architecture: &str) -> Value {
        let config = self.add(config(seed, architecture), "application/vnd.oci.image.config.v1+json");
        let layer = self.add(gzip(&layer(seed)), "application/vnd.oci.image.layer.v1.tar+gzip");
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let mut descriptor = self.add(manifest.to_string().into(), MANIFEST);
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    }

    /// An index of images; gives its descriptor.
    pub(crate) fn index(&mut self, images: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        self.add(index.to_string().into(), INDEX)
    }

    /// Lists an image in `index.json` under a name.
    pub(crate) fn list(&mut self, descriptor: &Value, key: &str, name: &str) {
        let mut entry = descriptor.clone();
        entry["annotations"] = json!({ key: name });
        self.listed.push(entry);
    }

    /// Takes the manifest of an image and all that it needs away.
    pub(crate) fn without(&mut self, image: &Value) {
        let manifest = self.blobs.remove(image["digest"].as_str().unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            self.blobs.remove(blob["digest"].as_str().unwrap());
        }
    }

    /// Its files, in the order in which a tar may have them.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.listed});
        let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        for (digest, bytes) in &self.blobs {
            files.push((format!("blobs/{}", digest.replace(':', "/")), bytes.clone()));
        }
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        files
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        tar(&self.files())
    }
}
