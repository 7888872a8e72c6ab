//! The nodes' side of a mirror: what their runtimes are told, and what they make of it.

pub mod check;
