//! Bytes as bytes, for `#[serde(with)]`: a list of numbers would be read one by one.

use bytes::Bytes;
use serde::{Deserialize as _, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    <&[u8]>::deserialize(deserializer).map(Bytes::copy_from_slice)
}
