//! containerd's main configuration file with all that it imports: what one version of containerd makes of the whole set.
//!
//! ```text
//!  config.toml ─imports─► conf.d/*.toml ─► Node, Node, … ──read──► Effective: registry, what is not read, what stops
//! ```
//!
//! * 1.x reads the files one after the other; a table `plugins.X` of a later file takes the place of the whole table.
//! * 2.0 to 2.2 join the tables key by key and then bring the result from the form of version 2 to that of version 3, if
//!   no file is of version 3.
//! * 2.3 brings each file to the newest form and then joins them; an imported file may not be of a newer form.
//!
//! Follows `services/server/config/config.go` (1.x), `cmd/containerd/server/config/config.go` (2.x), `plugins/cri/images/plugin.go`
//! and `internal/cri/config/config.go` of <https://github.com/containerd/containerd>. Pure.

mod merge;
mod registry;
#[cfg(test)]
mod tests;
mod tree;
mod types;

use super::hosts::Version;
use crate::document::{Node, Position};

pub(crate) use registry::{ContainerdRegistries, DEFAULT_FOLDERS};
pub(crate) use tree::{Branch, Item};

/// The plugin whose table holds the registries: in files of version 1, in 1.x, and in 2.x.
pub(crate) const FIRST: &str = "cri";
pub(crate) const OLD: &str = "io.containerd.grpc.v1.cri";
pub(crate) const NEW: &str = "io.containerd.cri.v1.images";

/// Where something stands in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConfigLocation {
    /// The place of the file in the set.
    pub(crate) file: usize,
    pub(crate) at: Position,
}

/// What a version makes of the set.
#[derive(Debug, Default)]
pub(crate) struct Effective {
    /// Why containerd, or the plugin that pulls images, does not start.
    pub(crate) stops: Vec<(ConfigLocation, Stop)>,
    /// Tables of registries that it does not read.
    pub(crate) unread: Vec<UnreadTable>,
    /// What it knows of registries.
    pub(crate) registry: ContainerdRegistries,
    /// Where the plugin that pulls images is switched off.
    pub(crate) disabled: Option<ConfigLocation>,
}

/// Why something does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The file has a version that this containerd does not know.
    FileVersion { number: u8, newest: u8 },
    /// A name of a plugin that is not whole, in a file of version 2.
    PluginName(String),
    /// The same in `disabled_plugins` or `required_plugins`.
    ListedName { list: &'static str, name: String },
    /// An imported file is of a newer version than the main one.
    NewerImport { number: u8, main: u8 },
    /// `mirrors` beside `config_path`.
    MirrorsBesideConfigPath(ConfigLocation),
    /// `mirrors` beside the `config_path` that this containerd sets by itself.
    MirrorsBesideDefault,
    /// `configs.*.tls` beside `config_path`.
    TlsBesideConfigPath(ConfigLocation),
    /// A value of another type than the one that the plugin reads.
    Type { key: String, wanted: &'static str },
    /// The same for a key that containerd itself reads, and not a plugin.
    RootType { key: String, wanted: &'static str },
}

/// A table `plugins.X.registry` that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnreadTable {
    pub(crate) at: ConfigLocation,
    pub(crate) plugin: String,
    /// The version that the file says it has.
    pub(crate) number: u8,
    pub(crate) why: Unread,
}

/// Why a table is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// This containerd, or this form of the file, has the registries in another table.
    OtherTable,
    /// A later file has the same plugin's table, which takes the place of the whole.
    Replaced { by: usize },
    /// A later file is of version 3, and then tables of version 2 are not brought along.
    NewerFile { by: usize },
    /// The old table of the same set takes the place of this one.
    OldTable(ConfigLocation),
}

/// What `version` makes of the files, in the order in which they are read; the first is the main one.
pub(crate) fn read(files: &[Node], version: Version) -> Effective {
    let mut merged = merge::merge(files, version);
    merged.stops.extend(types::root(files));
    registry::effective(merged, version)
}

/// The version of the form that a file says it has; 0 where it says nothing.
pub(crate) fn number(document: &Node) -> u8 {
    let version = document.get("version").and_then(Node::scalar);
    version.and_then(|version| version.text.parse().ok()).unwrap_or(0)
}
