//! What was met and not taken is named, with its reason.

use super::*;

#[test]
fn what_was_met_and_not_taken_is_named() {
    let good = tar_of(&saved("a:1", &["one"]));
    let chart = tar_of(&[("web/Chart.yaml".into(), b"name: web".repeat(9))]);
    let lz4 = [b"\x04\x22\x4d\x18".as_slice(), &[7; 200]].concat();
    let with_lz4 = tar_of(&[("in/x.tar.lz4".into(), lz4.clone()), ("in/note".into(), b"text ".repeat(40))]);
    let files = [
        ("good.tar".to_owned(), good.clone()),
        ("chart.tgz".into(), gzip(&chart)),
        ("lz4".into(), lz4),
        ("deeper.tar".into(), with_lz4),
        ("twice.gz".into(), gzip(&gzip(&good))),
        ("README".into(), b"read me ".repeat(20)),
    ];
    let catalog = catalog(&files);
    assert_eq!(names(&catalog), set(&["docker.io/library/a:1"]));
    assert!(catalog.broken.is_empty());
    let expected = [
        "chart.tgz: no-image",
        "lz4: unreadable",
        "deeper.tar/in/x.tar.lz4: unreadable",
        "twice.gz: unreadable",
        "README: no-image",
    ];
    let told: BTreeSet<_> = left_out(&catalog).into_iter().collect();
    assert_eq!(told, expected.map(str::to_owned).into());
}

#[test]
fn links_of_a_tar_that_lead_to_nothing_are_named() {
    let good = tar_of(&[("a.tar".into(), tar_of(&saved("a:1", &["one"])))]);
    let links = [("gone.tar", "../store/gone.tar"), ("same.tar", "a.tar"), ("abs.tar", "/srv/b.tar")];
    let links: Vec<u8> = links.iter().flat_map(|(name, target)| header(name, 0, b'2', target)).collect();
    let catalog = read_tar([links, good].concat()).unwrap();
    assert_eq!(catalog.images.len(), 1);
    assert_eq!(left_out(&catalog), ["abs.tar: unreadable", "gone.tar: unreadable"]);
    assert!(catalog.left_out[1].why.contains("\"../store/gone.tar\""), "{:?}", catalog.left_out[1]);
}

#[test]
fn a_member_that_a_later_one_replaces_is_named() {
    let archive = |name: &str| ("a.tar".to_owned(), tar_of(&saved(name, &[name])));
    let catalog = catalog(&[archive("a:1"), archive("b:1")]);
    assert_eq!(names(&catalog), set(&["docker.io/library/b:1"]));
    assert_eq!(left_out(&catalog), ["a.tar: no-image"]);
}

#[test]
fn damaged_beginnings_and_unknown_data_are_no_other_files() {
    let good = tar_of(&saved("a:1", &["one"]));
    let mut headless = good.clone();
    headless[..512].fill(b'x');
    let mut zeroed = good.clone();
    zeroed[..1024].fill(0);
    let noise: Vec<u8> = (0..4096u32)
        .flat_map(|n| Digest::of(&n.to_le_bytes()).to_string().into_bytes()[7..9].to_vec())
        .collect();
    let random: Vec<u8> = (0..4096u32)
        .flat_map(|n| match Digest::of(&n.to_le_bytes()) {
            Digest::Sha256(bytes) => bytes.to_vec(),
            Digest::Sha512(bytes) => bytes.to_vec(),
        })
        .collect();
    let files = [
        ("good.tar".to_owned(), good),
        ("headless".into(), headless),
        ("hex".into(), noise),
        ("random".into(), random),
        ("zeroed".into(), zeroed),
        ("zeros".into(), vec![0; 8192]),
    ];
    let expected = [
        "headless: unreadable",
        "random: unreadable",
        "zeroed: unreadable",
        "hex: no-image",
        "zeros: no-image",
    ];
    assert_eq!(left_out(&catalog(&files)), expected);
}

/// Bytes that look compressed.
fn noise(len: usize) -> Vec<u8> {
    let blocks = (0u32..).flat_map(|n| Digest::of(&n.to_le_bytes()).hex().into_bytes());
    let digits: Vec<u8> = blocks.take(2 * len).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn what_is_called_an_archive_and_is_none_has_not_arrived() {
    let good = ("good.tar".to_owned(), tar_of(&saved("a:1", &["one"])));
    let page = b"<!DOCTYPE html><html>502</html>".repeat(9);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec();
    let entry = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let not_arrived = [
        entry("empty.tar.xz", b""),
        entry("zeros.tgz", &[0; 4096]),
        entry("zeros.tar", &[0; 10240]),
        entry("page.tar.zst", &page),
        entry("page.xz", &page),
        entry("pointer.tar.gz", &pointer),
        entry("short.tar", b"Not found"),
        entry("text.tar.gz", &gzip(b"no such key")),
        entry("begun.tar.xz.part", &[0; 2048]),
        entry("piece.tar.002", b"any thing"),
        entry("piece.tar.xz.ac", &noise(300)),
        entry("ad", &noise(2000)),
    ];
    let others = [
        entry("empty", b""),
        entry("page.html", &page),
        entry("good.tar.sha256", b"00  good.tar"),
        entry("good.tar.md", b"# What is in it"),
        entry("notes.gz", &gzip(b"notes")),
        entry("._good.tar", b"\0\x05\x16\x07"),
        entry("key.der", &[b"\x30\x82\x07\xd0".as_slice(), &noise(2000)].concat()),
        entry("signature", &noise(512)),
    ];
    let files = [vec![good], not_arrived.to_vec(), others.to_vec()].concat();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let read = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    let expected = |class: &str, files: &[(String, Vec<u8>)]| -> BTreeSet<String> {
        files.iter().map(|(name, _)| format!("{name}: {class}")).collect()
    };
    let told: BTreeSet<_> = left_out(&read).into_iter().collect();
    assert_eq!(told, &expected("unreadable", &not_arrived) | &expected("no-image", &others));
    // In an archive nobody goes back for what is too short to be one, but its name counts all the same.
    let told: BTreeSet<_> = left_out(&catalog(&files)).into_iter().collect();
    assert_eq!(told, &expected("unreadable", &not_arrived) | &expected("no-image", &others));
    for (name, bytes) in not_arrived {
        assert_eq!(read_tar(bytes).unwrap_err().fault(), Fault::NotABundle, "{name} alone");
    }
}

#[test]
fn what_follows_the_first_piece_of_a_split_archive_is_the_rest_of_it() {
    let whole = tar_of(&saved("cut:1", &["one"]));
    let folder = tempfile::tempdir().unwrap();
    for (piece, name) in whole.chunks(1300).zip(["xaa", "xab", "xac", "xad", "xae"]) {
        fs::write(folder.path().join(name), piece).unwrap();
    }
    fs::write(folder.path().join("good.tar"), tar_of(&saved("good:1", &["two"]))).unwrap();
    fs::write(folder.path().join("yab"), "of another").unwrap();
    let read = read_directory(folder.path(), &open_file, &opener, &Limits::default()).unwrap();
    let told: BTreeSet<_> = left_out(&read).into_iter().collect();
    let pieces = whole.chunks(1300).zip(["xaa", "xab", "xac", "xad", "xae"]);
    let pieces = pieces.map(|(_, name)| format!("{name}: unreadable"));
    assert_eq!(told, pieces.chain(["yab: no-image".to_owned()]).collect());
}

#[test]
fn marks_of_images_that_yield_none_are_named() {
    let good = ("good.tar".to_owned(), tar_of(&saved("a:1", &["one"])));
    let mut blobs = Blobs::default();
    blobs.image("x", &["layer"]);
    let layout = |folder: &str, without: &str| -> ArchiveFiles {
        let files = blobs.layout(folder, &[]).into_iter();
        files.filter(|(name, _)| without.is_empty() || !name.ends_with(without)).collect()
    };
    let text = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    let cases: [(ArchiveFiles, &str); 8] = [
        (
            vec![text(&format!("x/{}.json", Digest::of(b"c").hex()), "{}"), text("x/id/layer.tar", "")],
            "without its manifest.json",
        ),
        (layout("x/", "index.json"), "without its index.json"),
        (layout("x/", ""), "lists no image"),
        (vec![text("x/index.json", r#"{"manifests":[]}"#)], "without blobs"),
        (vec![text("x/manifest.json", "[]")], "lists no image"),
        (vec![text("x/id/json", "{}"), text("x/id/layer.tar", "")], "before 1.10"),
        (vec![text("x/manifest.json", r#"{"schemaVersion":1,"fsLayers":[]}"#)], "schema 1"),
        (
            layout("x/", "x").into_iter().filter(|(name, _)| name.contains("blobs/")).collect(),
            "anything that lists",
        ),
    ];
    for (files, seems) in cases {
        let catalog = catalog(&[vec![good.clone()], files].concat());
        assert_eq!(left_out(&catalog), ["x: unreadable"], "{seems}");
        assert!(catalog.left_out[0].what.contains(seems), "{:?}", catalog.left_out);
    }
}

#[test]
fn sources_charts_and_layers_have_things_in_them_that_are_no_images() {
    let good = ("good.tar".to_owned(), tar_of(&saved("a:1", &["one"])));
    let cut = tar_of(&saved("b:1", &["two"]))[..1300].to_vec();
    let zip = [b"PK\x03\x04".as_slice(), &[7; 300]].concat();
    let sources = tar_of(&[
        ("src/main.c".to_owned(), b"int main(void);\n".repeat(600)),
        ("testdata/cut.tar".into(), cut),
        ("lib/wrapper.jar".into(), zip.clone()),
        ("testdata/twice.gz".into(), gzip(&gzip(&zip))),
    ]);
    let catalog1 = catalog(&[good.clone(), ("sources.tgz".into(), gzip(&sources))]);
    assert_eq!((left_out(&catalog1), catalog1.broken.len()), (vec!["sources.tgz: no-image".to_owned()], 0));
    let note = "sources.tgz: 2 files of it cannot be read, and a small part of an archive without images: \
                testdata/cut.tar, lib/wrapper.jar";
    assert_eq!(catalog1.notes, [note]);
    // What is most of an archive is what it was made for.
    let release = tar_of(&[("images.zip".to_owned(), zip), ("VERSION".into(), b"1.2.3".to_vec())]);
    let catalog2 = catalog(&[good.clone(), ("release.tar".into(), release)]);
    assert_eq!(left_out(&catalog2), ["release.tar/images.zip: unreadable"]);
    for (name, content) in [
        ("manifest.json", r#"{"schemaVersion":2,"name":"app"}"#),
        ("manifest.json", r#"[{"id":1,"layers":["a"]}]"#),
        ("index.json", r#"{"manifests":[{"name":"x"}]}"#),
    ] {
        let of_others = (format!("web/{name}"), content.as_bytes().to_vec());
        let catalog = catalog(&[good.clone(), of_others]);
        assert_eq!(
            (left_out(&catalog), catalog.broken.len()),
            (vec![format!("web/{name}: no-image")], 0),
            "{content}"
        );
    }
}

#[test]
fn archives_that_cannot_be_read_count_however_little_each_is_of_what_they_lie_in() {
    let good = ("good.tar".to_owned(), tar_of(&saved("a:1", &["one"])));
    let lz4 = [b"\x04\x22\x4d\x18".as_slice(), &[7; 200]].concat();
    let three = |contents: &[u8], end: &str| -> ArchiveFiles {
        ["a", "b", "c"].map(|name| (format!("{name}{end}"), contents.to_vec())).into()
    };
    let text = ("NOTES".to_owned(), b"much text ".repeat(900));
    // Together they are most of it, whatever they are called.
    let nameless = catalog(&[good.clone(), ("images.tar".into(), tar_of(&three(&lz4, "")))]);
    let expected = ["a", "b", "c"].map(|name| format!("images.tar/{name}: unreadable"));
    assert_eq!(left_out(&nameless), expected);
    // Their names say what they are.
    let named = [three(&lz4, ".tar.lz4"), vec![text.clone()]].concat();
    let named = catalog(&[good.clone(), ("images.tar".into(), tar_of(&named))]);
    let expected = ["a", "b", "c"].map(|name| format!("images.tar/{name}.tar.lz4: unreadable"));
    assert_eq!(left_out(&named), expected);
    let cut = &tar_of(&saved("b:1", &["two"]))[..1300];
    let broken = [three(cut, ".tar"), vec![text.clone()]].concat();
    let broken = catalog(&[good.clone(), ("images.tar".into(), tar_of(&broken))]);
    assert_eq!(broken.broken.len(), 3, "{:?}", broken.broken);
    let links: Vec<u8> = header("gone.tar", 0, b'2', "../store/gone.tar");
    let linked = catalog(&[good, ("links.tar".into(), [links, tar_of(&[text])].concat())]);
    assert_eq!(left_out(&linked), ["links.tar/gone.tar: unreadable"]);
}

#[test]
fn a_pipe_or_device_that_is_called_as_an_archive_is_named() {
    let good = tar_of(&[("a.tar".into(), tar_of(&saved("a:1", &["one"])))]);
    let odd = [header("b.tar", 0, b'6', ""), header("c.tar.xz", 0, b'3', ""), header("fifo", 0, b'6', "")];
    let catalog = read_tar([odd.concat(), good].concat()).unwrap();
    assert_eq!(left_out(&catalog), ["b.tar: unreadable", "c.tar.xz: unreadable"]);
}

#[test]
fn an_image_in_a_member_of_an_unknown_type_is_found() {
    let inner = tar_of(&saved("a:1", &["one"]));
    let member = [header("a.tar", inner.len() as u64, b'Z', ""), inner].concat();
    assert_eq!(names(&read_tar([member, vec![0; 1024]].concat()).unwrap()), set(&["docker.io/library/a:1"]));
}

#[test]
fn members_with_names_of_another_place_are_read_where_tar_would_put_them() {
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["one"]), "x.io/a:1");
    for folder in ["/data/images/", "../images/", "a/../../images/"] {
        let files = blobs.layout(folder, std::slice::from_ref(&image));
        assert_eq!(names(&catalog(&files)), set(&["x.io/a:1"]), "{folder}");
    }
    let rooted: ArchiveFiles =
        saved("b:1", &["two"]).into_iter().map(|(name, bytes)| (format!("/{name}"), bytes)).collect();
    assert_eq!(names(&catalog(&rooted)), set(&["docker.io/library/b:1"]));
}

#[test]
fn what_is_no_bundle_is_told_what_it_seems_to_be() {
    let text = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    for (bytes, seems) in [
        (vec![], "an empty file"),
        (b"<!DOCTYPE html><html>403".to_vec(), "an HTML page"),
        (vec![0; 10240], "nothing"),
        (tar_of(&[text("etc/hosts", "x"), text("usr/x", "y")]), "a file system"),
        (
            tar_of(&[text("manifest.json", "{}"), text("version", "Directory Transport Version: 1.1\n")]),
            "`dir:` transport",
        ),
        (tar_of(&[text("a/json", "{}"), text("a/layer.tar", ""), text("repositories", "{}")]), "before 1.10"),
        (tar_of(&[text("oci-layout", "{}"), text("blobs/sha256/x", "{}")]), "without its index.json"),
        (tar_of(&[text("manifest.json", "[]")]), "lists no image"),
    ] {
        let error = read_tar(bytes).unwrap_err();
        assert_eq!(error.fault(), Fault::NotABundle);
        assert!(error.to_string().contains(seems), "{error}");
    }
}
