//! The link to one mirror: what it bears, what holds it back, and which settings to use.

pub(in crate::bench) mod statistics;
