//! A small OCI registry, with its files on one disk.
//!
//! In: HTTP requests of the
//! [distribution-spec 1.1](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md): push, pull, mount,
//! chunks, tags, referrers, deletion. Out: answers, and below one root folder the blobs, manifests and tags.
//!
//! Whatever is answered with 201 is on the disk: data is synced, its digest checked, the file renamed into place and the
//! folder synced, in this order. It never asks who is there, so it binds to the loopback unless told otherwise; it never
//! redirects, and it never answers from memory what a file should say. [`Discard`] is its opposite, for measurements.

mod access;
mod admission;
mod blobs;
mod catalog;
mod collect;
mod connection;
mod connection_limit;
mod discard;
mod disk;
mod durable;
mod error;
mod limits;
mod listener;
mod manifests;
mod named;
mod pace;
mod pages;
mod receive;
mod referrers;
mod request;
mod room;
mod root;
mod routes;
mod server;
mod sessions;
mod store;
mod tags;
mod uploads;

pub(crate) use access::{Access, AccessLog};
pub use discard::Discard;
pub(crate) use error::ServeError;
pub use server::{Options, Server};
pub(crate) use store::{Store, StoreOptions};

#[cfg(test)]
mod tests;
