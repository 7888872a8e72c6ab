//! The rules, and how a name is held against them.

use std::collections::BTreeSet;

/// The modules of the crate, in the order in which a byte meets them, then those around them.
pub(crate) const MODULES: &[&str] = &[
    "source",
    "decode",
    "archive",
    "stage",
    "bundle",
    "plan",
    "registry",
    "engine",
    "make", // the way of the data
    "oci",
    "compress",
    "state",
    "report",
    "tls",
    "serve",
    "document",
    "config",
    "node",
    "cluster",
    "bench",
    "cli", // what stands beside it
    "budget",
    "error",
    "exit",
    "units",
    "locks",
    "loopback",
    "clock",
    "schedule",
    "small_file",
    "file_lock",
    "program",
    "hook",
    "testing",
    "lib",
    "main", // what everybody knows
];

/// A file may have this many lines, its tests aside.
pub(crate) const MAX_LINES: usize = 800;

/// A name that several types may have.
pub(crate) struct SharedTypeName {
    name: &'static str,
    files: Files,
}

pub(crate) const SHARED_TYPE_NAMES: &[SharedTypeName] = &[
    // What the flags of one verb are called by everybody who uses clap.
    SharedTypeName { name: "Args", files: In("cli") },
    // What is behind the `Arc` of a handle that is cheap to clone.
    SharedTypeName { name: "Inner", files: Outside("") },
    // One of the two is built, by the feature `kube`.
    SharedTypeName { name: "Client", files: In("cluster/api/server") },
];

impl SharedTypeName {
    pub(crate) fn allows(&self, name: &str, file: &str) -> bool {
        self.name == name && self.files.hold(file)
    }
}

/// What some files may not name.
pub(crate) struct Rule {
    pub(crate) files: Files,
    /// Modules of this crate.
    modules: Names,
    /// Paths outside it: `std::fs`, a dependency, a macro with its `!`, `unsafe`.
    paths: Names,
    pub(crate) why: &'static str,
}

/// Files below `src/`, without `.rs`, between blanks; a folder's name stands for all in it.
pub(crate) enum Files {
    In(&'static str),
    Outside(&'static str),
}
use Files::{In, Outside};

/// Names between blanks.
pub(crate) enum Names {
    None,
    These(&'static str),
    /// All modules, or all dependencies, but these.
    AllBut(&'static str),
}
use Names::{AllBut, These};

pub(crate) const RULES: &[Rule] = &[
    // The way of the data.
    Rule {
        files: In("source"),
        modules: AllBut("source error exit units locks small_file"),
        paths: These("xz2 zstd zstd_safe flate2 libdeflater tar serde serde_json rayon"),
        why: "a source is bytes as stored: it knows no formats, and nothing that comes after it",
    },
    Rule {
        files: In("decode"),
        modules: AllBut("decode source budget clock error exit units locks"),
        paths: These("tar"),
        why: "decoding turns bytes into bytes: what an archive is comes after it",
    },
    Rule {
        files: In("archive"),
        modules: AllBut("archive decode source oci error exit units locks"),
        paths: Names::None,
        why: "a catalog says what is in a bundle: mirrors come after it",
    },
    Rule {
        files: In("archive"),
        modules: Names::None,
        paths: These(
            "std::fs::write std::fs::rename std::fs::copy std::fs::hard_link std::fs::soft_link std::fs::create_dir \
             std::fs::create_dir_all std::fs::DirBuilder std::fs::OpenOptions std::fs::File::create \
             std::fs::File::create_new std::fs::File::create_buffered std::fs::File::options std::fs::remove_file \
             std::fs::remove_dir std::fs::remove_dir_all std::fs::set_permissions std::os::unix::fs::symlink \
             std::os::unix::fs::OpenOptionsExt tempfile",
        ),
        why: "nothing of a bundle is ever unpacked to a path",
    },
    Rule {
        files: In("stage"),
        modules: AllBut("stage state oci source clock error exit units locks small_file file_lock"),
        paths: These("tar tokio reqwest rayon"),
        why: "the stage keeps blobs by their digests: what a bundle is, and who needs it, comes after it",
    },
    Rule {
        files: In("stage/layout stage/mark stage/eviction"),
        modules: Names::None,
        paths: These("std::fs std::net std::process std::env std::thread std::os tempfile rustix"),
        why: "what is written down, and what goes when room is short, are pure",
    },
    Rule {
        files: In("bundle"),
        modules: AllBut(
            "bundle stage archive decode source budget compress oci state report clock error exit units locks",
        ),
        paths: These("tar tokio reqwest"),
        why: "a bundle is opened, identified and recalled before it is planned for any mirror",
    },
    Rule {
        files: In("plan"),
        modules: These("decode engine make report serve node cluster bench cli"),
        paths: These(
            "std::fs std::net std::process std::env std::thread std::os tokio tokio_util reqwest rayon crossbeam \
             tempfile memmap2 rustix libc",
        ),
        why: "planning is pure and comes before anything is done: the same input gives the same plan",
    },
    Rule {
        files: In("engine/mirror/probe engine/mirror/publish"),
        modules: These("source decode bundle serve node cluster bench cli"),
        paths: These("rayon tar"),
        why: "it talks to a mirror: where bytes come from, and who calls it, is not its business",
    },
    Rule {
        files: In(
            "engine/mirror/knowledge engine/mirror/transfer/step engine/mirror/actor/policy engine/fleet/outcomes",
        ),
        modules: These("locks clock source decode bundle registry serve node cluster bench cli"),
        paths: These(
            "tokio::spawn tokio::task tokio::time reqwest rayon std::fs std::net std::process std::env std::thread std::os",
        ),
        why: "what is known of a mirror, and what follows from it, is plain data: its task asks the mirror, and has the lock",
    },
    Rule {
        files: In("registry"),
        modules: These(
            "source decode archive bundle compress plan engine report serve node cluster bench cli",
        ),
        paths: These("rayon tar memmap2"),
        why: "the registry client knows the protocol, and nothing of bundles",
    },
    Rule {
        files: In("engine"),
        modules: These("serve node cluster bench cli"),
        paths: Names::None,
        why: "the engine is called, it does not call back",
    },
    Rule {
        files: In("make"),
        modules: These("config serve node cluster bench cli"),
        paths: These("rayon"),
        why: "bundles are written from what the stages give: who asks for one comes after it",
    },
    Rule {
        files: Outside("make cli"),
        modules: These("make"),
        paths: Names::None,
        why: "nothing that a bundle is read with knows who writes one",
    },
    Rule {
        files: In("make/layout"),
        modules: Names::None,
        paths: These("std::fs std::process std::env std::thread std::os tokio tokio_util tempfile"),
        why: "what stands in a bundle follows from what goes into it, and from nothing else",
    },
    // What stands beside it.
    Rule {
        files: In("oci"),
        modules: AllBut("oci error"),
        paths: AllBut("bytes serde serde_json sha2 thiserror"),
        why: "the words of the specifications need nothing but serde-level crates",
    },
    Rule {
        files: In("tls"),
        modules: AllBut("tls error exit units locks small_file"),
        paths: These("tokio reqwest rayon"),
        why: "certificates are files and rules: who connects to whom comes after it",
    },
    Rule {
        files: Outside("tls"),
        modules: Names::None,
        paths: These("x509_parser rustls_platform_verifier rustls::pki_types::pem"),
        why: "one room reads PEM and certificates",
    },
    Rule {
        files: In("compress"),
        modules: AllBut("compress archive source oci budget clock error exit units locks"),
        paths: These("tar"),
        why: "compression turns a layer of the catalog into a blob",
    },
    Rule {
        files: In("state"),
        modules: These("decode bundle engine publish report serve node cluster bench cli"),
        paths: These("reqwest rayon"),
        why: "the state remembers, it does nothing",
    },
    Rule {
        files: In("report"),
        modules: These("source decode bundle registry engine serve node cluster cli"),
        paths: These("reqwest rayon"),
        why: "reports listen to events and hold what was met; they do not ask the stages",
    },
    Rule {
        files: In("serve"),
        modules: AllBut("serve oci clock error exit units locks loopback small_file"),
        paths: These("reqwest rayon"),
        why: "the embedded registry is the other end of the wire: it shares nothing with the client but the words",
    },
    Rule {
        files: In("document"),
        modules: AllBut("document error exit units locks"),
        paths: These("std::fs std::net std::process std::env std::thread std::os tokio reqwest tempfile"),
        why: "a text becomes a tree and findings: which files there are, and what they mean, comes after it",
    },
    Rule {
        files: In("config"),
        modules: AllBut(
            "config document schedule units registry plan oci small_file clock error exit locks bundle::Acceptable \
             compress::Method engine::Verification hook::notify::Notify",
        ),
        paths: These(
            "tokio reqwest rayon std::net::TcpStream std::net::TcpListener std::net::UdpSocket std::net::ToSocketAddrs \
             std::process std::env std::thread",
        ),
        why: "a sites file becomes settings: who carries them out comes after it",
    },
    Rule {
        files: Outside("config cli"),
        modules: These("config"),
        paths: Names::None,
        why: "commands hand on what a sites file comes to; nothing below them knows that there is one",
    },
    Rule {
        files: Outside("document/yaml"),
        modules: Names::None,
        paths: These("granit_parser"),
        why: "one reader of YAML",
    },
    Rule {
        files: Outside("document/toml"),
        modules: Names::None,
        paths: These("toml::de toml::Spanned toml::Table toml::Value toml::from_str"),
        why: "one reader of TOML",
    },
    Rule {
        files: In("node"),
        modules: These("cluster"),
        paths: Names::None,
        why: "what nodes are told is one thing, whatever brings it to them; clusters come after it",
    },
    Rule {
        files: In("node cluster"),
        modules: These("source decode archive bundle compress plan engine serve bench cli"),
        paths: These("rayon"),
        why: "node configuration has nothing to do with bundles",
    },
    Rule {
        files: In(
            "node/containerd node/hosts/go node/hosts/parse node/hosts/resolve node/hosts/version node/hosts/write node/render \
             node/lint/by_version node/lint/config_path node/lint/config_set node/lint/config_toml node/lint/daemon_json node/lint/hosts_toml \
             node/lint/registries_conf node/lint/registries_yaml node/lint/tree node/lint/url node/types",
        ),
        modules: Names::None,
        paths: These("std::fs std::process std::env std::thread std::os tokio reqwest tempfile"),
        why: "what a runtime makes of a file, and what is written for it, are pure: only node/hosts/directory and \
              node/lint/disk read a disk",
    },
    Rule {
        files: In("cluster/file/header cluster/file/objects cluster/file/endpoint cluster/api/diff \
             cluster/api/failure cluster/api/manifest cluster/api/old cluster/api/owners cluster/api/patience \
             cluster/api/ready cluster/api/request cluster/api/secret cluster/api/status cluster/api/wanted"),
        modules: Names::None,
        paths: These(
            "std::fs std::net std::process std::env std::thread std::os tokio reqwest tempfile kube http",
        ),
        why: "what a cluster's file says, what its server is asked and what it means by its answer are pure",
    },
    Rule {
        files: Outside("cluster/api/server"),
        modules: Names::None,
        paths: These("kube k8s_openapi"),
        why: "one file has the connection to a cluster",
    },
    Rule {
        files: Outside("cluster/api/server serve/connection report/metrics/endpoint registry/tls"),
        modules: Names::None,
        paths: These("hyper hyper_util"),
        why: "one file has the connection to a cluster, one has those of the embedded registry, one those of whoever reads \
              metrics, one reads the client's errors",
    },
    Rule {
        files: In("bench"),
        modules: These("serve node cluster cli"),
        paths: Names::None,
        why: "benchmarks measure the stages, not the program around them",
    },
    Rule {
        files: In(
            "bench/compare bench/link/limit bench/link/recommend bench/link/search bench/link/statistics",
        ),
        modules: These("registry engine state"),
        paths: These(
            "std::fs std::net std::process std::env std::thread std::os tokio tokio_util futures_util reqwest",
        ),
        why: "what follows from a measurement is pure: the same samples give the same words",
    },
    Rule {
        files: In("budget error exit units locks loopback small_file file_lock"),
        modules: AllBut("budget error exit units locks loopback small_file file_lock"),
        paths: These("tokio reqwest rayon"),
        why: "what everybody knows knows nobody",
    },
    Rule {
        files: In("schedule"),
        modules: AllBut("schedule"),
        paths: These("tokio reqwest rayon std::fs std::time std::env"),
        why: "whether a window is open follows from the time that it is asked for, and from nothing else",
    },
    Rule {
        files: In("program"),
        modules: AllBut("program clock error exit units locks"),
        paths: These("tokio reqwest rayon"),
        why: "it runs programs, whatever for",
    },
    Rule {
        files: In("hook"),
        modules: AllBut("hook program state report oci clock error exit units locks"),
        paths: These("rayon tar"),
        why: "hooks are run with what they are given: what a run is doing is not their business",
    },
    Rule {
        files: In("clock"),
        modules: AllBut("clock"),
        paths: These("rayon reqwest"),
        why: "what everybody knows knows nobody",
    },
    // The whole crate.
    Rule {
        files: In("source decode archive stage bundle compress plan"),
        modules: Names::None,
        paths: These("tokio tokio_util futures_util reqwest axum"),
        why: "up to the plan all is plain synchronous code; only the engine brings it to the network",
    },
    Rule {
        files: In("report/html"),
        modules: AllBut("report archive oci exit units"),
        paths: These(
            "std::fs std::net std::process std::env std::thread std::os tokio reqwest rayon rustix crossbeam",
        ),
        why: "a page follows from a document, and from nothing else",
    },
    Rule {
        files: Outside("report/html"),
        modules: Names::None,
        paths: These("askama"),
        why: "one room has the pages and their templates",
    },
    Rule {
        files: In("report/progress report/recorder report/timeline"),
        modules: AllBut("report oci clock error units locks"),
        paths: These(
            "std::fs std::net std::process std::env std::thread std::os tokio reqwest rayon rustix crossbeam",
        ),
        why: "how far a run has come follows from its events and the time: who draws it comes after it",
    },
    Rule {
        files: Outside("cli/screen"),
        modules: Names::None,
        paths: These("rustix::termios"),
        why: "one file has the terminal; stages emit events, and what people see is drawn from what listeners know",
    },
    Rule {
        files: In("source decode archive stage bundle compress plan registry engine"),
        modules: These("report::progress report::json report::html report::metrics report::recorder"),
        paths: Names::None,
        why: "stages emit events through one trait and never see who draws them",
    },
    Rule {
        files: Outside("report/metrics"),
        modules: Names::None,
        paths: These("metrics metrics_exporter_prometheus"),
        why: "stages emit events, which a listener counts: no global recorder, no macros of metrics",
    },
    Rule {
        files: Outside("cli main"),
        modules: Names::None,
        paths: These(
            "println! eprintln! print! eprint! dbg! std::io::stdout std::io::stderr tokio::io::stdout \
             tokio::io::stderr",
        ),
        why: "only cli prints",
    },
    Rule {
        files: Outside("cli main"),
        modules: Names::None,
        paths: These("anyhow"),
        why: "stages have errors that programs can match on; anyhow is for main and cli",
    },
    Rule {
        files: Outside("source/map source/guard budget/allocator"),
        modules: Names::None,
        paths: These("unsafe"),
        why: "unsafe code is for mapped files and one setting of the allocator; a new place is argued for here",
    },
];

/// The modules that may name both a runtime and a pool of threads.
pub(crate) const BOTH_WORLDS: [&str; 2] = ["engine", "cli"];

/// Whether `path` is `rule`, lies below it, or takes in all that lies above it (`use std::fs::*`).
fn falls_under(path: &str, rule: &str) -> bool {
    let below = |path: &str, above: &str| {
        path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    below(path, rule) || path.strip_suffix("::*").is_some_and(|above| below(rule, above))
}

impl Names {
    /// Whether `path`, of those that `all` stands for, is among the names.
    fn hold(&self, path: &str, all: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::None => false,
            Self::These(names) => names.split_whitespace().any(|name| falls_under(path, name)),
            Self::AllBut(names) => all(path) && !names.split_whitespace().any(|name| falls_under(path, name)),
        }
    }
}

impl Files {
    pub(crate) fn hold(&self, file: &str) -> bool {
        let among = |names: &str| {
            names.split_whitespace().any(|name| {
                file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        match self {
            In(names) => among(names),
            Outside(names) => !among(names),
        }
    }
}

impl Rule {
    pub(crate) fn forbids(&self, mention: &str, dependencies: &BTreeSet<String>) -> bool {
        if let Some(module) = mention.strip_prefix("crate::") {
            let is_module = |path: &str| MODULES.contains(&root(path)) || path == "*";
            return self.modules.hold(module, is_module);
        }
        self.paths.hold(mention, |path| dependencies.contains(root(path)))
    }
}

/// The first part of a path.
pub(crate) fn root(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}
