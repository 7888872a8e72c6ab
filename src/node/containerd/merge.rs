//! From several files to the one table of plugins that containerd goes on with, by the rules of each line of versions.

use super::tree::{Branch, get, join, replace};
use super::{ConfigLocation, FIRST, NEW, OLD, Stop, Unread, UnreadTable, number};
use crate::document::{Node, Position};
use crate::node::hosts::Version;

/// The first of each line that refuses files of a version it does not know.
const STRICT: [Version; 2] = [Version::new(1, 6, 32), Version::new(1, 7, 17)];
/// The newest version of files that 1.x, 2.0 to 2.2, and 2.3 know.
const NEWEST_NUMBERS: [u8; 3] = [2, 3, 4];

/// The plugins of all files together.
pub(super) struct Merged {
    /// The table of the plugin that has the registries.
    pub(super) images: Vec<Branch>,
    /// The table of the plugin of 1.x, where it is brought along to [`NEW`].
    pub(super) migrated: Option<Branch>,
    pub(super) stops: Vec<(ConfigLocation, Stop)>,
    pub(super) unread: Vec<UnreadTable>,
    pub(super) disabled: Option<ConfigLocation>,
}

/// A table `registry` of a plugin in one file.
struct Table {
    at: ConfigLocation,
    plugin: String,
    number: u8,
}

impl Table {
    fn unread(&self, why: Unread) -> UnreadTable {
        UnreadTable { at: self.at, plugin: self.plugin.clone(), number: self.number, why }
    }
}

pub(super) fn merge(files: &[Node], version: Version) -> Merged {
    let mut merged = if version < Version::TWO {
        one(files, version)
    } else if version < Version::MIGRATES_FILES {
        two(files)
    } else {
        two_three(files)
    };
    merged.disabled = disabled(files, version);
    merged.stops.extend(listed_names(files, version));
    merged
}

/// Names in lists of plugins that are not whole: `cri` in a file of version 2. 1.x looks at all lists once a file is of version
/// 2; 2.x completes those of files of version 1, and lets anything with a dot pass.
fn listed_names(files: &[Node], version: Version) -> Vec<(ConfigLocation, Stop)> {
    let is_two = version >= Version::TWO;
    let form = files.iter().map(number).rfind(|said| *said > 0).unwrap_or(1);
    let mut stops = Vec::new();
    for (file, document) in files.iter().enumerate() {
        let is_new = if is_two { number(document) >= 2 } else { form >= 2 };
        for list in ["disabled_plugins", "required_plugins"] {
            let names = document.get(list).filter(|_| is_new).map(Node::items).unwrap_or_default();
            for (name, at) in names.iter().filter_map(|item| Some((item.text()?, item.at))) {
                let is_whole = if is_two { name.contains('.') } else { !is_short(name) };
                if !is_whole {
                    stops.push((
                        ConfigLocation { file, at },
                        Stop::ListedName { list, name: name.to_owned() },
                    ));
                }
            }
        }
    }
    stops
}

/// Whether 1.x refuses a name of a plugin in a file of version 2.
fn is_short(name: &str) -> bool {
    !name.starts_with("io.containerd.") || name.splitn(4, '.').count() < 4
}

/// All tables of registries of all files.
fn tables(files: &[Node]) -> Vec<Table> {
    let mut found = Vec::new();
    for (file, document) in files.iter().enumerate() {
        for plugin in [FIRST, OLD, NEW] {
            let entry = document.at_path(&["plugins", plugin]).and_then(|table| table.entry("registry"));
            found.extend(entry.map(|entry| Table {
                at: ConfigLocation { file, at: entry.key.at },
                plugin: plugin.to_owned(),
                number: number(document),
            }));
        }
    }
    found
}

fn plugins(document: &Node, index: usize) -> Vec<Branch> {
    document.get("plugins").map(|plugins| Branch::of_table(plugins, index)).unwrap_or_default()
}

/// Where a file says its version.
fn version_at(file: usize, document: &Node) -> ConfigLocation {
    ConfigLocation { file, at: document.entry("version").map_or(Position::START, |entry| entry.key.at) }
}

/// 1.x: the later file's table of a plugin is the table.
fn one(files: &[Node], version: Version) -> Merged {
    let mut all: Vec<Branch> = Vec::new();
    let (mut form, mut form_at) = (1, None);
    for (index, file) in files.iter().enumerate() {
        for plugin in plugins(file, index) {
            replace(&mut all, plugin);
        }
        let said = number(file);
        if said > 0 {
            (form, form_at) = (said, Some(version_at(index, file)));
        }
    }
    let mut stops = Vec::new();
    let is_strict = STRICT.iter().any(|first| version >= *first && version.line() == first.line());
    if form > NEWEST_NUMBERS[0]
        && is_strict
        && let Some(at) = form_at
    {
        stops.push((at, Stop::FileVersion { number: form, newest: NEWEST_NUMBERS[0] }));
    } else if form >= 2 {
        let short = |plugin: &&Branch| is_short(&plugin.name);
        stops.extend(
            all.iter().filter(short).map(|plugin| (plugin.at, Stop::PluginName(plugin.name.clone()))),
        );
    }
    let right = if form < 2 { FIRST } else { OLD };
    let last = |plugin: &str| {
        (0..files.len()).rev().find(|index| files[*index].at_path(&["plugins", plugin]).is_some())
    };
    let why = |table: &Table| match last(&table.plugin) {
        _ if table.plugin != right => Some(table.unread(Unread::OtherTable)),
        Some(by) if by != table.at.file => Some(table.unread(Unread::Replaced { by })),
        _ => None,
    };
    let refused =
        |table: &UnreadTable| stops.iter().any(|(_, stop)| *stop == Stop::PluginName(table.plugin.clone()));
    let unread = tables(files).iter().filter_map(why).filter(|table| !refused(table)).collect();
    let images = get(&all, right).map(|plugin| plugin.branches().to_vec()).unwrap_or_default();
    Merged { images, migrated: None, stops, unread, disabled: None }
}

/// Files of version 1 have short names of plugins.
fn rename(mut plugins: Vec<Branch>) -> Vec<Branch> {
    for plugin in plugins.iter_mut().filter(|plugin| plugin.name == FIRST) {
        OLD.clone_into(&mut plugin.name);
    }
    plugins
}

/// 2.0 to 2.2: everything is joined, and the whole is of the version of the last file that says one.
fn two(files: &[Node]) -> Merged {
    let newest = NEWEST_NUMBERS[1];
    let mut all: Vec<Branch> = Vec::new();
    let (mut form, mut form_file) = (newest, 0);
    for (index, file) in files.iter().enumerate() {
        let said = number(file);
        let plugins = plugins(file, index);
        // A file of version 1 gets the names of version 2, and is taken to be of the version that the files before it
        // have; the main one, of the newest.
        join(&mut all, if said < 2 { rename(plugins) } else { plugins });
        if said >= 2 {
            (form, form_file) = (said, index);
        }
    }
    let mut stops = Vec::new();
    if form > newest {
        let at = version_at(form_file, &files[form_file]);
        stops.push((at, Stop::FileVersion { number: form, newest }));
    }
    let old = get(&all, OLD).cloned();
    let migrated = old.filter(|_| form < newest);
    let old_registry = migrated.as_ref().and_then(|old| old.get("registry")).map(|registry| registry.at);
    let why = |table: &Table| match (table.plugin.as_str(), old_registry) {
        (NEW, Some(at)) => Some(table.unread(Unread::OldTable(at))),
        (OLD, None) if table.number == 2 && form_file > table.at.file => {
            Some(table.unread(Unread::NewerFile { by: form_file }))
        }
        (OLD | FIRST, None) => Some(table.unread(Unread::OtherTable)),
        (FIRST, Some(_)) if table.number >= 2 => Some(table.unread(Unread::OtherTable)),
        _ => None,
    };
    let unread = tables(files).iter().filter_map(why).collect();
    let images = get(&all, NEW).map(|plugin| plugin.branches().to_vec()).unwrap_or_default();
    Merged { images, migrated, stops, unread, disabled: None }
}

/// 2.3: each file is brought to the newest form, then everything is joined.
fn two_three(files: &[Node]) -> Merged {
    let newest = NEWEST_NUMBERS[2];
    let (mut stops, mut unread) = (Vec::new(), Vec::new());
    let (mut main, mut images): (u8, Vec<Branch>) = (0, Vec::new());
    for (index, file) in files.iter().enumerate() {
        let said = number(file);
        if main == 0 {
            main = said;
        }
        if said > newest {
            let at = version_at(index, file);
            stops.push((at, Stop::FileVersion { number: said, newest }));
        } else if said > main {
            stops.push((version_at(index, file), Stop::NewerImport { number: said, main }));
        }
        let plugins = plugins(file, index);
        let plugins = if said < 2 { rename(plugins) } else { plugins };
        let mut own = get(&plugins, NEW).map(|plugin| plugin.branches().to_vec()).unwrap_or_default();
        let old = get(&plugins, OLD).filter(|_| said < newest);
        let old_registry = old.and_then(|old| old.get("registry"));
        migrate(&mut own, old);
        join(&mut images, own);
        for table in tables(files).into_iter().filter(|table| table.at.file == index) {
            let why = match (table.plugin.as_str(), old_registry) {
                (NEW, Some(old)) => Unread::OldTable(old.at),
                (OLD, None) => Unread::OtherTable,
                (FIRST, _) if said >= 2 => Unread::OtherTable,
                _ => continue,
            };
            unread.push(table.unread(why));
        }
    }
    Merged { images, migrated: None, stops, unread, disabled: None }
}

/// The lists of all files count together.
fn disabled(files: &[Node], version: Version) -> Option<ConfigLocation> {
    let names: &[&str] = if version < Version::TWO { &[OLD] } else { &[OLD, NEW] };
    files.iter().enumerate().find_map(|(file, document)| {
        let listed = document.get("disabled_plugins")?.texts();
        let is_ours = |name: &str| names.contains(&name) || name == FIRST && number(document) < 2;
        listed.into_iter().find(|(name, _)| is_ours(name)).map(|(_, at)| ConfigLocation { file, at })
    })
}

/// Brings what the plugin of 1.x says along to the one of 2.x: `registry` takes the place of the whole.
pub(super) fn migrate(images: &mut Vec<Branch>, old: Option<&Branch>) {
    let Some(old) = old else { return };
    for name in ["registry", "max_concurrent_downloads", "image_pull_with_sync_fs"] {
        if let Some(branch) = old.get(name) {
            replace(images, branch.clone());
        }
    }
    for name in ["disable_snapshot_annotations", "discard_unpacked_layers"] {
        let branch = old.get("containerd").and_then(|containerd| containerd.get(name));
        if let Some(branch) = branch {
            replace(images, branch.clone());
        }
    }
}
