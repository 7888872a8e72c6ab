//! What gates say, and how long that counts.

use std::time::Duration;

use super::*;
use crate::testing::eventually;

fn candidate(digest: &str) -> GatedImage {
    let digest = Digest::of(digest.as_bytes());
    GatedImage {
        image: "gcr.io/team/app:1.0".to_owned(),
        reference: format!("registry.example:5000/ns/team/app@{digest}"),
        digest,
        tags: vec!["1.0".to_owned(), "latest".to_owned()],
        site: "berlin-1".to_owned(),
        mirror: "registry.example:5000/ns".to_owned(),
    }
}

/// A gate that counts how often it is asked, and then does as the script says.
struct Counting {
    folder: tempfile::TempDir,
}

impl Counting {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn hook(&self, script: &str) -> Hook {
        let log = self.folder.path().join("log").display().to_string();
        Hook::new(format!("echo asked >> {log}; {script}"), Duration::from_secs(20))
    }

    fn asked(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("log")).map_or(0, |log| log.lines().count())
    }

    fn gates(&self, earlier: EarlierVerdicts) -> Gates {
        Gates::new(Arc::new(State::open(&self.folder.path().join("state"))), earlier)
    }
}

async fn judged(gates: &Gates, hook: &Hook, digest: &str) -> Result<(), Failure> {
    let judged = gates.judge(hook, candidate(digest), &CancellationToken::new()).await;
    // What was to be written is written by then.
    assert!(gates.state.is_kept());
    judged
}

#[tokio::test]
async fn it_is_told_what_to_look_at_and_no_secret() {
    let counting = Counting::new();
    let seen = counting.folder.path().join("seen");
    let names = "$LAYERCAST_IMAGE $LAYERCAST_REFERENCE $LAYERCAST_DIGEST $LAYERCAST_TAGS $LAYERCAST_SITE";
    let mut hook =
        counting.hook(&format!("echo {names} ${{CARGO_MANIFEST_DIR-no secret}} > {}", seen.display()));
    hook.without = vec!["CARGO_MANIFEST_DIR".to_owned()];
    judged(&counting.gates(EarlierVerdicts::Count), &hook, "a").await.unwrap();
    let digest = Digest::of(b"a");
    assert_eq!(
        std::fs::read_to_string(&seen).unwrap().trim(),
        format!(
            "gcr.io/team/app:1.0 registry.example:5000/ns/team/app@{digest} {digest} 1.0 latest berlin-1 no secret"
        )
    );
}

#[tokio::test]
async fn a_refusal_counts_by_digest_until_it_is_asked_again() {
    let counting = Counting::new();
    let hook = counting.hook("echo 'CVE-2026-1: critical'; exit 1");
    let gates = counting.gates(EarlierVerdicts::Count);
    let first = judged(&gates, &hook, "a").await.unwrap_err();
    assert_eq!(first.class, Class::GateRefused);
    assert!(first.message.contains("exit code 1: CVE-2026-1: critical"), "{first:?}");
    let later = judged(&counting.gates(EarlierVerdicts::Count), &hook, "a").await.unwrap_err();
    assert!(later.message.contains("in an earlier run") && later.message.contains("CVE-2026-1"), "{later:?}");
    assert_eq!(later.cause, first.cause);
    assert_eq!(counting.asked(), 1);
    judged(&gates, &hook, "b").await.unwrap_err();
    judged(&counting.gates(EarlierVerdicts::Ignored), &hook, "a").await.unwrap_err();
    assert_eq!(counting.asked(), 3);
    // Another command is another gate, and its word counts.
    judged(&gates, &counting.hook("exit 0"), "a").await.unwrap();
}

#[tokio::test]
async fn a_pass_counts_for_a_day() {
    let counting = Counting::new();
    let hook = counting.hook("exit 0");
    let gates = counting.gates(EarlierVerdicts::Count);
    for _ in 0..2 {
        judged(&gates, &hook, "a").await.unwrap();
    }
    assert_eq!(counting.asked(), 1);
}

#[tokio::test]
async fn what_cannot_judge_refuses_nothing_and_is_asked_again() {
    let counting = Counting::new();
    for (script, why) in [
        ("no-such-scanner", "exit code 127"),
        ("kill -9 $$", "signal 9"),
        ("sleep 60", "did not answer within 0.3 s"),
    ] {
        let gates = counting.gates(EarlierVerdicts::Count);
        let hook = Hook { limit: Duration::from_millis(300), ..counting.hook(script) };
        for _ in 0..2 {
            let failure = judged(&gates, &hook, "a").await.unwrap_err();
            assert_eq!(failure.class, Class::GateFailed);
            assert!(failure.message.contains(why), "{failure:?}");
        }
    }
    assert_eq!(counting.asked(), 6);
}

#[tokio::test]
async fn it_ends_with_the_run() {
    let counting = Counting::new();
    let (gates, hook, cancel) =
        (counting.gates(EarlierVerdicts::Count), counting.hook("sleep 600"), CancellationToken::new());
    let stop = async {
        eventually("the gate is asked", || counting.asked() > 0).await;
        cancel.cancel();
    };
    let (judged, ()) = tokio::join!(gates.judge(&hook, candidate("a"), &cancel), stop);
    assert_eq!(judged.unwrap_err().class, Class::Interrupted);
}

#[tokio::test]
async fn a_slow_gate_keeps_no_other_mirror_waiting() {
    let counting = Counting::new();
    let gates = Arc::new(counting.gates(EarlierVerdicts::Count));
    let slow = counting.hook("sleep 600");
    let cancel = CancellationToken::new();
    let waiting: Vec<_> = (0..20)
        .map(|number| {
            let (gates, slow, cancel) = (Arc::clone(&gates), slow.clone(), cancel.clone());
            let candidate = candidate(&format!("slow {number}"));
            tokio::spawn(async move { gates.judge(&slow, candidate, &cancel).await })
        })
        .collect();
    eventually("four of them run", || counting.asked() == 1 + MORE_AT_ONCE).await;
    let other = GatedImage { mirror: "registry.example:5000/other".to_owned(), ..candidate("quick") };
    gates.judge(&counting.hook("exit 0"), other, &CancellationToken::new()).await.unwrap();
    cancel.cancel();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap_err().class, Class::Interrupted);
    }
    assert_eq!(counting.asked(), 1 + MORE_AT_ONCE + 1);
}

#[tokio::test]
async fn a_gate_that_gives_no_verdict_is_given_up_for_its_mirror_alone() {
    let counting = Counting::new();
    let gates = counting.gates(EarlierVerdicts::Count);
    for number in 0..10 {
        let failure = judged(&gates, &counting.hook("exit 127"), &number.to_string()).await.unwrap_err();
        assert_eq!(failure.class, Class::GateFailed);
    }
    assert_eq!(counting.asked(), GIVEN_UP_AFTER as usize);
    let other = GatedImage { mirror: "registry.example:5000/other".to_owned(), ..candidate("a") };
    gates.judge(&counting.hook("exit 0"), other, &CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn what_it_said_of_one_registry_says_nothing_of_another_under_the_same_name() {
    let counting = Counting::new();
    let gates = counting.gates(EarlierVerdicts::Count);
    judged(&gates, &counting.hook("exit 0"), "a").await.unwrap();
    let moved = GatedImage { mirror: "registry.example:5000/elsewhere".to_owned(), ..candidate("a") };
    let refused = gates.judge(&counting.hook("exit 1"), moved, &CancellationToken::new()).await;
    assert_eq!(refused.unwrap_err().class, Class::GateRefused);
}
