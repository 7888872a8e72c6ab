//! The names under which a registry is filed by Docker, podman and Kubernetes. Pure.

/// The key under which Docker keeps the credentials of Docker Hub.
pub(super) const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The keys that match `host[:port][/path]`, best first: with and without parts of its path, with and without the default
/// port.
pub(super) fn keys(host: &str) -> Vec<String> {
    let host = normal(host);
    let (authority, path) = host.split_once('/').unwrap_or((host.as_str(), ""));
    let twin = match authority.strip_suffix(":443") {
        Some(name) => name.to_owned(),
        None if has_port(authority) => authority.to_owned(),
        None => format!("{authority}:443"),
    };
    let mut paths = vec![path];
    while let Some((shorter, _)) = paths.last().and_then(|path| path.rsplit_once('/')) {
        paths.push(shorter);
    }
    if !path.is_empty() {
        paths.push("");
    }
    let join = |authority: &str, path: &str| normal(format!("{authority}/{path}").trim_end_matches('/'));
    let mut keys: Vec<String> =
        paths.iter().flat_map(|path| [join(authority, path), join(&twin, path)]).collect();
    keys.dedup();
    keys
}

/// A key as it is compared. One with a scheme is of Docker's making and names a host, whatever path stands behind it
/// (`/v1/`, `/v2/`); one without is podman's and may name a namespace. Docker Hub has several names.
pub(super) fn normal(key: &str) -> String {
    let (bare, names_host) = match key.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (key, false),
    };
    let bare = bare.trim_end_matches('/');
    let (authority, path) = bare.split_once('/').map_or((bare, None), |(a, p)| (a, Some(p)));
    let path = path.filter(|path| !names_host && !matches!(*path, "v1" | "v2"));
    let authority = authority.to_ascii_lowercase();
    let authority = match authority.as_str() {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        other => other,
    };
    path.map_or_else(|| authority.to_owned(), |path| format!("{authority}/{path}"))
}

/// The name under which a store of all credentials knows a registry that no entry names.
pub(super) fn server_name(host: &str) -> &str {
    if normal(host).starts_with("index.docker.io") {
        return DOCKER_HUB;
    }
    let bare = host.split_once("://").map_or(host, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare)
}

/// Whether a key names a namespace below `host`, or another port of it.
pub(super) fn is_near(key: &str, host: &str) -> bool {
    let (key, host) = (normal(key), normal(host));
    let name = |text: &str| text.split(['/', ':']).next().unwrap_or_default().to_owned();
    key != host && !key.is_empty() && name(&key) == name(&host)
}

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_many_names() {
        assert_eq!(keys("r:5000/a/b"), ["r:5000/a/b", "r:5000/a", "r:5000"]);
        assert_eq!(keys("R.example/a"), ["r.example/a", "r.example:443/a", "r.example", "r.example:443"]);
        assert_eq!(keys("[::1]"), ["[::1]", "[::1]:443"]);
        assert_eq!(keys("docker.io")[0], "index.docker.io");
        for (key, expected) in [
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("https://r.example/v2/", "r.example"),
            ("https://r.example/team", "r.example"),
            ("http://r.example:5000", "r.example:5000"),
            ("r.example/v1/", "r.example"),
            ("r.example/team/", "r.example/team"),
        ] {
            assert_eq!(normal(key), expected, "{key}");
        }
        assert_eq!(server_name("registry-1.docker.io"), DOCKER_HUB);
        assert_eq!(server_name("r:5000/team"), "r:5000");
    }

    #[test]
    fn a_namespace_or_another_port_is_near() {
        for (key, near) in
            [("r:5000/team", true), ("r", true), ("r:5000", false), ("other:5000", false), ("", false)]
        {
            assert_eq!(is_near(key, "r:5000"), near, "{key}");
        }
    }
}
