//! Who may know whom: the layers of the design, held against what each file of `src/` names.
//!
//! Every path in the sources (imports, expressions, types, what macros are given) is made absolute and looked up in
//! the rules. Tests inside the sources are free to do as they like and are left out. A module that is not in `MODULES`
//! fails too: a new one needs its rules first.

#![allow(clippy::unwrap_used)] // clippy does not see that all of this is a test

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[path = "layering/circles.rs"]
mod circles;
#[path = "layering/reader.rs"]
mod reader;
#[path = "layering/rules.rs"]
mod rules;

use circles::circles;
use reader::{Facts, Mention, read};
use rules::{BOTH_WORLDS, MAX_LINES, MODULES, RULES, SHARED_TYPE_NAMES, root};

/// Where each name of a type is defined, if in more than one place.
fn shared_names(files: &[Facts]) -> BTreeMap<&str, Vec<String>> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in files {
        for (name, line) in &file.types {
            if !SHARED_TYPE_NAMES.iter().any(|shared| shared.allows(name, &file.name)) {
                places.entry(name).or_default().push(format!("src/{}.rs:{line}", file.name));
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    places
}

/// Everything that is wrong, one line each: file, line, what, why.
fn violations(files: &[Facts], dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut worlds: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for file in files {
        let name = &file.name;
        if !MODULES.contains(&file.module()) {
            found.insert(format!("src/{name}.rs: a new module: give it a place in MODULES, and its rules"));
        }
        if file.lines_without_tests > MAX_LINES {
            let lines = file.lines_without_tests;
            found.insert(format!(
                "src/{name}.rs: {lines} lines without tests, {MAX_LINES} are too many: split it"
            ));
        }
        for Mention { path, line } in &file.mentions {
            for rule in RULES {
                if rule.files.hold(name) && rule.forbids(path, dependencies) {
                    found.insert(format!("src/{name}.rs:{line}: names {path}: {}", rule.why));
                }
            }
            for world in ["tokio", "rayon"] {
                if root(path) == world && !BOTH_WORLDS.contains(&file.module()) {
                    worlds.entry((file.module(), world)).or_insert(format!("src/{name}.rs:{line}"));
                }
            }
        }
    }
    for ((module, world), place) in &worlds {
        if *world == "tokio"
            && let Some(other) = worlds.get(&(*module, "rayon"))
        {
            found.insert(format!(
                "{place}: {module} names tokio here and rayon in {other}: only the engine brings the two together"
            ));
        }
    }
    for (name, places) in shared_names(files) {
        let places = places.join(" and ");
        found.insert(format!("{places}: both define {name}: name each type after what it alone is"));
    }
    found.into_iter().collect()
}

/// The names under which the crate knows its dependencies.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let of_crate = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    of_crate
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")))
        .collect()
}

/// Reads all of `src/` but the files that are only tests.
fn read_sources(folder: &Path, prefix: &str, dependencies: &BTreeSet<String>, files: &mut Vec<Facts>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            if name != "tests" {
                read_sources(&entry.path(), &format!("{prefix}{name}/"), dependencies, files);
            }
        } else if let Some(stem) = name.strip_suffix(".rs").filter(|stem| *stem != "tests") {
            let text = fs::read_to_string(entry.path()).unwrap();
            files.push(read(&format!("{prefix}{stem}"), &text, dependencies));
        }
    }
}

#[test]
fn the_layers_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dependencies = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
    assert!(dependencies.contains("tokio") && dependencies.contains("tokio_util"), "{dependencies:?}");
    let mut files = Vec::new();
    read_sources(&root.join("src"), "", &dependencies, &mut files);
    let modules: BTreeSet<&str> = files.iter().map(Facts::module).collect();
    assert_eq!(modules, MODULES.iter().copied().collect(), "MODULES and src/ are not the same");
    let list = violations(&files, &dependencies).into_iter().fold(String::new(), |mut list, violation| {
        writeln!(list, "  {violation}").unwrap();
        list
    });
    assert!(list.is_empty(), "layering:\n{list}");
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dependencies = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
    let mut files = Vec::new();
    read_sources(&root.join("src"), "", &dependencies, &mut files);
    let found = circles(&files);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn two_types_of_one_name_are_found_and_idioms_are_none() {
    let shared = |texts: &[(&str, &str)]| -> Vec<String> {
        let files: Vec<Facts> = texts.iter().map(|(name, text)| read(name, text, &BTreeSet::new())).collect();
        shared_names(&files).into_values().flatten().collect()
    };
    for other in
        ["pub enum Place {}", "trait Place {}", "fn f() { struct Place; }", "mod m { type Place = u8; }"]
    {
        let found = shared(&[("plan", "struct Place;"), ("oci/digest", other)]);
        assert_eq!(found, ["src/plan.rs:1", "src/oci/digest.rs:1"], "{other}");
    }
    for (name, text) in [
        ("cli/push", "struct Args;"),
        ("oci", "struct Inner;"),
        ("oci", "impl Iterator for Digest { type Item = u8; }"),
        ("oci", "#[cfg(test)] mod tests { struct Item; }"),
    ] {
        assert_eq!(shared(&[(name, text), (name, text), ("plan", "struct Item;")]), [""; 0], "{text}");
    }
    assert!(
        !shared(&[("oci", "struct Args;"), ("plan", "struct Args;")]).is_empty(),
        "only commands have Args"
    );
}

#[test]
fn a_circle_is_found_and_a_folder_with_its_head_is_none() {
    let files = |texts: &[(&str, &str)]| -> BTreeSet<Vec<String>> {
        let files: Vec<Facts> = texts.iter().map(|(name, text)| read(name, text, &BTreeSet::new())).collect();
        circles(&files)
    };
    let (one, two) = ("use super::b::B;", "use crate::oci::c;");
    let found = files(&[("oci/a", one), ("oci/b", two), ("oci/c", "fn f() { crate::oci::a::A::new() }")]);
    assert_eq!(found, BTreeSet::from([["oci/a", "oci/b", "oci/c"].map(str::to_owned).to_vec()]));
    assert!(files(&[("oci", "use self::a::A;"), ("oci/a", "use super::Kind;"), ("oci/b", one)]).is_empty());
}

/// What is said of one file with this text.
fn judge(name: &str, text: &str) -> Vec<String> {
    let dependencies = ["tokio", "rayon", "tar", "rustix", "serde", "url"].map(str::to_owned).into();
    violations(&[read(name, text, &dependencies)], &dependencies)
}

#[test]
fn a_violation_is_found_wherever_it_hides() {
    for (file, text, place) in [
        ("source/map", "use crate::decode::Volume;", "1: names crate::decode::Volume: "),
        ("source/map", "\nuse super::super::oci;", "2: names crate::oci: "),
        ("source", "fn f() { crate::archive::open() }", "1: names crate::archive::open: "),
        ("decode/xz", "use {std::io, tar::{Entry as E}};", "1: names tar::Entry: "),
        ("decode", "type A = Vec<tar::Archive<()>>;", "1: names tar::Archive: "),
        ("archive", "use std::fs;\nfn f() { fs::write(a, b) }", "2: names std::fs::write: "),
        ("archive", "fn f() { File::create(a) }\nuse std::fs::File;", "1: names std::fs::File::create: "),
        ("archive", "use std::fs::*;", "1: names std::fs::*: "),
        ("archive", "fn f() { vec![std::fs::OpenOptions::new()] }", "1: names std::fs::OpenOptions::new: "),
        ("oci/digest", "use url::Url;", "1: names url::Url: "),
        ("oci/digest", "#[derive(url::Derive)] struct A;", "1: names url::Derive: "),
        ("plan", "#[tokio::main] async fn f() {}", "1: names tokio::main: "),
        ("registry", "mod a { use super::super::plan::Plan; }", "1: names crate::plan::Plan: "),
        ("publish", "use rustix::termios::tcgetwinsize;", "1: names rustix::termios::tcgetwinsize: "),
        ("engine", "use crate::report::html;", "1: names crate::report::html: "),
        ("state", "fn f() { println!(\"x\") }", "1: names println!: "),
        ("state", "fn f() { select!(print!(\"x\")) }", "1: names print!: "),
        ("serve", "use std::io::{self as i, Write};\nfn f() { i::stdout(); }", "2: names std::io::stdout: "),
        ("decode/xz", "fn f() { unsafe { g() } }", "1: names unsafe: "),
        ("decode/xz", "unsafe impl Send for A {}", "1: names unsafe: "),
        ("error", "use crate::cli;", "1: names crate::cli: "),
        ("sorcery", "", ": a new module: "),
        ("engine", &"\n".repeat(801), ": 801 lines without tests"),
        (
            "bench",
            "use tokio::time;\nuse rayon::scope;",
            "1: bench names tokio here and rayon in src/bench.rs:2: ",
        ),
    ] {
        let said = judge(file, text);
        let separator = if place.starts_with(':') { "" } else { ":" };
        let expected = format!("src/{file}.rs{separator}{place}");
        assert!(
            said.iter().any(|line| line.starts_with(&expected)),
            "{expected}\nwas to be found in {text:?}\n{said:#?}"
        );
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    for (file, text) in [
        ("source/map", "fn f() { unsafe { g() } }"),
        ("source", "mod map; pub use map::Map; use crate::error::{BundleError, Fault}; use std::fs::File;"),
        ("archive", "use crate::{decode::Volume, oci}; fn f() { std::fs::File::open(p); self.write(); }"),
        ("archive", "#[cfg(test)]\nmod tests { fn f() { std::fs::write(a, b); println!(); } }"),
        ("oci/digest", "use serde::Serialize; use crate::oci::Kind; fn f() { Kind::Image; }"),
        ("plan/order", "pub(super) fn f() { tracing::info!(a != b) }"),
        ("engine", "use tokio::sync; use rayon::scope;"),
        (
            "cli/screen",
            "use rustix::termios::tcgetwinsize; fn f() { println!(\"{}\", anyhow::anyhow!(\"x\")) }",
        ),
        ("engine", &format!("#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(900))),
    ] {
        let said = judge(file, text);
        assert!(said.is_empty(), "{text:?}\n{said:#?}");
    }
}
