//! What was learned of a registry counts for thirty days, and for the same server.

use super::super::State;
use super::*;

const REGISTRY: &str = "https://r.example:5000";

async fn recall(state: &State, server: &str) -> Option<String> {
    state.recall(REGISTRY.to_owned(), server.to_owned()).await
}

fn remember(state: &State, server: &str, quirks: &str) {
    state.remember(REGISTRY.to_owned(), server.to_owned(), quirks.to_owned());
}

fn age(state: &State, days: i64) {
    state.write(move |transaction| {
        transaction.execute("UPDATE mirrors SET learned_at = learned_at - ?1", [days * 86_400])
    });
}

#[tokio::test]
async fn another_server_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    assert_eq!(recall(&state, "nginx/1").await, None);
    remember(&state, "nginx/1", "{1}");
    remember(&state, "nginx/1", "{2}");
    assert_eq!(recall(&state, "nginx/1").await.as_deref(), Some("{2}"));
    assert_eq!(recall(&state, "nginx/2").await, None);
    assert_eq!(state.recall("https://other.example".to_owned(), "nginx/1".to_owned()).await, None);
    assert_eq!(State::none().recall(REGISTRY.to_owned(), String::new()).await, None);
}

#[tokio::test]
async fn it_counts_for_thirty_days_from_when_it_was_first_learned() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    remember(&state, "a", "{1}");
    age(&state, 29);
    remember(&state, "a", "{2}");
    assert_eq!(recall(&state, "a").await.as_deref(), Some("{2}"));
    age(&state, 1);
    assert_eq!(recall(&state, "a").await, None);
    assert!(state.mirrors().is_empty());
    remember(&state, "a", "{3}");
    age(&state, 20);
    remember(&state, "b", "{4}");
    age(&state, 20);
    assert_eq!(recall(&state, "b").await.as_deref(), Some("{4}"), "another server is learned anew");
}
