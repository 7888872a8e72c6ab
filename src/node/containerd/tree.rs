//! Tables of several files as one tree, in which everything knows the file that it comes from.

use super::ConfigLocation;
use crate::document::{Node, Value};

/// A key with what stands below it.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) name: String,
    pub(crate) at: ConfigLocation,
    pub(crate) item: Item,
}

/// What stands below a key.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Table(Vec<Branch>),
    /// A text, a number, a list.
    Value(Node),
}

impl Branch {
    /// The branches of a table.
    pub(super) fn of_table(node: &Node, file: usize) -> Vec<Self> {
        let entries = node.entries().iter();
        let branch = |entry: &crate::document::Entry| Self {
            name: entry.key.name.clone(),
            at: ConfigLocation { file, at: entry.key.at },
            item: match &entry.value.value {
                Value::Mapping(_) => Item::Table(Self::of_table(&entry.value, file)),
                _ => Item::Value(entry.value.clone()),
            },
        };
        entries.map(branch).collect()
    }

    /// The branches below it.
    pub(crate) fn branches(&self) -> &[Self] {
        match &self.item {
            Item::Table(branches) => branches,
            Item::Value(_) => &[],
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        get(self.branches(), name)
    }

    pub(crate) fn value(&self) -> Option<&Node> {
        match &self.item {
            Item::Value(node) => Some(node),
            Item::Table(_) => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.value()?.text()
    }
}

pub(super) fn get<'a>(branches: &'a [Branch], name: &str) -> Option<&'a Branch> {
    branches.iter().find(|branch| branch.name == name)
}

/// Puts a branch in the place of the one of its name.
pub(super) fn replace(branches: &mut Vec<Branch>, branch: Branch) {
    match branches.iter_mut().find(|known| known.name == branch.name) {
        Some(known) => *known = branch,
        None => branches.push(branch),
    }
}

/// Joins tables key by key; of values, the later one counts, also where it is empty.
pub(super) fn join(into: &mut Vec<Branch>, from: Vec<Branch>) {
    for branch in from {
        match into.iter_mut().find(|known| known.name == branch.name) {
            None => into.push(branch),
            Some(known) => match (&mut known.item, branch.item) {
                (Item::Table(old), Item::Table(new)) => join(old, new),
                (_, item) => *known = Branch { item, ..branch },
            },
        }
    }
}
