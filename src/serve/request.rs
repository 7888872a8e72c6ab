//! The path and the query of a request, parsed into types.
//!
//! Repositories contain slashes, so a path is read from its end, by hand, after decoding it exactly once. What comes out
//! is typed: a [`Repository`], [`Tag`] or [`Digest`] can become a path on the disk as it is.

use percent_encoding::percent_decode_str;

use super::error::{Code, Refusal};
use super::sessions::SessionId;
use crate::oci::{Digest, Repository, Tag};

/// A path of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Base,
    Health,
    Catalog,
    Blob(Repository, Digest),
    Uploads(Repository),
    Upload(Repository, SessionId),
    Manifest(Repository, ManifestReference),
    Tags(Repository),
    Referrers(Repository, Digest),
}

/// How a request names a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ManifestReference {
    Tag(Tag),
    Digest(Digest),
}

impl Route {
    /// Parses the path of a request as it stands in its first line.
    pub(super) fn parse(raw: &str) -> Result<Self, Refusal> {
        // An encoded slash would change which repository is meant.
        if raw.to_ascii_lowercase().contains("%2f") {
            return Err(Refusal::no_such_path());
        }
        let path = percent_decode_str(raw).decode_utf8().map_err(|_| Refusal::no_such_path())?;
        let rest = match path.as_ref() {
            "/v2" | "/v2/" => return Ok(Self::Base),
            "/v2/_catalog" => return Ok(Self::Catalog),
            "/healthz" => return Ok(Self::Health),
            path => path.strip_prefix("/v2/").ok_or_else(Refusal::no_such_path)?,
        };
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Ok(Self::Uploads(repository(name)?));
        }
        let (front, last) = rest.rsplit_once('/').ok_or_else(Refusal::no_such_path)?;
        if let Some(name) = front.strip_suffix("/blobs/uploads") {
            let id = SessionId::parse(last)
                .ok_or_else(|| Refusal::new(Code::BlobUploadUnknown, "no such upload session"))?;
            return Ok(Self::Upload(repository(name)?, id));
        }
        let (name, kind) = front.rsplit_once('/').ok_or_else(Refusal::no_such_path)?;
        match (kind, last) {
            ("blobs", _) => Ok(Self::Blob(repository(name)?, digest(last)?)),
            ("manifests", _) => Ok(Self::Manifest(repository(name)?, ManifestReference::parse(last)?)),
            ("referrers", _) => Ok(Self::Referrers(repository(name)?, digest(last)?)),
            ("tags", "list") => Ok(Self::Tags(repository(name)?)),
            _ => Err(Refusal::no_such_path()),
        }
    }
}

impl ManifestReference {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains(':') {
            return digest(text).map(Self::Digest);
        }
        tag(text).map(Self::Tag)
    }
}

/// Reads a tag of a request.
pub(super) fn tag(text: &str) -> Result<Tag, Refusal> {
    text.parse().map_err(|error: crate::error::BundleError| Refusal::new(Code::TagInvalid, error.to_string()))
}

fn repository(text: &str) -> Result<Repository, Refusal> {
    text.parse()
        .map_err(|error: crate::error::BundleError| Refusal::new(Code::NameInvalid, error.to_string()))
}

/// Reads a digest of a request.
pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|error: crate::error::BundleError| Refusal::new(Code::DigestInvalid, error.to_string()))
}

/// The parameters of a request's query, in its order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(raw: &str) -> Self {
        Self(url::form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).next()
    }

    /// All values of a parameter that may be repeated.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn digest(&self, name: &str) -> Result<Option<Digest>, Refusal> {
        self.text(name).map(digest).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn status(path: &str) -> u16 {
        Route::parse(path).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn repositories_may_be_called_like_endpoints() {
        let name = |text: &str| text.parse::<Repository>().unwrap();
        assert_eq!(Route::parse("/v2/a/b/tags/list").unwrap(), Route::Tags(name("a/b")));
        assert_eq!(Route::parse("/v2/blobs/uploads/tags/list").unwrap(), Route::Tags(name("blobs/uploads")));
        assert_eq!(
            Route::parse("/v2/a/manifests/manifests/list").unwrap(),
            Route::Manifest(name("a/manifests"), ManifestReference::Tag("list".parse().unwrap()))
        );
        let encoded = format!("/v2/a/blobs/{}", DIGEST.replace(':', "%3A"));
        assert_eq!(Route::parse(&encoded).unwrap(), Route::Blob(name("a"), DIGEST.parse().unwrap()));
    }

    #[test]
    fn what_is_no_path() {
        for (path, expected) in [
            ("/", 404),
            ("/v2x/", 404),
            ("/v2/a", 404),
            ("/v2/a/tags/other", 404),
            ("/v2/a%2Fb/tags/list", 404),
            ("/v2/a/%ff/tags/list", 404),
            ("/v2/../etc/tags/list", 400),
            ("/v2/%2e%2e/tags/list", 400),
            ("/v2/a%5cb/tags/list", 400),
            ("/v2/a%00/tags/list", 400),
            ("/v2/a%252fb/tags/list", 400),
            ("/v2/A/tags/list", 400),
            ("/v2//tags/list", 400),
            ("/v2/_uploads/tags/list", 400),
            ("/v2/a/blobs/sha256:00", 400),
            ("/v2/a/manifests/..", 400),
            ("/v2/a/manifests/sha256:bad", 400),
            ("/v2/a/blobs/uploads/../../x", 404),
            ("/v2/a/blobs/uploads/xyz", 404),
        ] {
            assert_eq!(status(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(path in "/v2/.{0,60}|(/(v2|a|blobs|uploads|manifests|tags|list|%[0-9a-f]{2}|\\.\\.)){0,8}/?") {
            let _ = Route::parse(&path);
        }

        #[test]
        fn every_name_is_found_again(name in "[a-z0-9]{1,5}(/(blobs|uploads|manifests|tags|list|[a-z0-9]{1,4})){0,4}") {
            let repository: Repository = name.parse().unwrap();
            prop_assert_eq!(Route::parse(&format!("/v2/{name}/tags/list")).unwrap(), Route::Tags(repository.clone()));
            prop_assert_eq!(
                Route::parse(&format!("/v2/{name}/blobs/{DIGEST}")).unwrap(),
                Route::Blob(repository.clone(), DIGEST.parse().unwrap())
            );
            prop_assert_eq!(
                Route::parse(&format!("/v2/{name}/blobs/uploads/")).unwrap(), Route::Uploads(repository)
            );
        }
    }
}
