//! What the file names on this machine: files, folders, variables and programs that a run needs, and whether they are there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::sites::{Config, PasswordSource, Site, SiteCredentials, SourceSettings};
use crate::document::Findings;
use crate::error::system_words;

/// Sites that are named of those that say the same.
const MAX_NAMED: usize = 3;

/// A variable of the environment.
pub(crate) type Variable<'v> = &'v dyn Fn(&str) -> Option<OsString>;

/// Something that a key names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamedPath {
    key: &'static str,
    what: What,
}

/// What it has to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A file that is read.
    File(PathBuf),
    /// A folder that is written to.
    Folder(PathBuf),
    /// A folder that is made where it is not there.
    MadeFolder(PathBuf),
    /// A file that is written: its folder must be there.
    WrittenFile(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// A program.
    Program(String),
}

/// All that a file names, with the sites that each is for; none where it is for the run. Sites that are not enabled need
/// nothing.
pub(super) fn named(config: &Config) -> BTreeMap<NamedPath, Vec<&str>> {
    let mut all: BTreeMap<NamedPath, Vec<&str>> = BTreeMap::new();
    let of_run = [
        ("state_dir", config.state_dir.clone().map(What::MadeFolder)),
        ("stage.dir", config.stage.as_ref().map(|stage| What::MadeFolder(stage.dir.clone()))),
        ("spool_dir", config.spool_dir.clone().map(What::Folder)),
        ("metrics.textfile", config.metrics.textfile.clone().map(What::WrittenFile)),
    ];
    for (key, what) in of_run {
        all.extend(what.map(|what| (NamedPath { key, what }, Vec::new())));
    }
    for SourceSettings { source, registry } in &config.sources {
        let list = source.list.clone().map(|list| NamedPath { key: "source", what: What::File(list) });
        for named in of_site(registry).into_iter().chain(list) {
            all.entry(named).or_default().push(&source.name);
        }
    }
    for site in config.sites.iter().filter(|site| site.enabled) {
        for named in of_site(site) {
            all.entry(named).or_default().push(&site.name);
        }
    }
    all
}

fn of_site(site: &Site) -> Vec<NamedPath> {
    let file = |path: &PathBuf| What::File(path.clone());
    let certificate = site.client_certificate.as_ref();
    let credentials = match &site.credentials {
        SiteCredentials::Usual | SiteCredentials::Anonymous => None,
        SiteCredentials::DockerConfig(path) => Some(("credentials.docker_config", file(path))),
        SiteCredentials::Helper(name) => {
            Some(("credentials.helper", What::Program(format!("docker-credential-{name}"))))
        }
        SiteCredentials::User { password, .. } => match password {
            PasswordSource::File(path) => Some(("credentials.password_file", file(path))),
            PasswordSource::Variable(name) => {
                Some(("credentials.password_env", What::Variable(name.clone())))
            }
            PasswordSource::Command(_) => None,
        },
    };
    let all = [
        site.ca_file.as_ref().map(|path| ("ca_file", file(path))),
        certificate.map(|files| ("client_cert", file(&files.certificate))),
        certificate.map(|files| ("client_key", file(&files.key))),
        credentials,
    ];
    all.into_iter().flatten().map(|(key, what)| NamedPath { key, what }).collect()
}

/// A warning for each thing that is not there now: the file may be meant for another machine, or what it names may come
/// before the run does.
pub(super) fn check(config: &Config, variable: Variable<'_>, findings: &mut Findings) {
    for (NamedPath { key, what }, sites) in named(config) {
        let Some((why, fix)) = what.trouble(variable) else { continue };
        let of_sites = match sites.as_slice() {
            [] => String::new(),
            few if few.len() <= MAX_NAMED => format!(" of {}", few.join(", ")),
            many => format!(" of {} and {} more", many[..MAX_NAMED].join(", "), many.len() - MAX_NAMED),
        };
        findings.warning("not-there", None, (format!("{key}{of_sites}: {why}"), fix));
    }
}

impl What {
    /// What is the matter with it now, and what helps.
    fn trouble(&self, variable: Variable<'_>) -> Option<(String, String)> {
        let refused = |path: &Path, error: &io::Error| format!("{}: {}", path.display(), system_words(error));
        match self {
            Self::File(path) => {
                let error = File::open(path).and_then(|file| file.metadata()).map(|found| found.is_dir());
                match error {
                    Ok(false) => None,
                    Ok(true) => Some((format!("{} is a folder", path.display()), "name a file".to_owned())),
                    Err(error) => {
                        Some((refused(path, &error), "correct the path, or put the file there".to_owned()))
                    }
                }
            }
            Self::Folder(path) => writable(path).err().map(|error| {
                let shown = path.display();
                (refused(path, &error), format!("make it, for the user of the run: mkdir -p {shown}"))
            }),
            Self::MadeFolder(path) => {
                // What is there of the way to it.
                let there = path.ancestors().find(|folder| folder.exists())?;
                let error = writable(there).err()?;
                let fix = format!("make {} for the user of the run, or name another folder", path.display());
                Some((refused(there, &error), fix))
            }
            Self::WrittenFile(path) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new("."));
                let error = writable(folder).err()?;
                let fix = format!("make the folder, for the user of the run: mkdir -p {}", folder.display());
                Some((format!("{} cannot be written: {}", path.display(), refused(folder, &error)), fix))
            }
            Self::Variable(name) => variable(name)
                .is_none()
                .then(|| (format!("{name} is not set"), format!("set it where the run begins: {name}=…"))),
            Self::Program(name) => (!is_in_path(name, variable)).then(|| {
                let what = format!("{name} is not installed, or not in the PATH of this process");
                (what, "install it, or put its folder into PATH where the run begins".to_owned())
            }),
        }
    }
}

/// Whether files can be made in a folder.
fn writable(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn is_in_path(program: &str, variable: Variable<'_>) -> bool {
    let path = variable("PATH").unwrap_or_default();
    let mut folders = path.as_bytes().split(|byte| *byte == b':');
    folders.any(|folder| Path::new(OsStr::from_bytes(folder)).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_file_is_looked_at_and_named_with_its_key_and_sites() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("there.crt"), "x").unwrap();
        fs::create_dir(folder.path().join("spool")).unwrap();
        let found = |text: &str| {
            let path = folder.path().join("sites.yaml");
            let config = super::super::parse(&path, text).config.unwrap();
            let mut findings = Findings::new(&path);
            check(&config, &|_| None, &mut findings);
            findings.sorted().into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        let good = "version: 1
bundles: [{path: b.tar}]
state_dir: new/state
spool_dir: spool
metrics: {textfile: spool/x.prom}
defaults: {ca_file: there.crt, client_cert: there.crt, credentials: {username: u, password_file: there.crt}}
sites: [{name: a, registry: 'https://a.example'}]
";
        assert_eq!(found(good), [""; 0]);
        let bad = "version: 1
bundles: [{path: b.tar}]
state_dir: there.crt/state
spool_dir: no-spool
metrics: {textfile: no-folder/x.prom}
defaults: {ca_file: no.crt, client_cert: no.pem, client_key: no.key, registry: 'https://a.example'}
sites:
- {name: a, namespace: a, credentials: {docker_config: no.json}}
- {name: b, namespace: b, credentials: {username: u, password_file: no.password}}
- {name: c, namespace: c, credentials: {username: u, password_env: NO_SUCH_VARIABLE_OF_THIS_TEST}}
- {name: d, namespace: d, credentials: {helper: no-such-helper-of-this-test}}
- {name: e, namespace: e, enabled: false, ca_file: other.crt}
";
        let found = found(bad);
        let keys: Vec<&str> = found.iter().map(|what| what.split(':').next().unwrap()).collect();
        let all_four = "of a, b, c and 1 more";
        assert_eq!(
            keys,
            [
                &format!("ca_file {all_four}"),
                &format!("client_cert {all_four}"),
                &format!("client_key {all_four}"),
                "credentials.docker_config of a",
                "credentials.helper of d",
                "credentials.password_env of c",
                "credentials.password_file of b",
                "metrics.textfile",
                "spool_dir",
                "state_dir",
            ],
            "{found:?}"
        );
        assert!(found[0].ends_with("no.crt: No such file or directory"), "{found:?}");
    }
}
