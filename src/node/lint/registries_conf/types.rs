//! The types of all keys: one that does not fit ends the reading of the file.

use super::refused;
use crate::document::{Entry, Node};
use crate::node::lint::FileFindings;
use crate::node::types::Type;

const TOP: [(&str, Type); 3] = [
    ("unqualified-search-registries", Type::Texts),
    ("credential-helpers", Type::Texts),
    ("short-name-mode", Type::Text),
];
const REGISTRY: [(&str, Type); 6] = [
    ("prefix", Type::Text),
    ("location", Type::Text),
    ("insecure", Type::Boolean),
    ("blocked", Type::Boolean),
    ("mirror-by-digest-only", Type::Boolean),
    ("mirror", Type::Tables),
];
const MIRROR: [(&str, Type); 3] =
    [("location", Type::Text), ("insecure", Type::Boolean), ("pull-from-mirror", Type::Text)];

pub(super) fn check(findings: &mut FileFindings<'_>, document: &Node) {
    table(findings, document, &TOP);
    for Entry { key, value } in document.get("aliases").map(Node::entries).unwrap_or_default() {
        if !Type::Text.takes(value) {
            let what = format!("the alias {:?} is not a text", key.name);
            refused(findings, "wrong-type", key.at, what, "write one whole name in quotes".to_owned());
        }
    }
    for registry in document.get("registry").map(Node::items).unwrap_or_default() {
        table(findings, registry, &REGISTRY);
        for mirror in registry.get("mirror").map(Node::items).unwrap_or_default() {
            table(findings, mirror, &MIRROR);
        }
    }
    first_form(findings, document);
}

fn table(findings: &mut FileFindings<'_>, table: &Node, keys: &[(&str, Type)]) {
    for (name, wanted) in keys {
        if let Some(Entry { key, .. }) = table.entry(name).filter(|entry| !wanted.takes(&entry.value)) {
            let fix = match *wanted {
                Type::Texts => format!("write {name} = [\"…\"]"),
                Type::Tables => "write [[registry.mirror]] and location below it".to_owned(),
                Type::Boolean => format!("write {name} = true or {name} = false"),
                _ => format!("write {name} = \"…\""),
            };
            refused(findings, "wrong-type", key.at, format!("{name} is not {}", wanted.name()), fix);
        }
    }
}

fn first_form(findings: &mut FileFindings<'_>, document: &Node) {
    let Some(Entry { key, value }) = document.entry("registries") else { return };
    if value.mapping().is_none() {
        let fix = "write [[registry]] for a registry".to_owned();
        return refused(findings, "wrong-type", key.at, "registries is not a table".to_owned(), fix);
    }
    for name in super::FIRST {
        let Some(Entry { key, value }) = value.entry(name) else { continue };
        let list = value.entry("registries");
        let fix = format!("write registries = [\"…\"] below [registries.{name}]");
        if value.mapping().is_none() {
            refused(findings, "wrong-type", key.at, format!("registries.{name} is not a table"), fix);
        } else if let Some(list) = list.filter(|list| !Type::Texts.takes(&list.value)) {
            let what = format!("registries.{name}.registries is not a list of texts");
            refused(findings, "wrong-type", list.key.at, what, fix);
        }
    }
}
