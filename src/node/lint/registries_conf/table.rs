//! One `[[registry]]`, taken apart.

use crate::document::{Node, Position};
use crate::node::types::Type;

/// What one table says.
pub(super) struct RegistryTable<'a> {
    pub(super) node: &'a Node,
    pub(super) prefix: &'a str,
    pub(super) location: &'a str,
    pub(super) mirrors: &'a [Node],
}

impl<'a> RegistryTable<'a> {
    pub(super) fn of(node: &'a Node) -> Self {
        let text = |key: &str| node.get(key).and_then(Node::text).unwrap_or_default().trim_end_matches('/');
        let (prefix, location) = (text("prefix"), text("location"));
        // A list of anything else has a finding of its own.
        let mirrors = node.get("mirror").filter(|list| Type::Tables.takes(list));
        let mirrors = mirrors.map(Node::items).unwrap_or_default();
        Self { node, prefix: if prefix.is_empty() { location } else { prefix }, location, mirrors }
    }

    /// Where a key stands, or the table.
    pub(super) fn at(&self, key: &str) -> Position {
        self.node.get(key).map_or(self.node.at, |node| node.at)
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.node.get(key).is_some_and(Node::is_true)
    }
}
