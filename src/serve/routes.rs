//! Which handler answers which request.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};

use super::error::{Refusal, json_answer};
use super::request::{Query, Route};
use super::stats::RouteKind;
use super::store::Store;
use super::{blobs, manifests, referrers, tags, uploads};

/// The registry as a service, for a server of one's own choice.
pub(crate) fn router(store: Arc<Store>) -> Router {
    Router::new().fallback(answer).with_state(store)
}

async fn answer(State(store): State<Arc<Store>>, request: Request) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = Route::parse(&path);
    let endpoint = route.as_ref().map_or(RouteKind::Other, Route::endpoint);
    store.stats().count_request(method.as_str(), endpoint);
    let result = match route {
        Ok(route) => dispatch(&store, route, request).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    tracing::debug!(%method, path, status = response.status().as_u16(), "request");
    // Docker's clients look for it before they believe that this is a registry.
    response
        .headers_mut()
        .insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    response
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
