//! A small API server of Kubernetes that keeps objects, remembers what it was asked, and can be told to answer something
//! else: as much of server-side apply as one client needs, with owners of fields, dry runs and preconditions.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use parking_lot::Mutex;
use std::thread;

use serde_json::{Value, json};

/// What it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn is_dry(&self) -> bool {
        self.query.get("dryRun").is_some_and(|value| value == "All") || self.body["dryRun"] == json!(["All"])
    }

    /// As `PATCH /api/v1/…`, with `(dry)` behind a dry run.
    pub(crate) fn line(&self) -> String {
        format!("{} {}{}", self.method, self.path, if self.is_dry() { " (dry)" } else { "" })
    }
}

/// What is done instead of the next answer to a request.
type Instead = Box<dyn FnOnce(&mut State) -> Option<(u16, Value)> + Send>;

#[derive(Default)]
pub(crate) struct State {
    /// By path.
    pub(crate) objects: BTreeMap<String, Value>,
    /// What `/apis/GROUP/VERSION` says, by path.
    pub(crate) kinds: BTreeMap<String, Value>,
    /// Who owns the spec of an object, by its path.
    pub(crate) owners: BTreeMap<String, String>,
    /// Answers that stay, by the line of the request. A text is sent as a page.
    pub(crate) always: BTreeMap<String, (u16, Value)>,
    /// Sent with every answer.
    pub(crate) headers: BTreeMap<&'static str, String>,
    asked: Vec<Asked>,
    version: u64,
    instead: Vec<(String, Instead)>,
}

#[derive(Clone)]
pub(crate) struct ApiServer {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl ApiServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, state: Arc::default() };
        let state = Arc::clone(&server.state);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                thread::spawn(move || serve(connection, &state));
            }
        });
        server.with(|state| {
            let kind = |name: &str, kind: &str, namespaced| json!({"name": name, "kind": kind, "namespaced": namespaced});
            let core = [kind("namespaces", "Namespace", false), kind("secrets", "Secret", true)];
            state.kinds.insert("/api/v1".to_owned(), json!({ "resources": core }));
            let apps = [kind("daemonsets/status", "DaemonSet", true), kind("daemonsets", "DaemonSet", true)];
            state.kinds.insert("/apis/apps/v1".to_owned(), json!({ "resources": apps }));
        });
        server
    }

    /// Another way in; gives its port.
    pub(crate) fn behind_tls(&self, own: &rcgen::CertifiedKey<rcgen::KeyPair>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let (config, state) = (Arc::new(config), Arc::clone(&self.state));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let state = Arc::clone(&state);
                thread::spawn(move || serve(rustls::StreamOwned::new(tls, connection), &state));
            }
        });
        port
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock())
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.with(|state| {
            let object = state.stamped(object);
            state.objects.insert(path.to_owned(), object);
        });
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.with(|state| state.objects.get(path).cloned())
    }

    /// The next request that is `line` gets this answer; without one, the usual after the work is done.
    pub(crate) fn instead(
        &self,
        line: &str,
        work: impl FnOnce(&mut State) -> Option<(u16, Value)> + Send + 'static,
    ) {
        self.with(|state| state.instead.push((line.to_owned(), Box::new(work))));
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.with(|state| std::mem::take(&mut state.asked))
    }
}

pub(crate) fn status(code: u16, message: &str, causes: &[Value]) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "status": "Failure", "code": code, "message": message, "details": {"causes": causes}}),
    )
}

impl State {
    /// With what every object of a server has.
    fn stamped(&mut self, mut object: Value) -> Value {
        self.version += 1;
        let number = self.version.to_string();
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("uid-{number}").into();
        }
        metadata["resourceVersion"] = number.into();
        metadata["managedFields"] = json!([{ "manager": "test" }]);
        object
    }

    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        let line = asked.line();
        if let Some(place) = self.instead.iter().position(|(known, _)| *known == line)
            && let Some(answer) = (self.instead.remove(place).1)(self)
        {
            return answer;
        }
        if let Some(answer) = self.always.get(&line) {
            return answer.clone();
        }
        match asked.method.as_str() {
            "GET" => self.get(asked),
            "PATCH" if asked.headers["content-type"] == "application/merge-patch+json" => self.merge(asked),
            "PATCH" => self.apply(asked),
            "DELETE" => self.delete(asked),
            _ => status(405, "no such method", &[]),
        }
    }

    fn get(&self, asked: &Asked) -> (u16, Value) {
        let path = asked.path.as_str();
        if let Some(found) = self.kinds.get(path).or_else(|| self.objects.get(path)) {
            return (200, found.clone());
        }
        let group = path.strip_prefix("/apis/").filter(|rest| !rest.contains('/'));
        if let Some(group) = group {
            let below = |kind: &&String| kind.starts_with(&format!("{path}/"));
            let versions: Vec<Value> = self
                .kinds
                .keys()
                .filter(below)
                .map(|kind| json!({ "groupVersion": kind.strip_prefix("/apis/").unwrap() }))
                .collect();
            if !versions.is_empty() {
                return (200, json!({ "kind": "APIGroup", "name": group, "versions": versions }));
            }
        }
        let is_collection = ["/secrets", "/clusters", "/daemonsets"].iter().any(|end| path.ends_with(end));
        if is_collection {
            let wanted = asked.query.get("labelSelector").map_or("", String::as_str);
            let matches = |object: &&Value| {
                wanted.split(',').filter(|term| !term.is_empty()).all(|term| {
                    let (name, value) = term.split_once('=').unwrap();
                    object["metadata"]["labels"][name] == value
                })
            };
            let below = self.objects.iter().filter(|(other, _)| other.starts_with(&format!("{path}/")));
            let mut items: Vec<Value> = below.map(|(_, object)| object).filter(matches).cloned().collect();
            if asked.headers["accept"].contains("PartialObjectMetadataList") {
                for item in &mut items {
                    *item = json!({ "metadata": item["metadata"] });
                }
            }
            return (200, json!({ "kind": "List", "items": items }));
        }
        status(404, "the server could not find the requested resource", &[])
    }

    fn apply(&mut self, asked: &Asked) -> (u16, Value) {
        let namespace = asked.path.split("/namespaces/").nth(1).and_then(|rest| rest.split_once('/'));
        if let Some((namespace, _)) = namespace
            && !self.objects.contains_key(&format!("/api/v1/namespaces/{namespace}"))
        {
            return status(404, &format!("namespaces {namespace:?} not found"), &[]);
        }
        let live = self.objects.get(&asked.path).cloned();
        let (metadata, mut next) = (&asked.body["metadata"], asked.body.clone());
        if let Some(live) = &live {
            for field in ["uid", "resourceVersion"] {
                if !metadata[field].is_null() && metadata[field] != live["metadata"][field] {
                    return status(409, &format!("Operation cannot be fulfilled: {field}"), &[]);
                }
            }
            next = live.clone();
            merge(&mut next, &asked.body);
            next["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            let owner = self.owners.get(&asked.path).filter(|owner| *owner != "layercast");
            if let Some(owner) = owner.filter(|_| asked.query["force"] != "true" && next != *live) {
                let cause = json!({
                    "reason": "FieldManagerConflict", "field": ".spec.nodeConfig.registryMirrors",
                    "message": format!("conflict with {owner:?} using v1"),
                });
                return status(409, "Apply failed with 1 conflict", &[cause]);
            }
        } else if !metadata["uid"].is_null() {
            return status(409, "uid mismatch: no existing object was found", &[]);
        }
        if live.as_ref() != Some(&next) {
            next = self.stamped(next);
        }
        if !asked.is_dry() {
            self.objects.insert(asked.path.clone(), next.clone());
            self.owners.insert(asked.path.clone(), asked.query["fieldManager"].clone());
        }
        (if live.is_some() { 200 } else { 201 }, next)
    }

    fn merge(&mut self, asked: &Asked) -> (u16, Value) {
        let Some(live) = self.objects.get(&asked.path) else { return status(404, "not found", &[]) };
        let version = &asked.body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != live["metadata"]["resourceVersion"] {
            return status(409, "Operation cannot be fulfilled: resourceVersion", &[]);
        }
        let mut next = live.clone();
        merge(&mut next, &asked.body);
        let next = self.stamped(next);
        if !asked.is_dry() {
            self.objects.insert(asked.path.clone(), next.clone());
            self.owners.insert(asked.path.clone(), asked.query["fieldManager"].clone());
        }
        (200, next)
    }

    fn delete(&mut self, asked: &Asked) -> (u16, Value) {
        let Some(live) = self.objects.get(&asked.path) else { return status(404, "not found", &[]) };
        for field in ["uid", "resourceVersion"] {
            if asked.body["preconditions"][field] != live["metadata"][field] {
                return status(409, "the precondition failed", &[]);
            }
        }
        if !asked.is_dry() {
            self.objects.remove(&asked.path);
        }
        (200, json!({ "kind": "Status", "status": "Success" }))
    }
}

/// Lists are taken as one value, as the API server takes those of custom resources.
fn merge(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (&mut *into, from) {
        for (name, value) in from {
            merge(into.entry(name.clone()).or_insert(Value::Null), value);
        }
        return;
    }
    *into = from.clone();
}

fn serve(connection: impl Read + Write, state: &Mutex<State>) {
    let mut reader = BufReader::new(connection);
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let url = url::Url::parse(&format!("http://x{target}")).unwrap();
    let asked = Asked {
        method,
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers,
        body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() },
    };
    let (code, answer, headers) = {
        let mut state = state.lock();
        let (code, answer) = state.answer(&asked);
        state.asked.push(asked);
        (code, answer, state.headers.clone())
    };
    let (kind, text) = match answer {
        Value::String(page) => ("text/html", page),
        answer => ("application/json", answer.to_string()),
    };
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let _ = write!(
        reader.get_mut(),
        "HTTP/1.1 {code} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = reader.get_mut().flush();
}
