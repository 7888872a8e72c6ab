//! `mirror render`: flags become a mirror as nodes see it, and files become files.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::cli::output::Output;
use crate::cli::{Done, Stop};
use crate::exit::Exit;
use crate::mirror::hosts::Version;
use crate::mirror::render::{Authorities, Credentials, File, NodeMirror, Options, Refused, Runtime, render};
use crate::registry::{Credential, credentials};

/// How files begin that this command made.
const MARK: &str = "# Made by `layercast mirror render`";

/// A file of certificates has a few kilobytes.
const MAX_CA_BYTES: u64 = 1 << 20;

/// Write the configuration with which nodes pull from a mirror
///
/// Nothing but the file is written to standard output; several files each come after a line with their path.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Who reads it
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(Runtime::ALL.map(Runtime::name)))]
    runtime: String,
    /// The mirror as nodes reach it: https://HOST[:PORT], or https://HOST[:PORT]/v2/NAMESPACE
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Registry whose images lie on the mirror; with =PATH they lie below that path of it (repeatable)
    #[arg(long, value_name = "HOST[=PATH]", required = true)]
    host: Vec<String>,
    /// Certificate authority of the mirror, for nodes that do not know it
    #[arg(long, alias = "cacert", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A docker config.json with the credentials that nodes pull with; they end up in the files
    #[arg(long, value_name = "FILE")]
    pull_credentials: Option<PathBuf>,
    /// Let nodes ask nobody but the mirror, for sites without a way out
    #[arg(long)]
    no_fallback: bool,
    /// The containerd of the nodes, as 1.7 or 2.1.4 [default: what all since 1.6 read alike]
    #[arg(long, value_name = "VERSION")]
    containerd_version: Option<Version>,
    /// Namespace of the cluster for a DaemonSet or a secret
    #[arg(long, value_name = "NAME", default_value = "layercast")]
    cluster_namespace: String,
    /// Image whose shell a DaemonSet runs
    #[arg(long, value_name = "IMAGE", default_value = "docker.io/library/busybox:1.37")]
    installer_image: String,
    /// Write the files below this folder, at the paths they have on a node
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args, output: &Output) -> Done {
    let runtime = Runtime::ALL.into_iter().find(|runtime| runtime.name() == args.runtime);
    let runtime = runtime.ok_or_else(|| Stop::usage(format!("runtime {:?} is not known", args.runtime)))?;
    let options = Options {
        containerd: args.containerd_version,
        cluster_namespace: args.cluster_namespace.clone(),
        installer_image: args.installer_image.clone(),
    };
    let rendered = render(runtime, &mirror(args)?, &options)?;
    match &args.output {
        None => Output::result(&listing(&rendered.files)),
        Some(folder) => {
            for file in &rendered.files {
                let path = write(folder, file)?;
                Output::result(&format!("{}\n", path.display()));
            }
        }
    }
    for note in &rendered.notes {
        output.note(note);
    }
    Ok(Exit::Complete)
}

/// The mirror that the flags describe. A cluster file's mirrors become [`NodeMirror`]s in the same way.
fn mirror(args: &Args) -> Result<NodeMirror, Stop> {
    let mut mirror = NodeMirror::new(&args.endpoint, &args.host)?;
    mirror.fallback = !args.no_fallback;
    if let Some(path) = &args.ca {
        mirror.authorities = Some(authorities(path)?);
    }
    if let Some(path) = &args.pull_credentials {
        let authority = mirror.authority();
        mirror.credentials = match credentials::from_file(path, &authority)? {
            Some(Credential::Basic { user, password }) => Some(Credentials { username: user, password }),
            Some(_) => {
                let message = format!("{} holds a token for {authority}", path.display());
                return Err(Stop::usage(message).hint("nodes need a user name and a password"));
            }
            None => {
                let message = format!("{} has no credentials for {authority}", path.display());
                return Err(Stop::usage(message).hint(format!("its \"auths\" need an entry \"{authority}\"")));
            }
        };
    }
    Ok(mirror)
}

fn authorities(path: &Path) -> Result<Authorities, Stop> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_CA_BYTES).read_to_string(&mut text));
    read.map_err(|error| Stop::usage(format!("--ca {}: {error}", path.display())))?;
    Ok(text.parse::<Authorities>()?)
}

fn listing(files: &[File]) -> String {
    if let [file] = files {
        return file.text().to_owned();
    }
    files.iter().fold(String::new(), |mut out, file| {
        let _ = write!(out, "# ==> {} (mode {:04o})\n{}", file.path, file.mode, file.text());
        out
    })
}

/// What was there before is not replaced unless layercast made it: a node's `config.toml` says more than who its mirrors are.
fn write(folder: &Path, file: &File) -> Result<PathBuf, Stop> {
    let path = folder.join(file.path.trim_start_matches('/'));
    let is_certificate = path.extension().is_some_and(|extension| extension == "crt");
    if let Ok(before) = std::fs::read(&path)
        && before != file.text().as_bytes()
        && !before.starts_with(MARK.as_bytes())
        && !is_certificate
    {
        let hint = "merge the two by hand (without --output the new one is printed), or name another folder";
        return Err(Stop::usage(format!("{}: was not made by layercast", path.display())).hint(hint));
    }
    let written = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(file.mode).open(&path)?;
        // A file that was there keeps its mode, and the umask takes from that of a new one.
        out.set_permissions(std::fs::Permissions::from_mode(file.mode))?;
        out.write_all(file.text().as_bytes())
    };
    written().map_err(|error| Stop::new(Exit::Internal, format!("{}: {error}", path.display())))?;
    Ok(path)
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::usage(refused.to_string()).hint(refused.hint)
    }
}
