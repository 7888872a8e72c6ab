//! What people see while a run goes on, on terminals of several sizes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::support::build::{Bundle, large_layer};
use crate::support::link::{self, PoorLink};
use crate::support::registry::{Registry, free_port};
use crate::support::scripted::{Action, Request, Rule, ScriptedRegistry, Store};
use crate::support::terminal::Terminal;
use crate::support::{Push, eventually, folder, within};

const MIB: u64 = 1 << 20;

/// Manifests are taken once this is let go of.
fn gate(registry: &ScriptedRegistry, path: &'static str) -> Arc<Mutex<()>> {
    let gate = Arc::new(Mutex::new(()));
    let waits = Arc::clone(&gate);
    registry.on(Rule::on("PUT", path, Action::meanwhile(move |_| drop(waits.lock()))));
    gate
}

fn small(folder: &Path) -> PathBuf {
    Bundle::oci_layout().image("images.example/a:1", &["a"]).image("images.example/b:1", &["b"]).write(folder)
}

/// The line of the whole run.
fn overall(lines: &[String]) -> Option<&str> {
    lines.iter().map(String::as_str).find(|line| line.starts_with("all  "))
}

/// The first number of `12.0/24.0 MiB`.
fn shown_mib(line: &str) -> Option<f64> {
    line.split_whitespace().find_map(|word| word.split_once('/')?.0.parse().ok())
}

/// The whole seconds of `ETA 85 s`.
fn shown_eta(line: &str) -> Option<f64> {
    line.split_once("ETA ")?.1.strip_suffix(" s")?.parse().ok()
}

/// The share of `28 %`, of 100.
fn shown_percent(line: &str) -> Option<f64> {
    line.strip_prefix("all  ")?.split_once(" %")?.0.trim().parse().ok()
}

#[test]
fn on_a_slow_link_bytes_and_time_are_those_of_the_wire_and_all_is_done_with_the_last_answer() {
    let (folder, root) = (folder(), folder());
    let bundle = large_layer(folder.path(), 57 * MIB);
    let registry = Registry::embedded(root.path());
    let link = PoorLink::new(registry.port, 6_000_000, &[]);
    let push = Push::to(&*link.url()).source(&bundle);
    let mut terminal = Terminal::run(push.command(), 24, 80);
    let (mut moved, mut told) = (0, Vec::new());
    while let Some(lines) = terminal.next() {
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        let carried = link.carried() as f64 / MIB as f64;
        let Some(line) = overall(&lines) else { continue };
        if let Some(shown) = shown_mib(line).filter(|shown| *shown > 0.0) {
            // What the buffers of one connection hold, and what the link has carried since the frame was drawn.
            assert!(shown - carried <= 0.1 * carried + 4.0, "{shown} MiB shown, {carried} MiB on the wire");
            assert!(carried - shown <= 0.1 * carried + 4.0, "{shown} MiB shown, {carried} MiB on the wire");
            moved += 1;
        }
        let is_half_way = shown_percent(line).is_some_and(|percent| (50.0..99.0).contains(&percent));
        told.extend(shown_eta(line).filter(|_| is_half_way).map(|eta| (Instant::now(), eta)));
        let is_full = line.contains("100 %");
        assert!(!is_full || lines.iter().any(|line| line.contains('✓')), "{lines:?}");
    }
    let ended = Instant::now();
    assert!(terminal.child.wait().unwrap().success());
    assert!(moved > 5 && told.len() > 5, "{moved} frames with bytes, {} with a time", told.len());
    for (at, eta) in told {
        let took = ended.duration_since(at).as_secs_f64();
        // It is told in whole seconds, and the frame may be drawn once more only after a fifth of one.
        assert!((eta - took).abs() <= 0.25 * took + 1.2, "ETA {eta} s, and it took {took} s");
    }
    assert!(overall(&terminal.lines()).is_none(), "nothing of it is left: {:?}", terminal.lines());
}

#[test]
fn a_mirror_that_is_not_there_says_so_and_shows_no_bar() {
    let folder = folder();
    let bundle = small(folder.path());
    let good = ScriptedRegistry::strict();
    let dead = format!("http://127.0.0.1:{}/a-very-long-namespace/of-the-mirror", free_port());
    let (gate, push) = (gate(&good, "/manifests/"), Push::to(&good).and_to(dead.as_str()).source(&bundle));
    let (held, push) = (gate.lock(), push.flag("--patience=2s"));
    let mut terminal = Terminal::run(push.command(), 24, 80);
    let of_dead =
        |lines: &[String]| lines.iter().find(|line| line.contains("mirror") && line.contains('[')).cloned();
    terminal
        .until("it is waited for", |lines| of_dead(lines).is_some_and(|it| it.contains(": no connection")));
    let lines = terminal.until("it is given up", |lines| of_dead(lines).is_some_and(|it| it.contains('✗')));
    let line = of_dead(&lines).unwrap();
    assert!(line.contains("[          ]") && line.ends_with("✗ unreachable"), "{line}");
    assert!(terminal.formatted().contains("\u{1b}[31m"), "what is bad is red");
    // It goes on in a window that became smaller.
    terminal.resize(12, 50);
    drop(held);
    while let Some(lines) = terminal.next() {
        assert!(lines.len() <= 12, "{lines:?}");
    }
    assert_eq!(terminal.child.wait().unwrap().code(), Some(3));
}

#[test]
fn of_forty_mirrors_those_are_shown_that_need_somebody() {
    let folder = folder();
    let bundle = small(folder.path());
    let registry = ScriptedRegistry::strict();
    let gate = gate(&registry, "/manifests/");
    let dead = format!("http://127.0.0.1:{}/dead", free_port());
    let mirrors = (0..39).map(|number| format!("http://{}/site-{number:02}", registry.host()));
    let to_all = mirrors.fold(Push::to(dead.as_str()), |push, mirror| push.and_to(mirror.as_str()));
    let push = to_all.source(&bundle).flag("--patience=1s");
    for columns in [80_u16, 120] {
        registry.store(Store::empty);
        let held = gate.lock();
        let mut terminal = Terminal::run(push.command(), 12, columns);
        let lines = terminal.until("the dead one is shown", |lines| {
            lines.iter().any(|line| line.contains("✗ unreachable"))
                && lines.iter().any(|line| line.starts_with("and ") && line.contains(" more: "))
        });
        assert!(lines.iter().all(|line| line.chars().count() <= usize::from(columns)), "{lines:?}");
        let first = lines.iter().position(|line| line.starts_with("all  ")).unwrap() + 1;
        assert!(lines[first].ends_with("✗ unreachable"), "the worst comes first: {lines:?}");
        drop(held);
        while terminal.next().is_some() {}
        assert_eq!(terminal.child.wait().unwrap().code(), Some(3));
    }
}

#[test]
fn a_log_has_a_line_for_what_changed_and_none_for_each_image() {
    let folder = folder();
    let bundle = small(folder.path());
    let registry = ScriptedRegistry::strict();
    let push = |flags: &[&str]| {
        let output =
            within(Duration::from_secs(60), Push::to(&registry).source(&bundle).flags(flags).command());
        String::from_utf8(output.stderr).unwrap()
    };
    let plain = push(&["--progress=plain"]);
    assert!(plain.contains("2 images, 4 blobs (catalogued in "), "{plain}");
    assert!(plain.contains(": 2 images complete after ") && !plain.contains("images.example/a"), "{plain}");
    let json = push(&["--progress=json"]);
    assert!(json.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{json}");
    assert!(json.contains(r#""event":"finished""#), "{json}");
    assert_eq!(push(&["--progress=none"]), "");
    let bars = push(&["--progress=bar", "--color=always"]);
    assert!(!bars.contains("images complete"), "{bars}");
}

#[test]
fn verify_has_a_display_too() {
    let folder = folder();
    let bundle = small(folder.path());
    let registry = ScriptedRegistry::strict();
    Push::to(&registry).source(&bundle).run().complete();
    let slow = format!("http://127.0.0.1:{}", link::long(registry.port, Duration::from_millis(150)));
    let mut command = crate::support::layercast();
    command.args(["verify", "--need-credential=false", "--private-registry", &slow, "--source"]).arg(&bundle);
    let mut terminal = Terminal::run(command, 24, 80);
    terminal.until("mirrors are shown", |lines| {
        overall(lines).is_some() && lines.iter().any(|line| line.contains("/2 img"))
    });
    while terminal.next().is_some() {}
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn a_pull_has_a_display_too() {
    let (folder, root) = (folder(), folder());
    let registry = Registry::embedded(root.path());
    Push::to(&registry).source(&small(folder.path())).run().complete();
    let link = format!("http://127.0.0.1:{}", link::long(registry.port, Duration::from_millis(150)));
    let mut pull = crate::support::layercast();
    pull.args(["bundle", "pull", "--need-credential=false", "--private-registry", &link, "--image"]);
    pull.arg("images.example/a:1").arg("-o").arg(folder.path().join("out.tar.zst"));
    let mut terminal = Terminal::run(pull, 24, 80);
    terminal.until("the step is shown", |lines| {
        lines.iter().any(|line| line.starts_with("fetching images, 0 of 1 are whole  "))
    });
    while terminal.next().is_some() {}
    assert!(terminal.child.wait().unwrap().success(), "{:?}", terminal.lines());
}

#[test]
fn who_interrupts_is_told_what_was_done_and_nothing_is_called_failed() {
    let folder = folder();
    let bundle = small(folder.path());
    let registry = ScriptedRegistry::strict();
    // No blob is committed, so no image can be complete, before the signal was heard.
    let gate = gate(&registry, "/blobs/uploads/");
    let held = gate.lock();
    let report = folder.path().join("report.json");
    let push = Push::to(&registry).source(&bundle).flag("--report").flag(&report);
    let mut command = push.command();
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let is_session = |it: &Request| it.method == "POST";
    eventually("an upload has begun", || registry.asked().iter().any(is_session));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    // It is heard of before the answer comes.
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("stopping: ") && stderr.read_line(&mut said).unwrap() > 0 {}
    drop(held);
    stderr.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(said.contains("interrupted: ") && said.contains("of 2 images are complete"), "{said}");
    // Without a state, nothing is known of the upload that was cut.
    assert!(said.contains("next: run the same command again: what is there stays"), "{said}");
    assert!(said.contains("is sent again from its first byte"), "{said}");
    assert!(!said.contains("failed") && !said.contains("error:"), "{said}");
}
