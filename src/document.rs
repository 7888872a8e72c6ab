//! Configuration files as trees in which every word knows where it stands, and what is wrong with such a file.
//!
//! ```text
//!  text ──yaml::read, toml::read, json::read──► Node (or a ParseError) ──the reader of a file──► what it says, Findings
//! ```
//!
//! The one reader of YAML and TOML with positions. Whoever reads a kind of file walks its [`Node`]s, puts what is wrong
//! into [`Findings`] with line, column and correction, and asks [`nearest`] which known key a misspelt one may have been.
//! Pure: nothing here opens a file.

mod finding;
pub(crate) mod json;
mod node;
mod quoted;
mod suggestion;
pub(crate) mod toml;
pub(crate) mod yaml;

pub(crate) use finding::{Finding, Findings, Severity};
pub(crate) use node::{Entry, Key, Mapping, Meaning, Node, ParseError, Position, Scalar, Style, Value};
pub(crate) use quoted::Quoted;
pub(crate) use suggestion::nearest;

/// A configuration file may have this many bytes; real ones have some kilobytes.
pub(crate) const MAX_BYTES: u64 = 4 << 20;
