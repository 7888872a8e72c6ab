//! Trust in the authorities that an operator gives.
//!
//! A registry with a certificate that it signed itself, made by `openssl req -x509`, is common, and such a certificate
//! calls itself an authority. Go and curl take it when it is given as the authority to trust; rustls refuses an authority
//! as a server. Here it is taken if it is byte for byte one that was given, and its name and dates are right: the operator
//! vouched for exactly this certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// A TLS set-up that trusts the system and `authorities`, and shows `identity`.
pub(super) fn configure(
    authorities: &[CertificateDer<'static>],
    identity: Option<&[u8]>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let system = Verifier::new_with_extra_roots(authorities.to_vec(), Arc::clone(&provider))?;
    let verifier = Arc::new(Vouched { system, given: authorities.to_vec() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let unreadable = |_| Error::General("no certificate and key in PEM form".to_owned());
            let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(unreadable)?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pem).map_err(unreadable)?)?
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

#[derive(Debug)]
struct Vouched {
    system: Verifier,
    given: Vec<CertificateDer<'static>>,
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
        match self.system.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // Dates are looked at before this and have errors of their own; names are looked at after it.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.given.contains(end_entity) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
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
        self.system.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.system.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.system.supported_verify_schemes()
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
        let given = vec![good.clone(), expired.clone()];
        let system = Verifier::new_with_extra_roots(given.clone(), provider).unwrap();
        let verifier = Vouched { system, given };
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
