//! Registries as processes of their own, on free ports.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{eventually, layercast};

/// A registry that runs until it is dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
    folder: Option<tempfile::TempDir>,
}

/// How a `docker-registry` is set up.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) htpasswd: Option<PathBuf>,
    pub(crate) client_ca: Option<PathBuf>,
}

impl Registry {
    /// Debian's `docker-registry`, without TLS and for everyone.
    pub(crate) fn docker() -> Self {
        Self::docker_with(&Setup::default())
    }

    pub(crate) fn docker_with(setup: &Setup) -> Self {
        let folder = super::folder();
        let port = free_port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: s\n",
            folder.path().join("data").display()
        );
        if let Some((certificate, key)) = &setup.certificate {
            let _ = writeln!(
                config,
                "  tls:\n    certificate: {}\n    key: {}",
                certificate.display(),
                key.display()
            );
        }
        if let Some(authority) = &setup.client_ca {
            let _ = writeln!(config, "    clientcas: [{}]", authority.display());
        }
        if let Some(htpasswd) = &setup.htpasswd {
            let _ = writeln!(config, "auth:\n  htpasswd: {{realm: test, path: {}}}", htpasswd.display());
        }
        // Manifests may name layers that lie elsewhere; Debian's version answers 500 to them unless told so.
        config.push_str("validation: {disabled: true}\n");
        let path = folder.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child =
            child.unwrap_or_else(|error| panic!("docker-registry: {error}; scripts/test.sh installs it"));
        let registry = Self { child, port, folder: Some(folder) };
        registry.wait();
        registry
    }

    /// The folder of a `docker-registry`.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.as_ref().unwrap().path().join("data")
    }

    /// The embedded registry, as a process.
    pub(crate) fn embedded(root: &std::path::Path) -> Self {
        Self::serve(&["--root".as_ref(), root.as_ref()])
    }

    /// The sink for measurements.
    pub(crate) fn discard() -> Self {
        Self::serve(&["--discard".as_ref()])
    }

    /// The embedded registry with these flags.
    pub(crate) fn serve(args: &[&std::ffi::OsStr]) -> Self {
        Self::serve_with(Stdio::null(), args)
    }

    /// The same, with its standard error in a file.
    pub(crate) fn serve_logging_to(log: &std::path::Path, args: &[&std::ffi::OsStr]) -> Self {
        Self::serve_with(Stdio::from(fs::File::create(log).unwrap()), args)
    }

    fn serve_with(stderr: Stdio, args: &[&std::ffi::OsStr]) -> Self {
        let mut command = layercast();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("serve said {line:?}"));
        Self { child, port, folder: None }
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Ends the process at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait(&self) {
        eventually("the registry listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
