//! Every request of a small run, met by every kind of fault. After each: no tag stands for an image that is not complete,
//! the next run completes everything, and the one after it sends nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::support::build::{Bundle, CONTAINERD_NAME, Layout};
use crate::support::scripted::{Action, Answer, Request, Rule, ScriptedRegistry};
use crate::support::{Push, folder, layercast};

const AT_ONCE: usize = 6;

/// Two images that share a layer, and an index of two: blobs, a mount, children, parents, tags.
fn small_bundle() -> Bundle {
    Bundle::oci_layout().image("images.example/a/one:1", &["base", "one"]).index(
        "images.example/b/two:1",
        &["base", "two"],
        &["amd64", "arm64"],
    )
}

fn push(bundle: &Path, registry: &ScriptedRegistry, state: &Path) -> Push {
    Push::to(registry).source(bundle).state(state).within(Duration::from_secs(60))
}

/// How many requests a run makes that nothing goes wrong in.
fn requests_of_a_clean_run(bundle: &Path) -> usize {
    let (folder, registry) = (folder(), ScriptedRegistry::start());
    push(bundle, &registry, folder.path()).run().complete();
    registry.asked().len()
}

struct Sweep {
    bundle: PathBuf,
    shown: Vec<String>,
    folder: tempfile::TempDir,
    requests: usize,
    /// What is known of the registry before, as the state keeps it.
    quirks: Option<&'static str>,
}

impl Sweep {
    fn new() -> Self {
        let folder = folder();
        let bundle = small_bundle().write(folder.path());
        let requests = requests_of_a_clean_run(&bundle);
        assert!((15..60).contains(&requests), "{requests}");
        Self { bundle, shown: small_bundle().shown(), folder, requests, quirks: None }
    }

    /// With a layer that goes in four chunks: a proxy took 64 KiB of earlier runs, so one step more is tried, 256 KiB.
    fn in_chunks() -> Self {
        let (folder, registry) = (folder(), ScriptedRegistry::start());
        let mut layer = vec![0; 1000 << 10];
        fastrand::Rng::with_seed(5).fill(&mut layer);
        let mut layout = Layout::default();
        let image = layout.image_of(b"{}".to_vec(), vec![layer], "amd64");
        layout.list(&image, CONTAINERD_NAME, "images.example/a/large:1");
        let bundle = folder.path().join("bundle.tar");
        std::fs::write(&bundle, layout.tar()).unwrap();
        let quirks = Some(r#"{"refused_bytes":65537}"#);
        let shown = vec!["a/large:1".to_owned()];
        let sweep = Self { bundle, shown, folder, requests: 0, quirks };
        let state = sweep.state("clean", registry.port);
        push(&sweep.bundle, &registry, &state).run().complete();
        let asked = registry.asked();
        assert_eq!(asked.iter().filter(|it| it.method == "PATCH").count(), 4, "{asked:?}");
        Self { requests: asked.len(), ..sweep }
    }

    /// The folder of a state that knows what is known of the registry.
    fn state(&self, name: &str, port: u16) -> PathBuf {
        let state = self.folder.path().join(format!("state-{name}"));
        if let Some(quirks) = self.quirks {
            std::fs::create_dir(&state).unwrap();
            assert!(
                layercast()
                    .args(["state", "show", "--state-dir"])
                    .arg(&state)
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
            let database = Connection::open(state.join("state.sqlite")).unwrap();
            let insert = "INSERT INTO mirrors VALUES (?1, '', unixepoch(), ?2)";
            database.execute(insert, [&format!("http://127.0.0.1:{port}"), quirks]).unwrap();
        }
        state
    }

    /// Runs once for each request, with `faulty` in the place of the first run. Most of the time passes in waiting for
    /// another try, so several go on at once.
    fn every_request(&self, faulty: impl Fn(&ScriptedRegistry, &Push, usize) + Sync) {
        let next = AtomicUsize::new(1);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        if nth > self.requests {
                            break;
                        }
                        self.request(nth, &faulty);
                    }
                });
            }
        });
    }

    fn request(&self, nth: usize, faulty: impl Fn(&ScriptedRegistry, &Push, usize)) {
        let registry = ScriptedRegistry::start();
        let push =
            push(&self.bundle, &registry, &self.state(&format!("{nth}-{}", registry.port), registry.port));
        faulty(&registry, &push, nth);
        let broken_by = registry.asked().get(nth - 1).map(|it| format!("{} {}", it.method, it.target()));
        let at = format!("request {nth}, {broken_by:?}");
        assert_eq!(registry.store(|store| store.faults()), [""; 0], "after the fault at {at}");
        registry.forget_rules();

        let second = push.run();
        assert_eq!(second.exit, 0, "the second run after {at}: {}", second.said());
        assert_eq!(registry.store(|store| (store.shown(), store.faults())), (self.shown.clone(), vec![]));
        registry.asked();

        let third = push.run();
        assert_eq!(third.exit, 0, "the third run after {at}: {}", third.said());
        let sent: Vec<_> = registry.asked().into_iter().filter(Request::sends).collect();
        assert!(sent.is_empty(), "the third run after {at} sends {sent:?}");
    }

    fn every_request_meets(&self, action: &Action) {
        self.every_request(|registry, push, nth| {
            registry.on(Rule::any(action.clone()).nth(nth));
            let pushed = push.run();
            assert!([0, 3, 4, 6].contains(&pushed.exit), "{}", pushed.said());
            if pushed.exit == 0 {
                assert_eq!(registry.store(|store| store.shown()), self.shown, "exit code 0 at request {nth}");
            }
        });
    }
}

impl Sweep {
    fn is_killed_at_every_request(&self) {
        self.every_request(|registry, push, nth| {
            registry.on(Rule::any(Action::Hold).nth(nth));
            let mut child = push.start();
            registry.wait_for_held();
            child.kill().unwrap();
            child.wait().unwrap();
        });
    }
}

#[test]
fn a_connection_reset_before_any_request() {
    Sweep::new().every_request_meets(&Action::ResetBefore);
}

#[test]
fn the_answer_to_any_request_lost() {
    Sweep::new().every_request_meets(&Action::LoseAnswer);
}

#[test]
fn an_error_500_before_any_request_is_done() {
    Sweep::new().every_request_meets(&Action::Answer(Answer::status(500)));
}

#[test]
fn an_error_500_after_any_request_was_done() {
    Sweep::new().every_request_meets(&Action::DoneBut(Answer::status(500)));
}

#[test]
fn killed_at_any_request() {
    Sweep::new().is_killed_at_every_request();
}

#[test]
fn any_fault_while_a_blob_goes_in_chunks() {
    let sweep = Sweep::in_chunks();
    for action in [
        Action::ResetBefore,
        Action::LoseAnswer,
        Action::Answer(Answer::status(500)),
        Action::DoneBut(Answer::status(500)),
    ] {
        sweep.every_request_meets(&action);
    }
    sweep.is_killed_at_every_request();
}
