//! The mirror configuration of a node: rendered for its runtime, checked by the rules of that runtime.
//!
//! Pure cores with the I/O at their edges. Nothing here knows of bundles or of clusters, and nothing here prints.

pub(crate) mod check;
pub(crate) mod containerd;
pub(crate) mod hosts;
pub(crate) mod lint;
pub(crate) mod render;
mod types;
