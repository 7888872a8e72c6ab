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
pub(crate) struct Made {
    pub(crate) exit: i32,
    pub(crate) document: Value,
    pub(crate) said: String,
}

/// `layercast bundle …`, with the file that it is to write.
pub(crate) fn make(words: &[&str], inputs: &[&Path], out: &Path) -> Made {
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
pub(crate) fn repack(input: &Path, out: &Path) -> Value {
    let made = make(&["repack"], &[input], out);
    assert_eq!(made.exit, 0, "{}", made.said);
    made.document
}

/// What a bundle brings to a mirror: tags with their digests.
pub(crate) fn pushed(bundle: &Path, flags: &[&str]) -> (Vec<(String, String)>, Value) {
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
            let _ = fs::remove_file(&second);
            repack(input, &second);
            assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "{number}");
        }
    }
}

#[test]
fn no_file_is_overwritten_that_nobody_named_for_it_and_never_the_bundle_itself() {
    let room = folder();
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["a"]).write(room.path());
    let notes = room.path().join("notes.txt");
    fs::write(&notes, "mine").unwrap();
    let before = fs::read(&bundle).unwrap();
    let made = make(&["repack"], &[&bundle], &notes);
    assert!(made.exit == 2 && made.said.contains("--force"), "{}", made.said);
    assert_eq!(fs::read(&notes).unwrap(), b"mine");
    for words in [&["repack"][..], &["repack", "--force"]] {
        let made = make(words, &[&bundle], &bundle);
        assert!(made.exit == 2 && made.said.contains("is made from that file"), "{}", made.said);
    }
    assert!(fs::read(&bundle).unwrap() == before);
    assert_eq!(make(&["repack", "--force"], &[&bundle], &notes).exit, 0);
}

#[test]
fn what_is_in_a_repacked_bundle_is_known_from_its_first_part() {
    let room = folder();
    let bundle = Bundle::oci_layout().image("gcr.io/team/app:1", &["a", "b"]).index(
        "quay.io/lib:2",
        &["c"],
        &["amd64", "arm64"],
    );
    let path = bundle.layer_bytes(3 << 19).xz().write(room.path());
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
    let layer = 3 << 19;
    let image = |bundle: Bundle, number: usize, release: usize| {
        let seed = |layer: usize| {
            if layer == 0 && number < 5 { format!("{number}-{release}") } else { format!("{number}.{layer}") }
        };
        let seeds: Vec<String> = (0..3).map(seed).collect();
        let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
        bundle.image(&format!("gcr.io/team/app-{number}:{release}"), &seeds)
    };
    let release = |release: usize| {
        let bundle = (0..6).fold(Bundle::oci_layout(), |bundle, number| image(bundle, number, release));
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

/// A release of three images: one whose layers stay, one with a new layer, and one that takes over layers of another image.
fn release(number: usize) -> Bundle {
    let name = |image: &str| format!("gcr.io/team/{image}:{number}");
    let new = format!("new-{number}");
    let bundle = Bundle::oci_layout().image(&name("same"), &["base", "same"]);
    let bundle = bundle.index(&name("grown"), &["base", &new], &["amd64", "arm64"]);
    let bundle = bundle.layer_bytes(200_000);
    if number > 1 { bundle.image("gcr.io/team/added:1", &["same", "base"]) } else { bundle }
}

/// Two releases and what the second has more than the first.
fn releases(room: &Path) -> [PathBuf; 3] {
    let [old, new] = [1, 2].map(|number| release(number).xz().write(&room.join(number.to_string())));
    let delta = room.join("delta.tar.zst");
    let made = make(&["diff"], &[&old, &new], &delta);
    assert_eq!(made.exit, 0, "{}", made.said);
    assert_eq!(made.document["base"]["blobs"], 2, "{}", made.document);
    [old, new, delta]
}

#[test]
fn a_delta_brings_to_a_mirror_with_its_base_what_the_whole_bundle_brings() {
    let room = folder();
    let [old, new, delta] = releases(room.path());
    let sizes = [&new, &delta].map(|path| fs::metadata(path).unwrap().len());
    assert!(sizes[1] * 2 < sizes[0], "{sizes:?}");
    let shown = |last: &Path| {
        let registry = ScriptedRegistry::strict();
        Push::to(&registry).source(&old).run().complete();
        Push::to(&registry).source(last).run().complete();
        registry.store(|store| {
            assert_eq!(store.faults(), [""; 0]);
            store.tags.clone()
        })
    };
    assert_eq!(shown(&delta), shown(&new));
    // Beside its base it is no delta any more.
    let registry = ScriptedRegistry::strict();
    Push::to(&registry).source(&old).source(&delta).run().complete();
    registry.store(|store| assert_eq!((store.faults().len(), store.tags.len()), (0, 5)));
    let whole = room.path().join("whole");
    let made = make(&["repack"], &[&old, &delta], &whole);
    assert_eq!(made.exit, 0, "{}", made.said);
    assert!(pushed(&whole, &[]).1["images"].as_u64() == Some(5));
}

#[test]
fn a_delta_is_refused_where_its_base_is_not_before_anything_is_sent() {
    let room = folder();
    let [old, _, delta] = releases(room.path());
    let registry = ScriptedRegistry::strict();
    let run = Push::to(&registry).source(&delta).run();
    assert_eq!(run.exit, 3, "{}", run.said());
    let failed = &run.mirror(0)["images_failed"][0];
    assert_eq!(failed["class"], "base-missing", "{failed}");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("2 blobs") && message.contains("sha256:"), "{message}");
    assert!(!registry.asked().iter().any(|request| request.method != "GET" && request.method != "HEAD"));
    // The mirror that has it goes on.
    let other = ScriptedRegistry::strict();
    Push::to(&other).source(&old).run().complete();
    let run = Push::to(&registry).and_to(&other).source(&delta).run();
    assert_eq!((run.exit, run.mirror(0)["images_complete"].as_u64()), (3, Some(0)), "{}", run.said());
    assert_eq!(run.mirror(1)["images_complete"], 3, "{}", run.said());
    // Nor is it anything that can be repacked by itself.
    let made = make(&["repack"], &[&delta], &room.path().join("out"));
    assert_eq!(made.exit, 3, "{}", made.said);
    assert!(made.said.contains("leaves it to its base"), "{}", made.said);
}

/// A registry with images of all kinds: an index, a Docker manifest, a referrer, a signature under cosign's tag.
pub(crate) fn filled(registry: &Registry, room: &Path) -> Vec<String> {
    let mut layout = Layout::default();
    let images = [layout.image("a", "amd64"), layout.image("a", "arm64")];
    let index = layout.index(&images);
    layout.list(&index, CONTAINERD_NAME, "gcr.io/team/multi:1");
    let subject = images[0].clone();
    let statement = layout.blob(b"a bill of materials".to_vec(), "application/spdx+json");
    let empty = layout.blob(b"{}".to_vec(), "application/vnd.oci.empty.v1+json");
    let referrer = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "application/spdx+json",
        "config": empty, "layers": [statement], "subject": subject
    });
    let referrer = layout.blob(referrer.to_string().into(), "application/vnd.oci.image.manifest.v1+json");
    layout.list_with(&referrer, &serde_json::json!({}));
    let signature = layout.image("signature", "amd64");
    let tag = format!("{}.sig", index["digest"].as_str().unwrap().replace(':', "-"));
    layout.list(&signature, CONTAINERD_NAME, &format!("gcr.io/team/multi:{tag}"));
    let (oci, docker) = (room.join("oci.tar"), room.join("docker.tar"));
    fs::write(&oci, layout.tar()).unwrap();
    fs::write(&docker, build::docker_archive("b", "gcr.io/team/docker:1")).unwrap();
    let mut push = Push::to(registry).source(&oci).source(&docker);
    let mut names = vec!["gcr.io/team/multi:1".to_owned(), "gcr.io/team/docker:1".to_owned()];
    for number in 0..8 {
        let name = format!("gcr.io/team/plain-{number}:1");
        let bundle = Bundle::oci_layout().image(&name, &["base", &number.to_string()]).layer_bytes(100_000);
        push = push.source(&bundle.write(&room.join(number.to_string())));
        names.push(name);
    }
    push.run().complete();
    names
}

pub(crate) fn pull_command(registry: &Registry, names: &[String], out: &Path) -> std::process::Command {
    let mut command = layercast();
    // A killed run may have been done already.
    command.args(["bundle", "pull", "--json", "--force", "--private-registry", &registry.host()]);
    for name in names {
        command.args(["--image", name]);
    }
    command.arg("-o").arg(out);
    command
}

/// Without these a registry does not give out what it has.
const ACCEPT: &str = "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// The digest that a registry has under each tag, and of what refers to a manifest.
pub(crate) fn digests(registry: &Registry, names: &[String]) -> Vec<String> {
    let ask = |path: &str| {
        let url = format!("http://{}/v2/{path}", registry.host());
        let output = crate::support::tool("curl", &["-sf", "-H", ACCEPT, &url].map(AsRef::as_ref));
        build::digest(&output.stdout)
    };
    let place = |name: &String| {
        let (repository, tag) = name.strip_prefix("gcr.io/").unwrap().rsplit_once(':').unwrap();
        ask(&format!("{repository}/manifests/{tag}"))
    };
    names.iter().map(place).collect()
}

#[test]
fn what_is_pulled_has_the_digests_of_its_source_also_after_a_kill() {
    let room = folder();
    let store = room.path().join("store");
    for source in [Registry::docker(), Registry::embedded(&store)] {
        let names = filled(&source, room.path());
        let out = room.path().join(format!("pulled-{}.tar.zst", source.port));
        let mut killed =
            pull_command(&source, &names, &out).stdout(std::process::Stdio::null()).spawn().unwrap();
        let partial = room.path().join(format!("pulled-{}.tar.zst.partial", source.port));
        crate::support::eventually("some blobs are there, or all", || {
            let blobs = fs::read_dir(partial.join("blobs/sha256")).map_or(0, Iterator::count);
            blobs >= 3 || out.exists()
        });
        let _ = killed.kill();
        killed.wait().unwrap();
        let Output { status, stdout, stderr } =
            within(Duration::from_secs(120), pull_command(&source, &names, &out));
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&stdout));
        let document: Value = serde_json::from_slice(&stdout).unwrap();
        // The signature is an image of its own, and so is the bill of materials.
        assert_eq!((&document["images"], &document["left_out"]), (&12.into(), &Value::Array(Vec::new())));
        assert!(!partial.exists(), "what was pulled is in the bundle");
        let target = Registry::docker();
        Push::to(&target).source(&out).run().complete();
        assert_eq!(digests(&target, &names), digests(&source, &names));
        assert_eq!(pushed(&out, &[]).0.iter().filter(|(name, _)| name.contains(".sig")).count(), 1);
        // The same again fetches all of it and is the same.
        let again = room.path().join("again");
        within(Duration::from_secs(120), pull_command(&source, &names, &again));
        assert!(fs::read(&again).unwrap() == fs::read(&out).unwrap());
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_and_what_came_is_kept() {
    let room = folder();
    let source = Registry::embedded(&room.path().join("store"));
    let mut names = filled(&source, room.path());
    names.push("gcr.io/team/absent:1".to_owned());
    let out = room.path().join("out");
    let output = within(Duration::from_secs(120), pull_command(&source, &names, &out));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("gcr.io/team/absent:1") && said.contains("out.partial"), "{said}");
    assert!(!out.exists() && room.path().join("out.partial/oci-layout").exists());
    names.pop();
    let output = within(Duration::from_secs(120), pull_command(&source, &names, &out));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["fetched"]["blobs"], 0, "{document}");
}

#[test]
fn one_platform_takes_the_name_of_the_index() {
    let room = folder();
    let source = Registry::embedded(&room.path().join("store"));
    filled(&source, room.path());
    let out = room.path().join("out");
    let mut command = pull_command(&source, &["gcr.io/team/multi:1".to_owned()], &out);
    command.args(["--platform", "linux/arm64", "--no-referrers"]);
    let output = within(Duration::from_secs(120), command);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let mut layout = Layout::default();
    let digest = layout.image("a", "arm64")["digest"].as_str().unwrap().to_owned();
    assert_eq!(pushed(&out, &[]).0, [("team/multi:1".to_owned(), digest)]);
    let mut command = pull_command(&source, &["gcr.io/team/multi:1".to_owned()], &room.path().join("none"));
    command.args(["--platform", "linux/s390x"]);
    let output = within(Duration::from_secs(120), command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("linux/amd64, linux/arm64"), "{said}");
}
