//! A volume becomes a [`Catalog`]: which images are in the bundle, and where their bytes lie.
//!
//! What flavour a bundle is of comes from its bytes, never from its name. Nothing is ever unpacked to a path.

pub mod catalog;

pub use catalog::{Blob, BrokenImage, Catalog, Content, Image, ImageName, Stored, Unpacked, UnpackedLayer};
