//! What refers to a manifest: listed by the registry, or under the fallback tag
//! ([distribution-spec](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers)).

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Descriptor, Digest, Manifest, Repository, media_type};
use crate::registry::client::{ApiRequest, Want};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::{Registry, headers};

/// More pages than that are no list of referrers.
const MAX_PAGES: usize = 100;

impl Registry {
    /// The manifests that refer to one, in the order in which they are listed.
    pub(crate) async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let mut listed = Vec::new();
        let mut url = self.url(&format!("{repository}/referrers/{subject}"))?;
        for page in 0..MAX_PAGES {
            let request = ApiRequest::new(Method::GET, url.clone())
                .header(ACCEPT, media_type::OCI_INDEX)
                .want(Want::Whole(MAX_MANIFEST_BYTES))
                .also(&[400, 403, 404, 405, 501]);
            let reply = self.call(repository, &request).await?;
            let said =
                headers::text(&reply.headers, CONTENT_TYPE).map(headers::media_type).unwrap_or_default();
            // A proxy may answer for a registry that knows no such question.
            if reply.status != 200 || said != media_type::OCI_INDEX {
                if page == 0 {
                    return self.under_fallback_tag(repository, subject).await;
                }
                let why = format!("its list of referrers ends with {}", reply.status);
                return Err(self.failed(&request, Cause::Protocol(why)));
            }
            listed.extend(of_index(reply.body));
            let next = headers::next_url(&url, &reply.headers);
            let next = next.map_err(|why| self.failed(&request, Cause::Protocol(why)))?;
            let Some(next) = next.filter(|next| *next != url) else { return Ok(listed) };
            url = next;
        }
        Err(RegistryError::internal(format!("{subject} has more than {MAX_PAGES} pages of referrers")))
    }

    async fn under_fallback_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let tag = format!("{}-{}", subject.algorithm().name(), subject.hex());
        let found = self.get_manifest(repository, &tag, MAX_MANIFEST_BYTES).await?;
        Ok(found.map(|found| of_index(found.bytes)).unwrap_or_default())
    }
}

/// What an index lists; nothing where it is none.
fn of_index(bytes: Bytes) -> Vec<Descriptor> {
    match Manifest::parse(bytes, media_type::OCI_INDEX).map(|manifest| manifest.kind) {
        Ok(Kind::Index { children }) => children,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_index_lists_nothing() {
        assert!(of_index(Bytes::from_static(b"[]")).is_empty());
    }
}
