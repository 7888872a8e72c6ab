//! What a certificate states, for messages. Whether it is trusted is decided in `trust`.

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use crate::error::printable;

/// How many names of a certificate are shown.
const MAX_SHOWN: usize = 8;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) subject: Name,
    pub(super) issuer: Name,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// The subject alternative names, DNS names and addresses.
    pub(super) names: Vec<String>,
    /// Those of them that are DNS names and read like addresses, which nobody takes for addresses.
    pub(super) misplaced: Vec<String>,
    /// The public key, as it stands in it.
    pub(super) public_key: Vec<u8>,
}

/// A distinguished name: as bytes to compare, as text to show.
#[derive(Debug, Clone)]
pub(super) struct Name {
    raw: Vec<u8>,
    text: String,
}

impl Name {
    /// As it stands in the certificate.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Name {}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.text.is_empty() { "(no name)" } else { &self.text })
    }
}

impl From<&X509Name<'_>> for Name {
    fn from(name: &X509Name<'_>) -> Self {
        let text: String = printable(&name.to_string()).chars().take(200).collect();
        Self { raw: name.as_raw().to_vec(), text }
    }
}

impl Facts {
    /// Reads a certificate of any version; `None` if it is none.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            subject: certificate.subject().into(),
            issuer: certificate.issuer().into(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            names: names(&certificate),
            misplaced: misplaced(&certificate),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Why it does not hold at a time, if so, with the dates.
    pub(super) fn out_of_date(&self, now: UnixTime) -> Option<String> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let clock = format!("the clock of this machine says {}", date(now));
        if now > self.not_after {
            Some(format!("expired on {}; {clock}", date(self.not_after)))
        } else if now < self.not_before {
            Some(format!("is not valid before {}; {clock}", date(self.not_before)))
        } else {
            None
        }
    }

    /// Until when it holds, as a date.
    pub(super) fn until(&self) -> String {
        date(self.not_after)
    }

    /// The hosts that it is for, in words.
    pub(super) fn hosts(&self) -> String {
        let shown =
            self.names.iter().take(MAX_SHOWN).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
        match self.names.len().saturating_sub(MAX_SHOWN) {
            0 => shown,
            more => format!("{shown} and {more} more"),
        }
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn misplaced(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) if name.parse::<std::net::IpAddr>().is_ok() => Some((*name).to_owned()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(address).collect()
}

/// A time as `2026-11-27 13:35 UTC`.
fn date(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds);
    time.map_or_else(
        |_| "a time that no calendar has".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}
