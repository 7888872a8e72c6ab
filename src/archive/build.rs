//! Builds small bundles for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::oci::{Digest, media_type};
use crate::source::ByteSpace;

/// Names and contents.
pub(super) type ArchiveFiles = Vec<(String, Vec<u8>)>;

pub(super) const INDEX: &str = media_type::OCI_INDEX;
pub(super) const MANIFEST: &str = media_type::OCI_MANIFEST;
pub(super) const NAME: &str = "org.opencontainers.image.ref.name";

/// One raw header.
pub(super) fn header(name: &str, size: u64, flag: u8, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    old.linkflag = [flag];
    header.set_size(size);
    header.set_mode(0o644);
    sealed(header.as_bytes())
}

/// The header with its checksum made right.
pub(super) fn sealed(header: &[u8; 512]) -> Vec<u8> {
    let mut header = *header;
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&c| u32::from(c)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.to_vec()
}

pub(super) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(bytes.len().next_multiple_of(512), 0);
    out
}

pub(super) fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    if name.len() > 100 {
        return [pax(&[("path", name)]), member("long", bytes)].concat();
    }
    [header(name, bytes.len() as u64, b'0', ""), padded(bytes)].concat()
}

/// A PAX header for the member that follows.
pub(super) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let body: String = records.iter().map(|(key, value)| pax_record(key, value)).collect();
    [header("PaxHeaders/x", body.len() as u64, b'x', ""), padded(body.as_bytes())].concat()
}

fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut len = rest.len();
    while len != len.to_string().len() + rest.len() {
        len = len.to_string().len() + rest.len();
    }
    format!("{len}{rest}")
}

/// A whole tar of these files.
pub(super) fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members = files.iter().flat_map(|(name, bytes)| member(name, bytes));
    members.chain([0; 1024]).collect()
}

pub(super) fn space(bytes: Vec<u8>) -> Arc<dyn ByteSpace> {
    Arc::new(Bytes::from(bytes))
}

/// Blobs by digest, and what a tar or folder of a layout is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Blobs(pub(super) BTreeMap<String, Vec<u8>>);

impl Blobs {
    pub(super) fn add(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.0.insert(digest.to_string(), bytes);
        digest
    }

    /// An image of as many layers as given, told from others by `seed`; gives its descriptor.
    pub(super) fn image(&mut self, seed: &str, layers: &[&str]) -> serde_json::Value {
        let layers: Vec<_> = layers.iter().map(|layer| layer.as_bytes().to_vec()).collect();
        let config = config(seed, &layers);
        let describe = |bytes: &[u8], media_type: &str| json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": describe(&config, media_type::OCI_CONFIG),
            "layers": layers.iter().map(|l| describe(l, media_type::OCI_LAYER)).collect::<Vec<_>>(),
        });
        for bytes in layers.into_iter().chain([config]) {
            self.add(bytes);
        }
        self.document(&manifest, media_type::OCI_MANIFEST)
    }

    /// An index of these descriptors; gives its own.
    pub(super) fn index(&mut self, children: &[serde_json::Value]) -> serde_json::Value {
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
        self.document(&index, media_type::OCI_INDEX)
    }

    pub(super) fn document(&mut self, json: &serde_json::Value, media_type: &str) -> serde_json::Value {
        let bytes = json.to_string().into_bytes();
        let size = bytes.len();
        json!({"mediaType": media_type, "digest": self.add(bytes), "size": size})
    }

    /// The files of a layout that lists these descriptors, below a folder.
    pub(super) fn layout(&self, folder: &str, listed: &[serde_json::Value]) -> ArchiveFiles {
        let index = json!({"schemaVersion": 2, "manifests": listed}).to_string();
        let mut files = vec![
            (format!("{folder}oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            (format!("{folder}index.json"), index.into_bytes()),
        ];
        for (digest, bytes) in &self.0 {
            files.push((format!("{folder}blobs/{}", digest.replace(':', "/")), bytes.clone()));
        }
        files
    }
}

pub(super) fn config(seed: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({"os": "linux", "architecture": "amd64", "author": seed, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes()
}

/// A descriptor with a name.
pub(super) fn named(mut descriptor: serde_json::Value, name: &str) -> serde_json::Value {
    descriptor["annotations"] = json!({ NAME: name });
    descriptor
}

/// A descriptor for a machine.
pub(super) fn on(mut descriptor: serde_json::Value, architecture: &str) -> serde_json::Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

/// The files of a docker-archive of one image as Docker wrote it before 25.
pub(super) fn saved(name: &str, layers: &[&str]) -> ArchiveFiles {
    let layers: Vec<_> = layers.iter().map(|layer| layer.as_bytes().to_vec()).collect();
    let config = config(name, &layers);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let layer_names: Vec<_> = layers.iter().map(|l| format!("{}/layer.tar", Digest::of(l).hex())).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": layer_names}]);
    let mut files = vec![(config_name, config)];
    files.extend(layer_names.into_iter().zip(layers));
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    files
}
