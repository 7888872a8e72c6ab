//! Settings of registries that stand where no version of containerd looks for them: quotes around too much or none at all, a
//! table too high or in another plugin. containerd passes them over without a word, or does not start.

use super::NOBODY;
use crate::document::{Entry, Node, Position, nearest};
use crate::node::containerd::{FIRST, NEW, OLD, number};

/// What the table `registry` holds.
const SETTINGS: [&str; 4] = ["config_path", "mirrors", "configs", "auths"];
/// Keys that are read at the top of a file alone.
const ROOT_KEYS: [&str; 4] = ["version", "imports", "disabled_plugins", "required_plugins"];
/// Tables at the top of a file in which somebody may have put them by mistake.
const ROOT_TABLES: [&str; 6] = ["grpc", "ttrpc", "debug", "metrics", "cgroup", "timeouts"];

/// Something that is not where it is read.
pub(super) struct Misplaced {
    pub(super) at: Position,
    pub(super) rule: &'static str,
    pub(super) words: [String; 3],
    /// Whether it is what somebody wrote of registries.
    pub(super) hides_registries: bool,
}

fn registries(at: Position, what: String, fix: String) -> Misplaced {
    let words = [what, format!("containerd does not read it: {NOBODY}"), fix];
    Misplaced { at, rule: "wrong-plugin-table", words, hides_registries: true }
}

pub(super) fn find(document: &Node) -> Vec<Misplaced> {
    let right = Right::of(document);
    let mut found = Vec::new();
    for Entry { key, value } in document.entries() {
        let name = key.name.as_str();
        if name == "plugins" {
            value.entries().iter().for_each(|plugin| in_plugins(plugin, &right, &mut found));
        } else if nearest(name, &["plugins"]).is_some() && value.entries().iter().any(is_registry_plugin) {
            let what = format!("[{name}.…] is not a table of containerd");
            found.push(registries(key.at, what, "write [plugins.…]".to_owned()));
        } else if matches!(name, "registry" | FIRST | OLD | NEW) && has_settings(value) {
            let what = format!("[{}] stands at the top of the file", quoted(name));
            found.push(registries(key.at, what, format!("write [{}]", right.registry())));
        } else if SETTINGS.contains(&name) && says_something(value) {
            let what = format!("{name} stands at the top of the file");
            found.push(registries(key.at, what, format!("move it below [{}]", right.registry())));
        } else if ROOT_TABLES.contains(&name) {
            below_a_table(name, value, &mut found);
        }
    }
    found
}

/// The names that tables should have in a file.
struct Right {
    plugin: &'static str,
    /// What has to be said besides.
    version: &'static str,
}

impl Right {
    fn of(document: &Node) -> Self {
        match number(document) {
            0 | 1 => Self { plugin: OLD, version: " with version = 2 at the top" },
            2 => Self { plugin: OLD, version: "" },
            _ => Self { plugin: NEW, version: "" },
        }
    }

    fn registry(&self) -> String {
        format!("plugins.{:?}.registry", self.plugin)
    }

    /// The plugin that somebody meant: names of 2.x have `cri.v1` in them.
    fn meant(&self, name: &str) -> String {
        let plugin = if name.contains("cri.v1") { NEW } else { self.plugin };
        let version = if plugin == OLD { self.version } else { "" };
        format!("write [plugins.{plugin:?}.registry]{version}")
    }
}

fn in_plugins(Entry { key, value }: &Entry, right: &Right, found: &mut Vec<Misplaced>) {
    let name = key.name.as_str();
    if matches!(name, FIRST | OLD | NEW) {
        return in_the_plugin(name, value, found);
    }
    let whole = [OLD, NEW].into_iter().find(|plugin| name.starts_with(&format!("{plugin}.")));
    if let Some(plugin) = whole.filter(|_| says_something(value)) {
        let rest = &name[plugin.len() + 1..];
        let what = format!("the quotes of plugins.{name:?} go too far: no plugin has that name");
        found.push(registries(key.at, what, format!("write [plugins.{plugin:?}.{rest}…]")));
    } else if let Some((plugin, entry)) = unquoted(name, value) {
        let what = "the plugin's name has dots and no quotes: each dot begins another table".to_owned();
        let mut misplaced = registries(entry.key.at, what, format!("write [plugins.{plugin:?}.registry]"));
        misplaced.words[1] = format!("containerd 1.x does not start, and 2.x does not read it: {NOBODY}");
        found.push(misplaced);
    } else if is_like_cri(name)
        && let Some(entry) = value.entry("registry")
        && has_settings(&entry.value)
    {
        let what = format!("plugins.{name:?} has no table registry");
        found.push(registries(entry.key.at, what, right.meant(name)));
    }
}

/// In the right plugin, beside its table `registry` or too deep.
fn in_the_plugin(plugin: &str, table: &Node, found: &mut Vec<Misplaced>) {
    for Entry { key, value } in table.entries() {
        let name = key.name.as_str();
        if SETTINGS.contains(&name) && says_something(value) {
            let what = format!("{name} stands in plugins.{plugin:?} itself, and not in its table registry");
            found.push(registries(key.at, what, format!("move it below [plugins.{plugin:?}.registry]")));
        } else if name == "registry" {
        } else if name.starts_with("registry.") && says_something(value) {
            let what = format!("the quotes of {name:?} go too far: each part of a table's name has its own");
            found.push(registries(key.at, what, format!("write [plugins.{plugin:?}.{name}…]")));
        } else if nearest(name, &["registry"]).is_some() && has_settings(value) {
            let what = format!("plugins.{plugin:?} has no table {name:?}");
            found.push(registries(key.at, what, format!("write [plugins.{plugin:?}.registry]")));
        } else if let Some(entry) = value.entry("registry").filter(|entry| has_settings(&entry.value)) {
            let what = format!("registry stands in the table {name:?} of plugins.{plugin:?}");
            found.push(registries(entry.key.at, what, format!("write [plugins.{plugin:?}.registry]")));
        }
    }
}

/// What is read at the top of a file alone, below another table.
fn below_a_table(name: &str, table: &Node, found: &mut Vec<Misplaced>) {
    for Entry { key, .. } in
        table.entries().iter().filter(|entry| ROOT_KEYS.contains(&entry.key.name.as_str()))
    {
        let words = [
            format!("{} stands below [{name}] (line {}), and belongs to that table", key.name, table.at.line),
            "containerd does not read it".to_owned(),
            format!("move {} above the first table, to the top of the file", key.name),
        ];
        found.push(Misplaced { at: key.at, rule: "misplaced-key", words, hides_registries: false });
    }
}

/// Whether a plugin of this name was written without quotes, and has registries below it.
pub(super) fn is_unquoted(document: &Node, name: &str) -> bool {
    document.at_path(&["plugins", name]).is_some_and(|table| unquoted(name, table).is_some())
}

/// `[plugins.io.containerd.grpc.v1.cri.registry]`: the plugin that is meant, and where its registries stand.
fn unquoted<'a>(name: &str, table: &'a Node) -> Option<(&'static str, &'a Entry)> {
    [OLD, NEW].into_iter().find_map(|plugin| {
        let mut parts = plugin.split('.');
        if parts.next() != Some(name) {
            return None;
        }
        let path: Vec<&str> = parts.collect();
        let entry = table.at_path(&path)?.entry("registry")?;
        says_something(&entry.value).then_some((plugin, entry))
    })
}

/// A name of a plugin that has `cri` for one of its parts, as those with registries have.
fn is_like_cri(name: &str) -> bool {
    name.split('.').any(|part| part.trim().eq_ignore_ascii_case(FIRST))
}

fn is_registry_plugin(Entry { key, value }: &Entry) -> bool {
    (is_like_cri(&key.name) || key.name == "io") && says_something(value)
}

fn has_settings(table: &Node) -> bool {
    SETTINGS.into_iter().filter_map(|name| table.get(name)).any(says_something)
}

/// Whether a value says anything: defaults are blank.
fn says_something(node: &Node) -> bool {
    match node.text() {
        Some(text) => !text.is_empty(),
        None if node.mapping().is_some() => node.entries().iter().any(|entry| says_something(&entry.value)),
        None => true,
    }
}

/// A part of a table's name, in quotes where it needs them.
fn quoted(name: &str) -> String {
    if name.contains('.') { format!("{name:?}") } else { name.to_owned() }
}
