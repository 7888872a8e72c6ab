//! Archives inside archives, and folders of archives.

use super::*;

#[test]
fn archives_inside_archives_are_read_in_the_order_of_the_bundle() {
    let mut blobs = Blobs::default();
    let listed = named(blobs.image("own", &["own layer"]), "x.io/own:1");
    let mut files = vec![("b/first.tar".to_owned(), tar_of(&saved("first:1", &["f1", "f2"])))];
    files.extend(blobs.layout("images/", &[listed]));
    files.push(("a/last.tgz".into(), gzip(&tar_of(&saved("last:1", &["l1"])))));
    files.push(("README.gz".into(), gzip(&b"no archive ".repeat(99))));
    files.push(("etc.tar".into(), tar_of(&[("etc/hosts".into(), b"x".to_vec())])));
    let catalog = catalog(&files);
    assert!(catalog.broken.is_empty());
    let origins: Vec<_> = catalog.images.iter().map(|image| image.origin.as_str()).collect();
    assert_eq!(origins, ["images", "b/first.tar", "a/last.tgz"]);
    let orders = |at: usize| match &catalog.images[at].content {
        Content::Unpacked(image) => image.layers.iter().map(|layer| layer.order).collect::<Vec<_>>(),
        Content::Manifest(_) => Vec::new(),
    };
    assert_eq!(orders(1), [0, 1]);
    let own: BTreeSet<_> = catalog.blobs.values().map(|blob| blob.order).collect();
    assert_eq!(own, BTreeSet::from([2, 3]));
    assert_eq!(orders(2), [4]);
}

#[test]
fn a_damaged_archive_is_named_and_costs_no_other() {
    let whole = tar_of(&saved("a:1", &["one"]));
    let cut = whole[..1300].to_vec();
    let zipped = gzip(&whole);
    let deep = (0..5).fold(whole.clone(), |inner, _| tar_of(&[("in.tar".into(), inner)]));
    let files = [
        ("good.tar".to_owned(), whole),
        ("cut.tar".into(), cut),
        ("cut.tar.gz".into(), zipped[..zipped.len() - 4].to_vec()),
        ("deep.tar".into(), deep),
    ];
    let catalog = catalog(&files);
    assert_eq!(names(&catalog), set(&["docker.io/library/a:1"]));
    assert_eq!(broken(&catalog), [Fault::Truncated, Fault::CorruptCompression, Fault::LimitExceeded]);
    assert!(catalog.broken[0].error.to_string().starts_with("cut.tar: "));
    assert!(catalog.broken[2].error.to_string().starts_with("deep.tar: in.tar: "));
}

#[test]
fn directories_are_read_as_what_lies_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["one"]), "x.io/a:1");
    for (name, bytes) in blobs.layout("images/", &[image]) {
        write(&name, &bytes);
    }
    for (name, bytes) in saved("saved:1", &["s"]) {
        write(&name, &bytes);
    }
    write("more/x.tar.gz", &gzip(&tar_of(&saved("x:1", &["x"]))));
    write("notes.txt", b"nothing");
    std::os::unix::fs::symlink("/etc", folder.path().join("outside")).unwrap();
    let catalog = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    let expected = ["docker.io/library/saved:1", "docker.io/library/x:1", "x.io/a:1"];
    assert_eq!(names(&catalog), set(&expected));
    assert!(catalog.broken.is_empty());
}

#[test]
fn links_out_of_a_folder_lead_to_archives() {
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
    fs::write(store.path().join("one.tar"), tar_of(&saved("one:1", &["1"]))).unwrap();
    fs::create_dir(store.path().join("layout")).unwrap();
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["layer"]), "x.io/a:1");
    for (name, bytes) in blobs.layout("layout/", &[image]) {
        let path = store.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    link(&store.path().join("one.tar"), "one.tar");
    link(&store.path().join("layout"), "layout");
    link(Path::new("one.tar"), "latest.tar");
    link(Path::new("gone.tar"), "dangling.tar");
    link(Path::new("."), "loop");
    let catalog = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    assert_eq!(names(&catalog), set(&["docker.io/library/one:1", "x.io/a:1"]));
    assert_eq!(catalog.images.len(), 2, "a second name is no second image");
    let told: BTreeSet<_> = left_out(&catalog).into_iter().collect();
    assert_eq!(told, ["dangling.tar: unreadable", "loop: no-image"].map(str::to_owned).into());
}

#[test]
fn one_bad_archive_of_a_folder_costs_the_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = tar_of(&saved("good:1", &["one"]));
    let cut = tar_of(&saved("cut:1", &["two"]))[..1300].to_vec();
    let two = [saved("half:1", &["three"]), Vec::new()].concat();
    let mut half = two.clone();
    half.remove(1);
    for (name, bytes) in [("good.tar", whole), ("cut.tar", cut), ("half.tar", tar_of(&half))] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::create_dir(folder.path().join("layout")).unwrap();
    fs::write(folder.path().join("layout/index.json"), "{").unwrap();
    fs::write(folder.path().join("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let mut catalog = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    catalog.leave_out_damaged();
    assert_eq!((names(&catalog), catalog.broken.len()), (set(&["docker.io/library/good:1"]), 0));
    let told: BTreeSet<_> = left_out(&catalog).into_iter().collect();
    let expected = ["cut.tar: unreadable", "half.tar: unreadable", "layout: unreadable"];
    assert_eq!(told, expected.map(str::to_owned).into());
}

/// Files are passed over because an image uses them, never because of their names.
#[test]
fn archives_with_names_of_layers_are_looked_into() {
    let archive = |name: &str| tar_of(&saved(name, &[name]));
    let hex = Digest::of(b"any").hex();
    let mut blobs = Blobs::default();
    let listed = named(blobs.image("own", &["own layer"]), "x.io/own:1");
    let mut files = blobs.layout("layout/", &[listed]);
    files.extend([
        ("sub/layer.tar".to_owned(), archive("a:1")),
        (format!("sub/sha256-{hex}.tar.gz"), gzip(&archive("b:1"))),
        ("layout/blobs/extra.tar".into(), archive("c:1")),
        (format!("other/blobs/sha256/{hex}"), archive("d:1")),
    ]);
    let expected = ["a:1", "b:1", "c:1", "d:1"].map(|name| format!("docker.io/library/{name}"));
    let found = names(&catalog(&files));
    for name in expected {
        assert!(found.contains(&name), "{name} in {found:?}");
    }
    assert!(found.contains("x.io/own:1") && found.len() == 5, "{found:?}");
    assert!(left_out(&catalog(&files)).is_empty(), "they are no marks of others");
}
