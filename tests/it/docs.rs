//! Every link in the documentation leads somewhere, and so does every page that a message names.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder with one of these extensions.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| {
        if path.is_dir() {
            return files(&path, extensions);
        }
        let is_meant = path.extension().is_some_and(|it| extensions.iter().any(|meant| it == *meant));
        if is_meant { vec![path] } else { Vec::new() }
    };
    entries.flat_map(of).collect()
}

fn pages() -> Vec<PathBuf> {
    let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root().join(name));
    top.into_iter().chain(files(&root().join("docs"), &["md"])).collect()
}

/// The anchors of a page, as GitHub makes them of its headings.
fn anchors(page: &str) -> HashSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
    let is_kept = |it: &char| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_');
    let slug = |heading: &str| heading.trim().to_lowercase().chars().filter(is_kept).collect::<String>();
    headings.map(|heading| slug(heading).replace(' ', "-")).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        for found in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if found.contains("://") {
                continue;
            }
            let (file, anchor) = found.split_once('#').unwrap_or((&found, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let leads = match fs::read_to_string(&target) {
                Ok(page) => anchor.is_empty() || anchors(&page).contains(anchor),
                Err(_) => target.exists() && anchor.is_empty(),
            };
            if !leads {
                broken.push(format!("{}: {found}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_that_is_named_is_there() {
    let page = Regex::new(r"docs/[A-Za-z-]+\.md").unwrap();
    let folders = ["src", "config", "docs", "scripts", "tests/it"].map(|folder| root().join(folder));
    let named = folders
        .iter()
        .flat_map(|folder| files(folder, &["rs", "yaml", "md", "json", "sh", "service", "snap"]));
    let mut missing = Vec::new();
    for path in named.chain(pages()) {
        // What has changed may be gone.
        if path.ends_with("CHANGELOG.md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let names = page.find_iter(&text).filter(|name| !root().join(name.as_str()).exists());
        missing.extend(names.map(|name| format!("{}: {}", path.display(), name.as_str())));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
