//! Lists the repositories and tags of a registry
//! ([distribution-spec](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags)).

use reqwest::Method;
use reqwest::header::LINK;
use serde::Deserialize;

use crate::oci::{Repository, Tag};
use crate::registry::auth::Scopes;
use crate::registry::client::{ApiRequest, Want};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::{Access, Registry, headers};

/// A page of a list.
const MAX_PAGE_BYTES: u64 = 16 << 20;
/// A list with more pages counts as endless.
const MAX_PAGES: usize = 10_000;

#[derive(Deserialize)]
struct ListPage {
    #[serde(default)]
    repositories: Option<Vec<String>>,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Registry {
    /// The repositories that the registry lists; not every registry lists them. Invalid names are left out.
    pub(crate) async fn repositories(&self) -> Result<Vec<Repository>, RegistryError> {
        let any: Repository = "catalog".parse().map_err(|_| RegistryError::internal("a name"))?;
        let pages = self.pages("_catalog", &any, &Scopes::catalog()).await?;
        let names = pages.into_iter().filter_map(|page| page.repositories).flatten();
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// The tags of a repository; none where it is not there.
    pub(crate) async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, RegistryError> {
        let scopes = Scopes::of(repository, Access::Pull);
        let pages = self.pages(&format!("{repository}/tags/list"), repository, &scopes).await?;
        let tags = pages.into_iter().filter_map(|page| page.tags).flatten();
        Ok(tags.filter_map(|tag| tag.parse().ok()).collect())
    }

    async fn pages(
        &self,
        path: &str,
        repository: &Repository,
        scopes: &Scopes,
    ) -> Result<Vec<ListPage>, RegistryError> {
        let mut url = self.url(path)?;
        let mut pages = Vec::new();
        for _ in 0..MAX_PAGES {
            let request =
                ApiRequest::new(Method::GET, url.clone()).want(Want::Whole(MAX_PAGE_BYTES)).also(&[404]);
            let reply = self.call_with(repository, scopes, &request).await?;
            if reply.status == 404 {
                return Ok(pages);
            }
            let page = serde_json::from_slice(&reply.body);
            let page = page.map_err(|error| {
                self.failed(&request, Cause::Protocol(format!("its list is none: {error}")))
            })?;
            pages.push(page);
            let next = headers::text(&reply.headers, LINK).and_then(headers::next_page);
            let Some(next) = next.and_then(|next| url.join(&next).ok()) else { return Ok(pages) };
            // The next page is on the same registry.
            if next.origin() != url.origin() || next == url {
                return Ok(pages);
            }
            url = next;
        }
        Err(RegistryError::internal(format!("{path} has more than {MAX_PAGES} pages")))
    }
}
