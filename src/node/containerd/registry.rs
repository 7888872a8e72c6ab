//! What containerd knows of registries, and whether it starts with that.

use super::merge::{Merged, migrate};
use super::tree::{Branch, get};
use super::{ConfigLocation, Effective, Stop, types};
use crate::document::Meaning;
use crate::node::hosts::Version;

/// What 2.2 and later look into where neither `config_path` nor `mirrors` is set.
pub(crate) const DEFAULT_FOLDERS: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";

/// What is known of registries.
#[derive(Debug, Default)]
pub(crate) struct ContainerdRegistries {
    /// `config_path` as it is written; it may be blank.
    pub(crate) config_path: Option<(String, ConfigLocation)>,
    /// The folders in which it looks for `hosts.toml`.
    pub(crate) folders: Vec<String>,
    /// Whether a list of folders is taken for the name of one: pulls through the transfer service of 2.1 and later.
    pub(crate) is_one_folder: bool,
    pub(crate) mirrors: Vec<Branch>,
    pub(crate) configs: Vec<Branch>,
    /// All that stands in the table.
    pub(crate) table: Vec<Branch>,
}

pub(super) fn effective(merged: Merged, version: Version) -> Effective {
    let Merged { mut images, migrated, mut stops, unread, disabled } = merged;
    migrate(&mut images, migrated.as_ref());
    let registry_table = get(&images, "registry").cloned();
    let table = registry_table.as_ref().map(|table| table.branches().to_vec()).unwrap_or_default();
    stops.extend(registry_table.as_ref().map(|table| types::registry(table, version)).unwrap_or_default());
    let below = |name: &str| get(&table, name).map(|branch| branch.branches().to_vec()).unwrap_or_default();
    let (mirrors, configs) = (below("mirrors"), below("configs"));
    let written = get(&table, "config_path").and_then(|path| Some((path.text()?.to_owned(), path.at)));
    let is_set =
        |path: &Option<(String, ConfigLocation)>| path.as_ref().is_some_and(|(text, _)| !text.is_empty());
    let mut path = written.as_ref().map(|(text, _)| text.clone()).unwrap_or_default();
    let mut is_default = false;
    if version >= Version::DEFAULT_FOLDERS && path.is_empty() {
        // 2.2.0 and 2.2.1 set it before they look at mirrors; what the form of version 1.x says as "" they take for unset.
        let was_unset = written.is_none() || migrated.is_some();
        is_default = if version < Version::DEFAULT_WITHOUT_MIRRORS { was_unset } else { mirrors.is_empty() };
    }
    if is_default {
        DEFAULT_FOLDERS.clone_into(&mut path);
    }
    if let Some(first) = mirrors.first() {
        match &written {
            Some((_, at)) if is_set(&written) => {
                stops.push((first.at, Stop::MirrorsBesideConfigPath(*at)));
            }
            _ if is_default => stops.push((first.at, Stop::MirrorsBesideDefault)),
            _ => {}
        }
    }
    if let Some((_, at)) = written.as_ref().filter(|_| version < Version::TWO && is_set(&written)) {
        let tls = configs.iter().find_map(|config| config.get("tls"));
        stops.extend(tls.map(|tls| (tls.at, Stop::TlsBesideConfigPath(*at))));
    }
    let is_one_folder = version >= Version::TRANSFER && !pulls_locally(&images, &table);
    let folders =
        if is_one_folder { vec![path.clone()] } else { path.split(':').map(str::to_owned).collect() };
    let folders = folders.into_iter().filter(|folder| !folder.is_empty()).collect();
    let registry =
        ContainerdRegistries { config_path: written, folders, is_one_folder, mirrors, configs, table };
    Effective { stops, unread, registry, disabled }
}

/// Settings with which 2.1 and later do not use the transfer service (`CheckLocalImagePullConfigs`).
fn pulls_locally(images: &[Branch], registry: &[Branch]) -> bool {
    let flag = |name: &str| {
        let scalar = get(images, name).and_then(Branch::value).and_then(|node| node.scalar());
        scalar.map(|scalar| scalar.meaning == Meaning::Boolean(true))
    };
    let downloads = get(images, "max_concurrent_downloads").and_then(Branch::value);
    let has_any = |name: &str| get(registry, name).is_some_and(|branch| !branch.branches().is_empty());
    flag("use_local_image_pull") == Some(true)
        || flag("disable_snapshot_annotations") == Some(false)
        || flag("discard_unpacked_layers") == Some(true)
        || flag("image_pull_with_sync_fs") == Some(true)
        || downloads.and_then(|node| node.scalar()).is_some_and(|scalar| scalar.text != "3")
        || ["mirrors", "configs", "auths"].into_iter().any(has_any)
}
