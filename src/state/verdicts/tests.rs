//! What gates said, and for how long it counts.

use super::super::State;
use super::*;

#[test]
fn refusals_stay_and_passes_go_after_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let key = |name: &str, mirror: &str| VerdictKey {
        gate: "scan".to_owned(),
        mirror: mirror.to_owned(),
        digest: Digest::of(name.as_bytes()),
    };
    let refused = GateVerdict::Refused { words: "it ended with exit code 1: CVE-1".to_owned() };
    state.remember_verdict(key("bad", "one"), refused.clone());
    state.remember_verdict(key("good", "one"), GateVerdict::Passed);
    assert_eq!(state.verdict(&key("bad", "one")), Some(refused.clone()));
    assert_eq!(state.verdict(&key("good", "one")), Some(GateVerdict::Passed));
    assert_eq!(state.verdict(&key("bad", "two")), None, "another mirror is asked for itself");
    state.write(|t| t.execute("UPDATE gate_verdicts SET at = at - 90000", []));
    assert_eq!(state.verdict(&key("bad", "one")), Some(refused));
    assert_eq!(state.verdict(&key("good", "one")), None);
    state.remember_verdict(key("bad", "one"), GateVerdict::Passed);
    assert_eq!(state.verdict(&key("bad", "one")), Some(GateVerdict::Passed), "the last word counts");
}
