//! The node's side of a mirror: what a container runtime is told about it, and what it would do with that.
//!
//! Pure cores with the I/O at their edges. Nothing here knows of bundles, and nothing here prints.

pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod hosts;
pub(crate) mod lint;
pub(crate) mod render;
pub(crate) mod update;
