//! What this machine makes of the stages of a run, each alone.
//!
//! In: a bundle's bytes. Out: figures. Nothing is sent anywhere, and nothing is kept.

mod decode;

pub(crate) use decode::{DecodeFigures, LayerTreatment, decode};
