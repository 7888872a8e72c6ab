//! What a catalog promises, on bundles small enough to be built here.

mod damage;
mod docker_archives;
mod layouts;
mod leftovers;
mod listing;
mod nested;
mod other_flavours;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::build::{ArchiveFiles, Blobs, header, named, on, saved, space, tar_of};
use super::*;
use crate::error::Fault;
use crate::oci::media_type;
use crate::source::read_exact;

fn opener(stored: Arc<dyn ByteSpace>) -> Result<Arc<dyn ByteSpace>, BundleError> {
    let bytes = read_exact(stored.as_ref(), 0, usize::try_from(stored.len()?).unwrap())?;
    let mut decoder: Box<dyn std::io::Read> = if bytes.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(&bytes[..]))
    } else if bytes.starts_with(b"\xfd7zXZ\0") {
        Box::new(xz2::read::XzDecoder::new(&bytes[..]))
    } else if bytes.starts_with(b"BZh") {
        Box::new(bzip2::read::BzDecoder::new(&bytes[..]))
    } else {
        return Ok(stored);
    };
    let mut out = Vec::new();
    decoder.read_to_end(&mut out).map_err(|e| BundleError::new(Fault::CorruptCompression, e.to_string()))?;
    Ok(space(out))
}

fn open_file(path: &Path) -> Result<Arc<dyn ByteSpace>, BundleError> {
    fs::read(path).map(space).map_err(|e| BundleError::io("open", &e))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read_tar(bytes: Vec<u8>) -> Result<Catalog, BundleError> {
    let catalog = read(&space(bytes), &opener, &Limits::default(), &|_| {})?;
    if catalog.has_images() { Ok(catalog) } else { Err(catalog.nothing_in_it()) }
}

/// What was left out of a bundle, as `path: class`.
fn left_out(catalog: &Catalog) -> Vec<String> {
    catalog.left_out.iter().map(|it| format!("{}: {}", it.path, it.class.name())).collect()
}

fn catalog(files: &[(String, Vec<u8>)]) -> Catalog {
    read_tar(tar_of(files)).unwrap()
}

fn names(catalog: &Catalog) -> BTreeSet<String> {
    catalog.images.iter().flat_map(|image| &image.names).map(ToString::to_string).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn broken(catalog: &Catalog) -> Vec<Fault> {
    catalog.broken.iter().map(|image| image.error.fault()).collect()
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

fn manifest_of(image: &Image) -> Digest {
    match &image.content {
        Content::Manifest(digest) => *digest,
        Content::Unpacked(_) => panic!("{image:?} has no manifest"),
    }
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}
