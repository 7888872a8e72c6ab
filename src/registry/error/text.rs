//! A failed request in words. What servers and files say is escaped.

use std::fmt;

use super::{Cause, RegistryError};
use crate::error::printable;

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(call) = &self.0.call {
            write!(f, "{} {}: ", call.method, printable(&call.url))?;
        }
        match &self.0.cause {
            Cause::BadTarget { text, why } => {
                write!(f, "{text:?} does not name a registry: {}", printable(why))
            }
            Cause::BadFile { path, why } => write!(f, "{}: {}", printable(path), printable(why)),
            Cause::Credentials(why)
            | Cause::Integrity(why)
            | Cause::Protocol(why)
            | Cause::Internal(why)
            | Cause::Proxy { why, .. }
            | Cause::ForeignRealm { why, .. }
            | Cause::ForeignUpload { why, .. } => f.write_str(&printable(why)),
            Cause::NotStored { status } => write!(
                f,
                "answered {status} to the commit of a blob, where 201 would say that it is stored, and the blob is not known \
                 to be there"
            ),
            Cause::NotRegistry(why) => write!(f, "this is no container registry: {}", printable(why)),
            Cause::LoginRefused { who, why } => {
                write!(f, "{} was refused: {}", printable(who), printable(why))
            }
            Cause::Challenge { refusal, why } => write!(f, "{refusal}; {}", printable(why)),
            Cause::OutOfPatience { refusal, waited } => {
                write!(f, "{refusal} (waited for {} s)", waited.as_secs())
            }
            Cause::Unreachable(why) => write!(f, "no connection: {}", printable(why)),
            Cause::NoSuchName(why) => write!(f, "the name does not exist: {}", printable(why)),
            Cause::NotHttp(why) => write!(f, "what answers there does not speak HTTP: {}", printable(why)),
            Cause::Broken(why) => write!(f, "the connection broke: {}", printable(why)),
            Cause::Stalled(after) => write!(f, "nothing moved for {} s", after.as_secs_f32()),
            Cause::TooSlow { bytes, after } => {
                write!(f, "only {bytes} bytes of a document came in {} s", after.as_secs_f32())
            }
            Cause::Tls { why, .. } => write!(f, "no secure connection: {}", printable(why)),
            Cause::TooMuch { what, limit_bytes } => {
                write!(f, "{} is longer than {limit_bytes} bytes", printable(what))
            }
            Cause::NotReferrers { tag, why } => {
                write!(
                    f,
                    "the tag {tag} has to list what refers to its image, and is not changed: {}",
                    printable(why)
                )
            }
            Cause::Source(error) => write!(f, "the bundle: {error}"),
            Cause::LeadsToHttps(to) => {
                write!(f, "it redirects to {}, and uploads do not follow", printable(to))
            }
            Cause::NoDescriptors(why) => {
                write!(f, "this machine opens no more connections: {}", printable(why))
            }
            Cause::SpeaksTls => f.write_str("the port speaks TLS, and http:// is written in front of it"),
            Cause::Answer(refusal) | Cause::UrlsRefused(refusal) => fmt::Display::fmt(refusal, f),
            Cause::Failing { refusal, waited } => {
                write!(f, "{refusal}, to whatever was asked (waited for {} s)", waited.as_secs())
            }
            Cause::Busy { refusal, asked } => {
                let seconds = asked.as_secs();
                write!(
                    f,
                    "{refusal}; it asks to be left alone for {seconds} s, longer than --patience allows"
                )
            }
        }?;
        self.0.through.iter().try_for_each(|proxy| write!(f, ", through {proxy}"))?;
        self.0.before.iter().try_for_each(|before| write!(f, "; before that {before}"))
    }
}

impl fmt::Debug for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}] {self}", self.kind())
    }
}
