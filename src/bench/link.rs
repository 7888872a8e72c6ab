//! The link to one mirror: what it bears, what holds it back, and which settings to use.
//!
//! In: a mirror, and how many bytes and how much time it may cost. Out: figures, a verdict, settings. It speaks to the mirror
//! through the client of a push (`registry`), so a figure is what a push would get. [`sweep`] orders the measurements of
//! uploads, [`search`] says which setting is tried next, [`limit`] and [`recommend`] what follows; those three are pure.
//! Whatever happens, [`cleanup`] closes and removes what was opened and made.

mod body;
mod cleanup;
mod downloads;
mod limit;
mod measure;
mod recommend;
mod run;
mod search;
pub(in crate::bench) mod statistics;
mod stop;
mod sweep;

pub(crate) use recommend::LackingBytes;
pub(crate) use run::{LinkTerms, Soak, keep, measure};
