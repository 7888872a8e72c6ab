//! The list of all repositories, and the health check.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::error::{Code, Refusal, json_answer};
use super::pages::{self, Page};
use super::request::Query;
use super::store::{Store, blocking};

/// `GET _catalog`, as Docker's registry has it: names in the order of their bytes.
pub(super) async fn list(store: &Arc<Store>, query: &Query) -> Result<Response, Refusal> {
    let page = Page::of(query)?;
    let _turn = pages::turn(store).await?;
    let mut names = blocking(store, Store::repositories).await?;
    names.sort_unstable();
    if let Some(last) = page.last {
        names.retain(|name| name.as_str() > last);
    }
    let len = page.len.unwrap_or(usize::MAX);
    let more = names.len() > len;
    names.truncate(len);
    let mut response = pages::document(store, "application/json", &json!({ "repositories": names })).await?;
    if let Some(last) = names.last().filter(|_| more) {
        pages::link_next(&mut response, &format!("/v2/_catalog?n={len}&last={last}"));
    }
    Ok(response)
}

/// `GET /healthz`: 200 where the store can be read and, unless it is read-only, takes more.
pub(super) async fn health(store: &Arc<Store>) -> Result<Response, Refusal> {
    blocking(store, Store::check).await.map_err(|refusal| {
        let why = "the store cannot be used; the log says why";
        Refusal::new(Code::Unavailable, why).status(refusal.status.max(StatusCode::SERVICE_UNAVAILABLE))
    })?;
    Ok(json_answer("application/json", &json!({ "status": "ok" })))
}
