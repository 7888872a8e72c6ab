//! Prefixes and locations: what an image's name is held against, and what it is made of it.

use super::table::RegistryTable;
use super::{reference, refused};
use crate::document::{Position, Severity};
use crate::node::lint::{FileFindings, url};

pub(super) fn prefix_form(findings: &mut FileFindings<'_>, prefix: &str, at: Position) {
    let never = "no image matches it: the mirror is never asked".to_owned();
    let parts = url::parts(prefix);
    if parts.scheme.is_some() {
        let fix = format!("write {:?}", format!("{}{}", parts.authority, parts.path));
        refused(findings, "scheme-in-location", at, format!("the prefix {prefix} has a scheme"), fix);
    } else if prefix.starts_with("*.") && prefix.contains(['/', '@', ':']) {
        let what = format!("the prefix {prefix:?} has a wildcard, and a path or a port");
        refused(
            findings,
            "bad-wildcard",
            at,
            what,
            "a wildcard is for subdomains alone, as *.gcr.io".to_owned(),
        );
    } else if prefix.contains('*') && !prefix.starts_with("*.") {
        let what = format!("a wildcard stands in the prefix {prefix:?} where it is none");
        let fix = "a wildcard comes first, for subdomains alone, as *.gcr.io".to_owned();
        findings.error("bad-wildcard", at, [what, never, fix]);
    } else if !prefix.contains('*')
        && !url::is_registry_name(parts.authority)
        && parts.authority == parts.authority.to_lowercase()
    {
        let what =
            format!("{prefix} is not the name of a registry: an image {prefix}/a is docker.io/{prefix}/a");
        let fix = "write the registry's whole name with its port, as images have it".to_owned();
        findings.error("wrong-registry-name", at, [what, never, fix]);
    } else if url::is_docker_alias(parts.authority) {
        let what = format!("runtimes call {} docker.io", parts.authority);
        findings.error("wrong-registry-name", at, [what, never, "write prefix = \"docker.io\"".to_owned()]);
    } else if parts.authority == "docker.io" && parts.segments().len() == 1 && parts.segments() != ["library"]
    {
        let words = [
            format!("{prefix} is the image docker.io/library{} to the runtime", parts.path),
            "the prefix matches only images of that user or organisation: for an official image, none"
                .to_owned(),
            format!("for the official image, write prefix = \"docker.io/library{}\"", parts.path),
        ];
        findings.add(Severity::Note, "library-missing", at, words);
    }
}

/// The registry that is asked for what the mirrors lack, where only the mirrors may be asked.
pub(super) fn asks_upstream(findings: &mut FileFindings<'_>, registry: &RegistryTable<'_>) {
    let host = |name: &str| url::parts(name).authority.to_owned();
    let is_upstream = host(registry.location) == host(registry.prefix) || registry.location.is_empty();
    if registry.mirrors.is_empty() || registry.flag("blocked") || !is_upstream {
        return;
    }
    let words = [
        format!("{} itself is asked last", registry.prefix),
        "a pull that the mirrors cannot serve goes out of the site, or waits for nothing".to_owned(),
        "write blocked = true in this [[registry]]: mirrors are asked all the same".to_owned(),
    ];
    findings.warning("asks-upstream", registry.node.at, words);
}

impl RegistryTable<'_> {
    /// A place of images: no scheme, no path of the API, and a name with whatever follows.
    pub(super) fn place(&self, findings: &mut FileFindings<'_>, location: &str, at: Position) {
        let parts = url::parts(location);
        let right = || {
            let namespace = parts.namespace();
            let namespace = if namespace.is_empty() { namespace } else { format!("/{namespace}") };
            format!("write location = \"{}{namespace}\"", parts.authority)
        };
        let is_own = location == self.location;
        if parts.scheme.is_some() {
            let what = format!("{} has a scheme", parts.shown());
            return refused(findings, "scheme-in-location", at, what, right());
        }
        if parts.segments().contains(&"v2") {
            let effect = "the runtime puts /v2 in front by itself: it asks for a repository whose name begins with v2, which is not there".to_owned();
            let what = format!("{} holds the path of the API", parts.shown());
            return findings.error("double-v2", at, [what, effect, right()]);
        }
        if location.starts_with("*.") && self.prefix == location {
            let what = format!("the location {location} is a wildcard, which prefixes alone may be");
            let effect = "every pull of an image that it matches fails: the location is no name".to_owned();
            let fix = format!("write prefix = {location:?}, and no location");
            return findings.error("bad-wildcard", at, [what, effect, fix]);
        }
        let whole = reference::has_tag(self.prefix);
        let one_part = url::parts(self.prefix).path.len() > 1 && !whole;
        let Some(why) = reference::fault(location, one_part, whole) else { return };
        // Without a mirror, a name that no image has changes nothing.
        if is_own
            && self.prefix == location
            && self.mirrors.is_empty()
            && !url::is_registry_name(parts.authority)
        {
            let words = [
                format!("the location {location} matches no image: {why}"),
                "what stands here counts for nothing".to_owned(),
                "write the registry's whole name with its port, as images have it".to_owned(),
            ];
            return findings.warning("not-a-name", at, words);
        }
        let fix = match url::parts(location).authority {
            "index.docker.io" | "docker.io" => "write location = \"docker.io/library\" for official images, or leave the path out of the prefix".to_owned(),
            _ => "write location = \"HOST:PORT[/NAMESPACE]\", in small letters and without a tag".to_owned(),
        };
        let words = [
            format!("no name of an image can begin with the location {location}: {why}"),
            format!("every pull of {} fails before anybody is asked, the upstream included", self.prefix),
            fix,
        ];
        findings.error("not-a-name", at, words);
    }
}
