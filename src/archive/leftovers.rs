//! Lists what a bundle holds and was not used, with the reason. Nothing that may hold images is skipped in silence.

use serde::{Deserialize, Serialize};

use crate::error::{BundleError, Fault};

/// A file or folder that was not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Where it lies: a path inside the bundle, below the archives it lies in; or the path of a bundle.
    pub path: String,
    /// Its kind, by its bytes.
    pub what: String,
    /// Why it was not used.
    pub why: String,
    /// Whether that leaves the run incomplete.
    pub class: LeftOutClass,
    /// Whether a later run may be able to read it (see [`Fault::may_pass`]). Said of it nowhere.
    #[serde(skip)]
    pub may_pass: bool,
}

/// The consequence of leaving something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOutClass {
    /// It holds or may hold images and could not be read. The run is not complete.
    Unreadable,
    /// A whole image whose name in the bundle is not valid, so that it has no place on a mirror.
    BadReference,
    /// A whole image without a name, which has no place on a mirror either. The run is not complete.
    NoName,
    /// It was read to its end, or is of a kind that holds none: there is no image in it.
    NoImage,
}

impl LeftOutClass {
    /// The stable word for reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::BadReference => "bad-reference",
            Self::NoName => "no-name",
            Self::NoImage => "no-image",
        }
    }
}

impl LeftOut {
    /// Something that holds or may hold images and could not be read.
    pub(crate) fn unreadable(
        path: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        let (path, what, why) = (path.into(), what.into(), why.into());
        Self { path, what, why, class: LeftOutClass::Unreadable, may_pass: false }
    }

    /// The same, for the reason that reading it gave.
    pub(crate) fn failed(path: impl Into<String>, what: impl Into<String>, error: &BundleError) -> Self {
        let next = error.hint_text().map(|hint| format!("; next: {hint}")).unwrap_or_default();
        let may_pass = error.fault().may_pass();
        Self { may_pass, ..Self::unreadable(path, what, format!("{error}{next}")) }
    }

    /// Something that holds no image.
    pub(crate) fn no_image(path: impl Into<String>, what: impl Into<String>) -> Self {
        let why = "no image in it".to_owned();
        Self { class: LeftOutClass::NoImage, ..Self::unreadable(path, what, why) }
    }

    /// Why there is no image in a bundle that is nothing but this.
    pub(super) fn nothing_else(self) -> BundleError {
        nothing_in(&[self])
    }

    /// Something that is no archive.
    pub(crate) fn no_archive(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { why: "no archive".to_owned(), ..Self::no_image(path, what) }
    }

    /// The same, below the archive or folder at `path`.
    #[must_use]
    pub(crate) fn below(mut self, path: &str) -> Self {
        let inner = std::mem::take(&mut self.path);
        self.path = [path, &inner].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        self
    }
}

/// Why a bundle holds no image.
pub(super) fn nothing_in(left_out: &[LeftOut]) -> BundleError {
    let unreadable = left_out.iter().filter(|it| it.class == LeftOutClass::Unreadable);
    let told: Vec<String> = unreadable
        .map(|LeftOut { path, what, why, .. }| {
            let path = if path.is_empty() { String::new() } else { format!("{path} is ") };
            format!("{path}{what}: {why}")
        })
        .collect();
    let error = |what: String| BundleError::new(Fault::NotABundle, what);
    match told.as_slice() {
        [] => {
            let own = left_out.iter().find(|it| it.path.is_empty()).or(left_out.first());
            let seems = own.map_or("a folder of other files", |it| it.what.as_str());
            error(format!(
                "no image in it: looked for an OCI layout (index.json), a docker-archive (manifest.json), a \
                 registry's storage (docker/registry/v2) and archives of these; it seems to be {seems}"
            ))
        }
        [only] => error(format!("no image in it that can be read: {only}")),
        [first, rest @ ..] => {
            error(format!("no image in it that can be read: {first}; and {} more", rest.len()))
        }
    }
}
