//! Every request of a small run, met by every kind of fault. After each: no tag stands for an image that is not complete,
//! the next run completes everything, and the one after it sends nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::build::Bundle;
use crate::support::scripted::{Action, Answer, Request, Rule, ScriptedRegistry};
use crate::support::{Push, folder};

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
}

impl Sweep {
    fn new() -> Self {
        let folder = folder();
        let bundle = small_bundle().write(folder.path());
        let requests = requests_of_a_clean_run(&bundle);
        assert!((15..60).contains(&requests), "{requests}");
        Self { bundle, shown: small_bundle().shown(), folder, requests }
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
        let push = push(&self.bundle, &registry, &self.folder.path().join(format!("state-{nth}")));
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
    Sweep::new().every_request(|registry, push, nth| {
        registry.on(Rule::any(Action::Hold).nth(nth));
        let mut child = push.start();
        registry.wait_for_held();
        child.kill().unwrap();
        child.wait().unwrap();
    });
}
