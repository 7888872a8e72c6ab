//! The path of a mirror's endpoint in the configuration of nodes, `/v2[/NAMESPACE]`. Pure.
//!
//! containerd uses the path of an endpoint as it stands: a request is `ENDPOINT/REPOSITORY/manifests/TAG`, and only an
//! endpoint without any path gets `/v2` ([registry.md](https://github.com/containerd/containerd/blob/v1.7.0/docs/cri/registry.md)).
//! Hence `/v2` has to be written before a namespace, and `https://HOST/` is not `https://HOST`.

/// Why a path does not lead to a registry's API. Each but the first has the namespace that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiPathFault {
    /// It is `/`.
    Root,
    /// `/v2` stands in it twice.
    Twice(String),
    /// `/v2` stands behind the namespace.
    Behind(String),
    /// There is no `/v2`.
    Missing(String),
}

/// The namespace behind `/v2/` in a path, which is what stands behind the first slash after the host, if there is one.
///
/// # Errors
/// A path that no registry answers at.
pub(crate) fn namespace_of(path: Option<&str>) -> Result<Option<String>, ApiPathFault> {
    let Some(path) = path else { return Ok(None) };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Err(ApiPathFault::Root),
        ["v2", "v2", rest @ ..] => Err(ApiPathFault::Twice(rest.join("/"))),
        ["v2"] => Ok(None),
        ["v2", rest @ ..] => Ok(Some(rest.join("/"))),
        [before @ .., "v2"] => Err(ApiPathFault::Behind(before.join("/"))),
        rest => Err(ApiPathFault::Missing(rest.join("/"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_stands_behind_v2() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        for (path, expected) in [
            (None, Ok(None)),
            (Some("v2"), Ok(None)),
            (Some("v2/"), Ok(None)),
            (Some("v2/a/b/"), some("a/b")),
            (Some(""), Err(ApiPathFault::Root)),
            (Some("v2/v2/a"), Err(ApiPathFault::Twice("a".to_owned()))),
            (Some("a/v2"), Err(ApiPathFault::Behind("a".to_owned()))),
            (Some("a/b"), Err(ApiPathFault::Missing("a/b".to_owned()))),
        ] {
            assert_eq!(namespace_of(path), expected, "{path:?}");
        }
    }
}
