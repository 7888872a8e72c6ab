//! Decides from the answers of all hosts what a node would do with an image. Pure.

use serde::{Deserialize, Serialize};

use super::failover::Settled;
use super::{AskedHost, Role};
use crate::oci::Digest;

/// What a node would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub(crate) enum PullDecision {
    /// Everything comes from mirrors.
    Mirror {
        /// Who serves something.
        from: Vec<String>,
    },
    /// The host is not mirrored: everything comes from where the name says.
    NotMirrored {
        /// The host.
        from: String,
    },
    /// Something comes from the upstream, because the mirrors do not serve it.
    FailOver {
        /// The upstream.
        to: String,
        /// What each mirror said to what it did not serve.
        because: Vec<String>,
    },
    /// The pull works, and the node runs another image than the one expected. It never notices.
    OtherImage {
        /// Who says what the tag stands for.
        from: String,
        /// What is there, as a digest.
        found: String,
        /// What ought to be there.
        wanted: String,
    },
    /// The pull fails.
    Fail {
        /// What each host said to what nobody served.
        because: Vec<String>,
    },
}

/// A verdict on one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckedImage {
    /// The name: `gcr.io/path:tag` or `gcr.io/path@sha256:…`.
    pub image: String,
    /// What a node would do with it.
    #[serde(flatten)]
    pub verdict: PullDecision,
}

impl PullDecision {
    /// Its stable name, as in JSON.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Mirror { .. } => "mirror",
            Self::NotMirrored { .. } => "not-mirrored",
            Self::FailOver { .. } => "fail-over",
            Self::OtherImage { .. } => "other-image",
            Self::Fail { .. } => "fail",
        }
    }

    /// Whether a node would run what it ought to run.
    pub(crate) const fn is_good(&self) -> bool {
        matches!(self, Self::Mirror { .. } | Self::NotMirrored { .. } | Self::FailOver { .. })
    }
}

/// A question that was put to the hosts, in the words of a person, and how it ended.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) what: String,
    pub(super) settled: Settled,
}

/// What the root of an image is and ought to be, where they differ.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) found: Digest,
    pub(super) wanted: Digest,
}

/// The verdict on one name. The first question is what the name stands for.
pub(super) fn verdict(
    upstream: &str,
    hosts: &[AskedHost],
    seen: &[Seen],
    other: Option<&Other>,
) -> PullDecision {
    let mut lost = Vec::new();
    let mut from_upstream = Vec::new();
    let mut from: Vec<String> = Vec::new();
    let mut resolver = None;
    for Seen { what, settled } in seen {
        match settled {
            Settled::Ended { misses } if misses.is_empty() => {
                lost.push(format!("{what}: no host may be asked for it (capabilities)"));
            }
            Settled::Ended { misses } => lost.extend(misses.iter().map(|miss| miss.why.clone())),
            Settled::Served { by, misses, .. } => {
                let host = &hosts[*by];
                resolver.get_or_insert(host);
                let authority = host.node.authority.clone();
                if host.role == Role::Upstream {
                    if misses.is_empty() {
                        from_upstream.push(format!("{what}: no mirror may be asked for it (capabilities)"));
                    }
                    from_upstream.extend(misses.iter().map(|miss| miss.why.clone()));
                } else if !from.contains(&authority) {
                    from.push(authority);
                }
            }
        }
    }
    let is_mirrored = hosts.iter().any(|host| host.role == Role::Mirror);
    if !lost.is_empty() || resolver.is_none() {
        lost.dedup();
        return PullDecision::Fail { because: lost };
    }
    if let (Some(other), Some(resolver)) = (other, resolver) {
        return PullDecision::OtherImage {
            from: resolver.node.authority.clone(),
            found: other.found.to_string(),
            wanted: other.wanted.to_string(),
        };
    }
    if !is_mirrored {
        return PullDecision::NotMirrored { from: upstream.to_owned() };
    }
    if from_upstream.is_empty() {
        return PullDecision::Mirror { from };
    }
    from_upstream.dedup();
    PullDecision::FailOver { to: upstream.to_owned(), because: from_upstream }
}
