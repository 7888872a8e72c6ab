//! What this machine makes of the stages of a run, each alone.
//!
//! In: a bundle's bytes. Out: figures. Nothing is sent anywhere, and nothing is kept.

mod decode;

pub use decode::{Budget, DecodeFigures, Layers, Rates, Stage, decode};
