//! Long lists: in pages, and never kept in memory for a slow reader.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::sync::SemaphorePermit;

use super::blobs::{file_body, text_value};
use super::error::{Code, Refusal};
use super::limits::SMALL_BYTES;
use super::request::Query;
use super::store::{Store, blocking};

/// The most entries of a page.
pub(super) const MAX_PAGE: usize = 1000;

/// The page that a client asks for.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// The most entries; none for all.
    pub(super) len: Option<usize>,
    /// The last entry of the page before.
    pub(super) last: Option<&'a str>,
}

impl<'a> Page<'a> {
    pub(super) fn of(query: &'a Query) -> Result<Self, Refusal> {
        let len = match query.text("n") {
            None => None,
            Some(n) if !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()) => {
                Some(n.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE))
            }
            Some(n) => {
                let why = format!("n must be a number, not {n:?}");
                return Err(Refusal::new(Code::PaginationNumberInvalid, why));
            }
        };
        Ok(Self { len, last: query.text("last") })
    }
}

/// Waits for a permit to read or make a document. Few are handled at a time, because a document may take megabytes.
pub(super) async fn turn(store: &Arc<Store>) -> Result<SemaphorePermit<'_>, Refusal> {
    store.documents.acquire().await.map_err(|_| Refusal::new(Code::Unknown, "the registry is shutting down"))
}

/// A document as an answer. A long one waits in an unnamed file until the client has read it.
pub(super) async fn document(
    store: &Arc<Store>,
    content_type: &'static str,
    value: &Value,
) -> Result<Response, Refusal> {
    let text = value.to_string().into_bytes();
    let len = text.len() as u64;
    let body = if text.len() <= SMALL_BYTES {
        Body::from(text)
    } else {
        file_body(blocking(store, move |store| spooled(store, &text)).await?, 0..len)
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(len)),
    ];
    Ok((headers, body).into_response())
}

fn spooled(store: &Store, text: &[u8]) -> io::Result<File> {
    let mut file = store.nameless_file()?;
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// Names the next page.
pub(super) fn link_next(response: &mut Response, path_and_query: &str) {
    let link = text_value(format!("<{path_and_query}>; rel=\"next\""));
    response.headers_mut().insert(header::LINK, link);
}
