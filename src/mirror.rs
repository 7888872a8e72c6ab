//! The node's side of a mirror: what a cluster's configuration says of it, and how the cluster gets to know.
//!
//! In: files of clusters, and answers of their API servers. Out: findings, texts, and requests. Never touches a bundle.

pub mod cluster;
