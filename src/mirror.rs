//! The node's side of a mirror: what a container runtime is told about it, and what it would do with that.
//!
//! Pure cores with the I/O at their edges. Nothing here knows of bundles, and nothing here prints.

pub mod check;
pub mod cluster;
pub mod hosts;
pub mod lint;
pub mod render;
