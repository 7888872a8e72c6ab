//! Documents that list images and cannot be read: they are named, whatever lies beside them.

use super::*;

fn good() -> ArchiveFiles {
    vec![("good.tar".to_owned(), tar_of(&saved("good:1", &["one"])))]
}

/// What could not be read beside a good archive, as `path: what: why`.
fn told(files: ArchiveFiles) -> Vec<String> {
    let catalog = catalog(&[good(), files].concat());
    assert_eq!(names(&catalog), set(&["docker.io/library/good:1"]));
    // The layers of these tests are no tars.
    let is_layer = |it: &LeftOut| it.why.contains("its name says");
    let unreadable =
        catalog.left_out.iter().filter(|it| it.class == LeftOutClass::Unreadable && !is_layer(it));
    unreadable.map(|it| format!("{}: {}: {}", it.path, it.what, it.why)).collect()
}

fn with_manifest(mut files: ArchiveFiles, bytes: &[u8]) -> ArchiveFiles {
    let manifest = files.iter_mut().find(|(name, _)| name.ends_with("manifest.json")).unwrap();
    manifest.1 = bytes.to_vec();
    files
}

fn below(folder: &str, files: ArchiveFiles) -> ArchiveFiles {
    files.into_iter().map(|(name, bytes)| (format!("{folder}{name}"), bytes)).collect()
}

#[test]
fn a_saved_image_whose_manifest_json_is_damaged_is_unreadable() {
    let whole = saved("a:1", &["layer"]).pop().unwrap().1;
    let utf_16: Vec<u8> =
        String::from_utf8(whole.clone()).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let one = serde_json::from_slice::<Value>(&whole).unwrap()[0].to_string();
    for (bytes, why) in [
        (&whole[..60], "it was cut: it ends at byte 60"),
        (&[], "it is empty"),
        (&[0; 40], "it is 40 zeros"),
        (b"null", "is null, where a list"),
        (b"[]", "lists no image"),
        (b"[{}]", "lists no image"),
        (b"<html>not found</html>", "web page"),
        (&utf_16, "UTF-16"),
        (one.as_bytes(), "one object, where a list"),
    ] {
        let files = with_manifest(saved("a:1", &["layer"]), bytes);
        let packed = vec![("a.tar".to_owned(), tar_of(&files))];
        let folder = below("a/", files.clone());
        // What podman, crane and kaniko write has no folder for a layer.
        let flat = |(name, bytes): (String, Vec<u8>)| (name.replace("/layer.tar", ".tar"), bytes);
        let flat = vec![("a.tar".to_owned(), tar_of(&files.into_iter().map(flat).collect::<ArchiveFiles>()))];
        for (kind, files) in [("packed", packed), ("folder", folder), ("flat", flat)] {
            let told = told(files);
            assert!(told.len() == 1 && told[0].contains(why), "{kind}, {why}: {told:?}");
        }
        // Alone it is why there is no image.
        let error =
            read_tar(tar_of(&with_manifest(saved("a:1", &["layer"]), bytes))).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn a_mark_of_utf_8_before_a_list_is_passed_over() {
    let marked = |bytes: &[u8]| [b"\xef\xbb\xbf", bytes].concat();
    let mut files = saved("a:1", &["layer"]);
    let manifest = marked(&files.pop().unwrap().1);
    files.push(("manifest.json".to_owned(), manifest));
    assert_eq!(names(&catalog(&files)), set(&["docker.io/library/a:1"]));
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    let mut layout = blobs.layout("", &[named(image, "x.io/a:1")]);
    let index = layout.iter_mut().find(|(name, _)| name == "index.json").unwrap();
    index.1 = marked(&index.1);
    assert_eq!(names(&catalog(&layout)), set(&["x.io/a:1"]));
}

#[test]
fn other_layouts_whose_list_is_damaged_are_unreadable() {
    let text = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    let hex = Digest::of(b"layer").hex();
    let version = text("d/version", "Directory Transport Version: 1.1\n");
    for (files, why) in [
        (vec![version.clone(), text("d/manifest.json", "{\"schemaVersion\":2,\"conf")], "dir:"),
        (vec![version, text("d/manifest.json", "{}")], "no manifest of an image"),
        (vec![text(&format!("d/{hex}"), "layer"), text("d/manifest.json", "{\"schema")], "it was cut"),
        (vec![text(&format!("d/sha256-{hex}.tar.gz"), "layer"), text("d/manifest.json", "")], "it is empty"),
        (
            vec![text(&format!("d/blobs/sha256/{hex}"), "layer"), text("d/index.json", "{\"manif")],
            "it was cut",
        ),
        (vec![text("d/manifest.json", "[{\"Config\":\"x.json\",\"RepoTags\":[\"a")], "it was cut"),
    ] {
        let told = told(files);
        assert!(told.len() == 1 && told[0].contains(why), "{why}: {told:?}");
    }
}

#[test]
fn files_of_other_programs_are_none_of_images() {
    let text = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    for files in [
        vec![text("web/manifest.json", "{\"name\":\"app\",\"icons\":[]}"), text("web/index.html", "x")],
        vec![text("web/manifest.json", "{\"name\":\"ap"), text("web/index.json", "[1,2")],
        vec![text("web/manifest.json", "[]"), text("web/index.html", "x")],
    ] {
        assert_eq!(told(files), [""; 0]);
    }
    // A layout has all that is needed; Docker's list beside it may say nothing.
    let mut blobs = Blobs::default();
    let image = blobs.image("a", &["one"]);
    for empty in ["null", "[]"] {
        let layout = blobs.layout("l/", &[named(image.clone(), "x.io/a:1")]);
        let catalog = catalog(&[layout, vec![text("l/manifest.json", empty)]].concat());
        let unreadable = |it: &LeftOut| it.class == LeftOutClass::Unreadable;
        assert!(!catalog.left_out.iter().any(unreadable), "{empty}: {:?}", catalog.left_out);
    }
}

#[test]
fn layers_in_xz_and_bzip2_are_what_their_diff_ids_say() {
    let packed = |bytes: &[u8], kind: usize| {
        let mut out = Vec::new();
        if kind == 0 {
            xz2::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
        } else {
            bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast()).read_to_end(&mut out).unwrap();
        }
        out
    };
    for kind in [0, 1] {
        let mut files = saved("a:1", &["one", "two"]);
        files[2].1 = packed(b"two", kind);
        let whole = catalog(&files);
        let Content::Unpacked(image) = &whole.images[0].content else { panic!() };
        let layer = &image.layers[1];
        assert_eq!((layer.stored, layer.size), (Stored::Plain, 3));
        assert_eq!(read_exact(&layer.extent, 0, 3).unwrap(), &b"two"[..]);
        // Damage to it is damage to its image alone.
        let len = files[2].1.len();
        files[2].1.truncate(len - 9);
        let second = below("b/", saved("b:1", &["x"]));
        let catalog = catalog(&[below("a/", files), second].concat());
        assert_eq!(names(&catalog), set(&["docker.io/library/b:1"]));
        assert_eq!(catalog.broken.len(), 1, "{:?}", catalog.broken);
    }
}
