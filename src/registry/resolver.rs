//! Resolves names as the system does, and tells its two failures apart: a name that does not exist is final, and a resolver
//! that fails for now is an outage.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The resolver of the system.
pub(super) struct SystemResolver;

/// Why a name has no address.
#[derive(Debug)]
pub(super) struct ResolveError {
    name: String,
    is_permanent: bool,
    why: String,
}

impl ResolveError {
    /// Whether the name does not exist.
    pub(super) fn is_permanent(&self) -> bool {
        self.is_permanent
    }

    fn new(name: &str, error: LookupError) -> Self {
        let is_permanent = matches!(error.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData);
        Self { name: name.to_owned(), is_permanent, why: std::io::Error::from(error).to_string() }
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

impl std::error::Error for ResolveError {}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = match tokio::task::spawn_blocking(move || look_up(name.as_str())).await {
                // The run ends, and nobody waits for the answer: that is no failure of the name.
                Err(error) if error.is_cancelled() => std::future::pending().await,
                found => found?,
            };
            found.map(|found| Box::new(found.into_iter()) as Addrs).map_err(Into::into)
        })
    }
}

/// The addresses of a name; why there are none, for people.
pub(crate) async fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let name = name.to_owned();
    let found =
        tokio::task::spawn_blocking(move || look_up(&name)).await.map_err(|error| error.to_string())?;
    Ok(found.map_err(|error| error.to_string())?.into_iter().map(|address| address.ip()).collect())
}

/// The addresses of a name. Blocks.
pub(super) fn look_up(name: &str) -> Result<Vec<SocketAddr>, ResolveError> {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = dns_lookup::getaddrinfo(Some(name), None, Some(hints));
    let found = found.map_err(|error| ResolveError::new(name, error))?;
    Ok(found.filter_map(Result::ok).map(|found| found.sockaddr).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_and_reasons_told_apart() {
        let found = look_up("localhost").unwrap();
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        for (number, is_permanent) in [
            (libc::EAI_NONAME, true),
            (libc::EAI_NODATA, true),
            (libc::EAI_AGAIN, false),
            (libc::EAI_FAIL, false),
        ] {
            let error = ResolveError::new("r.example", LookupError::new(number));
            assert_eq!(error.is_permanent(), is_permanent, "{error}");
            assert!(error.to_string().starts_with("r.example: "), "{error}");
        }
    }

    #[tokio::test]
    async fn the_reason_comes_through_the_http_client() {
        struct Failing(i32);
        impl Resolve for Failing {
            fn resolve(&self, name: Name) -> Resolving {
                let error = ResolveError::new(name.as_str(), LookupError::new(self.0));
                Box::pin(async move { Err(error.into()) })
            }
        }
        for (number, is_permanent) in [(libc::EAI_NONAME, true), (libc::EAI_AGAIN, false)] {
            let client = reqwest::Client::builder().no_proxy().dns_resolver(Failing(number)).build().unwrap();
            let error = client.get("http://r.example/").send().await.unwrap_err();
            let cause = crate::registry::tls::cause_of(&error);
            assert_eq!(
                matches!(cause, crate::registry::cause::Cause::NoSuchName(_)),
                is_permanent,
                "{cause:?}"
            );
            assert_eq!(cause.kind(), crate::registry::FailureKind::Unreachable);
        }
    }
}
