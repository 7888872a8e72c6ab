//! What a push costs in requests, for five kinds of bundles: to an empty mirror, and to one that has everything.
//!
//! A figure that goes up is a promise broken; one that goes down is written down here.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::support::build::Bundle;
use crate::support::scripted::{Request, ScriptedRegistry};
use crate::support::{Push, folder, layercast, link};
use crate::sync::SitesFile;

/// Requests by what they do, as `2 HEAD blob`.
fn counted(requests: &[Request]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for request in requests {
        *counts.entry(request.kind()).or_default() += 1;
    }
    counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

/// What the first run over a bundle costs; and what the next one does, whether it remembers the first or not.
#[track_caller]
fn costs(bundle: &Bundle, cold: &str, warm: &str) {
    let (folder, registry) = (folder(), ScriptedRegistry::strict());
    let path = bundle.write(folder.path());
    let run = |state: &Path| {
        // One thing after another, so that the counts do not hang on who is first.
        let push = Push::to(&registry).source(&path).state(state).flag("--threads=1").run().complete();
        let requests = registry.asked();
        assert_eq!(push.mirror(0)["requests"], requests.len(), "the report counts all");
        assert_eq!(registry.store(|store| (store.shown(), store.faults())), (bundle.shown(), vec![]));
        counted(&requests)
    };
    let (state, other) = (folder.path().join("state"), folder.path().join("other"));
    // While a bundle is read that is not known yet, a connection is opened, unless that takes less time than the question.
    let read = |counts: String| counts.strip_prefix("1 GET base, ").map(str::to_owned).unwrap_or(counts);
    assert_eq!([read(run(&state)), run(&state), read(run(&other))], [cold, warm, warm]);
}

/// Each name is asked for and put; three configurations and four layers are sent, one layer is mounted twice. One
/// blob is asked for because the question about its image was answered "no".
const COLD: &str = "1 HEAD blob, 3 HEAD manifest, 2 POST mount, 7 POST upload, 3 PUT manifest, 7 PUT upload";
const WARM: &str = "3 HEAD manifest";

/// Three images that share a layer, each in a repository of its own.
fn three_images(bundle: Bundle) -> Bundle {
    bundle
        .image("images.example/team/app:1", &["base", "one"])
        .image("images.example/team/tool:1", &["base", "two"])
        .image("images.example/lib:1", &["base", "three"])
}

#[test]
fn of_a_docker_archive() {
    costs(&three_images(Bundle::docker_archive()), COLD, WARM);
}

#[test]
fn of_an_oci_layout() {
    costs(&three_images(Bundle::oci_layout()).zstd(), COLD, WARM);
}

#[test]
fn of_an_index_for_two_architectures() {
    let bundle =
        Bundle::oci_layout().index("images.example/team/app:1", &["base", "one"], &["amd64", "arm64"]);
    // Two configurations and two layers that both have; two children and the index by their digests. The children are
    // asked for before the tag moves.
    let cold = "3 HEAD manifest, 4 POST upload, 4 PUT manifest, 4 PUT upload";
    costs(&bundle, cold, "1 HEAD manifest");
}

#[test]
fn of_archives_in_a_compressed_archive() {
    costs(&three_images(Bundle::archives()).xz(), COLD, WARM);
}

#[test]
fn of_a_folder_of_archives() {
    costs(&three_images(Bundle::folder()).gzip(), COLD, WARM);
}

/// The first site of a host costs it what one mirror does. Each site after that: a question and a manifest for
/// each image, and a mount for each of the nine blobs that its repositories get.
#[test]
fn of_twenty_sites_on_two_hosts() {
    let (folder, hosts) = (folder(), [ScriptedRegistry::strict(), ScriptedRegistry::strict()]);
    let bundle = three_images(Bundle::oci_layout());
    let path = bundle.write(folder.path());
    let file = SitesFile::new(folder.path(), &path).line("parallel_sites: 1");
    let file = (0..20).fold(file, |file, site| {
        file.site(
            &format!("site-{site}"),
            &hosts[site % 2].host(),
            &format!("namespace: ns{site}, threads: 1"),
        )
    });
    let sync = || {
        let run = file.sync(&[]).complete();
        let requests: Vec<_> = hosts.iter().map(ScriptedRegistry::asked).collect();
        let reported: u64 = (0..20).filter_map(|site| run.mirror(site)["requests"].as_u64()).sum();
        assert_eq!(reported, requests.iter().map(Vec::len).sum::<usize>() as u64, "the report counts all");
        requests.iter().map(|requests| counted(requests)).collect::<Vec<_>>()
    };
    let cold = "1 HEAD blob, 30 HEAD manifest, 83 POST mount, 7 POST upload, 30 PUT manifest, 7 PUT upload";
    assert_eq!(sync(), [cold, cold]);
    let names: Vec<Vec<String>> = hosts.iter().map(|host| host.store(|store| store.shown())).collect();
    assert!(names.iter().all(|names| names.len() == 30), "{names:?}");
    assert!(hosts.iter().all(|host| host.store(|store| store.faults().is_empty())));
    assert_eq!(sync(), ["30 HEAD manifest"; 2]);
}

/// Whether a run knocks first is told elsewhere.
fn without_knock(requests: &[Request]) -> String {
    counted(requests).replace("1 GET base, ", "")
}

/// An image of six layers and a configuration, in one release and in the next, which shares five of the layers with it.
fn release(number: u8) -> Bundle {
    let seeds = ["a", "b", "c", "d", "e", ["", "one", "two"][usize::from(number)]];
    let name = format!("images.example/team/app:{number}");
    Bundle::oci_layout().image(&name, &seeds)
}

/// The next release to a mirror that has the one before: with what the first run remembered, without it, and with `--recheck`.
/// Five blobs are asked for their bytes in any case, because the mirror's word alone says that they are there.
#[test]
fn of_the_next_release_one_question_answers_for_all_blobs_of_an_image() {
    let remembered = "5 GET blob, 2 HEAD blob, 3 HEAD manifest, 2 POST upload, 1 PUT manifest, 2 PUT upload";
    let not = "5 GET blob, 7 HEAD blob, 2 HEAD manifest, 2 POST upload, 1 PUT manifest, 2 PUT upload";
    for (forgets, flags, costs) in
        [(false, &[][..], remembered), (true, &[], not), (false, &["--recheck"], not)]
    {
        let (folder, registry) = (folder(), ScriptedRegistry::strict());
        let state = folder.path().join("state");
        let run = |number: u8, flags: &[&str]| {
            let path = release(number).write(&folder.path().join(format!("release-{number}")));
            let push = Push::to(&registry).source(&path).state(&state).flag("--threads=1").flags(flags);
            push.run().complete();
            assert_eq!(registry.store(|store| store.faults()), [""; 0]);
            without_knock(&registry.asked())
        };
        run(1, &[]);
        if forgets {
            // All but that it was filled.
            let clear = layercast().args(["state", "clear", "--state-dir"]).arg(&state).output().unwrap();
            assert!(clear.status.success(), "{clear:?}");
        }
        assert_eq!(run(2, flags), costs, "{forgets} {flags:?}");
        assert_eq!(run(2, &[]), "1 HEAD manifest", "what is there is not asked for");
    }
}

/// A mirror that this machine has never filled, far away, and full: what was opened ahead is cancelled before the run ends.
#[test]
fn of_sessions_that_were_opened_ahead_and_are_not_needed_none_is_left() {
    let (folder, registry) = (folder(), ScriptedRegistry::start());
    let path = three_images(Bundle::oci_layout().layer_bytes(100 << 10)).write(folder.path());
    Push::to(&registry).source(&path).state(&folder.path().join("state")).run().complete();
    registry.asked();
    let host = format!("http://127.0.0.1:{}", link::long(registry.port, Duration::from_millis(25)));
    Push::to(host.as_str()).source(&path).state(&folder.path().join("other")).run().complete();
    let asked = registry.asked();
    let count = |kind: &str| asked.iter().filter(|request| request.kind() == kind).count();
    assert!(count("POST upload") > 0, "{}", counted(&asked));
    assert_eq!(count("DELETE upload"), count("POST upload"), "{}", counted(&asked));
    assert_eq!(count("PUT upload") + count("PATCH upload"), 0, "{}", counted(&asked));
}

/// A tag that moves says itself what it stood for, and so which blobs are there.
#[test]
fn of_a_tag_that_moves_the_old_image_answers_for_its_blobs_without_a_question() {
    let (folder, registry) = (folder(), ScriptedRegistry::strict());
    let run = |last: &str| {
        let bundle = Bundle::oci_layout().image("images.example/app:latest", &["a", "b", last]);
        let path = bundle.write(&folder.path().join(last));
        let push = Push::to(&registry).source(&path).state(&folder.path().join("state"));
        push.flag("--threads=1").run().complete();
        without_knock(&registry.asked())
    };
    run("one");
    let costs = "2 GET blob, 2 HEAD blob, 2 HEAD manifest, 2 POST upload, 1 PUT manifest, 2 PUT upload";
    assert_eq!(run("two"), costs);
}
