//! Redacts what is shown: URLs without their secrets, and texts of servers without the secrets of the run.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::locks::RwLock;

/// What is shown in place of a secret.
const BLANK: &str = "…";
/// Shorter ones are ordinary words: they are blanked only where they stand alone.
const MIN_WORD_BYTES: usize = 6;
/// Long ones are found by their beginning, as there may be thousands: a token for each repository.
const BEGINNING: usize = 12;

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
}

/// Keeps a secret known until it is dropped.
pub(super) struct LearnedSecret {
    secrets: Arc<SecretWords>,
    number: u64,
}

impl fmt::Debug for SecretWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretWords(…)")
    }
}

impl SecretWords {
    /// Knows a secret until the end of the run.
    pub(crate) fn remember(&self, secret: &SecretString) {
        self.learn(secret);
    }

    /// Knows a secret for as long as it is good for something.
    pub(super) fn remember_while(self: &Arc<Self>, secret: &SecretString) -> LearnedSecret {
        LearnedSecret { number: self.learn(secret), secrets: Arc::clone(self) }
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
        View::of(text).each(ESCAPES_OF_ESCAPES, &mut |view| {
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
        self.secrets.forget(self.number);
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

/// A text with its escapes undone, and where each of its bytes stood.
struct View {
    bytes: Vec<u8>,
    at: Vec<usize>,
}

/// Undoes the escape at the beginning of a text: the bytes it stands for, and its length.
type Decode = fn(&[u8]) -> Option<(Vec<u8>, usize)>;

const DECODERS: [Decode; 5] = [percent, form, backslash, entity, control];
/// So many escapes may lie one inside the other: words in a JSON document that is quoted in another.
const ESCAPES_OF_ESCAPES: usize = 2;

impl View {
    fn of(text: &str) -> Self {
        Self { bytes: text.into(), at: (0..text.len()).collect() }
    }

    /// The same with the escapes of one kind undone; none where there are no such escapes.
    fn undone(&self, decode: Decode) -> Option<Self> {
        let (mut bytes, mut at, mut next) = (Vec::new(), Vec::new(), 0);
        let mut is_other = false;
        while next < self.bytes.len() {
            if let Some((decoded, length)) = decode(&self.bytes[next..]) {
                is_other = true;
                at.extend(decoded.iter().map(|_| self.at[next]));
                bytes.extend(decoded);
                next += length;
            } else {
                at.push(self.at[next]);
                bytes.push(self.bytes[next]);
                next += 1;
            }
        }
        is_other.then_some(Self { bytes, at })
    }

    /// Shows this view, and the views that up to this number of unescapings give.
    fn each(&self, times: usize, see: &mut impl FnMut(&Self)) {
        see(self);
        if times > 0 {
            for view in DECODERS.iter().filter_map(|decode| self.undone(*decode)) {
                view.each(times - 1, see);
            }
        }
    }
}

fn percent(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let digits = text.strip_prefix(b"%")?.get(..2)?;
    let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((vec![byte], 3))
}

/// As in the body of a form: a space is a plus.
fn form(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    if text.starts_with(b"+") { Some((vec![b' '], 1)) } else { percent(text) }
}

/// As in JSON, and in texts of Go, C and Python.
fn backslash(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let number = |from: usize, to: usize| {
        let digits = std::str::from_utf8(text.get(from..to)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let written = |code: u32, length: usize| Some((char::from_u32(code)?.to_string().into_bytes(), length));
    match *text.strip_prefix(b"\\")?.first()? {
        b'u' => {
            let first = number(2, 6)?;
            let second = text.get(6..8).filter(|next| next == b"\\u").and_then(|_| number(8, 12));
            match (first, second) {
                (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
                    written(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
                }
                _ => written(first, 6),
            }
        }
        b'U' => written(number(2, 10)?, 10),
        b'x' => Some((vec![u8::try_from(number(2, 4)?).ok()?], 4)),
        b'n' => Some((vec![b'\n'], 2)),
        b'r' => Some((vec![b'\r'], 2)),
        b't' => Some((vec![b'\t'], 2)),
        c @ (b'"' | b'\\' | b'/' | b'\'') => Some((vec![c], 2)),
        _ => None,
    }
}

/// What is not seen on a terminal, or is shown there as nothing that belongs to the text.
fn control(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let length = match *text {
        [0x1b, b'[', ref rest @ ..] => {
            2 + rest.iter().position(|byte| (0x40..0x7f).contains(byte)).map_or(0, |end| end + 1)
        }
        [0..0x20 | 0x7f, ..] => 1,
        [0xc2, 0x80..0xa0 | 0xad, ..] => 2,
        // Of no width, or of another direction; what stands for bytes that are no text.
        [0xe2, 0x80, 0x8b..=0x8f | 0xa8..=0xae, ..]
        | [0xe2, 0x81, 0xa0..=0xaf, ..]
        | [0xef, 0xbb, 0xbf, ..]
        | [0xef, 0xbf, 0xbd, ..] => 3,
        _ => return None,
    };
    Some((Vec::new(), length))
}

fn entity(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let end = text.iter().take(10).position(|&byte| byte == b';')?;
    let name = std::str::from_utf8(text[..end].strip_prefix(b"&")?).ok()?;
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((c.to_string().into_bytes(), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use std::fmt::Write as _;

    #[test]
    fn nothing_that_may_be_a_secret_is_shown_of_a_url() {
        for (url, expected) in [
            (
                "https://u:p@r.example:5/v2/a/blobs/uploads/uuid-1?_state=secret&digest=sha256%3A1",
                "https://r.example:5/v2/a/blobs/uploads/…?…&digest=sha256:1",
            ),
            ("https://r.example/v2/a/blobs/uploads/?from=b", "https://r.example/v2/a/blobs/uploads/?from=b"),
            ("https://s3.example/x?X-Amz-Signature=1&sig=2#frag", "https://s3.example/x?…&…"),
            ("http://[::1]:5000/v2/a?ns=gcr.io", "http://[::1]:5000/v2/a?ns=gcr.io"),
        ] {
            assert_eq!(redacted(&Url::parse(url).unwrap()), expected);
        }
    }

    fn escaped(text: &str) -> String {
        percent_encoding::percent_encode(text.as_bytes(), percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn secrets_are_left_out_in_every_form() {
        for secret in
            ["hunter2", "p@ss w0rd/é\"&x", "c4n4ry-p4ssw0rd-x", "a-token.of-forty.characters_and-then-some"]
        {
            let secrets = SecretWords::default();
            secrets.remember(&secret.into());
            let pair = STANDARD.encode(format!("user:{secret}"));
            let json = serde_json::to_string(secret).unwrap();
            let ascii = secret.chars().fold(String::new(), |mut text, c| {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
                text
            });
            let html = secret.replace('&', "&amp;").replace('"', "&quot;").replace('/', "&#x2f;");
            for quoted in [
                secret.to_owned(),
                STANDARD.encode(secret),
                URL_SAFE_NO_PAD.encode(format!("x{secret}")),
                STANDARD.encode(format!("xy{secret}z")),
                pair.clone(),
                escaped(&pair),
                escaped(secret),
                escaped(secret).replace("%2D", "%2d"),
                json.trim_matches('"').to_owned(),
                ascii,
                html,
            ] {
                let shown = secrets.blank(&format!("you sent [{quoted}], which is wrong"));
                assert_eq!(shown, "you sent […], which is wrong", "{quoted}");
            }
            assert_eq!(secrets.blank("nothing of it"), "nothing of it");
        }
    }

    #[test]
    fn secrets_are_left_out_behind_escapes_of_escapes_and_control_characters() {
        let secret = "Kp/3+ x=Z%q\"w\\e&<r>😀9T";
        let secrets = SecretWords::default();
        secrets.remember(&secret.into());
        let json = |text: &str| serde_json::to_string(text).unwrap().trim_matches('"').to_owned();
        let go =
            |text: &str| json(text).replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
        let html = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
        let (first, second) = secret.split_at(9);
        for quoted in [
            json(&json(secret)),
            go(&go(secret)),
            html(&json(secret)),
            json(&html(secret)),
            html(&html(secret)),
            escaped(&escaped(secret)),
            escaped(secret).replace("%20", "+"),
            json(secret).replace("😀", "\\ud83d\\ude00"),
            secret.bytes().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "\\x{byte:02x}");
                text
            }),
            format!("{:x}", Hex(secret)),
            format!("{:X}", Hex(&format!("user:{secret}"))),
            format!("{first}\x1b[31;1m{second}"),
            format!("{first}\n{second}"),
            json(&format!("{first}\r\n{second}")),
            format!("{first}\u{200b}{second}"),
        ] {
            let shown = secrets.blank(&format!("you sent ({quoted}), which is wrong"));
            assert_eq!(shown, "you sent (…), which is wrong", "{quoted}");
        }
    }

    #[test]
    fn a_short_secret_is_left_out_where_it_stands_alone() {
        let secrets = SecretWords::default();
        secrets.remember(&"pw".into());
        assert_eq!(secrets.blank("user:pw@host, a pwd; pw"), "user:…@host, a pwd; …");
    }

    #[test]
    fn a_token_is_known_while_it_lasts() {
        let secrets = Arc::new(SecretWords::default());
        let token = "eyJhbGciOiJub25lIn0.e30.".to_owned();
        let kept = secrets.remember_while(&token.clone().into());
        assert_eq!(secrets.blank(&format!("Bearer {token}")), "Bearer …");
        drop(kept);
        assert_eq!(secrets.blank(&token), token);
    }
}
