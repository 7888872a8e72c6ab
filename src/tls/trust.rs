//! Whom a server's certificate must be signed by: the authorities that an operator gives, or those of the system.
//!
//! The given ones are asked first. The system's are some hundred files; they are read when they are first needed, once
//! in a process, and never for a server without TLS or with an authority of its own.
//!
//! A registry with a certificate that it signed itself, made by `openssl req -x509`, is common, and such a certificate
//! calls itself an authority. Go and curl take it when it is given as the authority to trust; rustls refuses an authority
//! as a server. Here a certificate is taken if it is byte for byte one that was given, and its name and dates are right:
//! the operator vouched for exactly this certificate.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::Authorities;
use super::client_certificate::{Chosen, ClientCertificate};
use super::facts::Facts;
use super::provider;
use super::untrusted::explain;

/// Whose certificates are taken.
#[derive(Debug, Clone)]
pub(crate) enum TrustedBy {
    /// Those signed by one of these, or by one of the system's.
    Authorities(Vec<Authorities>),
    /// Anybody's: only to say what a node does that is set up like this.
    Anybody,
}

/// A TLS configuration that trusts these authorities, and shows one of `clients` to a server that asks.
///
/// # Errors
/// The TLS library refuses the set-up.
pub(crate) fn client_config(trust: &TrustedBy, clients: &[ClientCertificate]) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        TrustedBy::Authorities(given) => Arc::new(Vouched::new(given.clone(), Arc::clone(&provider))?),
        TrustedBy::Anybody => Arc::new(Anybody(Arc::clone(&provider))),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match clients {
        [] => builder.with_no_client_auth(),
        clients => builder.with_client_cert_resolver(Arc::new(Chosen(clients.to_vec()))),
    })
}

/// The system's own authorities; none where it has none. Blocks when they are first asked for.
pub(crate) fn system_authorities() -> Option<&'static (impl ServerCertVerifier + use<>)> {
    static SYSTEM: OnceLock<Option<Verifier>> = OnceLock::new();
    let read = || {
        let read = Verifier::new(provider());
        read.inspect_err(|error| tracing::debug!(%error, "no authorities of the system")).ok()
    };
    SYSTEM.get_or_init(read).as_ref()
}

/// Takes what the given authorities or the system's vouch for.
#[derive(Debug)]
struct Vouched {
    given: Vec<Authorities>,
    /// Asks those that were given; none were.
    by_given: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Vouched {
    fn new(given: Vec<Authorities>, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let mut certificates = given.iter().flat_map(Authorities::certificates);
        certificates.try_for_each(|certificate| roots.add(certificate.clone()))?;
        let by_given = (!roots.is_empty())
            .then(|| WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build())
            .transpose()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { given, by_given, provider })
    }

    /// Whether the operator gave this very certificate.
    fn was_given(&self, end_entity: &CertificateDer<'_>) -> bool {
        self.given.iter().flat_map(Authorities::certificates).any(|given| given == end_entity)
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let unknown = || Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        let verify = |by: &dyn ServerCertVerifier| {
            by.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map(drop)
        };
        match self.by_given.as_ref().map_or_else(unknown, |given| verify(given.as_ref())) {
            // The dates of a certificate that calls itself an authority are looked at before this; those of one that
            // was given without its authority are not.
            Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer))
                if self.was_given(end_entity) =>
            {
                if Facts::read(end_entity).is_none_or(|facts| facts.out_of_date(now).is_some()) {
                    return Err(Error::InvalidCertificate(CertificateError::Expired));
                }
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
            }
            // A given one may have the name of the right one and another key, and the system may know the right one.
            Err(by_given) => {
                let by_system = system_authorities().map_or_else(unknown, |system| verify(system));
                by_system.map_err(|by_system| match by_given {
                    Error::InvalidCertificate(CertificateError::UnknownIssuer) => by_system,
                    by_given => by_given,
                })
            }
            Ok(()) => Ok(()),
        }
    }
}

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map(|()| ServerCertVerified::assertion()).map_err(|error| {
            let Error::InvalidCertificate(error) = error else { return error };
            explain(&error, end_entity, intermediates, server_name, now, &self.given).into_error()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes anybody's certificate. Signatures are not looked at either: rustls reads no certificate of X.509 version 1, and
/// runtimes do.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Untrusted;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

    type Pem = (String, CertificateDer<'static>);

    fn params(name: &str, hosts: &[&str], last_year: i32) -> CertificateParams {
        let mut params =
            CertificateParams::new(hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(last_year, 1, 1);
        params
    }

    fn self_signed(name: &str, last_year: i32) -> Pem {
        let mut params = params(name, &["r.example"], last_year);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        (certificate.pem(), certificate.der().clone())
    }

    fn authority(name: &str) -> (Pem, Issuer<'static, KeyPair>) {
        let (key, mut params) = (KeyPair::generate().unwrap(), params(name, &[], 2090));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        ((certificate.pem(), certificate.der().clone()), Issuer::new(params, key))
    }

    fn signed(params: &CertificateParams, by: &Issuer<'_, KeyPair>) -> Pem {
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), by).unwrap();
        (certificate.pem(), certificate.der().clone())
    }

    /// Why a chain is refused if these are trusted; none where it is accepted.
    fn said(chain: &[&Pem], host: &str, given: &[(&str, &Pem)]) -> Option<String> {
        let given =
            given.iter().map(|(name, it)| Authorities::parse(name, it.0.as_bytes()).unwrap()).collect();
        let verifier = Vouched::new(given, provider()).unwrap();
        let host = host.to_owned().try_into().unwrap();
        let chain: Vec<_> = chain.iter().map(|it| it.1.clone()).collect();
        let verified = verifier.verify_server_cert(&chain[0], &chain[1..], &host, &[], UnixTime::now());
        verified.err().map(|error| Untrusted::of(&error).expect("a reason").to_string())
    }

    #[test]
    fn a_certificate_that_was_given_is_good_whoever_signed_it() {
        let (good, expired, other) = (self_signed("a", 2090), self_signed("b", 2001), self_signed("c", 2090));
        let (_, issuer) = authority("Acme");
        let (leaf, old_leaf) = (
            signed(&params("r", &["r.example"], 2090), &issuer),
            signed(&params("r", &["r.example"], 2001), &issuer),
        );
        let given = [("a", &good), ("b", &expired), ("l", &leaf), ("o", &old_leaf)];
        assert_eq!(said(&[&good], "r.example", &given), None);
        assert_eq!(said(&[&leaf], "r.example", &given), None);
        for (chain, host, expected) in [
            (&good, "other.example", "not valid for other.example, but for r.example"),
            (&leaf, "other.example", "not valid for other.example, but for r.example"),
            (&expired, "r.example", "expired on 2001-01-01"),
            (&old_leaf, "r.example", "expired on 2001-01-01"),
            (
                &other,
                "r.example",
                "(CN=c) signed itself; a (CN=a), b (CN=b), l (CN=r), o (CN=r) did not sign it",
            ),
        ] {
            let said = said(&[chain], host, &given).unwrap();
            assert!(said.contains(expected), "{said}, not {expected}");
        }
    }

    #[test]
    fn a_refusal_names_who_would_have_to_vouch_and_who_was_asked() {
        let (root, issuer) = authority("Acme Root");
        let (renewed, _) = authority("Acme Root");
        let (other, _) = authority("Other CA");
        let (mut middle, key) = (params("Acme Issuing", &[], 2090), KeyPair::generate().unwrap());
        middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuing = middle.signed_by(&key, &issuer).unwrap();
        let issuing_pem = (issuing.pem(), issuing.der().clone());
        let leaf = signed(&params("r", &["r.example"], 2090), &Issuer::new(middle, key));
        let check = |chain: &[&Pem], given: &[(&str, &Pem)]| said(chain, "r.example", given);
        assert_eq!(check(&[&leaf, &issuing_pem], &[("ca.crt", &root)]), None);
        assert_eq!(check(&[&leaf], &[("issuing.crt", &issuing_pem)]), None);
        for (chain, given, expected) in [
            (
                &[&leaf, &issuing_pem][..],
                &[("other.crt", &other)][..],
                "is signed, through CN=Acme Issuing, by CN=Acme Root; other.crt (CN=Other CA) did not sign it",
            ),
            (
                &[&leaf],
                &[("ca.crt", &root)],
                "is signed by CN=Acme Issuing; ca.crt (CN=Acme Root) did not sign it",
            ),
            (
                &[&leaf, &issuing_pem],
                &[("ca.crt", &renewed)],
                "ca.crt has an authority of that name with another key",
            ),
            (&[&leaf], &[], "is signed by CN=Acme Issuing, which no authority of this system is"),
        ] {
            let said = check(chain, given).unwrap();
            assert!(said.contains(expected), "{said}, not {expected}");
        }
        let bare = signed(&params("r.example", &[], 2090), &issuer);
        let text = check(&[&bare], &[("ca.crt", &root)]).unwrap();
        assert!(text.contains("no subject alternative name (SAN)"), "{text}");
        let old = signed(&params("r", &["r.example"], 2001), &issuer);
        let text = check(&[&old], &[("ca.crt", &root)]).unwrap();
        assert!(
            text.contains("expired on 2001-01-01 00:00 UTC; the clock of this machine says 20"),
            "{text}"
        );
    }
}
