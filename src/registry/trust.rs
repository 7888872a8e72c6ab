//! Whom a registry's certificate must be signed by: the authorities that an operator gives, or those of the system.
//!
//! The given ones are asked first. The system's are some hundred files; they are read when they are first needed, once
//! in a process, and never for a registry without TLS or with an authority of its own.
//!
//! A registry with a certificate that it signed itself, made by `openssl req -x509`, is common, and such a certificate
//! calls itself an authority. Go and curl take it when it is given as the authority to trust; rustls refuses an authority
//! as a server. Here it is taken if it is byte for byte one that was given, and its name and dates are right: the operator
//! vouched for exactly this certificate.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// A TLS set-up that trusts the system and `authorities`, and shows `identity`.
pub(super) fn configure(
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<&[u8]>,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = Arc::new(Vouched::new(authorities, Arc::clone(&provider))?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(pem) = identity else { return Ok(builder.with_no_client_auth()) };
    let unreadable = |_| Error::General("no certificate and key in PEM form".to_owned());
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(unreadable)?;
    builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pem).map_err(unreadable)?)
}

#[derive(Debug)]
struct Vouched {
    given: Vec<CertificateDer<'static>>,
    /// Asks those that were given; none were.
    by_given: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Vouched {
    fn new(given: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        given.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
        let by_given = (!roots.is_empty())
            .then(|| WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build())
            .transpose()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { given, by_given, provider })
    }
}

/// The system's own authorities; none where it has none. Blocks when they are first asked for.
pub(super) fn system() -> Option<&'static (impl ServerCertVerifier + use<>)> {
    static SYSTEM: OnceLock<Option<Verifier>> = OnceLock::new();
    let read = || {
        let read = Verifier::new(provider());
        read.inspect_err(|error| tracing::debug!(%error, "no authorities of the system")).ok()
    };
    SYSTEM.get_or_init(read).as_ref()
}

fn provider() -> Arc<CryptoProvider> {
    let installed = CryptoProvider::get_default().cloned();
    installed.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
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
        let unknown = || Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        let verify = |by: &dyn ServerCertVerifier| {
            by.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match self.by_given.as_ref().map_or_else(unknown, |given| verify(given.as_ref())) {
            // Dates are looked at before this and have errors of their own; names are looked at after it.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.given.contains(end_entity) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            // A given one may have the name of the right one and another key, and the system may know the right one.
            Err(by_given) => {
                let by_system = system().map_or_else(unknown, |system| verify(system));
                by_system.map_err(|by_system| match by_given {
                    Error::InvalidCertificate(CertificateError::UnknownIssuer) => by_system,
                    by_given => by_given,
                })
            }
            outcome => outcome,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    fn self_signed(last_year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["r.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(last_year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_self_signed_certificate_is_good_if_it_is_the_one_given() {
        let (good, expired, other) = (self_signed(2090), self_signed(2001), self_signed(2090));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Vouched::new(vec![good.clone(), expired.clone()], provider).unwrap();
        let now = UnixTime::now();
        let check = |certificate: &CertificateDer<'_>, name: &str| {
            verifier
                .verify_server_cert(certificate, &[], &name.to_owned().try_into().unwrap(), &[], now)
                .is_ok()
        };
        assert!(check(&good, "r.example"));
        assert!(!check(&good, "other.example"), "the name counts");
        assert!(!check(&expired, "r.example"), "the dates count");
        assert!(!check(&other, "r.example"), "nobody vouched for it");
    }
}
