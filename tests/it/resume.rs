//! Uploads that break off: what a mirror keeps of a blob is not sent again, in the same run or in the next one, however the run
//! ended.

use std::path::Path;

use rusqlite::Connection;

use crate::support::build::large_layer;
use crate::support::http;
use crate::support::link::PoorLink;
use crate::support::registry::Registry;
use crate::support::{Push, Pushed, eventually, folder};

const MIB: u64 = 1 << 20;

fn push(bundle: &Path, link: &PoorLink, state: &Path) -> Push {
    Push::to(&*link.url()).source(bundle).state(state)
}

/// Kills runs after they have sent so many bytes, then lets one come to its end. Gives what it said.
fn killed(push: &Push, link: &PoorLink, after: &[u64]) -> Pushed {
    for bytes in after {
        let before = link.carried();
        let mut child = push.start();
        eventually("the run has sent enough", || {
            link.carried() - before >= *bytes || child.try_wait().unwrap().is_some()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        // What this machine had taken from it still goes its way.
        eventually("nothing is on its way any more", || link.is_idle());
    }
    push.run().complete()
}

fn seeded(seed: u64, count: usize, bytes: std::ops::Range<u64>) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.u64(bytes.clone())).collect()
}

/// Nothing broke off that a later run could go on with.
fn is_empty(ledger: &Path) -> bool {
    let connection = Connection::open(ledger.join("uploads.sqlite")).unwrap();
    let left = connection.query_row("SELECT count(*) FROM uploads", [], |row| row.get::<_, i64>(0));
    left.is_ok_and(|left| left == 0)
}

#[test]
fn a_run_goes_on_in_the_middle_of_a_blob_where_a_killed_one_was() {
    let (folder, root) = (folder(), folder());
    let (bundle, state) = (large_layer(folder.path(), 24 * MIB), folder.path().join("state"));
    let registry = Registry::embedded(root.path());
    let link = PoorLink::new(registry.port, 8 << 20, &[]);
    let kills = seeded(1, 4, MIB..2 * MIB);
    let pushed = killed(&push(&bundle, &link, &state), &link, &kills);
    assert!(link.carried() <= 24 * MIB + kills.len() as u64 * MIB / 4, "{} bytes in all", link.carried());
    let mirror = pushed.mirror(0);
    assert_eq!((mirror["resume"].as_str(), mirror["uploads_resumed"].as_u64()), (Some("bytes"), Some(1)));
    let sent = mirror["bytes_sent"].as_u64().unwrap() + mirror["bytes_found"].as_u64().unwrap();
    assert!((24 * MIB..24 * MIB + 4096).contains(&sent), "{mirror}");
    assert!(is_empty(&state), "what is committed is forgotten");
    let manifest = http::get(&registry.url(), "large/manifests/1").json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let bytes = http::get(&registry.url(), &format!("large/blobs/{layer}")).body;
    assert_eq!(crate::support::build::digest(&bytes), layer);
}

#[test]
fn a_blob_gets_over_a_link_that_breaks_again_and_again() {
    let (folder, root) = (folder(), folder());
    let bundle = large_layer(folder.path(), 8 * MIB);
    let registry = Registry::embedded(root.path());
    let link = PoorLink::new(registry.port, 16 << 20, &seeded(2, 6, MIB..3 * MIB / 2));
    let pushed = push(&bundle, &link, &folder.path().join("state")).run().complete();
    assert_eq!(link.resets(), 6, "more than a blob may begin anew");
    assert!(link.carried() <= 8 * MIB + 6 * MIB / 2, "{} bytes in all", link.carried());
    let mirror = pushed.mirror(0);
    assert_eq!((mirror["resume"].as_str(), mirror["uploads_resumed"].as_u64()), (Some("bytes"), Some(6)));
}

#[test]
fn a_registry_that_loses_sessions_is_filled_and_named() {
    let folder = folder();
    let (bundle, state) = (large_layer(folder.path(), 4 * MIB), folder.path().join("state"));
    let registry = Registry::docker();
    let link = PoorLink::new(registry.port, 16 << 20, &[2 * MIB, 3 * MIB]);
    let pushed = push(&bundle, &link, &state).run().complete();
    assert_eq!((pushed.mirror(0)["resume"].as_str(), link.resets()), (Some("none"), 2));
    assert!(pushed.stderr.contains("does not keep an upload whose connection breaks"), "{}", pushed.said());
    let again = push(&bundle, &link, &state).run().complete();
    assert_eq!(again.mirror(0)["resume"], "none", "it is remembered");
}

/// As long as the session is the registry's, whatever becomes of what we know of it.
#[test]
fn what_becomes_of_the_ledger_costs_no_more_than_bytes() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 4] = [
        ("", |ledger| std::fs::write(ledger, "no ledger ".repeat(5000)).unwrap()),
        ("", |ledger| std::fs::remove_file(ledger).unwrap()),
        ("UPDATE uploads SET acknowledged = 5, sent = 9", |_| {}),
        ("UPDATE uploads SET location = 'http://elsewhere.example/v2/x'", |_| {}),
    ];
    let folder = folder();
    let bundle = large_layer(folder.path(), 12 * MIB);
    for (number, (sql, damage)) in damages.into_iter().enumerate() {
        let root = crate::support::folder();
        let state = folder.path().join(format!("state-{number}"));
        let registry = Registry::embedded(root.path());
        let link = PoorLink::new(registry.port, 8 << 20, &[]);
        let push = push(&bundle, &link, &state);
        let mut child = push.start();
        eventually("half of it is sent", || link.carried() >= 2 * MIB);
        let ledger = state.join("uploads.sqlite");
        eventually("the ledger has it", || ledger.exists() && !is_empty(&state));
        child.kill().unwrap();
        child.wait().unwrap();
        if !sql.is_empty() {
            assert_eq!(Connection::open(&ledger).unwrap().execute(sql, []).unwrap(), 1);
        }
        damage(&ledger);
        let pushed = push.run().complete();
        assert_eq!(pushed.mirror(0)["bytes_found"], 0, "{number}");
        assert!(link.carried() <= 24 * MIB + 65_536, "{number}: {}", link.carried());
    }
}

/// Twenty breaks in one blob, the one and the other kind, cost less than half a megabyte each.
#[test]
fn one_blob_survives_twenty_kills_and_twenty_resets() {
    const SIZE: u64 = 40 * MIB;
    let folder = folder();
    let bundle = large_layer(folder.path(), SIZE);
    let survives = |name: &str, kills: &[u64], resets: &[u64]| {
        let root = crate::support::folder();
        let registry = Registry::embedded(root.path());
        let link = PoorLink::new(registry.port, 16 << 20, resets);
        let pushed = killed(&push(&bundle, &link, &folder.path().join(name)), &link, kills);
        assert_eq!(link.resets(), resets.len() as u64, "{name}: more than a blob may begin anew");
        let waste = link.carried() - SIZE;
        assert!(waste <= 20 * MIB / 2, "{name}: {waste} bytes in vain");
        assert_eq!(pushed.mirror(0)["resume"], "bytes", "{name}");
    };
    let points = seeded(3, 20, MIB / 4..7 * MIB / 4);
    std::thread::scope(|scope| {
        scope.spawn(|| survives("kills", &points, &[]));
        scope.spawn(|| survives("resets", &[], &points));
    });
}
