//! The words of the OCI specifications: digests, references, media types, and a view on manifests.
//!
//! Bytes of manifests are the truth and are what is sent; the types here only look at them. They are our own and small,
//! because a bundle comes from strangers: a wrong digest, a wrong size and broken JSON are different errors, `null` lists that
//! real tools write are read as empty, and nothing is ever written back from a view.

pub(crate) mod digest;
pub(crate) mod json;
pub(crate) mod manifest;
pub mod media_type;
pub(crate) mod raw;
pub(crate) mod reference;

pub use digest::{Algorithm, Digest, Hasher};
pub use manifest::Manifest;
pub(crate) use manifest::{Descriptor, Platform};
pub(crate) use reference::{Mended, Tag};
pub use reference::{Reference, Repository};
