//! The values of the file: texts, numbers, sizes, words of a list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;

use super::keys::{At, FromNode};
use super::registry_source::RegistrySource;
use crate::bundle::Acceptable;
use crate::compress::Method;
use crate::document::{Findings, Node, nearest};
use crate::engine::Verification;
use crate::error::printable;
use crate::hook::notify::Notify;
use crate::oci::Reference;
use crate::plan::naming::GivenName;
use crate::plan::{OnConflict, Patterns, Rewrite};
use crate::registry::Target;
use crate::schedule::{Days, Hours, Outside, Zone};
use crate::units::{ByteCount, Rate};

/// The text of a node, or what is wrong with it.
fn text<'n>(node: &'n Node, key: &str, findings: &mut Findings) -> Option<&'n str> {
    text_like(node, key, None, findings)
}

/// The same for a text of some form, with an example of it.
fn text_like<'n>(
    node: &'n Node,
    key: &str,
    of_text: Option<&str>,
    findings: &mut Findings,
) -> Option<&'n str> {
    let fix = match node.scalar() {
        None => format!("{key}: and one value behind it"),
        Some(scalar) if scalar.text.is_empty() => format!("{key}: and its value, or remove the line"),
        Some(scalar) => {
            let text = node.text();
            if text.is_some() {
                return text;
            }
            match of_text {
                // Quotes would not help: it must be something else than a number.
                Some(example) => format!("{key}: {example}"),
                None => format!("{key}: \"{}\", if that is meant", printable(&scalar.text)),
            }
        }
    };
    findings.error("wrong-type", node.at, (format!("{key} is not text"), fix));
    None
}

/// What a text or a number is parsed to. The correction shows an example.
fn parsed<T: FromStr<Err: ToString>>(
    node: &Node,
    text: &str,
    key: &str,
    example: &str,
    findings: &mut Findings,
) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(why) => {
            findings.error(
                "wrong-value",
                node.at,
                (format!("{key}: {}", why.to_string()), format!("{key}: {example}")),
            );
            None
        }
    }
}

impl FromNode for String {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        text(node, key, findings).map(str::to_owned)
    }
}

impl FromNode for bool {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        use crate::document::Meaning;
        if let Some(Meaning::Boolean(value)) = node.scalar().map(|scalar| scalar.meaning) {
            return Some(value);
        }
        let words = (format!("{key} is neither true nor false"), format!("{key}: true"));
        findings.error("wrong-type", node.at, words);
        None
    }
}

/// A whole number from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number<const LEAST: u32, const MOST: u32>(pub(super) u32);

impl<const LEAST: u32, const MOST: u32> FromNode for Number<LEAST, MOST> {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        use crate::document::Meaning;
        let number = node.scalar().filter(|scalar| scalar.meaning == Meaning::Number);
        let number = number.and_then(|scalar| scalar.text.parse().ok());
        let number = number.filter(|number| (LEAST..=MOST).contains(number));
        if number.is_none() {
            let (what, fix) = if LEAST == MOST {
                (format!("{key} is not {LEAST}"), format!("{key}: {LEAST}"))
            } else {
                let what = format!("{key} is not a whole number from {LEAST} to {MOST}");
                (what, format!("{key}: a number from {LEAST} to {MOST}, or remove the line"))
            };
            findings.error("wrong-value", node.at, (what, fix));
        }
        number.map(Self)
    }
}

/// A path; one that is relative begins at the folder of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePath(PathBuf);

impl FilePath {
    pub(super) fn below(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

impl FromNode for FilePath {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let text = text(node, key, findings)?;
        if text.starts_with('~') || text.contains("${") {
            let what = format!("{key}: {} would need a shell, and none reads this file", printable(text));
            findings.error("wrong-value", node.at, (what, format!("{key}: the path itself, as in /root/…")));
            return None;
        }
        Some(Self(text.into()))
    }
}

/// A span of time with its unit: `90s`, `20m`, `6h`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeSpan(pub(super) std::time::Duration);

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        crate::units::parse_duration(text).map(Self)
    }
}

impl FromNode for TimeSpan {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let Some(scalar) = node.scalar() else { return text(node, key, findings).and(None) };
        parsed(node, &scalar.text, key, "90s, 20m, 6h or 1h30m", findings)
    }
}

/// A number of bytes: `60GiB`, `500MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl FromNode for Bytes {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let Some(scalar) = node.scalar() else { return text(node, key, findings).and(None) };
        parsed(node, &scalar.text, key, "60GiB", findings).map(|ByteCount(bytes)| Self(bytes))
    }
}

/// An address to listen at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listen(pub(super) SocketAddr);

impl FromNode for Listen {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let Some(scalar) = node.scalar() else { return text(node, key, findings).and(None) };
        parsed(node, &scalar.text, key, "\"127.0.0.1:9790\"", findings)
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        listen_address(text).map(Self)
    }
}

/// An address to listen at; a port alone is one of the loopback.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    let loopback = port.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    loopback.or_else(|_| text.parse()).map_err(|_| {
        "a port or an address with a port is wanted, as 9790 (on the loopback) or 0.0.0.0:9790".to_owned()
    })
}

impl FromNode for Notify {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        // The value may be a secret, so no message shows it.
        let parsed = text(node, key, findings)?.parse();
        let fix = format!("{key}: https://HOST/PATH, or a command of the shell");
        parsed
            .map_err(|why: String| findings.error("wrong-value", node.at, (format!("{key}: {why}"), fix)))
            .ok()
    }
}

/// Values that are texts, each with an example for the correction.
macro_rules! texts {
    ($($type:ty = $example:literal,)*) => {$(
        impl FromNode for $type {
            fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
                let text = text_like(node, key, Some($example), findings)?;
                parsed(node, text, key, $example, findings)
            }
        }
    )*};
}

texts! {
    Hours = "\"22:00-05:00\"",
    Outside = "wait",
    Rate = "20Mbit/s",
    Rewrite = "[\"quay.io/(.*)=quay/$1\"]",
    GivenName = "[team/app:1.0]",
    Glob = "[\"gcr.io/anthos-*\"]",
    RegistryAddress = "https://HOST:PORT",
    RegistryPlace = "registry:https://HOST:PORT/NAMESPACE",
    Namespace = "team/images",
    RepositoryName = "gcr.io/team/app",
}

/// A pattern of names.
#[derive(Debug, Clone)]
pub(super) struct Glob(pub(super) String);

impl FromStr for Glob {
    type Err = globset::Error;

    fn from_str(text: &str) -> Result<Self, globset::Error> {
        Patterns::new(&[text]).map(|_| Self(text.to_owned()))
    }
}

/// Where a registry is.
#[derive(Debug, Clone)]
pub(super) struct RegistryAddress(pub(super) Target);

impl FromStr for RegistryAddress {
    type Err = crate::registry::RegistryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A registry that is the source of a bundle.
#[derive(Debug, Clone)]
pub(super) struct RegistryPlace {
    pub(super) source: RegistrySource,
    pub(super) target: Target,
}

impl FromStr for RegistryPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(source) = RegistrySource::of(Path::new(text)) else {
            return Err(
                "it does not begin with registry:; an archive or a folder is named by `path`".to_owned()
            );
        };
        let target: Target =
            source.place.parse().map_err(|error: crate::registry::RegistryError| error.to_string())?;
        Ok(Self { source, target })
    }
}

/// A path in front of every repository.
#[derive(Debug, Clone)]
pub(super) struct Namespace(pub(super) crate::oci::Repository);

impl FromStr for Namespace {
    type Err = crate::error::BundleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A repository without a tag.
#[derive(Debug, Clone)]
pub(super) struct RepositoryName(pub(super) Reference);

impl FromStr for RepositoryName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name: Reference = text.parse().map_err(|error: crate::error::BundleError| error.to_string())?;
        if name.tag.is_some() || name.digest.is_some() {
            return Err(format!("{name} has a tag or a digest, and a repository has neither"));
        }
        Ok(Self(name))
    }
}

/// `mon-fri` or `[mon, wed]`.
impl FromNode for Days {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let days = match node.sequence() {
            Some(_) => {
                let days = Vec::<At<String>>::read(node, key, findings)?;
                days.into_iter().map(|day| day.value).collect::<Vec<_>>().join(",")
            }
            None => text(node, key, findings)?.to_owned(),
        };
        parsed(node, &days, key, "mon-fri, [mon, wed] or daily", findings)
    }
}

impl FromNode for Zone {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let text = text(node, key, findings)?;
        let zone = text.parse();
        if let Err(why) = &zone {
            let names = Zone::names();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let near = nearest(text, &names).unwrap_or("Europe/Berlin, or another name of that kind");
            findings.error("wrong-value", node.at, (format!("{key}: {why}"), format!("{key}: {near}")));
        }
        zone.ok()
    }
}

/// A wave of sites: a name, or several.
#[derive(Debug, Clone)]
pub(super) struct WaveMembers(pub(super) Vec<At<String>>);

impl FromNode for WaveMembers {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        if node.sequence().is_some() {
            return FromNode::read(node, key, findings).map(Self);
        }
        String::read(node, key, findings).map(|value| Self(vec![At { at: node.at, value }]))
    }
}

/// What becomes of a site that another run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfRunning {
    /// Leave it to that run (deferred, exit 0).
    Skip,
    /// Wait until that run has ended.
    Wait,
    /// Count it as failed (exit 7).
    Fail,
}

/// The word that stands for a choice, in the file as on the command line.
pub(super) fn word(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// One of a list of words.
fn choice<T: ValueEnum>(node: &Node, key: &str, findings: &mut Findings) -> Option<T> {
    let written = text(node, key, findings)?;
    let words: Vec<String> = T::value_variants().iter().map(word).collect();
    if let Some(at) = words.iter().position(|word| word == written) {
        return T::value_variants().get(at).cloned();
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let fix = nearest(written, &words).map_or_else(|| words.join(" or "), str::to_owned);
    let what = format!("{key} is {}, which is none of {}", printable(written), words.join(", "));
    findings.error("wrong-value", node.at, (what, format!("{key}: {fix}")));
    None
}

macro_rules! choices {
    ($($choice:ty),*) => {$(
        impl FromNode for $choice {
            fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
                choice(node, key, findings)
            }
        }
    )*};
}

choices!(Acceptable, IfRunning, Method, OnConflict, Verification);
