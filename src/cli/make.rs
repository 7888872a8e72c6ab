//! `bundle`: makes bundles.

mod diff;
mod pull;
mod repack;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::atomic_file::{Replaces, WholeFile};
use super::display::Display;
use super::interrupt::Interrupt;
use super::output::Output;
use super::{Done, left_out};
use crate::archive::LeftOut;
use crate::bundle::{Accept, Bundle, Opener};
use crate::exit::Exit;
use crate::make::{Contents, OutputFile, Written, write};
use crate::report::Failure;
use crate::report::document::{FetchedBlobs, MadeBase, MadeDocument, MadeFile, SchemaVersion};
use crate::source::{piece_path, sums_path};
use crate::units::{ByteCount, count};

#[derive(Debug, Subcommand)]
pub(super) enum BundleDo {
    /// Make of any bundle one of many parts with the catalog first: what is in it is known at once, and reading a part costs a part
    #[command(arg_required_else_help = true)]
    Repack(repack::Args),
    /// Write what a new bundle has and an old one lacks, for mirrors that have the old one
    #[command(arg_required_else_help = true)]
    Diff(Box<diff::Args>),
    /// Make a bundle of images from their registries
    #[command(arg_required_else_help = true)]
    Pull(Box<pull::Args>),
}

pub(super) fn run(what: &BundleDo, output: &Output, interrupt: &Interrupt) -> Done {
    interrupt.sending();
    match what {
        BundleDo::Repack(args) => repack::run(args, output, interrupt),
        BundleDo::Diff(args) => diff::run(args, output, interrupt),
        BundleDo::Pull(args) => pull::run(args, output, interrupt),
    }
}

/// Flags about the bundle that is written.
#[derive(Debug, Args)]
struct WrittenBundleArgs {
    /// File to write; it takes its name when it is whole
    #[arg(short, long = "output", value_name = "FILE")]
    out: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Write pieces of at most this size, for media: FILE.part.001 and so on, and their sums in FILE.sha256
    #[arg(long, value_name = "BYTES")]
    split: Option<ByteCount>,
    /// Say as JSON what was written
    #[arg(long)]
    json: bool,
}

/// The folder beside a bundle for what comes over the network until it is written.
fn partial(output: &Path) -> PathBuf {
    let mut beside = OsString::from(output);
    beside.push(".partial");
    beside.into()
}

/// A smaller piece is a mistake in the unit.
const MIN_SPLIT_BYTES: u64 = 64 << 10;

impl WrittenBundleArgs {
    /// Where to write, looked at before there is anything to write. What is there is replaced only where that is asked for, and
    /// what the bundle is made from never.
    fn file(&self, inputs: &[PathBuf]) -> Result<OutputFile, Failure> {
        WholeFile::check("--output", self.out.clone(), Replaces::Anything)?;
        let split = self.split.map(|split| split.0);
        let names = match split {
            Some(_) => vec![piece_path(&self.out, 1), sums_path(&self.out)],
            None => vec![self.out.clone()],
        };
        for path in names {
            let Ok(facts) = path.metadata() else { continue };
            let shown = path.display();
            if !facts.is_file() {
                return Err(Failure::usage(format!("--output {shown}: it is no file"))
                    .hint("name a file that is not there yet"));
            }
            let is_same = |input: &PathBuf| {
                input.metadata().is_ok_and(|it| (it.dev(), it.ino()) == (facts.dev(), facts.ino()))
            };
            if inputs.iter().any(is_same) {
                return Err(Failure::usage(format!("--output {shown}: the bundle is made from that file"))
                    .hint("name another file"));
            }
            if !self.force && facts.len() > 0 {
                return Err(Failure::usage(format!(
                    "--output {shown}: it is there already, and is not overwritten"
                ))
                .hint("name another file, or replace this one with --force"));
            }
        }
        if let Some(bytes) = split.filter(|bytes| *bytes < MIN_SPLIT_BYTES) {
            let least = ByteCount(MIN_SPLIT_BYTES);
            return Err(Failure::usage(format!("--split {}: at least {least} are needed", ByteCount(bytes))));
        }
        Ok(OutputFile { path: self.out.clone(), split })
    }
}

/// What was written from which bundle.
struct MadeFrom<'a> {
    /// The files, as they were given.
    inputs: &'a [PathBuf],
    contents: &'a Contents,
    bundle: &'a Bundle,
    /// What came over the network for it.
    fetched: Option<FetchedBlobs>,
}

/// Writes contents, and shows the result once `display` has ended.
fn finish(
    args: &WrittenBundleArgs,
    making: &MadeFrom<'_>,
    opener: &Opener,
    accept: Accept,
    interrupt: &Interrupt,
    display: Display,
) -> Done {
    let MadeFrom { inputs, contents, bundle, .. } = making;
    let output = args.file(inputs)?;
    let sound = || bundle.check_unchanged();
    let written = write(contents, &output, opener, &interrupt.token, &display.listeners(), &sound)?;
    drop(display);
    let damaged = bundle.catalog.broken.iter();
    let damaged =
        damaged.map(|broken| LeftOut::unreadable(&broken.name, "a damaged image", broken.error.to_string()));
    let left_out: Vec<LeftOut> =
        bundle.catalog.left_out.iter().chain(contents.left_out()).cloned().chain(damaged).collect();
    let is_damaged = bundle.catalog.broken.iter().any(|broken| broken.unit.is_none());
    let exit = accept.exit(if is_damaged { Exit::Bundle } else { Exit::Complete }, &left_out);
    if args.json {
        Output::document(&document(written, making, left_out))?;
    } else {
        let text = left_out::text(&left_out, accept);
        Output::result(&format!("{}{text}", show(&output.path, &written, making)))?;
    }
    Ok(exit)
}

fn document(written: Written, making: &MadeFrom<'_>, left_out: Vec<LeftOut>) -> MadeDocument {
    let MadeFrom { contents, bundle, fetched, .. } = making;
    let Written { files, frames, blobs, blob_bytes } = written;
    let files = files.into_iter().map(|it| MadeFile { path: it.path, bytes: it.bytes, digest: it.digest });
    let base = contents.base().map(|base| MadeBase {
        digest: base.digest,
        name: base.name.clone(),
        blobs: base.blobs.len(),
        blob_bytes: base.blobs.iter().map(|(_, size)| size).sum(),
    });
    MadeDocument {
        schema_version: SchemaVersion::One,
        files: files.collect(),
        images: contents.images(),
        blobs,
        blob_bytes,
        parts: frames,
        fetched: *fetched,
        base,
        left_out,
        notes: bundle.catalog.notes.clone(),
    }
}

fn show(path: &Path, written: &Written, making: &MadeFrom<'_>) -> String {
    let contents = making.contents;
    let Written { files, frames, blobs, blob_bytes } = written;
    let images = count(contents.images(), "image");
    let mut text = format!(
        "{}: {images}, {} of {}, in {}\n",
        path.display(),
        count(*blobs, "blob"),
        ByteCount(*blob_bytes),
        count(usize::try_from(*frames).unwrap_or(usize::MAX), "part")
    );
    if let Some(FetchedBlobs { blobs, bytes }) = making.fetched {
        let _ = writeln!(text, "fetched {blobs} blobs of {}", ByteCount(bytes));
    }
    if let Some(base) = contents.base() {
        let _ = writeln!(text, "{}", base.note());
    }
    for file in files {
        let _ = writeln!(text, "{}  {}  {}", file.digest, ByteCount(file.bytes), file.path.display());
    }
    text
}
