//! What comes back is what was kept; what is damaged, newer or too much costs a note; two processes do not harm each other.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::catalog_codec::{self, Unkept};
use super::*;
use crate::archive::catalog::BrokenImage;
use crate::archive::{self, Blob, Catalog, Content, Image, Limits};
use crate::decode::{DecodeOptions, Decoder};
use crate::error::{BundleError, Fault};
use crate::exit::Exit;
use crate::oci::{Digest, Manifest, media_type};
use crate::source::{ByteSpace, Extent, LateFile, LazySpace, SourceOptions, open, read_exact};

/// Opens bundles as a run does, and counts.
struct Reader {
    decoder: Decoder,
    opened: Arc<AtomicUsize>,
}

/// A bundle that was read.
struct Read {
    catalog: Catalog,
    home: Home,
    openings: Openings,
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

    fn identity(path: &Path) -> BundleIdentity {
        if path.is_dir() {
            return BundleIdentity::of_folder(path).unwrap();
        }
        BundleIdentity::of_file(&open(path, SourceOptions::default()).unwrap()).unwrap().unwrap()
    }

    fn read(&self, path: &Path) -> Result<Read, BundleError> {
        let (identity, home, openings) = (Self::identity(path), self.home(path), Openings::default());
        let open_volume = self.open_volume();
        let open = |stored: Arc<dyn ByteSpace>| {
            let space = open_volume(Arc::clone(&stored))?;
            openings.volume(&stored, &space);
            Ok(space)
        };
        let catalog = match &home {
            Home::Volume(space) => archive::read(space, &open, &Limits::default(), &|_| {})?,
            Home::Folder(path) => {
                let open_file = |path: &Path| {
                    let file: Arc<dyn ByteSpace> = Arc::new(LateFile::new(path)?);
                    openings.file(path, &file);
                    Ok(file)
                };
                archive::read_directory(path, &open_file, &open, &Limits::default())?
            }
        };
        Ok(Read { catalog, home, openings, identity })
    }
}

impl State {
    fn save(&self, read: &Read) -> bool {
        self.save_catalog(&read.identity, &read.catalog, &read.home, &read.openings)
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

#[test]
fn catalogs_of_real_bundles_come_back_equal_and_open_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let reader = Reader::new();
    let (mut whole, mut images) = (0, 0);
    for path in bundles() {
        let Ok(read) = reader.read(&path) else { continue };
        let state = State::open(folder.path());
        let kept = state.save(&read);
        let is_readable = |it: &archive::LeftOut| it.class != archive::LeftOutClass::Unreadable;
        let all_read = read.catalog.broken.is_empty() && read.catalog.left_out.iter().all(is_readable);
        assert_eq!(kept, all_read, "{}: {:?}", path.display(), state.take_notes());
        drop(state);
        let state = State::open(folder.path());
        let before = reader.opened.load(Ordering::Relaxed);
        let loaded = state.load_catalog(&read.identity, &reader.home(&path), &reader.open_volume());
        assert_eq!(loaded.is_some(), kept, "{}: {:?}", path.display(), state.take_notes());
        assert_eq!(reader.opened.load(Ordering::Relaxed), before, "{}: opened", path.display());
        if let Some(loaded) = loaded {
            assert_eq!(told(&loaded), told(&read.catalog), "{}", path.display());
            whole += 1;
            images += loaded.images.len();
        }
    }
    assert!(whole >= 30 && images >= 60, "only {whole} bundles of {images} images");
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

/// Images with a manifest each, in a volume of bytes.
fn many(images: usize, layers: usize) -> (Catalog, Arc<dyn ByteSpace>) {
    let space: Arc<dyn ByteSpace> = Arc::new(Bytes::from_static(&[0; 4096]));
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

fn never() -> Arc<OpenVolume> {
    Arc::new(|_| Err(BundleError::new(Fault::Io, "nothing is to be opened")))
}

#[test]
fn what_was_kept_is_checked_before_it_is_used() {
    let (catalog, space) = many(5, 2);
    let home = Home::Volume(space);
    let (good, raw_len) = catalog_codec::encode(&catalog, &home, &Openings::default()).unwrap();
    assert_eq!(told(&catalog_codec::decode(&good, raw_len, &home, &never()).unwrap()), told(&catalog));
    // Anywhere a byte changed, or cut anywhere.
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        if let Ok(loaded) = catalog_codec::decode(&bad, raw_len, &home, &never()) {
            assert_eq!(told(&loaded), told(&catalog), "byte {at}"); // a bit of the header that means nothing
        }
        catalog_codec::decode(&good[..at], raw_len, &home, &never()).unwrap_err();
    }
    assert_eq!(catalog_codec::decode(&good, usize::MAX, &home, &never()).unwrap_err(), Unkept::TooLarge);
    assert_eq!(catalog_codec::decode(&good, raw_len - 1, &home, &never()).unwrap_err(), Unkept::Damaged);
    // Written well, but not whole: a layer is missing, a manifest is.
    let mut lacking = catalog.clone();
    let first = *lacking.blobs.keys().next().unwrap();
    lacking.blobs.remove(&first);
    let mut headless = catalog.clone();
    let first = *headless.manifests.keys().next().unwrap();
    headless.manifests.remove(&first);
    for bad in [lacking, headless] {
        let (bytes, raw_len) = catalog_codec::encode(&bad, &home, &Openings::default()).unwrap();
        assert_eq!(catalog_codec::decode(&bytes, raw_len, &home, &never()).unwrap_err(), Unkept::Damaged);
    }
    // A place in a volume, where the home is a folder.
    let folder = Home::Folder("/nowhere".into());
    assert_eq!(catalog_codec::decode(&good, raw_len, &folder, &never()).unwrap_err(), Unkept::Damaged);
}

#[test]
fn what_cannot_be_told_is_not_kept() {
    let (mut catalog, space) = many(1, 1);
    let home = Home::Volume(Arc::clone(&space));
    let encode = |catalog: &Catalog| catalog_codec::encode(catalog, &home, &Openings::default()).map(drop);
    let error = BundleError::new(Fault::MissingBlob, "not there");
    catalog.broken.push(BrokenImage::new("x".into(), error));
    assert_eq!(encode(&catalog), Err(Unkept::Broken));
    catalog.broken.clear();
    assert_eq!(encode(&catalog), Ok(()));
    // A large range of a space nobody has told of.
    let stranger: Arc<dyn ByteSpace> = Arc::new(Bytes::from(vec![0; 2 << 20]));
    let extent = Extent::new(stranger, 0, 2 << 20);
    catalog.blobs.insert(Digest::of(b"stranger"), Blob { size: 2 << 20, extent, order: 9 });
    assert_eq!(encode(&catalog), Err(Unkept::Place));
}

/// The identity of a file made for it.
fn some_file(folder: &Path, name: &str) -> BundleIdentity {
    fs::write(folder.join(name), name).unwrap();
    Reader::identity(&folder.join(name))
}

#[test]
fn the_least_used_catalogs_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let (catalog, space) = many(1, 1);
    let home = Home::Volume(space);
    let (old, new) = (some_file(folder.path(), "old"), some_file(folder.path(), "new"));
    for bundle in [&old, &new] {
        assert!(state.save_catalog(bundle, &catalog, &home, &Openings::default()));
    }
    state.write(|t| t.execute("UPDATE catalogs SET used_at = 5 WHERE key = ?1", [old.key.to_string()]));
    // Used again: it is the other one that goes.
    assert!(state.load_catalog(&old, &home, &never()).is_some());
    state.write(|t| t.execute("UPDATE catalogs SET used_at = 5 WHERE key = ?1", [new.key.to_string()]));
    // As if both took nearly all there is.
    state.write(|t| t.execute("UPDATE catalogs SET stored_bytes = 40 << 20", []));
    let third = some_file(folder.path(), "third");
    assert!(state.save_catalog(&third, &catalog, &home, &Openings::default()));
    let known = |bundle| state.load_catalog(bundle, &home, &never()).is_some();
    assert_eq!([known(&old), known(&new), known(&third)], [true, false, true]);
    state.forget_catalog(&old);
    assert!(!known(&old));
    // What another version of the program read is no answer, and goes.
    state.write(|t| t.execute("UPDATE catalogs SET reader = 'layercast 0.0.0'", []));
    assert!(!known(&third));
    assert!(state.save_catalog(&new, &catalog, &home, &Openings::default()));
    let rows = state.ask(|c| c.query_row("SELECT count(*) FROM catalogs", [], |row| row.get::<_, i64>(0)));
    assert_eq!(rows, Some(1));
    assert_eq!(state.take_notes(), [""; 0]);
}

#[test]
fn a_kept_catalog_that_is_damaged_is_dropped_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let (catalog, space) = many(1, 1);
    let home = Home::Volume(space);
    let bundle = some_file(folder.path(), "bundle");
    state.save_catalog(&bundle, &catalog, &home, &Openings::default());
    state.write(|t| t.execute("UPDATE catalogs SET content = x'00'", []));
    assert!(state.load_catalog(&bundle, &home, &never()).is_none());
    assert_eq!(state.take_notes().len(), 1);
    assert!(state.load_catalog(&bundle, &home, &never()).is_none());
    assert!(state.take_notes().is_empty() && state.is_kept());
}

fn layer(text: &str) -> (Digest, KnownLayer) {
    let digest = Digest::of(format!("compressed {text}").as_bytes());
    (Digest::of(text.as_bytes()), KnownLayer { digest, size: 77, media_type: "application/x".into() })
}

#[test]
fn layers_are_known_by_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let (one, two) = (layer("one"), layer("two"));
    assert!(state.layers("gzip 3", &[one.0]).is_empty());
    state.remember_layers("gzip 3", &[one.clone(), two.clone()]);
    drop(state);
    let state = State::open(folder.path());
    assert_eq!(state.layers("gzip 3", &[one.0, Digest::of(b"unknown")]), HashMap::from([one.clone()]));
    assert!(state.layers("zstd 1", &[one.0]).is_empty());
    assert_eq!(state.layers("gzip 3", &[one.0, two.0]), HashMap::from([one, two]));
}

#[test]
fn runs_are_told_latest_first_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let run = state.begin_run("bundle.tar", "a.example/ns").unwrap();
    let counts = RunCounts { images_complete: 3, images_incomplete: 1, blobs_sent: 9, bytes_sent: 1 << 40 };
    state.end_run(run, Exit::Incomplete, counts);
    state.begin_run("other.tar", "b.example").unwrap();
    let runs = state.runs(10);
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].bundle.as_str(), runs[0].ended_at, runs[0].exit), ("other.tar", None, None));
    assert_eq!((runs[1].mirrors.as_str(), runs[1].exit, runs[1].counts), ("a.example/ns", Some(3), counts));
    assert!(runs[1].ended_at >= Some(runs[1].started_at));
    state.write(|t| t.execute("UPDATE runs SET id = 5000 WHERE bundle = 'other.tar'", []));
    state.begin_run("third.tar", "b.example").unwrap();
    assert_eq!(state.runs(10).len(), 2, "the first is more than a thousand runs ago");
}

#[test]
fn what_lies_there_is_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a/state");
    let state = State::open(&folder);
    state.begin_run("x", "y");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("state.sqlite"))), (0o700, 0o600));
    assert_eq!(mode(&folder.join("state.sqlite-wal")), 0o600);
    drop(state);
    fs::set_permissions(folder.join("state.sqlite"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(State::open(&folder).is_kept());
    assert_eq!(mode(&folder.join("state.sqlite")), 0o600);
}

#[test]
fn a_damaged_database_is_set_aside_and_a_new_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    State::open(folder.path()).begin_run("first", "m");
    fs::write(&path, "this is no database, whatever it was".repeat(500)).unwrap();
    let state = State::open(folder.path());
    let notes = state.take_notes();
    assert!(notes.len() == 1 && notes[0].contains("set aside as"), "{notes:?}");
    assert!(state.is_kept() && state.runs(5).is_empty());
    assert!(folder.path().join("state.sqlite.damaged").exists());
    state.begin_run("second", "m");
    drop(state);
    assert_eq!(State::open(folder.path()).runs(5).len(), 1);
}

#[test]
fn damage_that_shows_late_ends_the_state_and_not_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    let state = State::open(folder.path());
    let layers: Vec<_> = (0..2000).map(|number| layer(&number.to_string())).collect();
    state.remember_layers("gzip", &layers);
    drop(state);
    // The first page, with the schema, stays as it is.
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let state = State::open(folder.path());
    assert!(state.is_kept());
    let all: Vec<_> = layers.iter().map(|(diff_id, _)| *diff_id).collect();
    assert!(state.layers("gzip", &all).is_empty());
    assert!(!state.is_kept());
    let notes = state.take_notes();
    assert!(notes.len() == 1 && notes[0].contains("set aside as"), "{notes:?}");
    state.remember_layers("gzip", &layers);
    assert!(state.take_notes().is_empty());
    let state = State::open(folder.path());
    assert!(state.is_kept() && state.layers("gzip", &all).is_empty());
}

#[test]
fn a_newer_database_is_set_aside_and_a_strangers_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    drop(State::open(folder.path()));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let state = State::open(folder.path());
    assert!(state.is_kept() && state.take_notes()[0].contains("schema 99"));
    assert!(folder.path().join("state.sqlite.newer").exists());
    drop(state);

    fs::remove_file(&path).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE recipes (a); INSERT INTO recipes VALUES (1)").unwrap();
    let state = State::open(folder.path());
    assert!(!state.is_kept() && state.take_notes()[0].contains("another program"));
    assert_eq!(connection.query_row("SELECT a FROM recipes", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_database_in_use_is_not_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let first = State::open(folder.path());
    let connection = rusqlite::Connection::open(folder.path().join("state.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let second = State::open(folder.path());
    let notes = second.take_notes();
    assert!(!second.is_kept() && notes[0].contains("another run is using it"), "{notes:?}");
    assert!(first.is_kept() && first.begin_run("x", "y").is_some());
}

#[test]
fn a_home_that_cannot_be_used_is_no_state_and_a_note() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let state = State::open(&file.path().join("state"));
    assert!(!state.is_kept() && state.take_notes()[0].contains("--state-dir"));
    assert!(state.begin_run("x", "y").is_none() && state.runs(5).is_empty());
    assert!(state.layers("gzip", &[Digest::of(b"x")]).is_empty());
    let none = State::none();
    assert!(!none.is_kept() && none.take_notes().is_empty());
}

const CHILD: &str = "LAYERCAST_TEST_STATE_FOLDER";

/// This test once more, as another process that finds its folder in the environment.
fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("state::tests::{test}"), "--nocapture"]);
    command.env(CHILD, folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn processes_write_at_once() {
    let write = |folder: &Path, process: &str| {
        let state = State::open(folder);
        for number in 0..50 {
            let run = state.begin_run(process, "m").unwrap();
            state.remember_layers("gzip", &[layer(&format!("{process} {number}"))]);
            state.end_run(run, Exit::Complete, RunCounts::default());
        }
        assert_eq!(state.take_notes(), [""; 0]);
    };
    if let Some(folder) = std::env::var_os(CHILD) {
        return write(Path::new(&folder), &std::process::id().to_string());
    }
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<_> =
        (0..3).map(|_| child("processes_write_at_once", folder.path()).spawn().unwrap()).collect();
    write(folder.path(), "parent");
    let mut names = vec!["parent".to_owned()];
    for child in children {
        names.push(child.id().to_string());
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let state = State::open(folder.path());
    let runs = state.runs(1000);
    assert_eq!(runs.len(), 200);
    assert!(runs.iter().all(|run| run.exit == Some(0)));
    let all: Vec<_> = names
        .iter()
        .flat_map(|name| (0..50).map(move |number| layer(&format!("{name} {number}")).0))
        .collect();
    assert_eq!(state.layers("gzip", &all).len(), 200);
}

#[test]
fn a_lock_holds_against_another_process_and_ends_with_it() {
    let mirrors = ["registry.example:5000/ns".to_owned()];
    if let Some(folder) = std::env::var_os(CHILD) {
        let _lock = RunLock::acquire(Path::new(&folder), &mirrors).unwrap();
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(b"\nlocked\n").unwrap();
        stdout.flush().unwrap();
        loop {
            std::thread::park(); // until it is killed
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut holder =
        child("a_lock_holds_against_another_process_and_ends_with_it", folder.path()).spawn().unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "locked"));
    let error = RunLock::acquire(folder.path(), &mirrors).unwrap_err();
    assert!(matches!(error, LockError::Held { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("process {}", holder.id())) && said.contains(&mirrors[0]), "{said}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let _lock = RunLock::acquire(folder.path(), &mirrors).unwrap();
}
