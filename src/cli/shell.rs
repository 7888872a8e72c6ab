//! `completions` and `man`: what a shell and `man` know of the commands, made of their definitions.

use std::path::PathBuf;

use clap_complete::Shell;

use super::output::Output;
use super::{Done, definition};
use crate::exit::Exit;
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write a page for each command into this folder [default: the first page, to standard output]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionArgs) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "layercast", &mut script);
    Output::result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Complete)
}

pub(super) fn man(args: &ManArgs) -> Done {
    if let Some(folder) = &args.output {
        let named = |error| Failure::io(format!("--output {}", folder.display()), &error);
        std::fs::create_dir_all(folder).map_err(named)?;
        clap_mangen::generate_to(definition(), folder).map_err(named)?;
        return Ok(Exit::Complete);
    }
    let mut page = Vec::new();
    let made = clap_mangen::Man::new(definition()).render(&mut page);
    made.map_err(|error| Failure::internal(error.to_string()))?;
    Output::result(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Complete)
}
