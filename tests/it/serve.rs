//! `serve` under clients that mean no good, or that died: its memory stays small, and a good push works beside them and
//! after them.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::build::{Bundle, digest};
use crate::support::http::{get, tags};
use crate::support::registry::Registry;
use crate::support::{Push, eventually, folder, layercast, push, within};

const MIB: u64 = 1 << 20;
const MOST_MEMORY: u64 = 200 * MIB;

/// A registry, and a bundle that is pushed to it again and again.
struct Besieged {
    folder: tempfile::TempDir,
    registry: Registry,
    pushes: usize,
}

impl Besieged {
    fn new() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        let folder = folder();
        let registry = Registry::embedded(&folder.path().join("store"));
        Self { folder, registry, pushes: 0 }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.registry.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Connections that have said this and say no more.
    fn connections(&self, number: usize, said: &str) -> Vec<TcpStream> {
        let connect = |_| {
            let mut stream = self.connect();
            // The registry may have thrown it out already.
            let _ = stream.write_all(said.as_bytes());
            stream
        };
        (0..number).map(connect).collect()
    }

    /// What is sent, and all that comes back.
    fn says(&self, sent: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(sent.as_bytes()).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{sent:?}: {error}"),
            _ => String::from_utf8_lossy(&answer).into_owned(),
        }
    }

    /// A new upload session's path.
    fn session(&self, repository: &str) -> String {
        let post = format!(
            "POST /v2/{repository}/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        let answer = self.says(&post);
        answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned()
    }

    /// How much of an upload has arrived, by the registry's word.
    fn offset(&self, session: &str) -> usize {
        let answer =
            self.says(&format!("GET {session} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        let last = answer.lines().find_map(|line| line.strip_prefix("range: 0-")).unwrap();
        // An empty upload and one of a single byte look alike.
        last.parse::<usize>().unwrap() + usize::from(last != "0")
    }

    /// Kills the registry, and starts another one on its files.
    fn restart(&mut self) {
        let root = self.folder.path().join("store");
        self.registry.kill();
        self.registry = Registry::embedded(&root);
    }

    /// A good push of something new.
    #[track_caller]
    fn still_works(&mut self) {
        self.pushes += 1;
        let (name, seed) = (format!("app{}", self.pushes), format!("seed{}", self.pushes));
        let bundle = Bundle::oci_layout().image(&format!("images.example/good/{name}:1"), &[&seed]);
        let folder = self.folder.path().join(&name);
        fs::create_dir(&folder).unwrap();
        let path = bundle.layer_bytes(1 << 20).write(&folder);
        Push::to(&self.registry).source(&path).within(Duration::from_secs(60)).run().complete();
        assert_eq!(get(&self.registry.url(), &format!("good/{name}/manifests/1")).status, 200);
        let memory = peak_memory(self.registry.id());
        assert!(memory < MOST_MEMORY, "{} MiB", memory / MIB);
    }
}

/// The most memory that a process has had.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn half_requests_make_room_for_whole_ones() {
    // Room for 200 connections, at three files each.
    setrlimit(Resource::Nofile, Rlimit { current: Some(600), maximum: Some(600) }).unwrap();
    let mut registry = Besieged::new();
    let halves = registry.connections(250, "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-Long: ");
    registry.still_works();
    let silent = registry.connections(250, "");
    registry.still_works();
    drop((halves, silent));
    registry.still_works();
}

#[test]
fn documents_that_do_not_end_are_not_kept_in_memory() {
    let mut registry = Besieged::new();
    let head = "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
                application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 4194304\r\n\r\n";
    let part = vec![b' '; 4_000_000];
    let mut unfinished = registry.connections(150, head);
    for stream in &mut unfinished {
        stream.write_all(&part).unwrap();
    }
    registry.still_works();
    drop(unfinished);
    registry.still_works();
}

#[test]
fn answers_that_nobody_reads_are_not_kept_in_memory() {
    let mut registry = Besieged::new();
    // An index of four megabytes, and as many referrers' annotations.
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}}{}"#,
        " ".repeat(4_100_000)
    );
    let put = format!(
        "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{index}",
        index.len()
    );
    let answer = registry.says(&put);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let readers = registry.connections(300, "GET /v2/a/manifests/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    registry.still_works();
    drop(readers);
    registry.still_works();
}

#[test]
fn uploads_that_come_all_at_once_share_a_budget() {
    let mut registry = Besieged::new();
    let part = vec![7; 2_000_000];
    let head = |session: &str| {
        format!("PATCH {session} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n")
    };
    let mut uploads = Vec::new();
    for _ in 0..150 {
        let location = registry.session("a");
        let mut stream = registry.connect();
        stream.write_all(head(&location).as_bytes()).unwrap();
        uploads.push(stream);
    }
    std::thread::scope(|scope| {
        for stream in &mut uploads {
            let part = &part;
            scope.spawn(move || stream.write_all(part).unwrap());
        }
    });
    registry.still_works();
    drop(uploads);
    registry.still_works();
}

#[test]
fn only_http_1_1_is_spoken_and_strictly() {
    let mut registry = Besieged::new();
    let said = registry.says("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(!said.contains("HTTP/2"), "{said}");
    let status = |request: &str| {
        let answer = registry.says(&format!("{request}\r\nConnection: close\r\n\r\n"));
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(status("GET /v2/ HTTP/1.1\r\nHost: localhost"), "200");
    assert_eq!(status("GET /v2/ HTTP/1.1"), "400");
    assert_eq!(status("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nHost: localhost"), "400");
    assert_eq!(status("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example"), "403");
    // Three thousand methods that nobody has heard of.
    for chunk in (0..3000).collect::<Vec<_>>().chunks(100) {
        let mut stream = registry.connect();
        for number in chunk {
            let odd = format!("M{number}{} /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "X".repeat(8000));
            stream.write_all(odd.as_bytes()).unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            let mut rest = [0; 4096];
            let _ = stream.read(&mut rest);
        }
    }
    registry.still_works();
}

/// A registry that is killed has what it has written, and a client goes on from there.
#[test]
fn an_upload_outlives_a_killed_registry() {
    let mut registry = Besieged::new();
    let blob: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    let digest = digest(&blob);
    let session = registry.session("a");
    let announce = |from: usize| {
        format!(
            "PATCH {session} HTTP/1.1\r\nHost: localhost\r\nContent-Range: {from}-{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            blob.len() - 1,
            blob.len() - from,
        )
    };
    let mut from = 0;
    for share in 1..=3 {
        let mut cut = registry.connect();
        cut.write_all(announce(from).as_bytes()).unwrap();
        cut.write_all(&blob[from..blob.len() * share / 4]).unwrap();
        eventually("part of it has been written", || registry.offset(&session) > from);
        registry.restart();
        let offset = registry.offset(&session);
        assert!(offset > from, "{offset}");
        from = offset;
    }
    let mut rest = registry.connect();
    rest.write_all(announce(from).as_bytes()).unwrap();
    rest.write_all(&blob[from..]).unwrap();
    let mut answer = String::new();
    rest.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let put = registry.says(&format!(
        "PUT {session}?digest={digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    assert_eq!(get(&registry.registry.url(), &format!("a/blobs/{digest}")).body, blob);
}

#[test]
fn a_full_store_says_so_and_takes_what_there_is_room_for() {
    let folder = folder();
    let root = folder.path().join("store");
    let registry = Registry::serve(&["--root".as_ref(), root.as_os_str(), "--max-disk=3MiB".as_ref()]);
    let push = |name: &str, bytes: usize| {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let bundle = Bundle::oci_layout().image(&format!("images.example/{name}:1"), &[name]);
        Push::to(&registry).source(&bundle.layer_bytes(bytes).write(&folder)).run()
    };
    push("small", 1 << 20).complete();
    let refused = push("large", 4 << 20);
    assert_eq!(refused.exit, 3, "{}", refused.said());
    assert!(refused.said().contains("no room"), "{}", refused.said());
    // What was refused is not kept.
    push("other", 1 << 20).complete();
    assert_eq!(tags(&registry.url(), "other"), ["other:1"; 0]);
    assert_eq!(repositories(&registry), ["other", "small"]);
}

fn repositories(registry: &Registry) -> Vec<String> {
    let catalog = get(&registry.url(), "_catalog").json();
    let names = catalog["repositories"].as_array().unwrap().iter();
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_read_only_registry_serves_and_takes_nothing_and_logs_who_asked() {
    let folder = folder();
    let root = folder.path().join("store");
    let bundle = Bundle::oci_layout().image("images.example/app:1", &["one"]);
    let path = bundle.write(folder.path());
    let writable = Registry::embedded(&root);
    Push::to(&writable).source(&path).run().complete();
    let log = folder.path().join("log");
    let flags = ["--root".as_ref(), root.as_os_str(), "--read-only".as_ref(), "--access-log".as_ref()];
    let registry = Registry::serve_logging_to(&log, &flags);
    let second = Registry::serve(&flags[..3]);
    for registry in [&registry, &second] {
        // There is nothing to do, so it does not matter.
        Push::to(registry).source(&path).run().complete();
    }
    let new = Bundle::oci_layout().image("images.example/app:2", &["two"]);
    fs::create_dir(folder.path().join("new")).unwrap();
    let new = new.write(&folder.path().join("new"));
    let refused = Push::to(&registry).source(&new).run();
    assert_eq!(refused.exit, 3, "{}", refused.said());
    assert!(refused.said().contains("read-only"), "{}", refused.said());
    // What comes in beside them is seen at once.
    Push::to(&writable).source(&new).run().complete();
    assert_eq!(get(&second.url(), "app/manifests/2").status, 200);
    drop(registry);
    let log = fs::read_to_string(log).unwrap();
    let line = log.lines().find(|line| line.contains(" HEAD /v2/app/manifests/1 200 ")).unwrap();
    assert!(line.contains(" 127.0.0.1:") && line.contains(" received=0 sent=0 "), "{line}");
    assert!(log.contains(" POST /v2/app/blobs/uploads/ 405 "), "{log}");
}

#[test]
fn a_folder_of_somebody_else_is_refused_with_what_to_do() {
    let folder = folder();
    fs::write(folder.path().join("index.json"), "{}").unwrap();
    for flag in ["--anonymous", "--read-only"] {
        let mut command = layercast();
        command.args(["serve", "--listen=127.0.0.1:0", flag, "--root"]).arg(folder.path());
        let output = within(Duration::from_secs(20), command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("index.json") && said.contains("--root"), "{said}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_a_store_holds_can_be_pushed_from_its_folder() {
    let folder = folder();
    let root = folder.path().join("store");
    let bundle = Bundle::oci_layout()
        .image("gcr.io/team/app:1", &["base", "one"])
        .image("quay.io/lib:2", &["base", "two"])
        .write(folder.path());
    let store = Registry::embedded(&root);
    let host = format!("http://{}", store.host());
    push(&["--source", bundle.to_str().unwrap(), "--private-registry", &host]).complete();
    // Beside the registry that serves it.
    let other = Registry::embedded(&folder.path().join("other"));
    let target = format!("http://{}/copy", other.host());
    let pushed = push(&["--source", root.to_str().unwrap(), "--private-registry", &target]).complete();
    assert_eq!(
        (&pushed.mirror(0)["images"], &pushed.report["left_out"]),
        (&2.into(), &serde_json::json!([]))
    );
    assert_eq!(tags(&other.url(), "copy"), ["copy/lib:2", "copy/team/app:1"]);
}
