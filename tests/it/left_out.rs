//! Nothing is left out without a word: what cannot be pushed is named with its reason, in output, report and exit code.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::build::{CONTAINERD_NAME, Layout, REF_NAME, docker_archive, gzip, tar};
use crate::support::http::{get, tags};
use crate::support::registry::Registry;
use crate::support::{Pushed, folder, layercast, push};

fn write(path: PathBuf, bytes: impl AsRef<[u8]>) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Pushes to a namespace of its own.
fn push_to(registry: &Registry, namespace: &str, source: &Path, more: &[&str]) -> Pushed {
    let target = format!("{}/{namespace}", registry.host());
    let mut args =
        vec!["--source", source.to_str().unwrap(), "--private-registry", &target, "--need-credential=false"];
    args.extend(more);
    push(&args)
}

/// The digest that the registry has under a reference.
fn at(registry: &Registry, reference: &str) -> Option<String> {
    let (path, reference) = reference.split_once('@').or_else(|| reference.rsplit_once(':')).unwrap();
    get(&registry.url(), &format!("{path}/manifests/{reference}")).digest
}

fn digest_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

fn unreadable(pushed: &Pushed) -> Vec<String> {
    let left_out = pushed.report["left_out"].as_array().unwrap().iter();
    let path = |it: &Value| it["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let mut all: Vec<String> = left_out.filter(|it| it["class"] == "unreadable").map(path).collect();
    all.sort();
    all
}

#[test]
fn six_bad_archives_of_forty_are_named_and_the_others_arrive() {
    let (folder, registry) = (folder(), Registry::docker());
    let at = |name: &str| folder.path().join("bundle").join(name);
    for number in 0..34 {
        let name = format!("images.example/team/app{number}:1");
        write(at(&format!("{number:02}.tar")), docker_archive(&format!("app{number}"), &name));
    }
    let good = docker_archive("lost", "images.example/team/lost:1");
    let noise = |magic: &[u8]| [magic, &[0xa5; 400]].concat();
    write(at("a.tar.lz4"), noise(b"\x04\x22\x4d\x18"));
    write(at("b.zip"), noise(b"PK\x03\x04"));
    write(at("c.tar.gz"), &gzip(&good)[..300]);
    write(at("d.tar"), &good[..1300]);
    write(at("e.gpg"), noise(b"\x8c\x0d\x04\x09\x03\x08"));
    let mut layout = Layout::default();
    let image = layout.image("layout", "amd64");
    layout.list(&image, REF_NAME, "images.example/team/layout:1");
    for (name, bytes) in layout.files().into_iter().filter(|(name, _)| name != "index.json") {
        write(at("layout").join(name), bytes);
    }
    write(at("chart.tgz"), gzip(&tar(&[("web/Chart.yaml".to_owned(), b"name: web".repeat(20))])));
    write(at("README.md"), "How to use this. ".repeat(9));
    let source = folder.path().join("bundle");
    let state = folder.path().join("state");
    let keep = ["--state-dir", state.to_str().unwrap()];

    let bad = ["a.tar.lz4", "b.zip", "c.tar.gz", "d.tar", "e.gpg", "layout"];
    for _ in 0..2 {
        // The second run has the same to say, although it remembers the first.
        let pushed = push_to(&registry, "f", &source, &keep);
        assert_eq!(
            (pushed.exit, unreadable(&pushed)),
            (3, bad.map(str::to_owned).into()),
            "{}",
            pushed.said()
        );
        assert_eq!(tags(&registry.url(), "f").len(), 34);
        for name in bad.iter().chain(&["chart.tgz"]) {
            assert!(pushed.stdout.contains(name), "{name} in {}", pushed.stdout);
        }
    }
    let accepted = push_to(&registry, "f", &source, &["--accept", "unreadable"]).complete();
    assert_eq!(accepted.mirror(0)["bytes_sent"], 0);

    let run = |words: &[&str]| layercast().args(words).arg(&source).output().unwrap();
    let inspected = run(&["inspect", "--json"]);
    let shown: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected.status.code(), Some(3));
    assert_eq!(shown["left_out"].as_array().unwrap().len(), 8, "{}", shown["left_out"]);
    let target = format!("{}/f", registry.host());
    let mirror = ["--private-registry", &target, "--need-credential=false"];
    for verb in ["plan", "verify"] {
        let words = [&[verb], &mirror[..], &["--source"]].concat();
        assert_eq!(run(&words).status.code(), Some(3), "{verb}");
        let words = [&[verb, "--accept", "unreadable"], &mirror[..], &["--source"]].concat();
        assert_eq!(run(&words).status.code(), Some(0), "{verb}");
    }
    let words = [&["--log-format", "json", "push", "images"], &mirror[..], &["--source"]].concat();
    let lines = String::from_utf8(run(&words).stderr).unwrap();
    assert_eq!(lines.matches(r#""event":"left_out""#).count(), 8, "{lines}");
    let words = [&["--quiet", "push", "images"], &mirror[..], &["--source"]].concat();
    let said = String::from_utf8(run(&words).stderr).unwrap();
    assert_eq!(said.matches("[unreadable]").count(), 6, "{said}");
}

/// Found only when its bytes are hashed on their way: by then the others may be there.
#[test]
fn damage_found_late_costs_one_archive_of_a_folder_and_all_of_a_single_bundle() {
    let (folder, registry) = (folder(), Registry::docker());
    let mut bad = docker_archive("bad", "images.example/team/bad:1");
    let at = bad.windows(6).position(|window| window == b"badbad").unwrap();
    bad[at] ^= 1;
    let good = docker_archive("good", "images.example/team/good:1");
    let bundle = folder.path().join("bundle");
    write(bundle.join("bad.tar"), &bad);
    write(bundle.join("good.tar"), &good);
    let pushed = push_to(&registry, "folder", &bundle, &[]);
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    assert_eq!(tags(&registry.url(), "folder"), ["folder/team/good:1"]);
    let failed = &pushed.mirror(0)["images_failed"][0];
    assert_eq!(
        (&failed["image"], &failed["class"]),
        (&"images.example/team/bad:1".into(), &"digest-mismatch".into())
    );
    assert_eq!(push_to(&registry, "folder", &bundle, &["--accept", "unreadable"]).exit, 0);

    let one =
        write(folder.path().join("one.tar"), tar(&[("bad.tar".into(), bad), ("good.tar".into(), good)]));
    assert_eq!(push_to(&registry, "one", &one, &[]).exit, 5);
    assert!(tags(&registry.url(), "one").is_empty());
}

#[test]
fn several_sources_stand_for_themselves() {
    let (folder, registry) = (folder(), Registry::docker());
    let good = write(folder.path().join("good.tar"), docker_archive("good", "images.example/team/good:1"));
    let chart = gzip(&tar(&[("web/Chart.yaml".to_owned(), b"name: web".repeat(20))]));
    let chart = write(folder.path().join("chart.tgz"), chart);
    let cut =
        write(folder.path().join("cut.tar"), &docker_archive("cut", "images.example/team/cut:1")[..1300]);
    let with = |namespace: &str, other: &Path| {
        push_to(&registry, namespace, &good, &["--source", other.to_str().unwrap()])
    };
    let pushed = with("chart", &chart).complete();
    assert_eq!(pushed.report["left_out"][0]["class"], "no-image");
    let pushed = with("cut", &cut);
    assert_eq!((pushed.exit, unreadable(&pushed)), (3, vec!["cut.tar".to_owned()]), "{}", pushed.said());
    for namespace in ["chart", "cut"] {
        assert_eq!(tags(&registry.url(), namespace), [format!("{namespace}/team/good:1")]);
    }
    for (alone, class) in [(&chart, "not-a-bundle"), (&cut, "truncated")] {
        let pushed = push_to(&registry, "alone", alone, &[]);
        assert_eq!(pushed.exit, 5);
        assert_eq!(pushed.stderr.matches(&format!("[{class}]")).count(), 1, "{}", pushed.stderr);
        // The mirror is listed with what became of it.
        let error = &pushed.mirror(0)["error"];
        assert_eq!((&error["class"], &error["exit_code"]), (&class.into(), &5.into()));
        assert_eq!(pushed.mirror(0)["images_complete"], 0);
    }
    for words in [&["inspect", "nosuch"][..], &["bench", "decode", "nosuch"]] {
        assert_eq!(layercast().args(words).output().unwrap().status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn what_is_called_an_archive_and_has_not_arrived_is_no_success() {
    let (folder, registry) = (folder(), Registry::docker());
    let at = |name: &str| folder.path().join("bundle").join(name);
    let good = write(at("good.tar"), docker_archive("good", "images.example/team/good:1"));
    let empty = write(at("x.tar.xz"), "");
    let zeros = write(at("y.tar"), [0; 10240]);
    write(at("z.tgz"), "<!DOCTYPE html><html><body>Proxy error</body></html>");
    let pushed = push_to(&registry, "folder", &folder.path().join("bundle"), &[]);
    let expected = ["x.tar.xz", "y.tar", "z.tgz"].map(str::to_owned);
    assert_eq!((pushed.exit, unreadable(&pushed)), (3, expected.into()), "{}", pushed.said());
    assert_eq!(tags(&registry.url(), "folder"), ["folder/team/good:1"]);
    for bad in [&empty, &zeros] {
        assert_eq!(push_to(&registry, "alone", bad, &[]).exit, 5);
        let beside = push_to(&registry, "beside", &good, &["--source", bad.to_str().unwrap()]);
        assert_eq!(beside.exit, 3, "{}", beside.said());
    }
}

#[test]
fn links_of_a_folder_are_followed_and_remembered() {
    let (folder, registry) = (folder(), Registry::docker());
    let store =
        write(folder.path().join("store/one.tar"), docker_archive("one", "images.example/team/one:1"));
    let bundle = folder.path().join("bundle");
    fs::create_dir(&bundle).unwrap();
    std::os::unix::fs::symlink(store.parent().unwrap(), bundle.join("farm")).unwrap();
    let state = folder.path().join("state");
    let keep = ["--state-dir", state.to_str().unwrap()];
    push_to(&registry, "l", &bundle, &keep).complete();
    assert_eq!(push_to(&registry, "l", &bundle, &keep).complete().mirror(0)["images_unchanged"], 1);
    // What a link leads to is part of what the folder is.
    write(store, docker_archive("two", "images.example/team/two:1"));
    push_to(&registry, "l", &bundle, &keep).complete();
    assert_eq!(tags(&registry.url(), "l"), ["l/team/one:1", "l/team/two:1"]);
    std::os::unix::fs::symlink("gone.tar", bundle.join("dangling.tar")).unwrap();
    let pushed = push_to(&registry, "l", &bundle, &keep);
    assert_eq!((pushed.exit, unreadable(&pushed)), (3, vec!["dangling.tar".to_owned()]));
}

#[test]
fn a_digest_in_a_name_is_complete_only_if_the_mirror_answers_for_it() {
    let (folder, registry) = (folder(), Registry::docker());
    let mut layout = Layout::default();
    let (amd, arm) = (layout.image("amd", "amd64"), layout.image("arm", "arm64"));
    let index = layout.index(&[amd.clone(), arm.clone()]);
    let bundle = |name: &str, layout: &Layout| write(folder.path().join(name), layout.tar());
    let (amd_digest, index_digest) = (digest_of(&amd), digest_of(&index));

    layout.list(&index, CONTAINERD_NAME, &format!("images.example/team/whole:1@{index_digest}"));
    let whole = bundle("whole.tar", &layout);
    push_to(&registry, "d", &whole, &[]).complete();
    let again = push_to(&registry, "d", &whole, &[]).complete();
    // Without a state the bundle is read, and a connection may be opened meanwhile. The question for the tag is all else.
    let requests = again.mirror(0)["requests"].as_u64().unwrap();
    assert!((1..=2).contains(&requests), "{requests}");

    let mut part = Layout::default();
    let (amd, arm) = (part.image("amd", "amd64"), part.image("arm", "arm64"));
    let index = part.index(&[amd.clone(), arm.clone()]);
    part.without(&arm);
    part.list(&index, CONTAINERD_NAME, &format!("images.example/team/lost:1@{index_digest}"));
    let part = bundle("part.tar", &part);
    let lost = push_to(&registry, "d", &part, &[]);
    assert_eq!((lost.exit, lost.mirror(0)["images_complete"].as_u64()), (3, Some(0)), "{}", lost.said());
    let failed = &lost.mirror(0)["images_failed"][0];
    assert_eq!(failed["class"], "digest-lost");
    for digest in [&index_digest, &amd_digest] {
        assert!(failed["message"].as_str().unwrap().contains(digest.as_str()), "{failed}");
    }
    assert_eq!(at(&registry, "d/team/lost:1").as_ref(), Some(&amd_digest), "what is whole is there");
    push_to(&registry, "d", &part, &["--accept", "digest-lost"]).complete();

    // An entry that is not what its name says.
    let mut other = Layout::default();
    let image = other.image("other", "amd64");
    other.list(&image, CONTAINERD_NAME, &format!("images.example/team/other@{index_digest}"));
    let other = bundle("other.tar", &other);
    assert_eq!(push_to(&registry, "d", &other, &[]).mirror(0)["images_failed"][0]["class"], "digest-lost");
    let verify = |source: &Path| {
        let target = format!("{}/d", registry.host());
        let mut command = layercast();
        command
            .args(["verify", "--need-credential=false", "--private-registry", &target, "--source"])
            .arg(source);
        command.output().unwrap().status.code()
    };
    assert_eq!([verify(&whole), verify(&part), verify(&other)], [Some(0), Some(3), Some(3)]);
}

#[test]
fn a_tag_never_names_an_index_with_a_missing_child() {
    let (folder, registry) = (folder(), Registry::docker());
    let platforms = ["amd64", "arm64", "s390x"];
    let build = |missing: &[usize]| {
        let mut layout = Layout::default();
        let images = platforms.map(|name| layout.image(name, name));
        let index = layout.index(&images);
        layout.list(&index, CONTAINERD_NAME, "images.example/team/app:1");
        for at in missing {
            layout.without(&images[*at]);
        }
        (images.map(|image| digest_of(&image)), layout.tar())
    };
    let (images, bytes) = build(&[1, 2]);
    let one = write(folder.path().join("one.tar"), bytes);
    let pushed = push_to(&registry, "one", &one, &[]).complete();
    assert_eq!(at(&registry, "one/team/app:1").as_ref(), Some(&images[0]));
    assert!(pushed.stderr.contains("(missing: linux/arm64, linux/s390x)"), "{}", pushed.stderr);

    let (images, bytes) = build(&[2]);
    let two = write(folder.path().join("two.tar"), bytes);
    let pushed = push_to(&registry, "two", &two, &[]);
    assert_eq!(pushed.exit, 3, "{}", pushed.said());
    assert_eq!(pushed.mirror(0)["images_failed"][0]["class"], "partial-index");
    assert!(tags(&registry.url(), "two").is_empty());
    for image in &images[..2] {
        assert_eq!(at(&registry, &format!("two/team/app@{image}")).as_ref(), Some(image), "by its digest");
    }
    push_to(&registry, "two", &two, &["--accept", "partial-index"]).complete();
    let index = get(&registry.url(), "two/team/app/manifests/1").json();
    let children: Vec<String> = index["manifests"].as_array().unwrap().iter().map(digest_of).collect();
    assert_eq!(children, images[..2]);
    let again = push_to(&registry, "two", &two, &["--accept", "partial-index"]).complete();
    assert_eq!(again.mirror(0)["images_unchanged"], 1);
}

#[test]
fn a_name_that_is_not_valid_stops_no_other_image() {
    let (folder, registry) = (folder(), Registry::docker());
    let mut layout = Layout::default();
    let (good, bad) = (layout.image("good", "amd64"), layout.image("bad", "amd64"));
    layout.list(&good, REF_NAME, "images.example/team/good:1");
    layout.list(&bad, REF_NAME, "images.example/team/bad:1+build");
    let source = write(folder.path().join("b.tar"), layout.tar());
    let pushed = push_to(&registry, "n", &source, &[]);
    assert_eq!((pushed.exit, &pushed.report["left_out"][0]["class"]), (2, &"bad-reference".into()));
    assert!(pushed.stdout.contains(&format!("--name {}=", digest_of(&bad))), "{}", pushed.stdout);
    assert_eq!(tags(&registry.url(), "n"), ["n/team/good:1"]);
    push_to(&registry, "n", &source, &["--exclude", "*+build"]).complete();
    let given = format!("{}=images.example/team/bad:1-build", digest_of(&bad));
    push_to(&registry, "n", &source, &["--name", &given]).complete();
    assert_eq!(tags(&registry.url(), "n").len(), 2);
}

#[test]
fn a_tag_that_stands_for_another_image_is_told_or_kept() {
    let (folder, registry) = (folder(), Registry::docker());
    let build = |seed: &str| {
        let mut layout = Layout::default();
        let image = layout.image(seed, "amd64");
        layout.list(&image, REF_NAME, "images.example/team/app:1");
        (digest_of(&image), write(folder.path().join(format!("{seed}.tar")), layout.tar()))
    };
    let ((old, first), (new, second)) = (build("old"), build("new"));
    push_to(&registry, "t", &first, &[]).complete();
    let target = format!("{}/t", registry.host());
    let mut plan = layercast();
    plan.args(["plan", "--need-credential=false", "--private-registry", &target, "--source"]).arg(&second);
    let moves = format!("t/team/app:1 replaces {old} → {new}");
    assert!(String::from_utf8(plan.output().unwrap().stdout).unwrap().contains(&moves));
    let kept = plan.arg("--no-overwrite").output().unwrap();
    let said = String::from_utf8(kept.stdout).unwrap();
    assert_eq!(kept.status.code(), Some(3), "{said}");
    for words in
        [&format!("t/team/app:1 stays at {old}"), "--no-overwrite keeps it [tag-exists]", "next: leave"]
    {
        assert!(said.contains(words), "{words} in {said}");
    }
    let json: Value = serde_json::from_slice(&plan.arg("--json").output().unwrap().stdout).unwrap();
    let shortfall = &json["mirrors"][0]["images"][0]["shortfall"];
    assert_eq!((&shortfall["class"], &shortfall["exit_code"]), (&"tag-exists".into(), &3.into()));

    let kept = push_to(&registry, "t", &second, &["--no-overwrite"]);
    assert_eq!((kept.exit, &kept.mirror(0)["images_failed"][0]["class"]), (3, &"tag-exists".into()));
    assert_eq!(
        (at(&registry, "t/team/app:1"), &kept.mirror(0)["bytes_sent"]),
        (Some(old.clone()), &0.into())
    );

    let moved = push_to(&registry, "t", &second, &[]).complete();
    assert!(moved.stderr.contains(&moves), "{}", moved.stderr);
    let replaced = &moved.mirror(0)["tags_replaced"][0];
    assert_eq!((&replaced["from"], &replaced["to"]), (&old.into(), &Value::from(new.clone())));
    // Of two tags only the one that stands for another image is kept.
    let mut layout = Layout::default();
    let image = layout.image("third", "amd64");
    layout.list(&image, REF_NAME, "images.example/team/app:1");
    layout.list(&image, REF_NAME, "images.example/team/app:2");
    let third = write(folder.path().join("third.tar"), layout.tar());
    assert_eq!(push_to(&registry, "t", &third, &["--no-overwrite"]).exit, 3);
    assert_eq!(at(&registry, "t/team/app:1"), Some(new));
    assert_eq!(at(&registry, "t/team/app:2"), Some(digest_of(&image)));
    // What is new, and what is there already, is no overwriting.
    push_to(&registry, "t", &second, &["--no-overwrite"]).complete();
    push_to(&registry, "fresh", &second, &["--no-overwrite"]).complete();
}

/// distribution takes an upload of a blob that it has, and keeps its own file.
#[test]
fn a_registry_that_keeps_its_damaged_copy_is_found_out() {
    let (folder, registry) = (folder(), Registry::docker());
    let source = write(folder.path().join("b.tar"), docker_archive("a", "images.example/team/app:1"));
    push_to(&registry, "r", &source, &[]).complete();
    let manifest = get(&registry.url(), "r/team/app/manifests/1").json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let hex = &layer["sha256:".len()..];
    let blob = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let file = fs::File::options().write(true).open(registry.data().join(blob)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let pushed = push_to(&registry, "r", &source, &["--recheck"]);
    let failed = &pushed.mirror(0)["images_failed"][0];
    assert_eq!((pushed.exit, &failed["class"]), (3, &"integrity".into()), "{}", pushed.said());
    assert!(failed["message"].as_str().unwrap().contains(layer), "{failed}");
}

#[test]
fn of_a_damaged_bundle_without_a_whole_image_the_damage_is_told() {
    let (folder, registry) = (folder(), Registry::docker());
    let mut layout = Layout::default();
    let image = layout.image("a", "amd64");
    layout.list(&image, REF_NAME, "images.example/team/app:1");
    layout.without(&image);
    let source = write(folder.path().join("b.tar"), layout.tar());
    let pushed = push_to(&registry, "x", &source, &["--allow-damaged"]);
    assert_eq!(pushed.exit, 5);
    assert!(
        pushed.stderr.contains("[missing-blob]") && pushed.stderr.contains("team/app:1"),
        "{}",
        pushed.stderr
    );
}
