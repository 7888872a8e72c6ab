//! A small OCI registry, with its files on one disk.
//!
//! In: HTTP requests of the
//! [distribution-spec 1.1](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md): push, pull, mount,
//! chunks, tags, referrers, deletion. Out: answers, and below one root folder the blobs, manifests and tags.
//!
//! After a 201 the content is on the disk: data is synced, its digest checked, the file renamed into place and the
//! folder synced, in this order. There is no login, so it listens on the loopback unless the operator says otherwise. It
//! never redirects, and never answers from memory. [`Discard`] is its opposite, for measurements.

mod access;
mod admission;
mod blobs;
mod catalog;
mod collect;
mod connection;
mod connection_limit;
mod discard;
mod disk;
mod error;
mod evict;
mod fsync;
mod limits;
mod listener;
mod manifests;
mod minimum_rate;
mod named;
mod pace;
mod pages;
mod receive;
mod referrers;
mod request;
mod root;
mod routes;
mod server;
mod sessions;
mod store;
mod tags;
mod uploads;

pub(crate) use access::{AccessLog, AccessRecord};
pub use discard::Discard;
pub(crate) use error::ServeError;
pub use server::{Server, ServerOptions};
pub(crate) use store::{Store, StoreOptions};

#[cfg(test)]
mod tests;
