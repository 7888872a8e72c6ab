//! What was put is found in its repository, expires, and is bounded.

use rusqlite::Connection;

use super::*;

fn manifest(name: &str) -> RememberedManifest {
    let blobs = ["config", name].map(|part| Digest::of(part.as_bytes())).to_vec();
    RememberedManifest { digest: Digest::of(format!("manifest {name}").as_bytes()), blobs }
}

const REGISTRY: &str = "https://r.example";

#[tokio::test]
async fn manifests_are_found_where_they_were_put_until_they_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let [app, tool] = ["team/app", "team/tool"].map(|name| name.parse::<Repository>().unwrap());
    let found = async |repository| state.manifests_in(REGISTRY.to_owned(), repository).await;
    assert_eq!(found(&app).await, []);
    state.remember_manifests(REGISTRY.to_owned(), &app, vec![manifest("a"), manifest("b")]);
    state.remember_manifests(REGISTRY.to_owned(), &tool, vec![manifest("c")]);
    state.remember_manifests("https://other.example".to_owned(), &app, vec![manifest("d")]);
    let mut both = found(&app).await;
    both.sort_by_key(|manifest| manifest.blobs[1] == Digest::of(b"b"));
    assert_eq!(both, [manifest("a"), manifest("b")]);
    state.forget_manifest(REGISTRY.to_owned(), &app, manifest("a").digest);
    assert_eq!(found(&app).await, [manifest("b")]);
    state.forget_manifests(REGISTRY.to_owned());
    assert_eq!((found(&app).await, found(&tool).await), (vec![], vec![]));
    let elsewhere = state.manifests_in("https://other.example".to_owned(), &app).await;
    assert_eq!(elsewhere, [manifest("d")]);
}

#[tokio::test]
async fn what_is_old_or_not_ours_is_not_given_out_and_the_oldest_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path());
    let app: Repository = "team/app".parse().unwrap();
    state.remember_manifests(REGISTRY.to_owned(), &app, vec![manifest("a"), manifest("b"), manifest("c")]);
    assert!(state.is_kept());
    let mut connection = Connection::open(folder.path().join("state.sqlite")).unwrap();
    let set = |column: &str, value: &str, name: &str| {
        let set = format!("UPDATE manifests SET {column} = {value} WHERE digest = ?1");
        assert_eq!(connection.execute(&set, [manifest(name).digest.to_string()]).unwrap(), 1);
    };
    set("put_at", "put_at - 180 * 86400", "a");
    set("blobs", "'sha256:x'", "b");
    assert_eq!(state.manifests_in(REGISTRY.to_owned(), &app).await, [manifest("c")]);
    let transaction = connection.transaction().unwrap();
    trim(&transaction, 2).unwrap();
    let left: u32 = transaction.query_row("SELECT count(*) FROM manifests", [], |row| row.get(0)).unwrap();
    let is_old: bool = transaction
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)",
            [manifest("a").digest.to_string()],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!((left, is_old), (2, false));
}
