//! What a host was seen to do: plain data, learned from its answers and asked before the next request.

use serde::{Deserialize, Serialize};

/// Mounts that failed one after the other before they are no longer tried.
const HOPELESS_MOUNTS: u32 = 5;
/// Mounts that were declined one after the other before no other mirror's repository is tried.
const DECLINED_MOUNTS: u32 = 5;

/// How the bytes of a blob get in
/// ([distribution-spec, pushing blobs](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UploadMethod {
    /// One PUT with all bytes, which also commits them.
    #[default]
    Single,
    /// One PATCH with all bytes, and a PUT that commits them.
    Stream,
}

/// What is known of one host. Nothing in it is a secret; what a newer version added is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Quirks {
    /// The method by which the last blob that needed another one got in.
    pub(super) upload: UploadMethod,
    /// Mounts that failed since the last one that the host understood.
    pub(super) failed_mounts: u32,
    /// Mounts that were answered with a session since the last one that was done.
    pub(super) declined_mounts: u32,
    /// An account may not cancel its upload sessions.
    pub(super) keeps_sessions: bool,
    /// The smallest body that was refused as too large, whatever the method.
    pub(super) refused_bytes: Option<u64>,
    /// A policy keeps it from giving manifests out that it has. That may be another one tomorrow.
    #[serde(skip)]
    pub(super) withholds_manifests: bool,
}

impl UploadMethod {
    /// The one to try when this one is refused.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Single => Self::Stream,
            Self::Stream => Self::Single,
        }
    }
}

impl Quirks {
    /// Whether mounting ever works here.
    pub(super) const fn mounts(&self) -> bool {
        self.failed_mounts < HOPELESS_MOUNTS
    }

    /// Whether a blob may be had from the repository of another mirror.
    pub(super) const fn takes_mounts(&self) -> bool {
        self.mounts() && self.declined_mounts < DECLINED_MOUNTS
    }

    /// Takes in whether a mount that the host understood was done.
    pub(super) const fn learn_mounted(&mut self, done: bool) {
        self.declined_mounts = if done { 0 } else { self.declined_mounts.saturating_add(1) };
    }

    /// Takes in how a mount ended.
    pub(super) const fn learn_mount(&mut self, understood: bool) {
        self.failed_mounts = if understood { 0 } else { self.failed_mounts.saturating_add(1) };
    }

    /// Takes in that a body of this size was refused by both methods.
    pub(super) fn learn_refused(&mut self, bytes: u64) {
        self.refused_bytes = Some(self.refused_bytes.map_or(bytes, |known| known.min(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_given_up_after_five_failures_in_a_row() {
        let mut quirks = Quirks::default();
        (0..4).for_each(|_| quirks.learn_mount(false));
        quirks.learn_mount(true);
        (0..4).for_each(|_| quirks.learn_mount(false));
        assert!(quirks.mounts());
        quirks.learn_mount(false);
        assert!(!quirks.mounts());
    }

    #[test]
    fn a_host_that_declines_mounts_is_not_asked_to_take_over_from_other_mirrors() {
        let mut quirks = Quirks::default();
        (0..4).for_each(|_| quirks.learn_mounted(false));
        quirks.learn_mounted(true);
        (0..5).for_each(|_| quirks.learn_mounted(false));
        assert!(quirks.mounts() && !quirks.takes_mounts());
    }

    #[test]
    fn they_can_be_kept_and_grow() {
        let mut quirks = Quirks { upload: UploadMethod::Stream, keeps_sessions: true, ..Quirks::default() };
        quirks.learn_refused(9);
        quirks.learn_refused(30);
        let text = serde_json::to_string(&quirks).unwrap();
        assert_eq!(serde_json::from_str::<Quirks>(&text).unwrap(), quirks);
        assert!(text.contains(r#""upload":"stream""#) && text.contains(r#""refused_bytes":9"#), "{text}");
        let newer = r#"{"upload":"stream","chunks":{"least_bytes":1}}"#;
        assert_eq!(serde_json::from_str::<Quirks>(newer).unwrap().upload, UploadMethod::Stream);
    }
}
