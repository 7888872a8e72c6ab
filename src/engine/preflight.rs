//! Checks the day before a run whether a mirror could be filled: the network, certificates and their dates, the login, the
//! clock, and the right to push. It opens upload sessions to learn that, cancels them, and sends no content.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::MirrorSettings;
use super::failure;
use crate::clock;
use crate::oci::Repository;
use crate::registry::{
    ConnectStep, Credential, Endpoint, FailureKind, Greeting, Registry, RegistryError, Scheme, addresses,
};
use crate::report::document::{Aspect, CheckEntry, CheckState};
use crate::report::{Class, Failure};
use crate::tls;

/// Certificates that expire sooner are named.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 86_400);
/// Tokens and signatures are refused by a clock that is off by more.
const MAX_SKEW: Duration = Duration::from_secs(60);
/// Sessions that are opened at the same time.
const AT_ONCE: usize = 4;

/// Checks one mirror. `repositories` are those that a run would fill, with their namespace.
pub(crate) async fn look(settings: MirrorSettings, repositories: &[Repository]) -> Vec<CheckEntry> {
    let mut entries = Vec::new();
    let credential = settings.client.credential.as_ref().map(Credential::who);
    let authorities: Vec<CheckEntry> = settings.client.authorities.iter().flat_map(authority_dates).collect();
    let endpoint = settings.target.endpoint;
    let registry = match Registry::connect(&endpoint, settings.client).await {
        Ok(registry) => registry,
        Err(error) => {
            // One that has expired may be why.
            entries.extend(authorities);
            entries.extend(refused(&endpoint, &error).await);
            return entries;
        }
    };
    let encrypted = registry.endpoint().scheme() == Scheme::Https;
    if encrypted {
        entries.extend(authorities);
    }
    let how = if encrypted { "over TLS" } else { "in clear text, without TLS" };
    entries.push(good(Aspect::Connection, format!("{} answers {how}", registry.endpoint())));
    if let Some(Greeting { date, at, certificate, .. }) = registry.greeting() {
        let certificate = certificate.as_deref().and_then(tls::dates);
        let of_registry =
            |(who, until): (String, Timestamp)| dates(&format!("of the registry ({who})"), until);
        entries.extend(certificate.map(of_registry));
        entries.extend(date.map(|date| clocks(date, at)));
    }
    let who = credential.unwrap_or_else(|| "without credentials".to_owned());
    entries.push(good(Aspect::Login, format!("let in: {who}")));
    entries.extend(pushing(&registry, repositories).await);
    entries
}

/// Whether sessions can be opened in the repositories: the right to push, and whether they, or the projects that they would be
/// in, are there.
async fn pushing(registry: &Registry, repositories: &[Repository]) -> Vec<CheckEntry> {
    let open = |repository: &Repository| {
        let repository = repository.clone();
        async move {
            let opened = registry.start_upload(&repository).await;
            match opened {
                Ok(session) => {
                    session.cancel().await;
                    (repository, Ok(()))
                }
                Err(error) => (repository, Err(error)),
            }
        }
    };
    let tried: Vec<(Repository, Result<(), RegistryError>)> =
        stream::iter(repositories.iter().map(open)).buffered(AT_ONCE).collect().await;
    let (mut missing, mut refusals, mut fine) = (Vec::new(), Vec::new(), 0);
    for (repository, opened) in tried {
        match opened {
            Ok(()) => fine += 1,
            Err(error) if error.kind() == FailureKind::NotFound => missing.push(repository.to_string()),
            Err(error) => refusals.push((repository, error)),
        }
    }
    let mut entries = Vec::new();
    if let Some((repository, error)) = refusals.first() {
        let more = refusals.len() - 1;
        let more =
            if more == 0 { String::new() } else { format!(" (and {} more)", repositories_in_words(more)) };
        let failure = Failure::from(error);
        let failure = Failure { message: format!("{repository}: {}{more}", failure.message), ..failure };
        entries.push(CheckEntry::failed(Aspect::Push, failure));
    } else if fine > 0 {
        entries.push(good(Aspect::Push, format!("may push to {}", repositories_in_words(fine))));
    }
    if let Some(first) = missing.first() {
        let count = missing.len();
        let failure = Failure::new(
            Class::NotFound,
            format!(
                "{}, or projects that they would be in, not there: {first} is the first",
                repositories_in_words(count)
            ),
        );
        entries.push(CheckEntry {
            repositories: missing,
            ..CheckEntry::failed(
                Aspect::Repositories,
                failure.hint("make them (plan --repositories lists all), or give on_missing_repository a command that does"),
            )
        });
    }
    entries
}

fn repositories_in_words(number: usize) -> String {
    if number == 1 { "1 repository".to_owned() } else { format!("{number} repositories") }
}

/// What stands in the way of talking to a registry at all, and the steps before it that went well.
async fn refused(endpoint: &Endpoint, error: &RegistryError) -> Vec<CheckEntry> {
    let failed = |what| CheckEntry::failed(what, failure::of_connection(error));
    let mut entries = Vec::new();
    if error.step() == ConnectStep::Name {
        return vec![failed(Aspect::Name)];
    }
    if let Some(name) = endpoint.name() {
        match addresses(name).await {
            Ok(found) => entries.push(good(Aspect::Name, format!("{name} is {}", listed(&found)))),
            // The resolver fails for now, which is no word about the name.
            Err(_) if error.step() == ConnectStep::Connection => return vec![failed(Aspect::Name)],
            // A proxy asks for it.
            Err(_) => {}
        }
    }
    let answers = || good(Aspect::Connection, format!("{} takes connections", endpoint.authority()));
    match error.step() {
        ConnectStep::Tls => entries.extend([answers(), failed(Aspect::Tls)]),
        ConnectStep::Certificate => entries.extend([answers(), failed(Aspect::Certificate)]),
        ConnectStep::Login => entries.extend([answers(), failed(Aspect::Login)]),
        ConnectStep::Name | ConnectStep::Connection | ConnectStep::Answer => {
            entries.push(failed(Aspect::Connection));
        }
    }
    entries
}

fn listed(addresses: &[IpAddr]) -> String {
    let mut addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.dedup();
    addresses.join(", ")
}

/// Of each certificate in a file of authorities.
fn authority_dates(authorities: &tls::Authorities) -> Vec<CheckEntry> {
    let dates_of = |(who, until): (String, Timestamp)| dates(&format!("in ca_file ({who})"), until);
    authorities.dates().into_iter().map(dates_of).collect()
}

fn dates(who: &str, until: Timestamp) -> CheckEntry {
    let now = clock::timestamp();
    let message = format!("{who}: valid until {}", until.strftime("%Y-%m-%d"));
    let soon = now + EXPIRES_SOON;
    if until <= now {
        CheckEntry::failed(
            Aspect::Certificate,
            Failure::new(Class::Tls, format!("{message}: it has expired")).hint("renew it"),
        )
    } else if until <= soon {
        CheckEntry {
            state: CheckState::Warning,
            ..good(Aspect::Certificate, format!("{message}: renew it soon"))
        }
    } else {
        good(Aspect::Certificate, message)
    }
}

fn clocks(theirs: Timestamp, ours: Timestamp) -> CheckEntry {
    let skew = theirs.duration_since(ours);
    let seconds = skew.as_secs().unsigned_abs();
    if seconds <= MAX_SKEW.as_secs() {
        return good(Aspect::Clock, "agrees with that of the registry".to_owned());
    }
    let side = if skew.is_negative() { "behind" } else { "ahead of" };
    let message = format!("the clock of the registry is {seconds} s {side} that of this machine");
    CheckEntry { state: CheckState::Warning, ..good(Aspect::Clock, message) }
}

fn good(what: Aspect, message: String) -> CheckEntry {
    CheckEntry { what, state: CheckState::Good, message, class: None, hint: None, repositories: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn clocks_that_disagree_are_named_with_their_difference() {
        for (theirs, state, said) in [
            (1000, CheckState::Good, "agrees"),
            (1060, CheckState::Good, "agrees"),
            (1090, CheckState::Warning, "90 s ahead of"),
            (700, CheckState::Warning, "300 s behind"),
        ] {
            let entry = clocks(at(theirs), at(1000));
            assert!(entry.state == state && entry.message.contains(said), "{entry:?}");
        }
    }

    #[test]
    fn a_certificate_is_named_before_it_expires() {
        let now = clock::timestamp();
        for (days, state) in [(-1, CheckState::Failed), (5, CheckState::Warning), (90, CheckState::Good)] {
            let entry = dates("CN=x", now + jiff::Span::new().hours(24 * days));
            assert_eq!(entry.state, state, "{entry:?}");
        }
    }
}
