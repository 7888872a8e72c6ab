//! Nodes: what a container runtime is told about its mirrors, and what it would do with that.
//!
//! Pure cores with the I/O at their edges. Nothing here knows of bundles or of clusters, and nothing here prints.

pub(crate) mod check;
pub(crate) mod hosts;
pub(crate) mod lint;
pub(crate) mod render;
