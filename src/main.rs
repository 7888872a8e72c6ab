//! The `layercast` program: reads the command line, runs one command, ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    layercast::cli::main(std::env::args_os()).into()
}
