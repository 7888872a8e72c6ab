//! Who we are to a server that asks for a certificate.
//!
//! Pairs are taken as Go's `tls.X509KeyPair` takes them, because that is what container runtimes use: the first key of the
//! key's file, all certificates of the other one, which may be the same file, and a certificate of any version. rustls
//! itself would refuse X.509 version 1, which a server may well accept.

use std::path::Path;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::facts::Facts;
use super::pem::{self, BlockContent};
use super::{BadFile, mistaken};

/// A client certificate with its chain and its key.
#[derive(Clone)]
pub struct ClientCertificate {
    name: String,
    /// Until when it holds.
    until: String,
    certified: Arc<CertifiedKey>,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCertificate({})", self.name)
    }
}

impl ClientCertificate {
    /// The certificate with its chain (DER).
    pub(crate) fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.certified.cert.iter().map(AsRef::as_ref)
    }

    /// Reads a certificate and its key, from two files or twice from the same one.
    ///
    /// # Errors
    /// A file cannot be read, does not hold what it should, or the key is not that of the certificate.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, BadFile> {
        let name = |path: &Path| path.display().to_string();
        let (chain, secret) = (super::read(certificate)?, super::read(key)?);
        Self::parse((&name(certificate), &chain), (&name(key), &secret))
    }

    /// Takes a certificate and its key out of what is in two files, each with its name. Pure.
    ///
    /// # Errors
    /// A file does not hold what it should, or the key is not that of the certificate.
    pub(crate) fn parse(certificate: (&str, &[u8]), key: (&str, &[u8])) -> Result<Self, BadFile> {
        let chain = chain(certificate.0, certificate.1)?;
        let leaf = chain.first().and_then(|der| Facts::read(der));
        let leaf = leaf.ok_or_else(|| BadFile::new(certificate.0, "the certificate is cut or damaged"))?;
        let key_der = private_key(key.0, key.1)?;
        let key_provider = super::provider().key_provider;
        let signer = key_provider.load_private_key(key_der);
        let signer = signer
            .map_err(|error| BadFile::new(key.0, format!("the private key cannot be used: {error}")))?;
        if public_key(signer.as_ref()).is_some_and(|public| public != leaf.public_key) {
            let why = format!("it is not the key of the certificate in {} ({})", certificate.0, leaf.subject);
            return Err(BadFile::new(key.0, why).hint(
                "the two files must be of one pair, and the certificate of the key comes first in its file",
            ));
        }
        let name = format!("{} ({})", certificate.0, leaf.subject);
        Ok(Self { name, until: leaf.until(), certified: Arc::new(CertifiedKey::new(chain, signer)) })
    }
}

impl ClientCertificate {
    /// What it is, with the date of its end.
    pub(crate) fn in_words(&self) -> String {
        format!("{}, valid until {}", self.name, self.until)
    }
}

/// The file and whom it is of, as `client.crt (CN=pusher)`.
impl std::fmt::Display for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

fn chain(name: &str, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let blocks = pem::blocks(bytes);
    let is_key =
        |content: &BlockContent| matches!(content, BlockContent::Key(_) | BlockContent::EncryptedKey);
    let holds_key = blocks.iter().any(|block| is_key(&block.content));
    let mut chain = Vec::new();
    for block in blocks {
        match block.content {
            BlockContent::Certificate(der) => chain.push(der),
            // A chain with a hole is refused by the server, and nobody would know why.
            BlockContent::Damaged(why) => {
                return Err(BadFile::new(
                    &format!("{name}:{}", block.line),
                    format!("the block {}: {why}", block.label),
                ));
            }
            _ => {}
        }
    }
    if !chain.is_empty() {
        return Ok(chain);
    }
    if holds_key {
        return Err(BadFile::new(name, "there is a private key in it, and no certificate")
            .hint("the certificate comes first and its key second: are the two files interchanged?"));
    }
    let (what, fix) = mistaken::identify(bytes, name);
    let bad = BadFile::new(name, format!("there is no certificate in PEM form in it: {what}"));
    Err(BadFile { hint: fix, ..bad })
}

fn private_key(name: &str, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, BadFile> {
    let (mut holds_certificate, mut is_encrypted) = (false, false);
    for block in pem::blocks(bytes) {
        match block.content {
            BlockContent::Key(key) => return Ok(key),
            BlockContent::EncryptedKey => is_encrypted = true,
            BlockContent::Certificate(_) => holds_certificate = true,
            BlockContent::Damaged(why) => {
                return Err(BadFile::new(
                    &format!("{name}:{}", block.line),
                    format!("the block {}: {why}", block.label),
                ));
            }
            BlockContent::Other => {}
        }
    }
    if is_encrypted {
        return Err(BadFile::new(name, "the private key in it is encrypted with a passphrase")
            .hint(format!("decrypt it: openssl pkey -in {name} -out {name}.plain, readable by you alone")));
    }
    if holds_certificate {
        return Err(BadFile::new(name, "there is a certificate in it, and no private key")
            .hint("the certificate comes first and its key second: are the two files interchanged?"));
    }
    let (what, fix) = mistaken::identify(bytes, name);
    let bad = BadFile::new(name, format!("there is no private key in PEM form in it: {what}"));
    Err(BadFile { hint: fix, ..bad })
}

/// The public half of a key, without the description of its algorithm, which is written in several ways.
fn public_key(signer: &dyn SigningKey) -> Option<Vec<u8>> {
    let public = signer.public_key()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(public.as_ref()).ok()?;
    Some(info.subject_public_key.data.to_vec())
}

/// Shows the first certificate that an authority of the server's choice signed, as Go does, and else the first: whether
/// it will do is for the server to say.
#[derive(Debug)]
pub(super) struct Chosen(pub(super) Vec<ClientCertificate>);

impl ResolvesClientCert for Chosen {
    fn resolve(&self, authorities: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let is_asked_for = |client: &&ClientCertificate| {
            let facts = client.certified.cert.iter().filter_map(|der| Facts::read(der));
            facts.into_iter().any(|facts| authorities.contains(&facts.issuer.raw()))
        };
        let chosen = self.0.iter().find(is_asked_for).or(self.0.first());
        chosen.map(|client| Arc::clone(&client.certified))
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn pair(name: &str) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn parse(certificate: &str, key: &str) -> Result<String, String> {
        let parsed = ClientCertificate::parse(("c.crt", certificate.as_bytes()), ("c.key", key.as_bytes()));
        parsed.map(|it| it.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pair_may_lie_in_two_files_or_in_one() {
        let (certificate, key) = pair("me");
        let both = format!("{key}{certificate}");
        for (certificate, key) in [(&certificate, &key), (&both, &both), (&both, &key)] {
            assert_eq!(parse(certificate, key).unwrap(), "c.crt (CN=me)");
        }
    }

    #[test]
    fn what_is_no_pair_is_refused_with_the_reason() {
        let (certificate, key) = pair("me");
        let (_, other_key) = pair("you");
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let cut = certificate.replacen("-----END", "%\n-----END", 1);
        for (certificate, key, expected) in [
            (&certificate, &other_key, "not the key of the certificate in c.crt (CN=me)"),
            (&key, &certificate, "c.crt: there is a private key in it"),
            (&certificate, &certificate, "c.key: there is a certificate in it, and no private key"),
            (&certificate, &encrypted, "encrypted"),
            (&cut, &key, "c.crt:1: the block CERTIFICATE"),
            (&certificate, &String::new(), "c.key: there is no private key in PEM form in it: it is empty"),
        ] {
            let error = parse(certificate, key).unwrap_err();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
    }
}
