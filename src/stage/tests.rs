//! The folder as runs share it, and what becomes of it whatever happens.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::oci::media_type;
use crate::source::{SourceOptions, open, read_exact};
use crate::state::BundleIdentity;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn stage(folder: &Path) -> Stage {
    Stage::open(folder, None, None).unwrap()
}

fn put(stage: &Stage, bytes: &[u8]) -> Result<Digest, NotStaged> {
    let digest = Digest::of(bytes);
    if let Some(mut writer) = stage.write(&digest, bytes.len() as u64)? {
        writer.append(bytes)?;
        stage.put(writer)?;
    }
    Ok(digest)
}

fn read(stage: &Stage, bytes: &[u8]) -> bool {
    let blob = stage.blob(&Digest::of(bytes), bytes.len() as u64);
    blob.is_some_and(|blob| read_exact(blob.as_ref(), 0, bytes.len()).unwrap() == bytes)
}

fn identity(folder: &Path, name: &str) -> BundleIdentity {
    let path = folder.join(name);
    fs::write(&path, name).unwrap();
    BundleIdentity::of_file(&open(&path, SourceOptions::default()).unwrap()).unwrap().unwrap()
}

/// An image of one blob, put and ready to be listed.
fn image(stage: &Stage, bytes: &[u8], name: &str) -> StagedImage {
    let digest = put(stage, bytes).unwrap();
    stage.rely_on([digest]);
    StagedImage {
        content: digest,
        root: StagedRoot {
            media_type: media_type::OCI_MANIFEST.to_owned(),
            digest,
            size: bytes.len() as u64,
        },
        entries: vec![BTreeMap::from([("org.opencontainers.image.ref.name".to_owned(), name.to_owned())])],
        subject: None,
        blobs: vec![digest],
        layers: Vec::new(),
    }
}

fn enter(stage: &Stage, identity: &BundleIdentity, contents: &[&[u8]]) {
    let contents: HashSet<Digest> = contents.iter().map(|bytes| Digest::of(bytes)).collect();
    let bundle = OpenedBundle { identity: Some(identity), path: "bundle", contents, reader: "test" };
    stage.enter(bundle, || Some(b"catalog".to_vec()));
}

fn names(stage: &Stage) -> Vec<String> {
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(stage.folder().join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned())
        .collect()
}

fn no_notes(stage: &Stage) {
    assert_eq!(stage.take_notes(), [""; 0]);
}

#[test]
fn what_was_put_is_there_for_the_next_run_and_for_its_owner_alone() {
    let folder = folder();
    let root = folder.path().join("stage");
    let first = stage(&root);
    assert!(!read(&first, b"blob"));
    put(&first, b"blob").unwrap();
    assert!(first.is_checked(&Digest::of(b"blob")) && read(&first, b"blob"));
    assert!(first.write(&Digest::of(b"blob"), 4).unwrap().is_none(), "it is there");
    drop(first);
    let second = stage(&root);
    assert!(second.has(&Digest::of(b"blob")) && !second.is_checked(&Digest::of(b"blob")));
    assert!(read(&second, b"blob"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let blob = root.join("blobs/sha256").join(Digest::of(b"blob").hex());
    assert_eq!((mode(&root), mode(&blob)), (0o700, 0o600));
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    no_notes(&second);
}

#[test]
fn a_folder_of_others_is_refused_by_name_and_stays_as_it_is() {
    let folder = folder();
    let root = folder.path().join("photos");
    fs::create_dir(&root).unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::write(root.join("cat.jpg"), "cat").unwrap();
    let error = Stage::open(&root, None, None).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, StageError::Foreign { .. }) && text.contains("photos") && text.contains("cat.jpg"),
        "{text}"
    );
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    fs::remove_file(root.join("cat.jpg")).unwrap();
    drop(stage(&root));
    fs::write(root.join("stage.json"), r#"{"stageVersion":2}"#).unwrap();
    assert!(matches!(Stage::open(&root, None, None), Err(StageError::OtherVersion { version: 2, .. })));
}

#[test]
fn a_blob_that_is_not_what_its_name_says_is_never_given_out() {
    let folder = folder();
    let first = stage(folder.path());
    put(&first, b"flipped").unwrap();
    put(&first, b"cut short").unwrap();
    drop(first);
    let path = |bytes: &[u8]| folder.path().join("blobs/sha256").join(Digest::of(bytes).hex());
    fs::write(path(b"flipped"), b"flipqed").unwrap();
    fs::write(path(b"cut short"), b"cut").unwrap();
    let second = stage(folder.path());
    assert!(!read(&second, b"flipped") && !read(&second, b"cut short"));
    assert!(!path(b"flipped").exists() && !second.has(&Digest::of(b"cut short")));
    assert_eq!((second.take_notes().len(), second.figures().wrong), (2, 2));
    put(&second, b"flipped").unwrap();
    assert!(read(&second, b"flipped"));
    // Changed after it was found right.
    fs::write(path(b"flipped"), b"flipqed").unwrap();
    assert!(!read(&second, b"flipped"));
}

#[test]
fn what_has_another_digest_does_not_get_in() {
    let folder = folder();
    let stage = stage(folder.path());
    for bytes in [&b"other"[..], b"righ"] {
        let mut writer = stage.write(&Digest::of(b"right"), 5).unwrap().unwrap();
        writer.append(bytes).unwrap();
        assert!(matches!(stage.put(writer), Err(NotStaged::Wrong(_))));
    }
    assert!(!read(&stage, b"right"));
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_a_dead_run_was_writing_is_removed_and_what_a_living_one_writes_is_not() {
    let folder = folder();
    let living = stage(folder.path());
    let mut writer = living.write(&Digest::of(b"living"), 6).unwrap().unwrap();
    writer.append(b"liv").unwrap();
    fs::write(folder.path().join("tmp/0123"), "dead").unwrap();
    let next = stage(folder.path());
    assert!(!folder.path().join("tmp/0123").exists());
    writer.append(b"ing").unwrap();
    living.put(writer).unwrap();
    assert!(read(&next, b"living"));
    no_notes(&living);
}

#[test]
fn a_bundle_is_known_again_with_its_catalog_and_its_images() {
    let folder = folder();
    let (root, bundle) = (folder.path().join("stage"), identity(folder.path(), "bundle"));
    let first = stage(&root);
    assert_eq!(first.catalog(&bundle, "test"), None);
    enter(&first, &bundle, &[b"one", b"two"]);
    first.list(&[image(&first, b"one", "a:1"), image(&first, b"three", "of another bundle")]);
    assert_eq!(names(&first), ["a:1"]);
    drop(first);
    let second = stage(&root);
    assert_eq!(second.catalog(&bundle, "test").as_deref(), Some(&b"catalog"[..]));
    assert_eq!(second.catalog(&bundle, "another version"), None);
    enter(&second, &bundle, &[b"one", b"two"]);
    second.list(&[image(&second, b"two", "a:2")]);
    assert_eq!(names(&second), ["a:1", "a:2"]);
    second.forget_catalog(&bundle);
    assert_eq!(second.catalog(&bundle, "test"), None);
    no_notes(&second);
}

#[test]
fn damage_to_marks_and_catalogs_costs_what_they_knew_and_no_more() {
    let folder = folder();
    let (root, bundle) = (folder.path().join("stage"), identity(folder.path(), "bundle"));
    let first = stage(&root);
    enter(&first, &bundle, &[b"one"]);
    first.list(&[image(&first, b"one", "a:1")]);
    drop(first);
    let of_bundle = |ending: &str| root.join("bundles").join(format!("{}.{ending}", bundle.file_stem()));
    fs::write(of_bundle("catalog"), "catalo9").unwrap();
    let second = stage(&root);
    assert_eq!(second.catalog(&bundle, "test"), None);
    fs::write(of_bundle("json"), "{").unwrap();
    assert_eq!(second.catalog(&bundle, "test"), None);
    assert_eq!(second.take_notes().len(), 1);
    assert!(read(&second, b"one"), "blobs need no mark");
}

#[test]
fn a_limit_holds_and_what_no_sites_file_names_makes_room_unless_a_run_uses_it() {
    let folder = folder();
    let root = folder.path().join("stage");
    let bundles = ["old", "held", "new"].map(|name| identity(folder.path(), name));
    let [old, held, new] = &bundles;
    let bytes = |seed: u8| vec![seed; 100_000];
    let fill = |stage: &Stage, bundle: &BundleIdentity, seed: u8| {
        enter(stage, bundle, &[&bytes(seed)]);
        stage.list(&[image(stage, &bytes(seed), &format!("a:{seed}"))]);
    };
    let limited = || Stage::open(&root, Some(270_000), None).unwrap();
    fill(&limited(), old, 1);
    let holder = limited();
    fill(&holder, held, 2);
    let stage = limited();
    enter(&stage, new, &[&bytes(3)]);
    put(&stage, &bytes(3)).unwrap();
    assert_eq!(names(&stage), ["a:2"], "the old one made room");
    assert!(!read(&stage, &bytes(1)) && read(&stage, &bytes(2)));
    assert!(matches!(put(&stage, &bytes(4)), Err(NotStaged::Limit(270_000))));
    assert_eq!(names(&stage), ["a:2"], "it is held");
    let reading = stage.blob(&Digest::of(&bytes(2)), 100_000).unwrap();
    drop(holder);
    put(&stage, &bytes(4)).unwrap();
    assert_eq!(names(&stage), [""; 0]);
    assert_eq!(read_exact(reading.as_ref(), 0, 100_000).unwrap(), bytes(2), "who reads goes on reading");
    assert_eq!(stage.figures().bundles_removed, 2);
    no_notes(&stage);
}

#[test]
fn two_runs_share_a_limit() {
    let folder = folder();
    let open = || Stage::open(folder.path(), Some(250_000), None).unwrap();
    let (one, two) = (open(), open());
    put(&one, &vec![1; 100_000]).unwrap();
    let writer = two.write(&Digest::of(b"as long"), 100_000).unwrap().unwrap();
    assert!(matches!(put(&one, &vec![2; 100_000]), Err(NotStaged::Limit(_))), "what is being written counts");
    drop(writer);
    put(&one, &vec![2; 100_000]).unwrap();
    assert!(matches!(put(&two, &vec![3; 100_000]), Err(NotStaged::Limit(_))));
}

#[test]
fn a_bundle_goes_when_the_last_sites_file_that_named_it_does_not_any_more() {
    let folder = folder();
    let root = folder.path().join("stage");
    let (old, new) = (identity(folder.path(), "old"), identity(folder.path(), "new"));
    let run = |owner: &str, bundle: &BundleIdentity, seed: &[u8]| {
        let stage = Stage::open(&root, None, Some(owner.to_owned())).unwrap();
        enter(&stage, bundle, &[seed]);
        stage.list(&[image(&stage, seed, &String::from_utf8_lossy(seed))]);
        stage.collect();
        no_notes(&stage);
        names(&stage)
    };
    run("berlin.yaml", &old, b"old");
    run("paris.yaml", &old, b"old");
    assert_eq!(run("berlin.yaml", &new, b"new"), ["new", "old"]);
    assert_eq!(run("paris.yaml", &new, b"new"), ["new"]);
    assert!(!root.join("blobs/sha256").join(Digest::of(b"old").hex()).exists());
    assert_eq!(
        fs::read_dir(root.join("bundles")).unwrap().count(),
        3,
        "mark, catalog and lock of the new one"
    );
}

#[test]
fn blobs_that_no_bundle_needs_go_unless_a_run_may_have_put_them_there() {
    let folder = folder();
    let (root, bundle) = (folder.path().join("stage"), identity(folder.path(), "bundle"));
    let (one, other) = (stage(&root), stage(&root));
    enter(&one, &bundle, &[b"one"]);
    one.list(&[image(&one, b"one", "a:1")]);
    put(&other, b"not listed yet").unwrap();
    one.collect();
    assert!(read(&other, b"not listed yet"));
    drop(other);
    one.collect();
    assert!(!read(&one, b"not listed yet") && read(&one, b"one"));
}

/// Shards overlap, so no run is ever alone.
#[test]
fn what_no_bundle_needs_makes_room_before_any_bundle_goes() {
    let folder = folder();
    let root = folder.path().join("stage");
    let bundle = identity(folder.path(), "bundle");
    let limited = || Stage::open(&root, Some(270_000), None).unwrap();
    let bytes = |seed: u8| vec![seed; 100_000];
    let earlier = limited();
    enter(&earlier, &bundle, &[&bytes(1)]);
    earlier.list(&[image(&earlier, &bytes(1), "a:1")]);
    let left = put(&earlier, &bytes(2)).unwrap();
    drop(earlier);
    let file = fs::File::options().write(true).open(root.join("blobs/sha256").join(left.hex())).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let (one, other) = (limited(), limited());
    put(&one, &bytes(3)).unwrap();
    assert_eq!(names(&one), ["a:1"]);
    assert!(!read(&one, &bytes(2)), "it was left by a run that is over");
    assert_eq!(one.figures().bundles_removed, 0);
    // What a run has put there, and not listed yet, stays; so a bundle goes.
    put(&other, &bytes(4)).unwrap();
    assert_eq!(other.figures().bundles_removed, 1);
    assert!(read(&other, &bytes(3)));
    no_notes(&one);
}

#[test]
fn an_image_that_lost_a_blob_is_not_listed_any_more() {
    let folder = folder();
    let (root, bundle) = (folder.path().join("stage"), identity(folder.path(), "bundle"));
    let stage = stage(&root);
    enter(&stage, &bundle, &[b"one", b"two"]);
    stage.list(&[image(&stage, b"one", "a:1"), image(&stage, b"two", "a:2")]);
    fs::write(root.join("blobs/sha256").join(Digest::of(b"one").hex()), "0ne").unwrap();
    assert!(!read(&stage, b"one"));
    stage.list(&[]);
    assert_eq!(names(&stage), ["a:2"]);
}

#[test]
fn many_runs_at_once_leave_a_stage_that_is_whole() {
    let folder = folder();
    let root = folder.path().join("stage");
    let bundle = identity(folder.path(), "bundle");
    let blobs: Vec<Vec<u8>> = (0..6_u8).map(|seed| vec![seed; 5000]).collect();
    let all: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (root, bundle, blobs, all) = (&root, &bundle, &blobs, &all);
            scope.spawn(move || {
                let stage = stage(root);
                enter(&stage, bundle, all);
                for bytes in blobs.iter().skip(number).chain(blobs) {
                    stage.list(&[image(&stage, bytes, &format!("a:{}", bytes[0]))]);
                    assert!(read(&stage, bytes));
                }
                stage.collect();
                no_notes(&stage);
            });
        }
    });
    let stage = stage(&root);
    let listed: HashSet<String> = names(&stage).into_iter().collect();
    assert_eq!(listed.len(), 6);
    assert!(blobs.iter().all(|bytes| read(&stage, bytes)));
}

#[test]
fn nothing_in_the_place_of_a_blob_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path(), None, None).unwrap();
    let digest = Digest::of(b"blob");
    let path = stage.folder().join("blobs/sha256").join(digest.hex());
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    assert!(stage.blob(&digest, 4).is_none());
    let mut writer = stage.write(&digest, 4).unwrap().unwrap();
    writer.append(b"blob").unwrap();
    stage.put(writer).unwrap();
    assert!(stage.blob(&digest, 4).is_some(), "the blob has taken its place");
}

#[test]
fn what_says_of_a_stage_that_it_is_one_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    // What a run leaves that was killed while it wrote it.
    fs::write(folder.path().join(".stage.json.0123456789abcdef"), "{").unwrap();
    drop(Stage::open(folder.path(), None, None).unwrap());
    let marker = folder.path().join("stage.json");
    fs::write(&marker, "").unwrap();
    let refused = Stage::open(folder.path(), None, None);
    assert!(matches!(refused, Err(StageError::Foreign { .. })), "{refused:?}");
}

#[test]
fn a_disk_that_takes_no_more_throws_nothing_away() {
    let folder = folder();
    let (root, bundle) = (folder.path().join("stage"), identity(folder.path(), "bundle"));
    let open = || Stage::open(&root, None, Some("berlin.yaml".to_owned())).unwrap();
    let first = open();
    enter(&first, &bundle, &[b"one", b"two"]);
    first.list(&[image(&first, b"one", "a:1")]);
    first.collect();
    drop(first);
    let run = |trouble: &dyn Fn(), relief: &dyn Fn()| {
        let stage = open();
        trouble();
        enter(&stage, &bundle, &[b"one", b"two"]);
        assert_eq!(stage.take_notes().len(), 1);
        stage.collect();
        relief();
        assert_eq!((names(&stage), read(&stage, b"one")), (vec!["a:1".to_owned()], true));
        let owners = stage.marks().unwrap().into_iter().flat_map(|(_, mark)| mark.owners);
        assert_eq!(owners.collect::<Vec<_>>(), ["berlin.yaml"]);
        stage
    };
    // Nothing can be written.
    let tmp = root.join("tmp");
    let block = || fs::remove_dir(&tmp).and_then(|()| fs::write(&tmp, "")).unwrap();
    let unblock = || fs::remove_file(&tmp).and_then(|()| fs::create_dir(&tmp)).unwrap();
    let stage = run(&block, &unblock);
    stage.list(&[image(&stage, b"two", "a:2")]);
    assert_eq!(names(&stage), ["a:1", "a:2"], "there is room again");
    stage.list(&[]);
    drop(stage);
    // Not even which bundles the run uses can be noted down.
    let lock = root.join("bundles").join(format!("{}.lock", bundle.file_stem()));
    fs::remove_dir_all(root.join("bundles")).unwrap();
    let first = open();
    enter(&first, &bundle, &[b"one", b"two"]);
    first.list(&[image(&first, b"one", "a:1")]);
    drop(first);
    let block = || fs::remove_file(&lock).and_then(|()| fs::create_dir(&lock)).unwrap();
    run(&block, &|| fs::remove_dir(&lock).unwrap());
}

#[test]
fn a_link_in_the_place_of_a_folder_of_the_stage_leads_nowhere() {
    let folder = folder();
    let theirs = folder.path().join("theirs");
    for name in ["tmp", "bundles", "blobs", "blobs/sha256"] {
        let root = folder.path().join("stage");
        drop(stage(&root));
        fs::create_dir_all(&theirs).unwrap();
        let blob = Digest::of(b"x").hex();
        let files = ["0123456789abcdef", "name.json", &blob];
        for file in files {
            fs::write(theirs.join(file), "theirs").unwrap();
        }
        fs::remove_dir_all(root.join(name)).unwrap();
        std::os::unix::fs::symlink(&theirs, root.join(name)).unwrap();
        let refused = Stage::open(&root, None, None);
        assert!(
            matches!(&refused, Err(error @ StageError::Unusable { .. }) if error.to_string().contains("is a link")),
            "{name}: {refused:?}"
        );
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), files.len(), "{name}");
        fs::remove_dir_all(&root).unwrap();
        fs::remove_dir_all(&theirs).unwrap();
    }
}

#[test]
fn a_stage_is_of_this_user_or_of_root() {
    for (owner, me, is_foreign) in [(0, 7, false), (7, 7, false), (8, 7, true), (7, 0, true)] {
        assert_eq!(super::folder::is_foreign(owner, me), is_foreign, "{owner} for {me}");
    }
}
