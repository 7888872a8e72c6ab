//! What this machine makes of the stages of a run, each alone, and what the links to mirrors bear.
//!
//! In: a bundle's bytes, or mirrors. Out: figures. Nothing that was sent to a mirror stays there, as far as it lets that go.

mod compare;
mod decode;
mod link;

pub(crate) use compare::compare;
pub(crate) use decode::{DecodeFigures, LayerTreatment, decode};
pub(crate) use link::{LackingBytes, LinkTerms, Soak, keep, measure};
