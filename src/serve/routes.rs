//! Which handler answers which request.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::Method;
use axum::response::{IntoResponse, Response};

use super::error::{Refusal, json_answer};
use super::request::{Query, Route};
use super::store::Store;
use super::{blobs, catalog, manifests, referrers, tags, uploads};

/// The answer of the registry.
pub(super) async fn answer(store: &Arc<Store>, request: Request) -> Response {
    let route = Route::parse(request.uri().path());
    let result = match route {
        Ok(route) => dispatch(store, route, request).await,
        Err(refusal) => Err(refusal),
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

async fn dispatch(store: &Arc<Store>, route: Route, request: Request) -> Result<Response, Refusal> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let (head, body) = request.into_parts();
    let (method, headers) = (head.method, head.headers);
    match route {
        Route::Base => match method {
            Method::GET | Method::HEAD => Ok(json_answer("application/json", &serde_json::json!({}))),
            _ => Err(Refusal::method("GET, HEAD")),
        },
        Route::Health => match method {
            Method::GET | Method::HEAD => catalog::health(store).await,
            _ => Err(Refusal::method("GET, HEAD")),
        },
        Route::Catalog => match method {
            Method::GET => catalog::list(store, &query).await,
            _ => Err(Refusal::method("GET")),
        },
        Route::Blob(repository, digest) => match method {
            Method::GET | Method::HEAD => blobs::fetch(store, repository, digest, &method, &headers).await,
            Method::DELETE => blobs::delete(store, repository, digest).await,
            _ => Err(Refusal::method("GET, HEAD, DELETE")),
        },
        Route::Uploads(repository) => match method {
            Method::POST => uploads::start(store, repository, &query, body).await,
            _ => Err(Refusal::method("POST")),
        },
        Route::Upload(repository, id) => match method {
            Method::GET => uploads::status(store, repository, id).await,
            Method::PATCH => uploads::append(store, repository, id, &headers, body).await,
            Method::PUT => uploads::finish(store, repository, id, &query, &headers, body).await,
            Method::DELETE => uploads::cancel(store, repository, id).await,
            _ => Err(Refusal::method("GET, PATCH, PUT, DELETE")),
        },
        Route::Manifest(repository, target) => match method {
            Method::GET | Method::HEAD => manifests::fetch(store, repository, target, &method).await,
            Method::PUT => manifests::store(store, repository, target, &query, &headers, body).await,
            Method::DELETE => manifests::delete(store, repository, target).await,
            _ => Err(Refusal::method("GET, HEAD, PUT, DELETE")),
        },
        Route::Tags(repository) => match method {
            Method::GET => tags::list(store, repository, &query).await,
            _ => Err(Refusal::method("GET")),
        },
        Route::Referrers(repository, subject) => match method {
            Method::GET => referrers::list(store, repository, subject, &query).await,
            _ => Err(Refusal::method("GET")),
        },
    }
}
