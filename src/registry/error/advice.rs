//! What the operator can do about a failed request.

use super::status_advice::{self, RequestPurpose};
use super::{Cause, ProxyFault, RegistryError, Requester, TlsFault};
use crate::registry::error_response::ErrorResponse;

impl RegistryError {
    /// What the operator can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let fixed = match &self.0.cause {
            Cause::Tls { fault: TlsFault::UnknownIssuer, .. } => {
                "if that authority is your own, give its certificate with --cacert"
            }
            Cause::Tls { fault: TlsFault::Name, .. } => {
                "give the registry by a name that its certificate is for, or have one made with this name among its subject \
                 alternative names (SAN)"
            }
            Cause::Tls { fault: TlsFault::Dates, .. } => {
                "renew the certificate at the registry, unless the clock of this machine is wrong"
            }
            Cause::Tls { fault: TlsFault::NotTls, .. } => {
                "the port speaks plain HTTP: if that is meant, write http:// in front of the registry"
            }
            Cause::Tls { fault: TlsFault::Other, .. } => {
                "both sides must speak TLS 1.2 or later with a cipher that both have: is the registry, or the proxy before it, \
                 too old?"
            }
            Cause::Tls { fault: TlsFault::Certificate, why } if why.contains("BadSignature") => {
                "the key of its certificate may be too short (RSA needs 2048 bits) or of a kind that is no longer secure: have a \
                 new one made"
            }
            Cause::Tls { fault: TlsFault::ClientCertificateRefused, .. } => {
                "the registry does not take the client certificate that it was shown: it must be signed by an authority that \
                 the registry trusts, for clients, and not have run out"
            }
            Cause::Tls { fault: TlsFault::ClientCertificate, .. } => {
                "the registry wants a client certificate that it trusts: --client-cert and --client-key"
            }
            Cause::Credentials(_) => {
                "give credentials with --username and --password-stdin, or log in with docker or podman"
            }
            Cause::ForeignRealm { allow: None, .. } => {
                "have the registry name its token server rightly (Harbor: external_url or hostname; distribution: \
                 auth.token.realm)"
            }
            Cause::Challenge { .. } => {
                "the registry must offer Basic or Bearer: is a proxy with a login of its own before it, or is its address \
                 another one?"
            }
            Cause::UrlsRefused(_) => {
                "the image has layers that are to be had elsewhere (urls, as Windows base images), and the registry refuses \
                 such manifests: allow them there (distribution: validation.manifests.urls.allow)"
            }
            Cause::Protocol(_) if self.asked() == RequestPurpose::Token => {
                "something else answers at the address that the registry names as its token server (realm): a login page or \
                 a proxy?"
            }
            Cause::ForeignUpload { host, .. } => {
                return Some(format!(
                    "if {host} is the registry itself, have it call itself by the name that is asked (distribution: http.host; \
                     Harbor: external_url; a proxy: X-Forwarded-Host); if uploads are to go there: --upload-host {host}"
                ));
            }
            Cause::ForeignRealm { allow: Some(host), .. } => {
                return Some(format!("if that is the right token server, allow it with --auth-realm {host}"));
            }
            Cause::LoginRefused { .. } => {
                "is the password right and still valid, and may this account log in there? --username with \
                 --password-stdin or --password-file gives another one"
            }
            Cause::Proxy { fault: ProxyFault::Login, .. } => {
                "give the proxy's user and password in the variable: http://USER:PASSWORD@HOST:PORT"
            }
            Cause::Proxy { fault: ProxyFault::Refuses, .. } => {
                "have the proxy allow that host and port, or name the registry in NO_PROXY if it is reached without it"
            }
            Cause::Proxy { fault: ProxyFault::Silent, .. } => {
                "does the proxy reach that host? If the registry is reached without it, name it in NO_PROXY; --patience \
                 SECONDS waits longer"
            }
            Cause::Proxy { fault: ProxyFault::Away, .. } => {
                "is the proxy running, and its address right? What needs no proxy is named in NO_PROXY"
            }
            Cause::Unreachable(_) => {
                "is the registry running, and are host and port right? Without a port it is 443 (80 with http://)"
            }
            Cause::NoSuchName(_) => {
                "is the name spelt right, and does this machine ask the DNS server that knows it (getent hosts NAME)?"
            }
            Cause::NotHttp(_) => "another service may listen there: is the port right?",
            Cause::NotRegistry(_) => {
                "is the host or the port another one, or does a proxy or a login page answer in the registry's place?"
            }
            Cause::NotStored { .. } => "does a proxy or a login page answer in the registry's place?",
            Cause::LeadsToHttps(to) => return Some(format!("write {to}, or no scheme at all")),
            Cause::NoDescriptors(_) => {
                "raise the limit on open files (ulimit -n), or use fewer connections: --threads, fewer mirrors at once"
            }
            Cause::SpeaksTls => "write https:// in front of the registry, or no scheme at all",
            Cause::Busy { .. } => "run again later, or allow the wait with --patience SECONDS",
            Cause::NotReferrers { tag, .. } => {
                return Some(format!(
                    "delete the tag {tag} there, or give what it shows another name, and push again; a registry that \
                     lists referrers itself (distribution-spec 1.1) needs no such tag"
                ));
            }
            Cause::Integrity(_) => {
                "what the registry keeps is damaged: delete that blob or its repository there, then push with --recheck --verify=pull"
            }
            Cause::Source(error) => return error.hint_text(),
            Cause::Answer(refusal)
            | Cause::Failing { refusal, .. }
            | Cause::OutOfPatience { refusal, .. } => {
                return self.hint_of_answer(refusal);
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }

    fn hint_of_answer(&self, answer: &ErrorResponse) -> Option<String> {
        let asked = self.asked();
        if let Some(hint) = status_advice::by_words(answer, asked) {
            return Some(hint.to_owned());
        }
        match (&self.0.account, answer.status) {
            (Some(Requester::FreshToken(who)), 401) => Some(format!(
                "the token server knows {who}, and the registry refused the token that it gave: does the registry trust this \
                 token server (service, issuer, key), and are the clocks of both right?"
            )),
            (Some(Requester::Account(who)), 401)
                if matches!(asked, RequestPurpose::Ping | RequestPurpose::Token) =>
            {
                Some(format!("{who} was refused: is the password right, and may the account log in there?"))
            }
            (Some(Requester::Account(who)), 401) => Some(format!(
                "{who} may not do this in that repository, or its project is missing: ask for the right to push there"
            )),
            (Some(Requester::Account(who) | Requester::FreshToken(who)), 403)
                if matches!(asked, RequestPurpose::Ping | RequestPurpose::Token) =>
            {
                Some(format!("{who} is known and not let in: ask who runs the registry"))
            }
            (Some(Requester::Account(who) | Requester::FreshToken(who)), 403)
                if asked != RequestPurpose::UploadSession =>
            {
                Some(format!("{who} is not allowed to do this in that repository"))
            }
            _ => {
                let is_http = self.0.call.as_ref().is_some_and(|call| call.is_http);
                status_advice::by_status(answer, asked, is_http).map(str::to_owned)
            }
        }
    }
}
