//! A registry in this process that does as a script says, with a small right one behind it.
//!
//! Every request is kept. A [`Rule`] picks requests by method, path and count, and says what becomes of them; the others
//! are answered as the distribution-spec asks. What it holds can be looked at without a request, and at each change of
//! a tag it looks by itself whether the image behind the tag is complete.

mod connection;
mod rule;
mod store;

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

pub(crate) use connection::{Answer, Request};
pub(crate) use rule::{Action, Rule};
pub(crate) use store::{SESSION_SECRET, Store};

use connection::{End, Served};

/// The registry; it ends with the test.
pub(crate) struct ScriptedRegistry {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    held: Mutex<mpsc::Receiver<()>>,
}

/// Who may come in, and the token that proves it.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
    pub(crate) token: &'static str,
}

struct Shared {
    port: u16,
    store: Mutex<Store>,
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<Request>>,
    login: Mutex<Option<Login>>,
    below: Mutex<&'static str>,
    hold: mpsc::Sender<()>,
}

impl ScriptedRegistry {
    /// It believes what it is told: manifests are taken whatever they name. A client that is only right because the
    /// registry is strict is found out.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hold, held) = mpsc::channel();
        let shared = Arc::new(Shared {
            port,
            store: Mutex::default(),
            rules: Mutex::default(),
            asked: Mutex::default(),
            login: Mutex::default(),
            below: Mutex::default(),
            hold,
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { port, shared, held: Mutex::new(held) }
    }

    /// One that refuses manifests whose parts it lacks, as most registries do.
    pub(crate) fn strict() -> Self {
        let registry = Self::start();
        registry.store(|store| store.is_strict = true);
        registry
    }

    /// Asks for a login with a token from now on.
    pub(crate) fn asks_for(self, login: Login) -> Self {
        *self.shared.login.lock() = Some(login);
        self
    }

    /// Its API lies below this path, as that of a repository manager.
    pub(crate) fn below(self, path: &'static str) -> Self {
        *self.shared.below.lock() = path;
        self
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Adds a rule. The first one that fits a request decides.
    pub(crate) fn on(&self, rule: Rule) -> &Self {
        self.shared.rules.lock().push(rule);
        self
    }

    /// Only right answers from now on.
    pub(crate) fn forget_rules(&self) {
        self.shared.rules.lock().clear();
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.shared.asked.lock())
    }

    /// Looks at what it holds, or changes it.
    pub(crate) fn store<T>(&self, look: impl FnOnce(&mut Store) -> T) -> T {
        look(&mut self.shared.store.lock())
    }

    /// Waits until a request met [`Action::Hold`].
    #[track_caller]
    pub(crate) fn wait_for_held(&self) {
        let held = self.held.lock().recv_timeout(Duration::from_secs(30));
        assert!(held.is_ok(), "the request that is to be held has not come");
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut connection = connection::Connection::new(stream);
        while let Some(mut request) = connection.head() {
            let served = self.exchange(&mut connection, &mut request);
            self.asked.lock().push(request.clone());
            let more = match served {
                Served::Answer(answer) => connection.answer(&request, &answer),
                Served::End(end) => {
                    connection.end(&end);
                    false
                }
                Served::Part(answer, bytes, end) => {
                    connection.answer_in_part(&answer, bytes);
                    if matches!(end, End::WhenTheClientIsGone) {
                        let _ = self.hold.send(());
                    }
                    connection.end(&end);
                    false
                }
            };
            if !more {
                break;
            }
        }
    }

    fn exchange(&self, connection: &mut connection::Connection, request: &mut Request) -> Served {
        let below = *self.below.lock();
        let Some(path) = request.path.strip_prefix(below).map(str::to_owned) else {
            return Served::Answer(Answer::status(404));
        };
        request.path = path;
        let action = self.rules.lock().iter_mut().find_map(|rule| rule.meets(request));
        match action {
            Some(Action::ResetBefore) => return Served::End(End::Reset),
            Some(Action::ReadAfter(ref work)) => work(request),
            Some(Action::Hold) => {
                let _ = self.hold.send(());
                return Served::End(End::WhenTheClientIsGone);
            }
            _ => {}
        }
        if !connection.body(request) {
            return Served::End(End::Quiet);
        }
        match action {
            Some(Action::Answer(answer)) => return Served::Answer(answer),
            Some(Action::Make(make)) => return Served::Answer(make(request)),
            Some(Action::Meanwhile(ref work)) => work(request),
            _ => {}
        }
        let answer = self.right_answer(request);
        match action {
            Some(Action::LoseAnswer) => Served::End(End::Quiet),
            Some(Action::DoneBut(other)) => Served::Answer(other),
            Some(Action::CutAfter(bytes)) => Served::Part(answer, bytes, End::Quiet),
            Some(Action::HoldAfter(bytes)) => Served::Part(answer, bytes, End::WhenTheClientIsGone),
            _ => Served::Answer(answer.located_below(below)),
        }
    }

    fn right_answer(&self, request: &Request) -> Answer {
        if let Some(login) = &*self.login.lock() {
            if request.path == "/token" {
                return login.token(request);
            }
            if request.header("authorization") != format!("Bearer {}", login.token) {
                return challenge(self.port);
            }
        }
        self.store.lock().answer(request).header("Docker-Distribution-Api-Version", "registry/2.0")
    }
}

impl Login {
    fn token(&self, request: &Request) -> Answer {
        use base64::Engine as _;
        let basic =
            base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.user, self.password));
        if request.header("authorization") != format!("Basic {basic}") {
            return Answer::error(401, "UNAUTHORIZED", "who is that?");
        }
        Answer::json(200, &serde_json::json!({ "token": self.token, "expires_in": 300 }))
    }
}

fn challenge(port: u16) -> Answer {
    let realm = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"scripted\"");
    Answer::error(401, "UNAUTHORIZED", "log in").header("WWW-Authenticate", &realm)
}
