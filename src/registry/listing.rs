//! Lists the repositories and tags of a registry
//! ([distribution-spec](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags)).

use std::collections::HashSet;
use std::str::FromStr;

use reqwest::Method;
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
/// The same for names.
const MAX_NAMES: usize = 1_000_000;

#[derive(Deserialize)]
struct ListPage {
    #[serde(default)]
    repositories: Option<Vec<String>>,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// What a registry lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedNames<T> {
    /// Valid names.
    pub(crate) names: Vec<T>,
    /// Those that are no names by the specification.
    pub(crate) invalid: Vec<String>,
}

impl<T: FromStr> ListedNames<T> {
    fn of(names: Vec<String>) -> Self {
        let mut listed = Self { names: Vec::new(), invalid: Vec::new() };
        for name in names {
            match name.parse() {
                Ok(name) => listed.names.push(name),
                Err(_) => listed.invalid.push(name),
            }
        }
        listed
    }
}

impl Registry {
    /// The repositories that the registry lists below a namespace; not every registry lists them.
    pub(crate) async fn repositories(
        &self,
        namespace: Option<&Repository>,
    ) -> Result<ListedNames<Repository>, RegistryError> {
        let any: Repository = "catalog".parse().map_err(|_| RegistryError::internal("a name"))?;
        let is_below = |name: &str| {
            namespace
                .is_none_or(|it| name.strip_prefix(it.as_str()).is_some_and(|rest| rest.starts_with('/')))
        };
        let names =
            self.list("_catalog", &any, &Scopes::catalog(), |page| page.repositories, is_below).await?;
        Ok(ListedNames::of(names.unwrap_or_default()))
    }

    /// The tags of a repository; none where the registry does not know it.
    pub(crate) async fn tags(
        &self,
        repository: &Repository,
    ) -> Result<Option<ListedNames<Tag>>, RegistryError> {
        let (path, scopes) = (format!("{repository}/tags/list"), Scopes::of(repository, Access::Pull));
        Ok(self.list(&path, repository, &scopes, |page| page.tags, |_| true).await?.map(ListedNames::of))
    }

    /// All pages of a list, of whose names those are kept that are wanted; none where it is not there. A list that is cut short is an
    /// error: what it lacks would be taken for gone.
    async fn list(
        &self,
        path: &str,
        repository: &Repository,
        scopes: &Scopes,
        names_of: impl Fn(ListPage) -> Option<Vec<String>>,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, RegistryError> {
        let mut url = self.url(path)?;
        let (mut names, mut asked) = (Vec::new(), HashSet::new());
        while asked.insert(url.clone()) {
            let request =
                ApiRequest::new(Method::GET, url.clone()).want(Want::Whole(MAX_PAGE_BYTES)).also(&[404]);
            let reply = self.call_with(repository, scopes, &request).await?;
            let broken = |why: String| self.failed(&request, Cause::Protocol(why));
            if reply.status == 404 {
                let is_first = asked.len() == 1;
                return if is_first { Ok(None) } else { Err(broken("its list ends with 404".to_owned())) };
            }
            let page = serde_json::from_slice(&reply.body);
            let page: ListPage = page.map_err(|error| broken(format!("its list is none: {error}")))?;
            names.extend(names_of(page).unwrap_or_default().into_iter().filter(|name| is_wanted(name)));
            if names.len() > MAX_NAMES || asked.len() >= MAX_PAGES {
                return Err(broken(format!("its list has more than {MAX_NAMES} names or {MAX_PAGES} pages")));
            }
            let Some(next) = headers::next_url(&url, &reply.headers).map_err(broken)? else {
                return Ok(Some(names));
            };
            url = next;
        }
        let request = ApiRequest::new(Method::GET, url);
        Err(self.failed(&request, Cause::Protocol("its list goes on where it has been".to_owned())))
    }
}
