//! Running layercast, registries and generators.

pub(crate) mod answers;
#[cfg(feature = "kube")]
pub(crate) mod api_server;
pub(crate) mod browser;
pub(crate) mod build;
pub(crate) mod containerd;
pub(crate) mod http;
pub(crate) mod link;
mod push;
pub(crate) mod registry;
pub(crate) mod scripted;
pub(crate) mod terminal;

pub(crate) use push::Push;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of its own for a test, gone afterwards.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// layercast, with an environment in which no credential or proxy of this machine can be found.
pub(crate) fn layercast() -> Command {
    named(Path::new(env!("CARGO_BIN_EXE_layercast")))
}

/// The same for a link to the program.
pub(crate) fn named(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    for name in
        ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "LAYERCAST_USERNAME", "LAYERCAST_PASSWORD"]
    {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").env("LAYERCAST_NO_STATE", "1").stdin(Stdio::null());
    command
}

/// What became of a push.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) report: Value,
}

impl Pushed {
    pub(crate) fn mirror(&self, number: usize) -> &Value {
        &self.report["mirrors"][number]
    }

    #[track_caller]
    pub(crate) fn complete(self) -> Self {
        assert_eq!(self.exit, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Everything that was said, for assertions about messages.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Pushes with a report, within a time limit.
pub(crate) fn push<A: AsRef<OsStr>>(args: &[A]) -> Pushed {
    push_within(Duration::from_secs(120), args)
}

pub(crate) fn push_within<A: AsRef<OsStr>>(limit: Duration, args: &[A]) -> Pushed {
    Push::bare().within(limit).flags(args).run()
}

/// Runs a command to its end, and fails the test when it has none within the limit.
pub(crate) fn within(limit: Duration, mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (done, finished) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if finished.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            return true;
        }
        false
    });
    let output = child.wait_with_output().unwrap();
    let _ = done.send(());
    assert!(!watch.join().unwrap(), "still running after {limit:?}: {command:?}");
    output
}

/// Waits until something holds that happens in another process, and fails the test where it does not.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Duration::from_secs(20);
    assert!(comes_true(limit, &mut holds), "not within {limit:?}: {what}");
}

/// Whether something that happens in another process comes to hold within the limit.
pub(crate) fn comes_true(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Runs a tool that must be there and must succeed.
#[track_caller]
pub(crate) fn tool(program: &str, args: &[&OsStr]) -> Output {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test.sh installs it"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A bundle made by `tests/bundles/make_bundle.py`, with its truth beside it.
pub(crate) fn bundle(folder: &Path, name: &str, args: &[&str]) -> PathBuf {
    let out = folder.join(name);
    let script = root().join("tests/bundles/make_bundle.py");
    let mut words: Vec<&OsStr> = vec![script.as_os_str(), "--source".as_ref(), "synthetic".as_ref()];
    words.extend(args.iter().map(OsStr::new));
    words.extend(["--out".as_ref(), out.as_os_str()]);
    tool("python3", &words);
    out
}

/// The independent judge: everything of the bundle's truth is on the registry, whole and right.
#[track_caller]
pub(crate) fn judge(registry: &str, bundle: &Path) {
    let script = root().join("tests/oracle/oracle.py");
    let mut truth = bundle.as_os_str().to_owned();
    truth.push(".TRUTH.json");
    let words = [
        script.as_os_str(),
        "check".as_ref(),
        "--registry".as_ref(),
        registry.as_ref(),
        "--truth".as_ref(),
        &truth,
    ];
    tool("python3", &words);
}
