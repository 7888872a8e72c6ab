//! Small bundles, made by code: a test says only what matters to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
    /// Any blob; gives its descriptor.
    pub(crate) fn blob(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let descriptor = json!({"mediaType": media_type, "digest": digest(&bytes), "size": bytes.len()});
        self.blobs.insert(digest(&bytes), bytes);
        descriptor
    }

    /// An image of one layer; gives its descriptor.
    pub(crate) fn image(&mut self, seed: &str, architecture: &str) -> Value {
        self.image_of(config(seed, architecture), vec![gzip(&layer(seed))], architecture)
    }

    /// An image of this configuration and these compressed layers; gives its descriptor.
    pub(crate) fn image_of(&mut self, config: Vec<u8>, layers: Vec<Vec<u8>>, architecture: &str) -> Value {
        let config = self.blob(config, "application/vnd.oci.image.config.v1+json");
        let layers = layers.into_iter();
        let layers: Vec<Value> =
            layers.map(|layer| self.blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut descriptor = self.blob(manifest.to_string().into(), MANIFEST);
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    }

    /// An index of images; gives its descriptor.
    pub(crate) fn index(&mut self, images: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        self.blob(index.to_string().into(), INDEX)
    }

    /// Lists an image in `index.json` under a name.
    pub(crate) fn list(&mut self, descriptor: &Value, key: &str, name: &str) {
        self.list_with(descriptor, &json!({ key: name }));
    }

    /// Lists something in `index.json` with these annotations.
    pub(crate) fn list_with(&mut self, descriptor: &Value, annotations: &Value) {
        let mut entry = descriptor.clone();
        entry["annotations"] = annotations.clone();
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

/// A bundle by what matters of it: its flavour, its images, the seeds of their layers.
///
/// Layers of one seed are one blob, so that images share what is named alike.
#[derive(Clone)]
pub(crate) struct Bundle {
    flavour: Flavour,
    images: Vec<ImageSpec>,
    layer_bytes: usize,
    outer: fn(Vec<u8>) -> Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Flavour {
    DockerArchive,
    OciLayout,
    Archives,
    Folder,
}

#[derive(Clone)]
struct ImageSpec {
    name: String,
    seeds: Vec<String>,
    /// More than one makes an index.
    architectures: Vec<String>,
}

impl Bundle {
    fn of(flavour: Flavour) -> Self {
        Self { flavour, images: Vec::new(), layer_bytes: 0, outer: |tar| tar }
    }

    /// One archive as `docker save` writes it, with all images in it.
    pub(crate) fn docker_archive() -> Self {
        Self::of(Flavour::DockerArchive)
    }

    /// A tar of one OCI layout.
    pub(crate) fn oci_layout() -> Self {
        Self::of(Flavour::OciLayout)
    }

    /// A tar of docker-archives, one for each image.
    pub(crate) fn archives() -> Self {
        Self::of(Flavour::Archives)
    }

    /// A folder of docker-archives, one for each image.
    pub(crate) fn folder() -> Self {
        Self::of(Flavour::Folder)
    }

    /// An image with a layer for each seed.
    pub(crate) fn image(self, name: &str, seeds: &[&str]) -> Self {
        self.index(name, seeds, &["amd64"])
    }

    /// An image for several architectures. Only OCI layouts have them.
    pub(crate) fn index(mut self, name: &str, seeds: &[&str], architectures: &[&str]) -> Self {
        assert!(architectures.len() == 1 || self.flavour == Flavour::OciLayout);
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        self.images.push(ImageSpec {
            name: name.to_owned(),
            seeds: owned(seeds),
            architectures: owned(architectures),
        });
        self
    }

    /// Each layer holds a file of this length that does not compress.
    pub(crate) fn layer_bytes(self, layer_bytes: usize) -> Self {
        Self { layer_bytes, ..self }
    }

    pub(crate) fn gzip(self) -> Self {
        Self { outer: |tar| gzip(&tar), ..self }
    }

    pub(crate) fn zstd(self) -> Self {
        Self { outer: |tar| zstd::encode_all(&tar[..], 1).unwrap(), ..self }
    }

    /// Frames of 1 MiB that state their sizes: each is a part.
    pub(crate) fn zstd_frames(self) -> Self {
        Self {
            outer: |tar| {
                tar.chunks(1 << 20).flat_map(|part| zstd::bulk::compress(part, 1).unwrap()).collect()
            },
            ..self
        }
    }

    pub(crate) fn xz(self) -> Self {
        let outer = |tar: Vec<u8>| {
            let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        };
        Self { outer, ..self }
    }

    /// Writes it below a folder, and gives its path.
    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join("bundle");
        if self.flavour == Flavour::Folder {
            fs::create_dir(&path).unwrap();
            for (name, archive) in self.archives_of_images() {
                fs::write(path.join(name), (self.outer)(archive)).unwrap();
            }
            return path;
        }
        fs::write(&path, self.bytes()).unwrap();
        path
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        (self.outer)(match self.flavour {
            Flavour::DockerArchive => self.one_archive(&self.images),
            Flavour::OciLayout => self.layout().tar(),
            Flavour::Archives => tar(&self.archives_of_images()),
            Flavour::Folder => panic!("a folder has no bytes of its own"),
        })
    }

    /// Names of its images as a mirror shows them, `repository:tag`, in order.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.images.iter().map(|image| image.name.split_once('/').unwrap().1.to_owned()).collect();
        names.sort();
        names
    }

    /// The blobs of its images with their sizes, as an OCI layout has them.
    pub(crate) fn sizes(&self) -> Vec<(String, u64)> {
        let blobs = self.layout().blobs.into_iter();
        let blobs = blobs.filter(|(_, bytes)| !String::from_utf8_lossy(bytes).contains("\"schemaVersion\""));
        blobs.map(|(digest, bytes)| (digest, bytes.len() as u64)).collect()
    }

    fn layer(&self, seed: &str) -> Vec<u8> {
        let noise = noise(seed, self.layer_bytes);
        let files = [(format!("etc/{seed}"), seed.repeat(40).into_bytes()), (format!("var/{seed}"), noise)];
        tar(&files[..if self.layer_bytes == 0 { 1 } else { 2 }])
    }

    fn config(&self, image: &ImageSpec, architecture: &str) -> Vec<u8> {
        let diff_ids: Vec<String> = image.seeds.iter().map(|seed| digest(&self.layer(seed))).collect();
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        json!({"os": "linux", "architecture": architecture, "author": image.name, "rootfs": rootfs})
            .to_string()
            .into()
    }

    fn archives_of_images(&self) -> Vec<(String, Vec<u8>)> {
        let archives = self.images.iter().enumerate();
        archives
            .map(|(number, image)| {
                (format!("{number:03}.tar"), self.one_archive(std::slice::from_ref(image)))
            })
            .collect()
    }

    fn one_archive(&self, images: &[ImageSpec]) -> Vec<u8> {
        let mut files = Vec::new();
        let mut add = |name: String, bytes: Vec<u8>| {
            if !files.iter().any(|(known, _)| *known == name) {
                files.push((name.clone(), bytes));
            }
            name
        };
        let mut entries = Vec::new();
        for image in images {
            let config = self.config(image, "amd64");
            let config = add(format!("{}.json", &digest(&config)[7..]), config);
            let layers = image.seeds.iter().map(|seed| self.layer(seed));
            let layers: Vec<String> =
                layers.map(|layer| add(format!("{}/layer.tar", &digest(&layer)[7..]), layer)).collect();
            entries.push(json!({"Config": config, "RepoTags": [image.name], "Layers": layers}));
        }
        files.push(("manifest.json".to_owned(), json!(entries).to_string().into_bytes()));
        tar(&files)
    }

    fn layout(&self) -> Layout {
        let mut layout = Layout::default();
        for image in &self.images {
            let children: Vec<Value> = image
                .architectures
                .iter()
                .map(|architecture| {
                    let layers: Vec<Vec<u8>> =
                        image.seeds.iter().map(|seed| gzip(&self.layer(seed))).collect();
                    layout.image_of(self.config(image, architecture), layers, architecture)
                })
                .collect();
            let listed = if children.len() > 1 { layout.index(&children) } else { children[0].clone() };
            layout.list(&listed, CONTAINERD_NAME, &image.name);
        }
        layout
    }
}

/// Bytes that do not compress, the same for one seed.
fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A bundle of one image with one layer of this size.
pub(crate) fn large_layer(folder: &Path, bytes: u64) -> PathBuf {
    let mut layer = vec![0; usize::try_from(bytes).unwrap()];
    fastrand::Rng::with_seed(7).fill(&mut layer);
    let mut layout = Layout::default();
    let config = br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let image = layout.image_of(config.to_vec(), vec![layer], "amd64");
    layout.list(&image, CONTAINERD_NAME, "images.example/large:1");
    let path = folder.join("large.tar");
    std::fs::write(&path, layout.tar()).unwrap();
    path
}
