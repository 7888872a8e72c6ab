//! Redacts what is shown: URLs without their secrets, and texts of servers without the secrets of the run.

mod escapes;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use self::escapes::View;
use crate::locks::RwLock;

/// Shown in place of a secret.
const BLANK: &str = "…";
/// Shorter ones are ordinary words: they are blanked only where they stand alone.
const MIN_WORD_BYTES: usize = 6;
/// Long ones are found by their beginning, as there may be thousands: a token for each repository.
const BEGINNING: usize = 12;
/// Tokens that were replaced and are still known: a request that one of them went with may be answered later.
const LINGERING: usize = 256;

/// Scheme, host and path, and of the query only what is known to be no secret: upload locations and the URLs of object
/// stores carry signatures there. The path of an upload is cut, because its identifier is a permission to write.
pub(super) fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let (path, session) = path_and_session(url);
    let cut = if session.is_empty() { "" } else { BLANK };
    let query: Vec<String> = url
        .query_pairs()
        .map(|(key, value)| if is_shown(&key) { format!("{key}={value}") } else { BLANK.to_owned() })
        .collect();
    let question = if query.is_empty() { "" } else { "?" };
    format!("{}://{host}{port}{path}{cut}{question}{}", url.scheme(), query.join("&"))
}

/// What [`redacted`] leaves out of a URL.
pub(super) fn hidden(url: &Url) -> impl Iterator<Item = String> {
    let (_, session) = path_and_session(url);
    let values = url.query_pairs().filter(|(key, _)| !is_shown(key)).map(|(_, value)| value.into_owned());
    let parts = std::iter::once(session.to_owned()).chain(values).collect::<Vec<_>>();
    // Short ones are numbers of pages and the like.
    parts.into_iter().filter(|part| part.len() >= MIN_WORD_BYTES)
}

fn is_shown(key: &str) -> bool {
    matches!(
        key,
        "mount" | "from" | "digest" | "n" | "last" | "ns" | "scope" | "service" | "account" | "client_id"
    )
}

/// The path, and the identifier of an upload that ends it.
fn path_and_session(url: &Url) -> (&str, &str) {
    let path = url.path();
    let upload = ["/uploads/", "/upload/"].iter().find_map(|part| Some(path.find(part)? + part.len()));
    path.split_at(upload.unwrap_or(path.len()))
}

/// The secrets of a run. A server may quote what it was sent, in an error, a warning or a redirect: all its words go through
/// [`SecretWords::blank`] before anybody sees them.
#[derive(Default)]
pub struct SecretWords(RwLock<Known>);

#[derive(Default)]
struct Known {
    next: u64,
    /// Every form of every secret, with the secret's number.
    short: Vec<(u64, SecretString)>,
    long: HashMap<[u8; BEGINNING], Vec<(u64, SecretString)>>,
    /// What was dropped, and is forgotten later.
    lingering: VecDeque<u64>,
}

/// Keeps a secret known until it is dropped.
pub(super) struct LearnedSecret {
    secrets: Arc<SecretWords>,
    number: u64,
    lingers: bool,
}

impl fmt::Debug for SecretWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretWords(…)")
    }
}

impl SecretWords {
    /// Redacts a secret until the end of the run.
    pub(crate) fn remember(&self, secret: &SecretString) {
        self.learn(secret);
    }

    /// Redacts a secret as long as the returned value lives.
    pub(super) fn remember_while(self: &Arc<Self>, secret: &SecretString) -> LearnedSecret {
        LearnedSecret { number: self.learn(secret), secrets: Arc::clone(self), lingers: false }
    }

    /// The same, and for some time after: answers to requests that it went with may still come.
    pub(super) fn remember_beyond(self: &Arc<Self>, secret: &SecretString) -> LearnedSecret {
        LearnedSecret { number: self.learn(secret), secrets: Arc::clone(self), lingers: true }
    }

    fn learn(&self, secret: &SecretString) -> u64 {
        let mut known = self.0.write();
        known.next += 1;
        let number = known.next;
        for form in forms(secret.expose_secret()) {
            match form.as_bytes().first_chunk::<BEGINNING>() {
                Some(beginning) => known.long.entry(*beginning).or_default().push((number, form.into())),
                None => known.short.push((number, form.into())),
            }
        }
        number
    }

    /// Forgets what was dropped longest ago, once enough has been since.
    fn let_linger(&self, number: u64) {
        let oldest = {
            let mut known = self.0.write();
            known.lingering.push_back(number);
            if known.lingering.len() > LINGERING { known.lingering.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
    }

    fn forget(&self, number: u64) {
        let mut known = self.0.write();
        known.short.retain(|(of, _)| *of != number);
        known.long.retain(|_, forms| {
            forms.retain(|(of, _)| *of != number);
            !forms.is_empty()
        });
    }

    /// A text with every secret in it left out: as it is, in hexadecimal digits, in base64 alone or with something around it,
    /// with `%` escapes, with those of JSON and other languages, with those of HTML, and with control characters in it.
    /// Escapes may have been escaped again.
    pub(super) fn blank(&self, text: &str) -> String {
        let known = self.0.read();
        if known.short.is_empty() && known.long.is_empty() {
            return text.to_owned();
        }
        let mut hidden = vec![false; text.len()];
        View::of(text).each(&mut |view| {
            known.find(&view.bytes, |from, to| {
                let end = view.at.get(to).copied().unwrap_or(text.len());
                hidden[view.at[from]..end].fill(true);
            });
        });
        let mut shown = String::with_capacity(text.len());
        let mut in_secret = false;
        for (at, c) in text.char_indices() {
            if !hidden[at] {
                shown.push(c);
            } else if !in_secret {
                shown.push_str(BLANK);
            }
            in_secret = hidden[at];
        }
        shown
    }
}

impl Drop for LearnedSecret {
    fn drop(&mut self) {
        if self.lingers {
            self.secrets.let_linger(self.number);
        } else {
            self.secrets.forget(self.number);
        }
    }
}

impl Known {
    /// Tells where in `bytes` secrets stand.
    fn find(&self, bytes: &[u8], mut hide: impl FnMut(usize, usize)) {
        for (at, window) in bytes.windows(BEGINNING).enumerate() {
            let Some(forms) = window.first_chunk::<BEGINNING>().and_then(|window| self.long.get(window))
            else {
                continue;
            };
            for (_, form) in forms {
                let form = form.expose_secret().as_bytes();
                if bytes[at..].starts_with(form) {
                    let (from, to) = whole_word(bytes, at, at + form.len());
                    hide(from, to);
                }
            }
        }
        for (_, form) in &self.short {
            let form = form.expose_secret().as_bytes();
            let found = bytes.windows(form.len()).enumerate().filter(|(_, window)| *window == form);
            for (at, _) in found {
                let end = at + form.len();
                let touches = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
                let is_inside =
                    touches(at.checked_sub(1).and_then(|at| bytes.get(at))) || touches(bytes.get(end));
                if form.len() >= MIN_WORD_BYTES {
                    let (from, to) = whole_word(bytes, at, end);
                    hide(from, to);
                } else if !is_inside {
                    hide(at, end);
                }
            }
        }
    }
}

/// The base64 around a part of it: what stands beside the part holds the secret's first and last bits.
fn whole_word(bytes: &[u8], from: usize, to: usize) -> (usize, usize) {
    let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    if !bytes[from..to].iter().all(belongs) {
        return (from, to);
    }
    let before = bytes[..from].iter().rev().take_while(|byte| belongs(byte)).count();
    let behind = bytes[to..].iter().take_while(|byte| belongs(byte)).count();
    (from - before, to + behind)
}

/// A secret as it may stand in a text: as it is, in hexadecimal digits, and those characters of its base64 that depend on
/// nothing but it, for each of the three places at which it may begin in what was encoded.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    if secret.len() >= MIN_WORD_BYTES {
        forms.extend([format!("{:x}", Hex(secret)), format!("{:X}", Hex(secret))]);
        for before in 0..3_usize {
            let padded = [&vec![0; before], secret.as_bytes()].concat();
            let own = |encoded: String| {
                // Characters that hold a bit of what stands before; a last one that is not full.
                let start = (before * 8).div_ceil(6);
                let end = padded.len() * 8 / 6;
                encoded[start..end].to_owned()
            };
            forms.extend([own(STANDARD_NO_PAD.encode(&padded)), own(URL_SAFE_NO_PAD.encode(&padded))]);
        }
    }
    forms.retain(|form| !form.is_empty());
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// The bytes of a text as hexadecimal digits.
struct Hex<'a>(&'a str);

impl fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::UpperHex for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

#[cfg(test)]
mod tests;
