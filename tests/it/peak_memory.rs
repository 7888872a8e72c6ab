//! Memory has a bound, whatever the bundle and however many mirrors.

use crate::support::build::Bundle;
use crate::support::registry::Registry;
use crate::support::{Push, folder};

const MIB: u64 = 1 << 20;

#[test]
fn a_large_push_to_eight_mirrors_stays_within_what_it_may_take() {
    let folder = folder();
    let bundle = ["one", "two", "three", "four"]
        .iter()
        .fold(Bundle::archives(), |bundle, seed| bundle.image(&format!("images.example/{seed}:1"), &[seed]));
    let path = bundle.layer_bytes(16 << 20).zstd().write(folder.path());
    let mirrors: Vec<Registry> = (0..8).map(|_| Registry::discard()).collect();
    let push = Push::bare().flags(&["--need-credential=false", "--memory=32MiB"]).source(&path);
    let pushed = mirrors.iter().fold(push, Push::and_to).run().complete();
    let sent: Vec<u64> = (0..8).map(|mirror| pushed.mirror(mirror)["bytes_sent"].as_u64().unwrap()).collect();
    assert!(sent.iter().all(|bytes| *bytes > 64 * MIB), "{sent:?}");
    let peak = pushed.report["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak <= (32 + 64) * MIB, "{} MiB", peak / MIB);
}
