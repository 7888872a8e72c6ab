//! A containerd of the test's own: its root, state and socket lie in a folder, and it has no CRI. Needs root, as every
//! containerd that unpacks images; elsewhere `sudo` gives it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{comes_true, within};

/// A containerd that runs until it is dropped.
pub(crate) struct Containerd {
    child: Child,
    folder: tempfile::TempDir,
    proxy: Option<u16>,
}

/// What became of a pull.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// The digest that the image has now, if the pull succeeded.
    pub(crate) digest: Option<String>,
    /// What `ctr` said.
    pub(crate) said: String,
}

impl Containerd {
    pub(crate) fn start() -> Self {
        let folder = super::folder();
        let path = |name: &str| folder.path().join(name);
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n",
            path("root").display(),
            path("state").display(),
            path("sock").display()
        );
        fs::write(path("config.toml"), config).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let child = as_root("containerd")
            .arg("--config")
            .arg(path("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("containerd: {error}; scripts/test.sh installs it"));
        let containerd = Self { child, folder, proxy: None };
        let answers = comes_true(Duration::from_secs(20), || containerd.ctr(&["version"]).status.success());
        let log = || fs::read_to_string(path_in(&containerd.folder, "log")).unwrap_or_default();
        assert!(answers, "containerd does not answer: {}", log());
        containerd
    }

    fn ctr<A: AsRef<OsStr>>(&self, args: &[A]) -> std::process::Output {
        // `ctr` asks registries itself, so the proxy is for it. As words, because sudo drops the environment.
        let mut command = as_root("env");
        command.args(self.proxy.iter().map(|port| format!("HTTPS_PROXY=http://127.0.0.1:{port}"))).arg("ctr");
        command.arg("--address").arg(path_in(&self.folder, "sock")).args(args);
        within(Duration::from_secs(60), command)
    }

    /// The same with a proxy of this machine between it and all TLS hosts that are not on this machine.
    pub(crate) fn behind(mut self, port: u16) -> Self {
        self.proxy = Some(port);
        self
    }

    /// Pulls as the runtime of a node would that is configured by `hosts`.
    pub(crate) fn pull(&self, hosts: &Path, image: &str) -> Pulled {
        self.pull_as(hosts, image, None)
    }

    /// The same with pull credentials, as `user:password`.
    pub(crate) fn pull_as(&self, hosts: &Path, image: &str, user: Option<&str>) -> Pulled {
        let args = ["images", "pull", "--snapshotter", "native", "--hosts-dir"];
        let mut words: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        words.push(hosts.as_os_str());
        words.extend(user.iter().flat_map(|user| ["--user".as_ref(), OsStr::new(*user)]));
        words.push(image.as_ref());
        let output = self.ctr(&words);
        let said =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
        let list = String::from_utf8(self.ctr(&["images", "list"]).stdout).unwrap();
        let row = list.lines().find(|line| line.split_whitespace().next() == Some(image));
        let digest = row.and_then(|row| row.split_whitespace().find(|word| word.starts_with("sha256:")));
        let digest = digest.filter(|_| output.status.success()).map(str::to_owned);
        assert_eq!(digest.is_some(), output.status.success(), "{said}\n{list}");
        Pulled { digest, said }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // By its number, and so that it stops by itself and leaves no mount behind.
        let id = self.child.id().to_string();
        let _ = as_root("kill").arg(&id).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.child.wait();
        if !rustix::process::getuid().is_root() {
            let _ = as_root("rm")
                .arg("-rf")
                .args(["root", "state"].map(|name| path_in(&self.folder, name)))
                .status();
        }
    }
}

fn path_in(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn as_root(program: &str) -> Command {
    let mut command = if rustix::process::getuid().is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", program]);
        sudo
    };
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}
