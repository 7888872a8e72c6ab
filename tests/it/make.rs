//! Bundles that layercast writes: repacked, and read again by itself and by other tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::build::{self, Bundle, CONTAINERD_NAME, Layout};
use crate::support::registry::Registry;
use crate::support::scripted::{Request, ScriptedRegistry};
use crate::support::{Push, folder, layercast, within};

/// What a command came to.
struct Made {
    exit: i32,
    document: Value,
    said: String,
}

/// `layercast bundle …`, with the file that it is to write.
fn make(words: &[&str], inputs: &[&Path], out: &Path) -> Made {
    let mut command = layercast();
    command.arg("bundle").args(words).args(inputs).arg("--json").arg("-o").arg(out);
    let Output { status, stdout, stderr } = within(Duration::from_secs(120), command);
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    Made {
        exit: status.code().unwrap_or(-1),
        document: serde_json::from_slice(&stdout).unwrap_or(Value::Null),
        said,
    }
}

#[track_caller]
fn repack(input: &Path, out: &Path) -> Value {
    let made = make(&["repack"], &[input], out);
    assert_eq!(made.exit, 0, "{}", made.said);
    made.document
}

/// What a bundle brings to a mirror: tags with their digests.
fn pushed(bundle: &Path, flags: &[&str]) -> (Vec<(String, String)>, Value) {
    let registry = ScriptedRegistry::strict();
    let run = Push::to(&registry).source(bundle).flags(flags).run().complete();
    let shown = registry.store(|store| {
        assert_eq!(store.faults(), [""; 0]);
        store
            .tags
            .iter()
            .map(|((repository, tag), digest)| (format!("{repository}:{tag}"), digest.clone()))
            .collect()
    });
    (shown, run.report)
}

fn decoded(report: &Value) -> u64 {
    report["decode"]["bytes"].as_u64().unwrap()
}

/// Bundles of every flavour with the same two images.
fn flavours() -> [Bundle; 4] {
    let images = |bundle: Bundle| {
        bundle.image("gcr.io/team/app:1", &["base", "one"]).image("quay.io/lib:2", &["base", "two"])
    };
    [Bundle::docker_archive(), Bundle::oci_layout(), Bundle::archives(), Bundle::folder()].map(images)
}

#[test]
fn a_repacked_bundle_brings_the_same_to_a_mirror_and_is_the_same_every_time() {
    let room = folder();
    let outers: [fn(Bundle) -> Bundle; 4] = [Bundle::gzip, Bundle::zstd, Bundle::zstd_frames, Bundle::xz];
    let bundles = flavours().into_iter().chain(outers.map(|outer| outer(flavours()[1].clone())));
    for (number, bundle) in bundles.enumerate() {
        let path = bundle.layer_bytes(300_000).write(&room.path().join(number.to_string()));
        let (first, second) = (path.with_extension("1"), path.with_extension("2"));
        let made = repack(&path, &first);
        assert_eq!((&made["images"], &made["left_out"]), (&2.into(), &Value::Array(Vec::new())), "{made}");
        assert_eq!(pushed(&first, &[]).0, pushed(&path, &[]).0, "{number}");
        // The same bytes, and what was repacked stays as it is.
        for input in [&path, &first] {
            repack(input, &second);
            assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "{number}");
        }
    }
}

#[test]
fn what_is_in_a_repacked_bundle_is_known_from_its_first_part() {
    let room = folder();
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["a", "b"]).index(
        "quay.io/lib:2",
        &["c"],
        &["amd64", "arm64"],
    );
    let path = bundle.layer_bytes(3 << 20).xz().write(room.path());
    let out = room.path().join("out");
    repack(&path, &out);
    let state = room.path().join("state");
    let registry = ScriptedRegistry::strict();
    let (registry, state) = (&registry, &state);
    let push = || Push::to(registry).source(&out).state(state);
    push().run().complete();
    // Everything is there: the state is gone, and what is in the bundle must be read again.
    fs::remove_dir_all(state).unwrap();
    let run = push().run().complete();
    assert_eq!(run.report["decode"]["parts"], 1, "{}", run.report["decode"]);
    assert!(decoded(&run.report) < 20_000, "{}", run.report["decode"]);
}

#[test]
fn the_next_release_costs_little_more_than_its_new_blobs() {
    let room = folder();
    let layer = 3 << 20;
    let image = |bundle: Bundle, number: usize, release: usize| {
        let seed = |layer: usize| {
            if layer == 0 && number < 5 { format!("{number}-{release}") } else { format!("{number}.{layer}") }
        };
        let seeds: Vec<String> = (0..3).map(seed).collect();
        let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
        bundle.image(&format!("gcr.io/team/app-{number}:{release}"), &seeds)
    };
    let release = |release: usize| {
        let bundle = (0..8).fold(Bundle::oci_layout(), |bundle, number| image(bundle, number, release));
        let path = bundle.layer_bytes(layer).write(&room.path().join(format!("release-{release}")));
        let out = path.with_extension("repacked");
        repack(&path, &out);
        out
    };
    let (old, new) = (release(1), release(2));
    let registry = ScriptedRegistry::strict();
    Push::to(&registry).source(&old).run().complete();
    let run = Push::to(&registry).source(&new).run().complete();
    let new_blobs = 5 * layer as u64;
    assert!(decoded(&run.report) <= new_blobs * 3 / 2 + (16 << 20), "{}", run.report["decode"]);
}

#[test]
fn what_cannot_be_taken_is_named_and_is_no_success() {
    let room = folder();
    let input = room.path().join("folder");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("whole.tar"), build::docker_archive("one", "gcr.io/team/app:1")).unwrap();
    fs::write(input.join("cut.tar.xz"), b"\xfd7zXZ\0").unwrap();
    let out = room.path().join("out");
    let made = make(&["repack"], &[&input], &out);
    assert_eq!(made.exit, 3, "{}", made.said);
    assert_eq!(made.document["left_out"][0]["class"], "unreadable", "{}", made.document);
    assert_eq!(pushed(&out, &[]).0.len(), 1);
    // Content that is not what it is called: nothing is written.
    let mut layout = Layout::default();
    let image = layout.image("x", "amd64");
    layout.list(&image, CONTAINERD_NAME, "gcr.io/team/app:1");
    let mut files = layout.files();
    let blob = files.iter_mut().find(|(_, bytes)| bytes.starts_with(&[0x1f, 0x8b])).unwrap();
    *blob.1.last_mut().unwrap() ^= 1;
    let (damaged, out) = (room.path().join("damaged"), room.path().join("none"));
    fs::write(&damaged, build::tar(&files)).unwrap();
    let made = make(&["repack"], &[&damaged], &out);
    assert_eq!(made.exit, 5, "{}", made.said);
    assert!(made.said.contains("has the digest"), "{}", made.said);
    let left: Vec<_> = fs::read_dir(room.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

fn split(room: &Path) -> (PathBuf, PathBuf) {
    let bundle =
        Bundle::oci_layout().image("gcr.io/team/app:1", &["a", "b"]).layer_bytes(300_000).write(room);
    let out = room.join("out.tar.zst");
    let made = make(&["repack", "--split", "100KiB"], &[&bundle], &out);
    assert_eq!(made.exit, 0, "{}", made.said);
    assert!(made.document["files"].as_array().unwrap().len() > 4, "{}", made.document);
    (bundle, room.join("out.tar.zst.part.001"))
}

#[test]
fn a_split_bundle_is_read_as_one() {
    let room = folder();
    let (bundle, first) = split(room.path());
    assert_eq!(pushed(&first, &[]).0, pushed(&bundle, &[]).0);
    let mut sums = std::process::Command::new("sha256sum");
    sums.args(["-c", "--quiet", "out.tar.zst.sha256"]).current_dir(room.path());
    assert!(sums.status().unwrap().success());
}

#[test]
fn a_piece_that_is_missing_or_another_one_is_named_before_anything_is_sent() {
    let room = folder();
    let (_, first) = split(room.path());
    let piece = |number: usize| room.path().join(format!("out.tar.zst.part.{number:03}"));
    let refused = |says: &[&str]| {
        let registry = ScriptedRegistry::strict();
        let run = Push::to(&registry).source(&first).run();
        assert_eq!(run.exit, 5, "{}", run.said());
        assert!(says.iter().all(|word| run.said().contains(word)), "{}", run.said());
        registry.store(|store| assert_eq!(store.shown(), [""; 0]));
        assert!(!registry.asked().iter().any(Request::sends), "nothing is sent");
    };
    let (second, third) = (fs::read(piece(2)).unwrap(), fs::read(piece(3)).unwrap());
    fs::write(piece(2), &third).unwrap();
    fs::write(piece(3), &second).unwrap();
    refused(&["out.tar.zst.part.002", "its SHA-256 is"]);
    fs::write(piece(2), &second).unwrap();
    fs::remove_file(piece(3)).unwrap();
    refused(&["these are missing", "out.tar.zst.part.003"]);
    fs::write(piece(3), &third).unwrap();
    fs::remove_file(room.path().join("out.tar.zst.sha256")).unwrap();
    let run = Push::bare().flag("--private-registry").flag("127.0.0.1:1").source(&first).run();
    assert!(run.exit != 0 && run.said().contains("out.tar.zst.sha256"), "{}", run.said());
}

#[test]
fn skopeo_reads_what_was_repacked() {
    let room = folder();
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["a", "b"]).write(room.path());
    let out = room.path().join("out.tar.zst");
    repack(&bundle, &out);
    let plain = room.path().join("out.tar");
    fs::write(&plain, zstd::decode_all(&fs::read(&out).unwrap()[..]).unwrap()).unwrap();
    let registry = Registry::docker();
    let source = format!("oci-archive:{}:gcr.io/team/app:1", plain.display());
    let target = format!("docker://{}/app:1", registry.host());
    crate::support::tool(
        "skopeo",
        &["copy", "--preserve-digests", "--dest-tls-verify=false", &source, &target].map(AsRef::as_ref),
    );
}
