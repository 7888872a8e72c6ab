//! `mirror render`: writes the configuration files of nodes for the mirror that flags describe.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::flags::MirrorFlags;
use crate::cli::Done;
use crate::cli::output::Output;
use crate::document;
use crate::exit::Exit;
use crate::node::hosts::{FILE_NAME, directory};
use crate::node::render::{RenderedFile, Runtime};
use crate::report::Failure;
use crate::small_file;

/// How files begin that this command made.
const MARK: &str = "# Made by `layercast mirror render`";

/// Write the configuration with which nodes pull from a mirror
///
/// Nothing but the file is written to standard output; several files each come after a line with their path.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Who reads it
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(Runtime::ALL.map(Runtime::name)))]
    runtime: String,
    #[command(flatten)]
    mirror: MirrorFlags,
    /// Write the files below this folder, at the paths they have on a node
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args, output: &Output) -> Done {
    let runtime = Runtime::ALL.into_iter().find(|runtime| runtime.name() == args.runtime);
    let runtime =
        runtime.ok_or_else(|| Failure::usage(format!("runtime {:?} is not known", args.runtime)))?;
    let rendered = args.mirror.render(runtime, output)?;
    match &args.output {
        None => Output::result(&listing(&rendered.files))?,
        Some(folder) => {
            for file in &rendered.files {
                let path = write(folder, file)?;
                Output::result(&format!("{}\n", path.display()))?;
            }
            let left = left_there(folder, &rendered.files);
            if !left.is_empty() {
                output.note(&format!(
                    "also there, not written by this render: {}; nodes with this tree go on by those files: remove the \
                     folders of what is no longer mirrored",
                    left.join(", ")
                ));
            }
        }
    }
    for note in &rendered.notes {
        output.note(note);
    }
    Ok(Exit::Complete)
}

fn listing(files: &[RenderedFile]) -> String {
    if let [file] = files {
        return file.text().to_owned();
    }
    files.iter().fold(String::new(), |mut out, file| {
        let _ = write!(out, "# ==> {} (mode {:04o})\n{}", file.path, file.mode, file.text());
        out
    })
}

/// The upstreams that have a `hosts.toml` in the trees that were written to, and got none now.
fn left_there(folder: &Path, files: &[RenderedFile]) -> Vec<String> {
    let written: BTreeSet<PathBuf> = files
        .iter()
        .map(|file| folder.join(file.path.trim_start_matches('/')))
        .filter(|path| path.ends_with(FILE_NAME))
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect();
    let trees: BTreeSet<&Path> = written.iter().filter_map(|folder| folder.parent()).collect();
    let entries = trees.iter().filter_map(|tree| std::fs::read_dir(tree).ok()).flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| path.join(FILE_NAME).is_file());
    let left: BTreeSet<String> = folders
        .filter(|path| !written.contains(path))
        .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
        .map(|name| directory::upstream(&name).unwrap_or(name))
        .collect();
    left.into_iter().collect()
}

/// What was there before is not replaced unless layercast made it: a node's `config.toml` says more than who its mirrors are.
fn write(folder: &Path, file: &RenderedFile) -> Result<PathBuf, Failure> {
    let path = folder.join(file.path.trim_start_matches('/'));
    let is_certificate = path.extension().is_some_and(|extension| extension == "crt");
    let replaceable = |before: &[u8]| before == file.text().as_bytes() || before.starts_with(MARK.as_bytes());
    // A file that is not read whole is not known to be one of layercast's.
    if path.exists()
        && !is_certificate
        && !small_file::read(&path, document::MAX_BYTES).is_ok_and(|before| replaceable(&before))
    {
        let hint = "merge the two by hand (without --output the new one is printed), or name another folder";
        return Err(Failure::usage(format!("{}: was not made by layercast", path.display())).hint(hint));
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
    written().map_err(|error| Failure::io(path.display(), &error))?;
    Ok(path)
}
