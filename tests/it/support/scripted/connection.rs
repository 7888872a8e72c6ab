//! HTTP/1.1, as much as a registry's clients speak.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    headers: BTreeMap<String, String>,
    /// How long the body was; what a request of a blob carried.
    pub(crate) body_len: usize,
    /// Bodies are the store's; they are gone when a request is looked at.
    pub(super) body: Vec<u8>,
}

impl Request {
    /// A header's value, empty where there is none. The name in small letters.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Path and query.
    pub(crate) fn target(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Whether it changes what the registry holds for others to see: bytes of blobs, and manifests.
    pub(crate) fn sends(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "PATCH")
    }

    /// As `PUT manifest`: what a count of requests is about.
    pub(crate) fn kind(&self) -> String {
        let what = [("/manifests/", "manifest"), ("/blobs/uploads/", "upload"), ("/blobs/", "blob")];
        let what =
            what.into_iter().find(|(part, _)| self.path.contains(part)).map_or("base", |(_, what)| what);
        let what = if self.parameter("mount").is_some() { "mount" } else { what };
        format!("{} {what}", self.method)
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::status(status).header("Content-Type", "application/json").body(body.to_string().into_bytes())
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({ "errors": [{ "code": code, "message": message }] }))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leads where the API lies.
    pub(super) fn located_below(mut self, path: &str) -> Self {
        for (_, value) in self.headers.iter_mut().filter(|(name, _)| name == "Location") {
            value.insert_str(0, path);
        }
        self
    }

    pub(crate) fn body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }
}

/// What is done with a connection after a request.
pub(super) enum Served {
    Answer(Answer),
    /// So many bytes of the body, and then the end.
    Part(Answer, usize, End),
    End(End),
}

pub(super) enum End {
    /// With a RST.
    Reset,
    /// Closed without a word.
    Quiet,
    WhenTheClientIsGone,
}

/// A body larger than this is a mistake of the test.
const MAX_BODY: u64 = 256 << 20;

pub(super) struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// The next request without its body; none when the client has gone.
    pub(super) fn head(&mut self) -> Option<Request> {
        let first = self.line()?;
        let mut words = first.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request =
            Request { method, path: path.to_owned(), query: query.to_owned(), ..Request::default() };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            request.headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        Some(request)
    }

    /// Reads the body; false when the client has gone meanwhile.
    pub(super) fn body(&mut self, request: &mut Request) -> bool {
        let read = if request.header("transfer-encoding") == "chunked" {
            self.chunks(&mut request.body)
        } else {
            let length = request.header("content-length").parse().unwrap_or(0_u64);
            assert!(length <= MAX_BODY);
            let got = (&mut self.reader).take(length).read_to_end(&mut request.body);
            got.is_ok_and(|got| got as u64 == length).then_some(())
        };
        request.body_len = request.body.len();
        read.is_some()
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let length = u64::from_str_radix(&self.line()?, 16).ok()?;
            let got = (&mut self.reader).take(length).read_to_end(body).ok()?;
            self.line()?;
            if length == 0 {
                return Some(());
            }
            (got as u64 == length).then_some(())?;
        }
    }

    /// Gives an answer; false when nobody is there any more.
    /// The head of an answer, and so many bytes of its body.
    pub(super) fn answer_in_part(&mut self, answer: &Answer, bytes: usize) {
        let whole = answer.body.len().to_string();
        let part = Answer { body: answer.body[..bytes].to_vec(), ..answer.clone() };
        let has_length = part.headers.iter().any(|(name, _)| name == "Content-Length");
        let part = if has_length { part } else { part.header("Content-Length", &whole) };
        self.answer(&Request { method: "GET".to_owned(), ..Request::default() }, &part);
    }

    pub(super) fn answer(&mut self, request: &Request, answer: &Answer) -> bool {
        let mut bytes = format!("HTTP/1.1 {} X\r\n", answer.status).into_bytes();
        for (name, value) in &answer.headers {
            let _ = write!(bytes, "{name}: {value}\r\n");
        }
        if !answer.headers.iter().any(|(name, _)| name == "Content-Length") && answer.status != 204 {
            let _ = write!(bytes, "Content-Length: {}\r\n", answer.body.len());
        }
        bytes.extend_from_slice(b"\r\n");
        if request.method != "HEAD" {
            bytes.extend_from_slice(&answer.body);
        }
        self.reader.get_mut().write_all(&bytes).is_ok()
    }

    pub(super) fn end(&mut self, end: &End) {
        let stream = self.reader.get_mut();
        match end {
            End::Reset => set_socket_linger(&*stream, Some(std::time::Duration::ZERO)).unwrap(),
            End::Quiet => {}
            End::WhenTheClientIsGone => {
                let mut rest = [0; 4096];
                while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }
}
