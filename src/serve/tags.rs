//! Tags: the only names here that change what they stand for, and the list of them
//! ([distribution-spec, listing tags](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags)).

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::header;
use axum::response::Response;
use serde_json::json;

use super::blobs::text_value;
use super::error::{Code, Refusal, json_answer};
use super::request::Query;
use super::store::{Store, blocking, entries, found, remove_durable};
use crate::oci::{Digest, Repository, Tag};

/// The longest page that is given when a page is asked for.
const MAX_PAGE: usize = 1000;

fn path(store: &Store, repository: &Repository, tag: &Tag) -> PathBuf {
    store.repository(repository).join("_tags").join(tag.as_str())
}

/// The digest a tag stands for.
pub(super) fn read(store: &Store, repository: &Repository, tag: &Tag) -> io::Result<Option<Digest>> {
    Ok(found(fs::read_to_string(path(store, repository, tag)))?.and_then(|text| text.trim().parse().ok()))
}

/// Moves a tag.
pub(super) fn write(store: &Store, repository: &Repository, tag: &Tag, digest: &Digest) -> io::Result<()> {
    store.write_durable(&path(store, repository, tag), format!("{digest}\n").as_bytes())
}

/// Removes a tag; whether it was there.
pub(super) fn remove(store: &Store, repository: &Repository, tag: &Tag) -> io::Result<bool> {
    remove_durable(&path(store, repository, tag))
}

/// All tags of a repository, in no order.
pub(super) fn all(store: &Store, repository: &Repository) -> io::Result<Vec<Tag>> {
    let files = entries(&store.repository(repository).join("_tags"))?;
    Ok(files.iter().filter_map(|file| file.file_name().to_str()?.parse().ok()).collect())
}

/// `GET tags/list`
pub(super) async fn list(
    store: &Arc<Store>,
    repository: Repository,
    query: &Query,
) -> Result<Response, Refusal> {
    let page = match query.text("n") {
        None => usize::MAX,
        Some(n) if !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()) => {
            n.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE)
        }
        Some(n) => {
            let why = format!("n must be a number, not {n:?}");
            return Err(Refusal::new(Code::PaginationNumberInvalid, why));
        }
    };
    let name = repository.clone();
    let all = blocking(store, move |store| {
        Ok(if store.has_repository(&name) { Some(all(store, &name)?) } else { None })
    })
    .await?;
    let Some(all) = all else {
        return Err(Refusal::new(Code::NameUnknown, format!("there is no repository {repository}")));
    };
    let (tags, more) = page_of(&all, page, query.text("last"));
    let mut response = json_answer("application/json", &json!({ "name": repository.as_str(), "tags": tags }));
    if let Some(last) = tags.last().filter(|_| more) {
        let link = format!("</v2/{repository}/tags/list?n={page}&last={last}>; rel=\"next\"");
        response.headers_mut().insert(header::LINK, text_value(link));
    }
    Ok(response)
}

/// The tags behind `last`, at most `page` of them, and whether more follow. The order is the specification's: letters
/// regardless of case.
fn page_of(tags: &[Tag], page: usize, last: Option<&str>) -> (Vec<String>, bool) {
    let key = |text: &str| (text.to_ascii_lowercase(), text.to_owned());
    let mut keys: Vec<_> = tags.iter().map(|tag| key(tag.as_str())).collect();
    keys.sort_unstable();
    if let Some(last) = last.map(key) {
        keys.retain(|key| *key > last);
    }
    let more = keys.len() > page;
    keys.truncate(page);
    (keys.into_iter().map(|(_, tag)| tag).collect(), more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_and_miss_nothing() {
        let tags = || ["b", "C", "a", "B", "c1"].map(|tag| tag.parse().unwrap()).to_vec();
        let order = ["a", "B", "b", "C", "c1"];
        assert_eq!(page_of(&tags(), usize::MAX, None), (order.map(str::to_owned).to_vec(), false));
        let (mut seen, mut last) = (Vec::<String>::new(), None);
        loop {
            let (page, more) = page_of(&tags(), 2, last.as_deref());
            last = page.last().cloned();
            seen.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(seen, order);
        assert_eq!(page_of(&tags(), 0, None), (vec![], true));
        assert_eq!(page_of(&tags(), 5, Some("bb")).0, ["C", "c1"]);
        assert_eq!(page_of(&tags(), 5, Some("zz")), (vec![], false));
    }
}
