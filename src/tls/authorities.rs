//! A file of certificates whose signatures are to be trusted.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::facts::{Facts, Name};
use super::pem::{self, Block, BlockContent};
use super::{BadFile, mistaken};

/// How many certificates of a file are named in messages.
const MAX_NAMED: usize = 3;

/// The certificates of one file whose signatures are to be trusted; there is at least one.
#[derive(Debug, Clone)]
pub struct Authorities {
    name: String,
    certificates: Vec<CertificateDer<'static>>,
    notes: Vec<String>,
    holds_key: bool,
}

impl Authorities {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or there is no certificate in it that can be used.
    pub(crate) fn read(path: &Path) -> Result<Self, BadFile> {
        Self::parse(&path.display().to_string(), &super::read(path)?)
    }

    /// Takes the certificates out of what is in a file. Pure.
    ///
    /// # Errors
    /// There is no certificate in it that can be used.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Self, BadFile> {
        let blocks = pem::blocks(bytes);
        let holds_key =
            blocks.iter().any(|it| matches!(it.content, BlockContent::Key(_) | BlockContent::EncryptedKey));
        let (mut certificates, mut notes) = (Vec::new(), Vec::new());
        for Block { line, label, content } in blocks {
            let unusable = match content {
                BlockContent::Certificate(certificate) => {
                    match RootCertStore::empty().add(certificate.clone()) {
                        Ok(()) => {
                            certificates.push(certificate);
                            continue;
                        }
                        Err(error) => match Facts::read(&certificate) {
                            Some(facts) => format!("the certificate of {}: {error}", facts.subject),
                            None => "the certificate is cut or damaged".to_owned(),
                        },
                    }
                }
                BlockContent::Damaged(why) => format!("the block {label}: {why}"),
                BlockContent::Key(_) | BlockContent::EncryptedKey | BlockContent::Other => continue,
            };
            notes.push(format!("{name}:{line}: {unusable}"));
        }
        if certificates.is_empty() {
            return Err(nothing(name, bytes, &notes, holds_key));
        }
        let notes = notes.into_iter().map(|note| format!("{note}; it is left out")).collect();
        Ok(Self { name: name.to_owned(), certificates, notes, holds_key })
    }

    /// The file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What of the file cannot be used, each with its line.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether there is a private key in the file beside the certificates.
    pub(crate) fn holds_key(&self) -> bool {
        self.holds_key
    }

    /// The certificates as PEM, with nothing else in it.
    pub(crate) fn pem(&self) -> String {
        pem::text(self.certificates.iter())
    }

    /// Whom each of them is of, and until when it holds.
    pub(crate) fn dates(&self) -> Vec<(String, jiff::Timestamp)> {
        self.certificates.iter().filter_map(|der| super::dates(der)).collect()
    }

    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Whether one of them has this name.
    pub(super) fn has(&self, subject: &Name) -> bool {
        self.certificates.iter().filter_map(|der| Facts::read(der)).any(|facts| facts.subject == *subject)
    }
}

/// The file and whom it is of, as `ca.crt (CN=Acme Root CA)`.
impl std::fmt::Display for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let facts = self.certificates.iter().take(MAX_NAMED).filter_map(|der| Facts::read(der));
        let mut names: Vec<String> = facts.map(|facts| facts.subject.to_string()).collect();
        if self.certificates.len() > MAX_NAMED {
            names.push(format!("{} more", self.certificates.len() - MAX_NAMED));
        }
        write!(f, "{} ({})", self.name, names.join("; "))
    }
}

fn nothing(name: &str, bytes: &[u8], notes: &[String], holds_key: bool) -> BadFile {
    if !notes.is_empty() {
        return BadFile::new(name, format!("no certificate in it can be used: {}", notes.join("; ")))
            .hint(format!("openssl x509 -in {name} -noout -text says what it finds in it"));
    }
    if holds_key {
        return BadFile::new(name, "there is a private key in it, and no certificate");
    }
    let (what, fix) = mistaken::identify(bytes, name);
    let bad = BadFile::new(name, format!("there is no certificate in PEM form in it: {what}"));
    match fix {
        Some(fix) => bad.hint(fix),
        None => bad
            .hint("give the certificate of the authority as PEM: it begins with -----BEGIN CERTIFICATE-----"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn named(name: &str) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn what_cannot_be_used_is_noted_with_its_line_and_the_rest_counts() {
        let (good, other) = (named("Acme"), named("Other"));
        let mut lines: Vec<&str> = other.lines().collect();
        lines.remove(3);
        let cut = lines.join("\n");
        let text = format!("# ours\n{cut}\n{good}");
        let read = Authorities::parse("ca.crt", text.as_bytes()).unwrap();
        assert_eq!(read.certificates().len(), 1);
        assert_eq!(read.to_string(), "ca.crt (CN=Acme)");
        assert_eq!(read.notes(), ["ca.crt:2: the certificate is cut or damaged; it is left out"]);
        let read =
            Authorities::parse("ca.crt", format!("{good}{other}{good}{good}{good}").as_bytes()).unwrap();
        assert_eq!(read.to_string(), "ca.crt (CN=Acme; CN=Other; CN=Acme; 2 more)");
    }

    #[test]
    fn a_file_without_a_certificate_is_refused_with_what_it_is() {
        let key = KeyPair::generate().unwrap().serialize_pem();
        for (text, expected) in [
            ("", "it is empty"),
            ("<html>", "HTML"),
            (key.as_str(), "private key in it, and no certificate"),
            ("-----BEGIN CERTIFICATE-----\nMAMC", "no certificate in it can be used: ca.crt:1: "),
        ] {
            let error = Authorities::parse("ca.crt", text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}, not {expected}");
        }
    }
}
