//! Reports as pages, in a browser: nothing is asked for, nothing runs over the edge, and the rules of accessibility find nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::browser::{Browser, axe};
use crate::support::build::Bundle;
use crate::support::registry::free_port;
use crate::support::scripted::{Action, Answer, Rule, ScriptedRegistry};
use crate::support::{Push, folder, layercast};

const LONG_NAME: &str =
    "images.example/a/very/long/name/that/no/window/of/three/hundred/pixels/has/room/for:1.29.4-gke.100";

fn bundle(folder: &Path) -> PathBuf {
    Bundle::oci_layout().image("images.example/a:1", &["a"]).image(LONG_NAME, &["b"]).write(folder)
}

/// Pushes, and gives the page and the document of the run.
fn pages_of(push: &Push, folder: &Path, name: &str) -> (PathBuf, Value) {
    let page = folder.join(format!("{name}.html"));
    let pushed = push.clone().flag("--report").flag(&page).run();
    (page, pushed.report)
}

/// A page made of a document.
fn page_of(document: &Value, folder: &Path, name: &str) -> PathBuf {
    let (json, page) = (folder.join(format!("{name}.json")), folder.join(format!("{name}.html")));
    std::fs::write(&json, document.to_string()).unwrap();
    let mut command = layercast();
    let output = command.args(["report", "html"]).arg(&json).arg("-o").arg(&page).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    page
}

/// A run with two hundred sites: most are complete, some are not, one has a hundred failed images.
fn two_hundred(good: &Value, bad: &Value) -> Value {
    let mut document = good.clone();
    let (whole, failed) = (&good["mirrors"][0], &bad["mirrors"]);
    let mirrors = (0..200).map(|number| {
        let mut mirror = if number % 9 == 4 { failed[number % 2].clone() } else { whole.clone() };
        mirror["name"] = json!(format!("site-{number:03}.a-region-with-a-long-name.example.com"));
        mirror
    });
    document["mirrors"] = mirrors.collect();
    let one = failed[0]["images_failed"][0].clone();
    let many = (0..100).map(|number| {
        let mut image = one.clone();
        image["image"] = json!(format!("images.example/team/{number}:1"));
        image
    });
    document["mirrors"][13]["images_failed"] = many.collect();
    document["exit_code"] = json!(3);
    document
}

/// What `bench link` finds of mirrors.
fn measured(mirrors: &[&str], folder: &Path) -> Value {
    let json = folder.join("measured.json");
    let mut command = layercast();
    command.args([
        "bench",
        "link",
        "--need-credential=false",
        "--bytes=24MiB",
        "--seconds=20",
        "--patience=1s",
    ]);
    let output = command.args(mirrors).arg("--json").arg(&json).output().unwrap();
    let document = std::fs::read(&json).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    serde_json::from_slice(&document).unwrap()
}

#[test]
fn pages_are_for_everybody_and_need_nothing() {
    let (folder, axe) = (folder(), axe());
    let bundle = bundle(folder.path());
    let state = folder.path().join("state");
    let registry = ScriptedRegistry::strict();
    let to_good = Push::to(&registry).source(&bundle).state(&state);
    let (first, good) = pages_of(&to_good.clone().flag("--bandwidth=4MB/s"), folder.path(), "good");
    to_good.run().complete();
    let (again, _) = pages_of(&to_good, folder.path(), "again");
    let refusing = ScriptedRegistry::strict();
    let refused = Answer::error(403, "DENIED", "quota exceeded <b>for</b> this project");
    refusing.on(Rule::on("POST", "/blobs/uploads/", Action::Answer(refused)));
    let dead = format!("http://127.0.0.1:{}", free_port());
    let to_bad = Push::to(&refusing).and_to(dead.as_str()).source(&bundle).flag("--patience=1s");
    let (broken, bad) = pages_of(&to_bad, folder.path(), "bad");
    let many = page_of(&two_hundred(&good, &bad), folder.path(), "many");
    let history = folder.path().join("history.html");
    let mut command = layercast();
    command.arg("history").arg("--state-dir").arg(&state).arg("--html").arg(&history);
    assert!(command.output().unwrap().status.success());
    let checked = folder.path().join("verify.html");
    let mut command = layercast();
    command.args(["verify", "--need-credential=false", "--private-registry", &registry.host(), "--source"]);
    assert!(command.arg(&bundle).arg("--report").arg(&checked).output().unwrap().status.success());
    let links = page_of(&measured(&[&registry.host(), &dead], folder.path()), folder.path(), "links");
    let mut browser = Browser::start();
    for (page, says) in [
        (&first, "All of 2 images on 1 mirror"),
        (&again, "Time of the runs before"),
        (&broken, "2 of 2 mirrors are not complete"),
        (&many, "22 of 200 mirrors are not complete"),
        (&checked, "the registry says so"),
        (&history, "The last 3 runs"),
        (&links, "Which settings to use"),
    ] {
        let name = page.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(page).unwrap();
        assert!(text.contains(says), "{name} says nothing of {says:?}");
        assert!(!text.contains("<script") && !text.contains("<b>for</b>"), "{name}");
        assert!(text.len() < 2 << 20, "{name}: {} bytes", text.len());
        for (width, dark) in [(390, false), (1440, true)] {
            let mut shown = browser.open(page, width, dark);
            assert_eq!(shown.complaints(), [""; 0], "{name}, {width} px");
            // Also what is folded away at first.
            shown.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)");
            let over = shown.evaluate("document.documentElement.scrollWidth - window.innerWidth");
            assert!(over.as_i64().unwrap() <= 0, "{name} is {over} px wider than {width} px");
            // What a telephone has no room for may be scrolled to, but not what everybody comes for.
            let cut = "[...document.querySelectorAll('[aria-label=\"Table of the mirrors\"], \
                       [aria-label=\"Table of the delivered images\"]')].filter(it => \
                       it.scrollWidth > it.clientWidth).map(it => it.ariaLabel)";
            assert_eq!(shown.evaluate(cut), json!([]), "{name}, {width} px");
            assert_eq!(shown.violations(&axe), [""; 0], "{name}, {width} px, dark: {dark}");
            if let Some(pictures) = std::env::var_os("LAYERCAST_TEST_PICTURES") {
                let scheme = if dark { "dark" } else { "light" };
                shown.picture(&PathBuf::from(pictures).join(format!("{name}-{width}-{scheme}.png")));
            }
        }
    }
}
