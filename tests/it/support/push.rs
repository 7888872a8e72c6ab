//! A push, told by what matters of it.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::registry::Registry;
use super::scripted::ScriptedRegistry;
use super::{Pushed, folder, layercast, within};

/// Something that can be pushed to.
pub(crate) trait Mirror {
    fn address(&self) -> String;
}

impl Mirror for Registry {
    fn address(&self) -> String {
        self.host()
    }
}

impl Mirror for ScriptedRegistry {
    fn address(&self) -> String {
        self.host()
    }
}

/// `host:port/namespace` as it is written on the command line.
impl Mirror for str {
    fn address(&self) -> String {
        self.to_owned()
    }
}

/// `layercast push images`, to be run.
#[derive(Clone)]
pub(crate) struct Push {
    args: Vec<OsString>,
    limit: Duration,
}

impl Push {
    /// With no flags at all.
    pub(crate) fn bare() -> Self {
        Self { args: Vec::new(), limit: Duration::from_secs(120) }
    }

    /// To a registry that asks for no credentials.
    pub(crate) fn to(mirror: &(impl Mirror + ?Sized)) -> Self {
        Self::bare().flag("--need-credential=false").and_to(mirror)
    }

    /// To another one as well.
    pub(crate) fn and_to(self, mirror: &(impl Mirror + ?Sized)) -> Self {
        self.flag("--private-registry").flag(mirror.address())
    }

    pub(crate) fn source(self, bundle: &Path) -> Self {
        self.flag("--source").flag(bundle)
    }

    /// Remembers what it learns in this folder; nothing is remembered otherwise.
    pub(crate) fn state(self, folder: &Path) -> Self {
        self.flag("--state-dir").flag(folder)
    }

    pub(crate) fn flag(mut self, flag: impl AsRef<OsStr>) -> Self {
        self.args.push(flag.as_ref().to_owned());
        self
    }

    pub(crate) fn flags(self, flags: &[impl AsRef<OsStr>]) -> Self {
        flags.iter().fold(self, Self::flag)
    }

    /// Fails the test when it takes longer than that.
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The command line.
    pub(crate) fn command(&self) -> Command {
        let mut command = layercast();
        if self.args.iter().any(|arg| arg == "--state-dir") {
            command.env_remove("LAYERCAST_NO_STATE");
        }
        command.args(["push", "images"]).args(&self.args);
        command
    }

    /// Starts it, and says nothing.
    pub(crate) fn start(&self) -> Child {
        self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs it to its end, and reads its report.
    pub(crate) fn run(&self) -> Pushed {
        let folder = folder();
        let path = folder.path().join("report.json");
        let mut command = self.command();
        command.arg("--report").arg(&path);
        let Output { status, stdout, stderr } = within(self.limit, command);
        let report = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Pushed {
            exit: status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            report: report.unwrap_or(Value::Null),
        }
    }
}
