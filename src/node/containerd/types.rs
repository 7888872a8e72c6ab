//! Values of another type than the one that is read: Go's readers of TOML convert nothing, and what they cannot put into its
//! place ends the reading of the whole.

use super::tree::{Branch, Item};
use super::{ConfigLocation, Stop};
use crate::document::Node;
use crate::node::hosts::Version;
use crate::node::types::Type;

/// What containerd itself reads.
const ROOT: [(&str, Type); 16] = [
    ("version", Type::Number),
    ("root", Type::Text),
    ("state", Type::Text),
    ("temp", Type::Text),
    ("plugin_dir", Type::Text),
    ("oom_score", Type::Number),
    ("disabled_plugins", Type::Texts),
    ("required_plugins", Type::Texts),
    ("imports", Type::Texts),
    ("plugins", Type::Table),
    ("grpc", Type::Table),
    ("ttrpc", Type::Table),
    ("debug", Type::Table),
    ("metrics", Type::Table),
    ("timeouts", Type::Table),
    ("proxy_plugins", Type::Table),
];
const AUTH: [(&str, Type); 4] =
    [("username", Type::Text), ("password", Type::Text), ("auth", Type::Text), ("identitytoken", Type::Text)];
const TLS: [(&str, Type); 4] = [
    ("ca_file", Type::Text),
    ("cert_file", Type::Text),
    ("key_file", Type::Text),
    ("insecure_skip_verify", Type::Boolean),
];

/// Keys at the top of any file: containerd does not start.
pub(super) fn root(files: &[Node]) -> Vec<(ConfigLocation, Stop)> {
    let wrong = |(file, document): (usize, &Node)| {
        let entries = document.entries().iter().filter_map(move |entry| {
            let (key, wanted) = ROOT.into_iter().find(|(key, _)| *key == entry.key.name)?;
            let stop = Stop::RootType { key: key.to_owned(), wanted: wanted.name() };
            (!wanted.takes(&entry.value)).then_some((ConfigLocation { file, at: entry.key.at }, stop))
        });
        entries.collect::<Vec<_>>()
    };
    files.iter().enumerate().flat_map(wrong).collect()
}

/// What stands in the table `registry`: the plugin does not load.
pub(super) fn registry(registry: &Branch, version: Version) -> Vec<(ConfigLocation, Stop)> {
    let mut reader = TypeChecker { stops: Vec::new() };
    if !reader.is(registry, "registry", Type::Table) {
        return reader.stops;
    }
    for branch in registry.branches() {
        let name = branch.name.as_str();
        match name {
            "config_path" => _ = reader.is(branch, name, Type::Text),
            "mirrors" | "configs" | "auths" | "headers" if reader.is(branch, name, Type::Table) => {
                for below in branch.branches() {
                    let key = format!("{name}.{:?}", below.name);
                    match name {
                        "mirrors" if reader.is(below, &key, Type::Table) => {
                            reader.keys(below, &key, &[("endpoint", Type::Texts)]);
                        }
                        "auths" if reader.is(below, &key, Type::Table) => reader.keys(below, &key, &AUTH),
                        "configs" if reader.is(below, &key, Type::Table) => {
                            reader.config(below, &key, version);
                        }
                        "headers" => _ = reader.is(below, &key, Type::Texts),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    reader.stops
}

/// Collects what does not fit.
struct TypeChecker {
    stops: Vec<(ConfigLocation, Stop)>,
}

impl TypeChecker {
    fn is(&mut self, branch: &Branch, key: &str, wanted: Type) -> bool {
        let fits = match &branch.item {
            Item::Table(_) => wanted == Type::Table,
            Item::Value(node) => wanted.takes(node),
        };
        if !fits {
            self.stops.push((branch.at, Stop::Type { key: key.to_owned(), wanted: wanted.name() }));
        }
        fits
    }

    fn keys(&mut self, table: &Branch, above: &str, keys: &[(&str, Type)]) {
        for (name, wanted) in keys {
            if let Some(branch) = table.get(name) {
                self.is(branch, &format!("{above}.{name}"), *wanted);
            }
        }
    }

    fn config(&mut self, config: &Branch, above: &str, version: Version) {
        // 2.x knows no tls.
        let tables: &[(&str, &[(&str, Type)])] =
            if version < Version::TWO { &[("auth", &AUTH), ("tls", &TLS)] } else { &[("auth", &AUTH)] };
        for (name, keys) in tables {
            let key = format!("{above}.{name}");
            if let Some(table) = config.get(name)
                && self.is(table, &key, Type::Table)
            {
                self.keys(table, &key, keys);
            }
        }
    }
}
