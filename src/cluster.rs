//! Clusters: the configuration file that names the mirrors of a cluster's nodes, and the API server that is brought in line
//! with it.

pub(crate) mod api;
pub(crate) mod file;
