//! Certificates: PEM files as people have them, whom a server's certificate must be signed by, and who we are to a server
//! that asks. The only room that reads PEM and X.509; it knows no registry and no node.
//!
//! What one file holds that cannot be used is noted with its line, and the rest of the file is used.

mod authorities;
mod client_certificate;
mod facts;
mod mistaken;
mod pem;
mod trust;
mod untrusted;

pub(crate) use authorities::Authorities;
pub(crate) use client_certificate::ClientCertificate;
pub(crate) use trust::{TrustedBy, client_config, system_authorities};
pub(crate) use untrusted::{Doubt, Untrusted};

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::error::{printable, system_words};
use crate::small_file;

/// A company's whole bundle has some hundred kilobytes.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// A file that does not hold what it was given for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name}: {}", printable(.why))]
pub(crate) struct BadFile {
    /// The file.
    pub(crate) name: String,
    /// What is wrong with it.
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The operating system's own word, where the file could not be read.
    pub(crate) io: Option<std::io::ErrorKind>,
}

impl BadFile {
    fn new(name: &str, why: impl Into<String>) -> Self {
        Self { name: name.to_owned(), why: why.into(), hint: None, io: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Whom a certificate is of, and until when it holds.
pub(crate) fn dates(der: &[u8]) -> Option<(String, jiff::Timestamp)> {
    let facts = facts::Facts::read(der)?;
    Some((facts.subject.to_string(), jiff::Timestamp::from_second(facts.not_after).ok()?))
}

fn read(path: &Path) -> Result<Vec<u8>, BadFile> {
    small_file::read(path, MAX_PEM_BYTES).map_err(|error| BadFile {
        io: Some(error.kind()),
        ..BadFile::new(&path.display().to_string(), system_words(&error))
            .hint("name a file in PEM form that this user may read")
    })
}

fn provider() -> Arc<CryptoProvider> {
    let installed = CryptoProvider::get_default().cloned();
    installed.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}
