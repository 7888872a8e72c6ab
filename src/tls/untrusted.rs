//! Why a server's certificate is not taken, in words: which name, which dates, who would have to vouch for it, and who was
//! asked. Pure.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, OtherError};

use super::authorities::Authorities;
use super::facts::Facts;

/// What is in doubt about a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nobody who is known here signed it.
    Issuer,
    /// It is for other names.
    Name,
    /// It is not valid any more, or not yet.
    Dates,
    /// Its use or its form.
    Certificate,
}

/// Why a server's certificate is not taken, with names and dates.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Untrusted {
    pub(crate) doubt: Doubt,
    text: String,
}

impl Untrusted {
    /// What the verifier said, if an error of rustls is its.
    pub(crate) fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => other.downcast_ref(),
            _ => None,
        }
    }

    /// As the verifier gives it to rustls.
    pub(super) fn into_error(self) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(self))))
    }
}

/// Says why a certificate is not taken: which name, which dates, or who would have to vouch for it.
pub(super) fn explain(
    error: &CertificateError,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    server_name: &ServerName<'_>,
    now: UnixTime,
    given: &[Authorities],
) -> Untrusted {
    use CertificateError as E;
    let host = server_name.to_str();
    let doubt = |doubt, text| Untrusted { doubt, text };
    let Some(leaf) = Facts::read(end_entity) else {
        return doubt(Doubt::Certificate, format!("the certificate of {host} cannot be read: {error}"));
    };
    let whose = format!("the certificate of {host} ({})", leaf.subject);
    let chain: Vec<Facts> = intermediates.iter().filter_map(|der| Facts::read(der)).collect();
    match error {
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
            let of_chain = chain.iter().find_map(|link| Some((link, link.out_of_date(now)?)));
            let text = match (leaf.out_of_date(now), of_chain) {
                (Some(when), _) => format!("{whose} {when}"),
                (None, Some((link, when))) => format!("{whose} is signed by {}, which {when}", link.subject),
                (None, None) => format!("{whose}: {error}"),
            };
            doubt(Doubt::Dates, text)
        }
        E::NotValidForName | E::NotValidForNameContext { .. } if leaf.names.is_empty() => doubt(
            Doubt::Name,
            format!(
                "{whose} has no subject alternative name (SAN), and its common name is not looked at: it must be made anew with {host} in its SAN"
            ),
        ),
        E::NotValidForName | E::NotValidForNameContext { .. }
            if leaf.misplaced.iter().any(|name| name.as_str() == host) =>
        {
            doubt(
                Doubt::Name,
                format!(
                    "{whose} has {host} as a DNS name among its subject alternative names, where an address must stand as an \
                     address (openssl: IP:{host}, not DNS:{host})"
                ),
            )
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            doubt(Doubt::Name, format!("{whose} is not valid for {host}, but for {}", leaf.hosts()))
        }
        E::UnknownIssuer | E::BadSignature => {
            doubt(Doubt::Issuer, format!("{whose} {}", unknown_issuer(&leaf, &chain, given)))
        }
        // The verifier's word for a certificate that signed itself; it was not given, or it would have been taken.
        E::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
            doubt(Doubt::Issuer, format!("{whose} {}", unknown_issuer(&leaf, &chain, given)))
        }
        other => doubt(Doubt::Certificate, format!("{whose} cannot be used: {other}")),
    }
}

/// Who would have to vouch, and who was asked.
fn unknown_issuer(leaf: &Facts, chain: &[Facts], given: &[Authorities]) -> String {
    let mut last = leaf;
    // A chain is never longer than what was sent.
    for _ in chain {
        match chain.iter().find(|link| link.subject == last.issuer && last.subject != last.issuer) {
            Some(link) => last = link,
            None => break,
        }
    }
    let by = &last.issuer;
    let signed = if leaf.subject == leaf.issuer {
        "signed itself".to_owned()
    } else if last == leaf {
        format!("is signed by {by}")
    } else {
        format!("is signed, through {}, by {by}", last.subject)
    };
    if given.is_empty() {
        return format!("{signed}, which no authority of this system is");
    }
    let namesake = given.iter().find(|file| file.has(by));
    let files: Vec<String> = given.iter().map(Authorities::to_string).collect();
    match namesake {
        Some(file) => format!(
            "{signed}; {} has an authority of that name with another key, perhaps an older or a newer one",
            file.name()
        ),
        None => {
            format!("{signed}; {} did not sign it, nor did an authority of this system", files.join(", "))
        }
    }
}
