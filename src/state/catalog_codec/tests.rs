//! What comes back is what was kept, and what is damaged does not come back.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::super::{BundleIdentity, Home, OpenVolume, State};
use super::{Unkept, decode, encode};
use crate::archive::catalog::BrokenImage;
use crate::archive::{self, Blob, Catalog, Content, Image, Limits};
use crate::decode::{DecodeOptions, Decoder};
use crate::error::{BundleError, Fault};
use crate::oci::{Digest, Manifest, media_type};
use crate::source::{ByteSpace, Extent, LateFile, LazySpace, SourceOptions, Traced, open, read_exact};

/// Opens bundles as a run does, and counts.
pub(in crate::state) struct Reader {
    decoder: Decoder,
    opened: Arc<AtomicUsize>,
}

/// A bundle that was read.
struct Read {
    catalog: Catalog,
    home: Home,
    identity: BundleIdentity,
}

impl Reader {
    fn new() -> Self {
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
        Self { decoder: Decoder::new(pool, DecodeOptions::default()), opened: Arc::default() }
    }

    fn open_volume(&self) -> Arc<OpenVolume> {
        let (decoder, opened) = (self.decoder.clone(), Arc::clone(&self.opened));
        Arc::new(move |stored| {
            opened.fetch_add(1, Ordering::Relaxed);
            decoder.open(stored).map(|volume| volume.space)
        })
    }

    /// A home that would be opened if somebody read it.
    fn home(&self, path: &Path) -> Home {
        if path.is_dir() {
            return Home::Folder(path.to_owned());
        }
        let (path, open_volume) = (path.to_owned(), self.open_volume());
        Home::Volume(Arc::new(LazySpace::new(move || {
            open_volume(open(&path, SourceOptions::default())?.space())
        })))
    }

    pub(in crate::state) fn identity(path: &Path) -> BundleIdentity {
        if path.is_dir() {
            return BundleIdentity::of_folder(path).unwrap();
        }
        BundleIdentity::of_file(&open(path, SourceOptions::default()).unwrap()).unwrap().unwrap()
    }

    fn read(&self, path: &Path) -> Result<Read, BundleError> {
        let (identity, home) = (Self::identity(path), self.home(path));
        let open_volume = self.open_volume();
        let open = |stored: Arc<dyn ByteSpace>| {
            let space = open_volume(Arc::clone(&stored))?;
            Ok(Traced::decoded(stored, space))
        };
        let catalog = match &home {
            Home::Volume(space) => {
                archive::read(&Traced::bundle(Arc::clone(space)), &open, &Limits::default(), &|_| {})?
            }
            Home::Folder(path) => {
                let open_file = |path: &Path| {
                    let file: Arc<dyn ByteSpace> = Arc::new(LateFile::new(path)?);
                    Ok(Traced::file(path, file))
                };
                archive::read_directory(path, &open_file, &open, &Limits::default())?
            }
        };
        Ok(Read { catalog, home, identity })
    }
}

impl State {
    fn save(&self, read: &Read) -> bool {
        self.save_catalog(&read.identity, &read.catalog, &read.home)
    }
}

fn content(extent: &Extent) -> Result<Bytes, Fault> {
    let len = usize::try_from(extent.len().unwrap()).unwrap();
    read_exact(extent, 0, len).map_err(|error| error.fault())
}

/// All of a catalog in words, the bytes of blobs by their digests.
fn told(catalog: &Catalog) -> BTreeMap<String, String> {
    let bytes = |extent: &Extent| format!("{:?}", content(extent).map(|bytes| Digest::of(&bytes)));
    let mut told = BTreeMap::new();
    for (number, Image { names, content, origin, annotations, partial, attachment, unit }) in
        catalog.images.iter().enumerate()
    {
        let content = match content {
            Content::Manifest(digest) => digest.to_string(),
            Content::Unpacked(image) => {
                let layers = image.layers.iter().map(|layer| {
                    let archive::UnpackedLayer { diff_id, member, extent, size, stored, order } = layer;
                    format!("{diff_id} {member} {size} {stored:?} {order} {}", bytes(extent))
                });
                let layers: Vec<_> = layers.collect();
                format!("{:?} {} {:?} {layers:?}", image.config, image.config_digest, image.platform)
            }
        };
        told.insert(
            format!("image {number}"),
            format!("{names:?} {origin} {annotations:?} {partial:?} {attachment:?} {unit:?} {content}"),
        );
    }
    for (digest, blob) in &catalog.blobs {
        let Blob { size, extent, order } = blob;
        told.insert(format!("blob {digest}"), format!("{size} {order} {}", bytes(extent)));
    }
    for (digest, manifest) in &catalog.manifests {
        told.insert(format!("manifest {digest}"), format!("{manifest:?}"));
    }
    told.insert("notes".into(), format!("{:?}", catalog.notes));
    told.insert("left out".into(), format!("{:?}", catalog.left_out));
    told
}

fn bundles() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut bundles: Vec<_> = folders
        .filter(|path| path.join("expected.json").is_file())
        .map(|path| {
            let truth = fs::read(path.join("expected.json")).unwrap();
            let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
            path.join(truth["data"].as_str().unwrap())
        })
        .collect();
    bundles.sort();
    bundles
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar of these files.
fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A docker-archive of one image.
fn saved(name: &str) -> Vec<u8> {
    let layer = tar_of(&[("file", name.repeat(1000).into_bytes())]);
    let diff_id = Digest::of(&layer).to_string();
    let config = serde_json::json!({"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    tar_of(&[
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ])
}

/// Images with a manifest each, in a volume of bytes.
pub(in crate::state) fn many(images: usize, layers: usize) -> (Catalog, Arc<dyn ByteSpace>) {
    let space = Traced::bundle(Arc::new(Bytes::from_static(&[0; 4096])));
    let mut catalog = Catalog::default();
    for image in 0..images {
        let mut blob = |kind: &str, number: usize| {
            let digest = Digest::of(format!("{kind} {image} {number}").as_bytes());
            let order = catalog.blobs.len() as u64;
            catalog.blobs.insert(
                digest,
                Blob { size: 100, extent: Extent::new(Arc::clone(&space), order % 1000, 100), order },
            );
            serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": 100})
        };
        let config = blob("config.v1+json", 0);
        let layers: Vec<_> = (0..layers).map(|number| blob("layer.v1.tar+gzip", number)).collect();
        let json = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers});
        let manifest = Manifest::parse(json.to_string().into(), "").unwrap();
        let name = format!("registry.example/team/image-{image}:v1.{image}").parse().unwrap();
        catalog.images.push(Image {
            names: vec![archive::ImageName::Full(name)],
            content: Content::Manifest(manifest.digest),
            origin: String::new(),
            annotations: BTreeMap::new(),
            partial: None,
            attachment: None,
            unit: None,
        });
        catalog.manifests.insert(manifest.digest, Arc::new(manifest));
    }
    (catalog, space)
}

pub(in crate::state) fn never() -> Arc<OpenVolume> {
    Arc::new(|_| Err(BundleError::new(Fault::Io, "nothing is to be opened")))
}

#[test]
fn catalogs_of_real_bundles_come_back_equal_and_open_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let reader = Reader::new();
    let (mut whole, mut images, mut is_damaged) = (0, 0, 0);
    for path in bundles() {
        let Ok(read) = reader.read(&path) else { continue };
        let state = State::open(folder.path());
        let kept = state.save(&read);
        assert!(kept, "{}: {:?}", path.display(), state.take_notes());
        is_damaged += usize::from(!read.catalog.broken.is_empty());
        drop(state);
        let state = State::open(folder.path());
        let before = reader.opened.load(Ordering::Relaxed);
        let loaded = state.load_catalog(&read.identity, &reader.home(&path), &reader.open_volume());
        assert!(loaded.is_some(), "{}: {:?}", path.display(), state.take_notes());
        assert_eq!(reader.opened.load(Ordering::Relaxed), before, "{}: opened", path.display());
        if let Some(loaded) = loaded {
            assert_eq!(told(&loaded), told(&read.catalog), "{}", path.display());
            whole += 1;
            images += loaded.images.len();
        }
    }
    assert!(whole >= 30 && images >= 60, "only {whole} bundles of {images} images");
    assert!(is_damaged >= 1, "no bundle is damaged");
}

#[test]
fn archives_inside_are_opened_again_when_somebody_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let inner =
        gzip(&tar_of(&[("three.tar", saved("a.example/three:1")), ("four.tar", saved("a.example/four:1"))]));
    let files = [
        ("images/one.tar", saved("a.example/one:1")),
        ("images/two.tar.gz", gzip(&saved("a.example/two:1"))),
        ("more.tgz", inner),
    ];
    let path = folder.path().join("bundle.tar.gz");
    fs::write(&path, gzip(&tar_of(&files))).unwrap();
    let as_folder = folder.path().join("bundle");
    fs::create_dir_all(as_folder.join("images")).unwrap();
    for (name, bytes) in &files {
        fs::write(as_folder.join(name), bytes).unwrap();
    }
    for (path, all) in [(path, 3), (as_folder, 2)] {
        let reader = Reader::new();
        let read = reader.read(&path).unwrap();
        assert_eq!(read.catalog.images.len(), 4);
        let state = State::open(&folder.path().join("state"));
        assert!(state.save(&read), "{:?}", state.take_notes());
        let reader = Reader::new();
        let loaded = state.load_catalog(&read.identity, &reader.home(&path), &reader.open_volume()).unwrap();
        assert_eq!(reader.opened.load(Ordering::Relaxed), 0);
        assert_eq!(told(&loaded), told(&read.catalog));
        assert_eq!(reader.opened.load(Ordering::Relaxed), all);
    }
}

#[test]
fn what_was_kept_is_checked_before_it_is_used() {
    let (catalog, space) = many(5, 2);
    let home = Home::Volume(space);
    let (good, raw_len) = encode(&catalog, &home).unwrap();
    assert_eq!(told(&decode(&good, raw_len, &home, &never()).unwrap()), told(&catalog));
    // Anywhere a byte changed, or cut anywhere.
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        if let Ok(loaded) = decode(&bad, raw_len, &home, &never()) {
            assert_eq!(told(&loaded), told(&catalog), "byte {at}"); // a bit of the header that means nothing
        }
        decode(&good[..at], raw_len, &home, &never()).unwrap_err();
    }
    assert_eq!(decode(&good, usize::MAX, &home, &never()).unwrap_err(), Unkept::TooLarge);
    assert_eq!(decode(&good, raw_len - 1, &home, &never()).unwrap_err(), Unkept::Damaged);
    // Written well, but not whole: a layer is missing, a manifest is.
    let mut lacking = catalog.clone();
    let first = *lacking.blobs.keys().next().unwrap();
    lacking.blobs.remove(&first);
    let mut headless = catalog.clone();
    let first = *headless.manifests.keys().next().unwrap();
    headless.manifests.remove(&first);
    for bad in [lacking, headless] {
        let (bytes, raw_len) = encode(&bad, &home).unwrap();
        assert_eq!(decode(&bytes, raw_len, &home, &never()).unwrap_err(), Unkept::Damaged);
    }
    // A place in a volume, where the home is a folder.
    let folder = Home::Folder("/nowhere".into());
    assert_eq!(decode(&good, raw_len, &folder, &never()).unwrap_err(), Unkept::Damaged);
}

#[test]
fn what_cannot_be_told_or_may_pass_is_not_kept() {
    let (mut catalog, space) = many(1, 1);
    let home = Home::Volume(Arc::clone(&space));
    let kept = |catalog: &Catalog| encode(catalog, &home).map(drop);
    let broken = |fault| BrokenImage::new("x".into(), BundleError::new(fault, "not there"));
    let left_out = |fault| archive::LeftOut::failed("x", "an archive", &BundleError::new(fault, "no memory"));
    catalog.broken.push(broken(Fault::MissingBlob));
    catalog.left_out.push(left_out(Fault::Truncated));
    assert_eq!(kept(&catalog), Ok(()));
    catalog.left_out.push(left_out(Fault::LimitExceeded));
    assert_eq!(kept(&catalog), Err(Unkept::MayPass));
    catalog.left_out.pop();
    catalog.broken.push(broken(Fault::Io));
    assert_eq!(kept(&catalog), Err(Unkept::MayPass));
    catalog.broken.clear();
    // A large range of a space nobody has told of.
    let stranger: Arc<dyn ByteSpace> = Arc::new(Bytes::from(vec![0; 2 << 20]));
    let extent = Extent::new(stranger, 0, 2 << 20);
    catalog.blobs.insert(Digest::of(b"stranger"), Blob { size: 2 << 20, extent, order: 9 });
    assert_eq!(kept(&catalog), Err(Unkept::Place));
}
