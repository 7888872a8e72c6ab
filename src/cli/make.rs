//! `bundle`: makes bundles.

mod repack;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::atomic_file::WholeFile;
use super::interrupt::Interrupt;
use super::output::Output;
use super::{Done, left_out};
use crate::archive::LeftOut;
use crate::bundle::{Accept, Bundle, Opener};
use crate::exit::Exit;
use crate::make::{Contents, OutputFile, Written, write};
use crate::report::Failure;
use crate::report::document::{MadeDocument, MadeFile, SchemaVersion};
use crate::units::{ByteCount, count};

#[derive(Debug, Subcommand)]
pub(super) enum BundleDo {
    /// Make of any bundle one of many parts with the catalog first: what is in it is known at once, and reading a part costs a part
    #[command(arg_required_else_help = true)]
    Repack(repack::Args),
}

pub(super) fn run(what: &BundleDo, output: &Output, interrupt: &Interrupt) -> Done {
    interrupt.sending();
    match what {
        BundleDo::Repack(args) => repack::run(args, output, interrupt),
    }
}

/// Flags about the bundle that is written.
#[derive(Debug, Args)]
struct WrittenBundleArgs {
    /// File to write; it takes its name when it is whole
    #[arg(short, long = "output", value_name = "FILE")]
    out: PathBuf,
    /// Write pieces of at most this size, for media: FILE.part.001 and so on, and their sums in FILE.sha256
    #[arg(long, value_name = "BYTES")]
    split: Option<ByteCount>,
    /// Say as JSON what was written
    #[arg(long)]
    json: bool,
}

/// A smaller piece is a mistake in the unit.
const MIN_SPLIT_BYTES: u64 = 64 << 10;

impl WrittenBundleArgs {
    /// Where to write, looked at before there is anything to write.
    fn file(&self) -> Result<OutputFile, Failure> {
        WholeFile::check("--output", self.out.clone())?;
        if self.out.exists() && !self.out.is_file() {
            return Err(Failure::usage(format!("--output {}: it is no file", self.out.display()))
                .hint("name a file that is not there yet"));
        }
        let split = self.split.map(|split| split.0);
        if let Some(bytes) = split.filter(|bytes| *bytes < MIN_SPLIT_BYTES) {
            let least = ByteCount(MIN_SPLIT_BYTES);
            return Err(Failure::usage(format!("--split {}: at least {least} are needed", ByteCount(bytes))));
        }
        Ok(OutputFile { path: self.out.clone(), split })
    }
}

/// Writes contents, and says what became of them.
fn finish(
    args: &WrittenBundleArgs,
    contents: &Contents,
    bundle: &Bundle,
    opener: &Opener,
    accept: Accept,
    interrupt: &Interrupt,
) -> Done {
    let output = args.file()?;
    let sound = || bundle.check_unchanged();
    let written = write(contents, &output, opener, &interrupt.token, &sound)?;
    let damaged = bundle.catalog.broken.iter();
    let damaged =
        damaged.map(|broken| LeftOut::unreadable(&broken.name, "a damaged image", broken.error.to_string()));
    let left_out: Vec<LeftOut> =
        bundle.catalog.left_out.iter().chain(contents.left_out()).cloned().chain(damaged).collect();
    let is_damaged = bundle.catalog.broken.iter().any(|broken| broken.unit.is_none());
    let exit = accept.exit(if is_damaged { Exit::Bundle } else { Exit::Complete }, &left_out);
    if args.json {
        Output::document(&document(written, contents, left_out, bundle.catalog.notes.clone()))?;
    } else {
        let text = left_out::text(&left_out, accept);
        Output::result(&format!("{}{text}", show(&output.path, &written, contents)))?;
    }
    Ok(exit)
}

fn document(
    written: Written,
    contents: &Contents,
    left_out: Vec<LeftOut>,
    notes: Vec<String>,
) -> MadeDocument {
    let Written { files, frames, blobs, blob_bytes } = written;
    let files = files.into_iter().map(|it| MadeFile { path: it.path, bytes: it.bytes, digest: it.digest });
    let (schema_version, images) = (SchemaVersion::One, contents.images());
    MadeDocument {
        schema_version,
        files: files.collect(),
        images,
        blobs,
        blob_bytes,
        parts: frames,
        left_out,
        notes,
    }
}

fn show(path: &Path, written: &Written, contents: &Contents) -> String {
    let Written { files, frames, blobs, blob_bytes } = written;
    let images = count(contents.images(), "image");
    let mut text = format!(
        "{}: {images}, {} of {}, in {}\n",
        path.display(),
        count(*blobs, "blob"),
        ByteCount(*blob_bytes),
        count(usize::try_from(*frames).unwrap_or(usize::MAX), "part")
    );
    for file in files {
        let _ = writeln!(text, "{}  {}  {}", file.digest, ByteCount(file.bytes), file.path.display());
    }
    text
}
