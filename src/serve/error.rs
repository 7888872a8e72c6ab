//! Errors: of the server itself ([`ServeError`]), and of one request ([`Refusal`], the specification's JSON).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::{is_full, system_words};
use crate::oci::Digest;

/// The registry cannot be started, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address that other machines can reach, and no permission to serve them.
    #[error(
        "refusing to serve on {0}: anybody who can reach it could push and pull; listen on a loopback address, or allow \
         it with --anonymous"
    )]
    NotLoopback(SocketAddr),
    /// Another process writes to the folder.
    #[error("{0}: another process serves this folder and writes to it")]
    Locked(PathBuf),
    /// The folder holds something else.
    #[error("{0}: this folder holds other files ({1}) and no store of layercast")]
    Foreign(PathBuf, String),
    /// There is nothing to read.
    #[error("{0}: there is no store in this folder")]
    NoStore(PathBuf),
    /// A later version made the store.
    #[error("{0}: a later version of layercast made this store (layout {1:?})")]
    Newer(PathBuf, String),
    /// An operation of the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// The step, and the path or address.
        what: String,
        /// The error of the system.
        source: io::Error,
    },
}

impl ServeError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// The codes of the specification, and those that its most used implementation adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    TooManyRequests,
    Unavailable,
    Unknown,
    Unsupported,
}

impl Code {
    const fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown | Self::BlobUploadUnknown | Self::ManifestUnknown | Self::NameUnknown => {
                StatusCode::NOT_FOUND
            }
            Self::Denied => StatusCode::FORBIDDEN,
            Self::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unavailable => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request that is refused, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    code: Code,
    message: String,
    /// One error each in the answer; one error without detail where there are none.
    details: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// No path of this API.
    pub(super) fn no_such_path() -> Self {
        Self::new(Code::Unsupported, "no such path in this registry").status(StatusCode::NOT_FOUND)
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        Self::new(Code::Unsupported, "this method is not supported here")
            .header(header::ALLOW, HeaderValue::from_static(allowed))
    }

    pub(super) fn missing_blobs(digests: &[Digest]) -> Self {
        let mut refusal = Self::new(Code::ManifestBlobUnknown, "the manifest names content that is not here");
        refusal.details = digests.iter().take(100).map(|digest| json!(digest)).collect();
        refusal
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn headers(mut self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        self.headers.extend(headers);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// An error of the file system. Its text goes to the log, not to the client.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        tracing::error!("a file of the store cannot be read or written: {}", system_words(&error));
        if is_full(&error) {
            return Self::new(Code::Unavailable, "the registry has no room left on its disk");
        }
        Self::new(Code::Unknown, "the registry cannot read or write its files; its log says why")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code.text();
        let errors: Vec<Value> = if self.details.is_empty() {
            vec![json!({ "code": code, "message": self.message })]
        } else {
            let one = |detail| json!({ "code": code, "message": &self.message, "detail": detail });
            self.details.iter().map(one).collect()
        };
        let mut response = json_answer("application/json", &json!({ "errors": errors }));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}

/// A 200 with a JSON body.
pub(super) fn json_answer(content_type: &'static str, value: &Value) -> Response {
    let body = Body::from(value.to_string());
    ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response()
}
