//! Tags, and the list of them
//! ([distribution-spec, listing tags](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags)).

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::response::Response;
use serde_json::json;

use super::error::{Code, Refusal};
use super::fsync::{entries, found, remove_durable};
use super::pages::{self, Page};
use super::request::Query;
use super::store::{MAX_LINK_BYTES, Store, blocking};
use crate::oci::{Digest, Repository, Tag};
use crate::small_file;

fn path(store: &Store, repository: &Repository, tag: &Tag) -> PathBuf {
    store.repository(repository).join("_tags").join(tag.as_str())
}

/// The digest a tag points to.
pub(super) fn read(store: &Store, repository: &Repository, tag: &Tag) -> io::Result<Option<Digest>> {
    let text = found(small_file::read_text(&path(store, repository, tag), MAX_LINK_BYTES))?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
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
    let page = Page::of(query)?;
    let _turn = pages::turn(store).await?;
    let name = repository.clone();
    let all = blocking(store, move |store| {
        Ok(if store.has_repository(&name) { Some(all(store, &name)?) } else { None })
    })
    .await?;
    let Some(all) = all else {
        return Err(Refusal::new(Code::NameUnknown, format!("there is no repository {repository}")));
    };
    let len = page.len.unwrap_or(usize::MAX);
    let (tags, more) = page_of(&all, len, page.last);
    let list = json!({ "name": repository.as_str(), "tags": tags });
    let mut response = pages::document(store, "application/json", &list).await?;
    if let Some(last) = tags.last().filter(|_| more) {
        pages::link_next(&mut response, &format!("/v2/{repository}/tags/list?n={len}&last={last}"));
    }
    Ok(response)
}

/// At most `page` tags after `last`, and whether more follow. They are in the order of the specification, which ignores
/// case.
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
