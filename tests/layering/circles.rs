//! Files that name each other in a circle.
//!
//! A file and the files of its own folder belong together: `engine.rs` and `engine/work.rs` may name each other. Any other
//! circle means that one of the files holds something that belongs below both.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::Facts;

/// The groups of files of which each names every other, directly or by way of the others.
pub(crate) fn circles(files: &[Facts]) -> BTreeSet<Vec<String>> {
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let named: BTreeMap<&str, BTreeSet<&str>> = files
        .iter()
        .map(|file| {
            let owners = file.mentions.iter().filter_map(|mention| owner(&mention.path, &names));
            (file.name.as_str(), owners.filter(|other| !are_kin(&file.name, other)).collect())
        })
        .collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        names.iter().map(|name| (*name, reach(name, &named))).collect();
    let circle = |name: &&str| -> Vec<String> {
        let others = reached[name].iter().filter(|other| reached[*other].contains(name));
        others.map(|other| (*other).to_owned()).collect()
    };
    names.iter().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// The file that holds what a path names.
fn owner<'a>(path: &str, names: &BTreeSet<&'a str>) -> Option<&'a str> {
    let mut name = path.strip_prefix("crate::")?.replace("::", "/");
    loop {
        if let Some(name) = names.get(name.as_str()) {
            return Some(name);
        }
        let (above, _) = name.rsplit_once('/')?;
        name = above.to_owned();
    }
}

/// Whether one of them is the head of a folder that the other lies in.
fn are_kin(one: &str, other: &str) -> bool {
    let is_in = |inner: &str, head: &str| inner.strip_prefix(head).is_some_and(|rest| rest.starts_with('/'));
    one == other || is_in(one, other) || is_in(other, one)
}

/// What a file names, directly or by way of others.
fn reach<'a>(name: &str, named: &BTreeMap<&str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![name]);
    while let Some(name) = next.pop() {
        for other in &named[name] {
            if reached.insert(*other) {
                next.push(other);
            }
        }
    }
    reached
}
