//! URLs as they may be shown.

use url::Url;

/// Scheme, host and path, and of the query only what is known to be no secret: upload locations and the URLs of object
/// stores carry signatures there. The path of an upload is cut, because its identifier is a permission to write.
pub(super) fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = url.path();
    let upload = ["/uploads/", "/upload/"].iter().find_map(|part| Some(path.find(part)? + part.len()));
    let (path, cut) = match upload {
        Some(end) if path.len() > end => (&path[..end], "…"),
        _ => (path, ""),
    };
    let shown =
        |key: &str| matches!(key, "mount" | "from" | "digest" | "n" | "last" | "ns" | "scope" | "service");
    let query: Vec<String> = url
        .query_pairs()
        .map(|(key, value)| if shown(&key) { format!("{key}={value}") } else { "…".to_owned() })
        .collect();
    let question = if query.is_empty() { "" } else { "?" };
    format!("{}://{host}{port}{path}{cut}{question}{}", url.scheme(), query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_may_be_a_secret_is_shown() {
        for (url, expected) in [
            (
                "https://u:p@r.example:5/v2/a/blobs/uploads/uuid-1?_state=secret&digest=sha256%3A1",
                "https://r.example:5/v2/a/blobs/uploads/…?…&digest=sha256:1",
            ),
            ("https://r.example/v2/a/blobs/uploads/?from=b", "https://r.example/v2/a/blobs/uploads/?from=b"),
            ("https://s3.example/x?X-Amz-Signature=1&sig=2#frag", "https://s3.example/x?…&…"),
            ("http://[::1]:5000/v2/a?ns=gcr.io", "http://[::1]:5000/v2/a?ns=gcr.io"),
        ] {
            assert_eq!(redacted(&Url::parse(url).unwrap()), expected);
        }
    }
}
