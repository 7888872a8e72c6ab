//! The command line. One file for each verb; nothing below this module prints or reads the environment.

mod atomic_file;
mod bench;
mod bundle;
mod cluster;
mod cluster_change;
mod conclusion;
mod config;
mod credentials;
mod display;
mod file_words;
mod history;
mod inspect;
mod interrupt;
mod left_out;
mod lock;
mod make;
mod metrics;
mod mirror;
mod mirror_args;
mod mirror_values;
mod notify;
mod output;
mod plan;
mod prune;
mod pulling;
mod push;
mod quickstart;
mod registry_source;
mod report;
mod report_file;
mod rules;
mod screen;
mod serve;
mod shell;
mod site_settings;
mod sites;
mod sites_file;
mod source_args;
mod stage;
mod state;
mod summary;
mod sync;
mod update;
mod verify;
mod version;

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::interrupt::Interrupt;
use crate::budget::limit_arenas;
use crate::exit::Exit;
use crate::report::Failure;
use output::{Output, OutputArgs};

/// Uploads a bundle of container images to one or many registry mirrors, and sends only what each one lacks.
#[derive(Debug, Parser)]
#[command(name = "layercast", version, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Push a bundle's images to mirrors
    #[command(arg_required_else_help = true)]
    Push {
        #[command(subcommand)]
        what: PushWhat,
    },
    /// The other order of words, as `actl images push`
    #[command(hide = true)]
    Images {
        #[command(subcommand)]
        what: ImagesDo,
    },
    /// Show what `push images`, or `sync` with -c, would do, without sending anything
    Plan(Box<plan::Args>),
    /// Check that every image of a bundle is complete on its mirrors
    Verify(Box<verify::Args>),
    /// Show what is in a bundle
    Inspect(inspect::Args),
    /// Make a bundle
    #[command(arg_required_else_help = true)]
    Bundle {
        #[command(subcommand)]
        what: make::BundleDo,
    },
    /// Bring the sites of a file up to date: what cron, a timer or a Kubernetes CronJob calls
    Sync(Box<sync::Args>),
    /// Remove from sites what layercast itself put there and no kept bundle has
    Prune(prune::PruneArgs),
    /// Move the tags of sites back to what an earlier bundle had
    Rollback(prune::RollbackArgs),
    /// Check whether the sites of a file could be filled
    #[command(arg_required_else_help = true)]
    Sites {
        #[command(subcommand)]
        what: sites::SitesDo,
    },
    /// Check and show a sites file, which `sync` reads
    #[command(arg_required_else_help = true)]
    Config {
        #[command(subcommand)]
        what: config::ConfigDo,
    },
    /// Show the results of earlier runs
    History(history::Args),
    /// Show or forget what is remembered between runs
    #[command(arg_required_else_help = true)]
    State {
        #[command(subcommand)]
        what: state::StateDo,
    },
    /// Join the reports of shards, and make pages of reports
    #[command(arg_required_else_help = true)]
    Report {
        #[command(subcommand)]
        what: report::ReportDo,
    },
    /// Render, lint and check the mirror configuration of nodes
    #[command(arg_required_else_help = true)]
    Mirror {
        #[command(subcommand)]
        what: mirror::MirrorDo,
    },
    /// Apply the mirrors of a cluster's configuration file to the cluster
    #[command(arg_required_else_help = true)]
    Update {
        #[command(subcommand)]
        what: UpdateWhat,
    },
    /// Run a small OCI registry that keeps its files in a folder
    Serve(serve::Args),
    /// Measure what this machine makes of a bundle, and the links to mirrors
    #[command(arg_required_else_help = true)]
    Bench {
        #[command(subcommand)]
        what: BenchWhat,
    },
    /// Try it all on this machine: a registry, a bundle, a push, and the next commands
    Quickstart(quickstart::Args),
    /// Print the completions of a shell
    #[command(arg_required_else_help = true)]
    Completions(shell::CompletionArgs),
    /// Print the manual page, or write one for each command
    Man(shell::ManArgs),
    /// Show which build this is
    Version(version::Args),
}

#[derive(Debug, Subcommand)]
enum PushWhat {
    /// Push every image of a bundle to one or more private registries
    Images(Box<push::Args>),
}

#[derive(Debug, Subcommand)]
enum UpdateWhat {
    /// Bring endpoints, CAs and pull credentials of registryMirrors into the cluster, and change nothing else of it
    #[command(arg_required_else_help = true)]
    Cluster(update::Args),
}

#[derive(Debug, Subcommand)]
enum ImagesDo {
    Push(Box<push::Args>),
}

#[derive(Debug, Subcommand)]
enum BenchWhat {
    /// Decode a bundle once, keep nothing, and say where a push would spend its time
    Decode(bench::DecodeArgs),
    /// Measure the links to mirrors: what they bear, what holds them back, and which settings to use
    Link(Box<bench::LinkArgs>),
    /// Hold two measurements of `bench link` against each other: which changes are real
    Compare(bench::CompareArgs),
}

type Done = Result<Exit, Failure>;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All commands and their flags.
fn definition() -> clap::Command {
    Cli::command().long_version(version::long())
}

/// Runs the command that `args` name. The first of them is the program's name, which may be a link named `bmctl`.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let called = args.first().and_then(|name| Path::new(name).file_name()).and_then(|name| name.to_str());
    let command = definition().bin_name(called.unwrap_or("layercast").to_owned());
    let cli = match command.try_get_matches_from(&args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error)
            if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            Output::wrong_command_line(&error.render().to_string(), wants_json(&args));
            return Exit::Usage;
        }
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Complete };
        }
    };
    let output = Output::new(&cli.output);
    raise_descriptor_limit();
    limit_arenas();
    // Chooses the library for the cryptography of TLS, once before any connection.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        output.warn("another provider of cryptography is installed already");
    }
    let interrupt = match Interrupt::listen(&output) {
        Ok(interrupt) => interrupt,
        Err(failure) => {
            output.failed(&failure);
            return failure.exit;
        }
    };
    let done = match cli.command {
        Command::Push { what: PushWhat::Images(args) } | Command::Images { what: ImagesDo::Push(args) } => {
            push::run(&args, &output, interrupt)
        }
        Command::Plan(args) => plan::run(&args, &output),
        Command::Verify(args) => verify::run(&args, &output),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bundle { what } => make::run(&what, &output, &interrupt),
        Command::Sync(args) => sync::run(&args, &output, interrupt),
        Command::Prune(args) => prune::run(&args, &output, &interrupt),
        Command::Rollback(args) => prune::run_rollback(&args, &output),
        Command::Sites { what } => sites::run(&what, &output),
        Command::Config { what } => config::run(&what, &output),
        Command::History(args) => history::run(&args, &output),
        Command::State { what } => state::run(&what, &output),
        Command::Report { what } => report::run(&what, &output),
        Command::Mirror { what } => mirror::run(&what, &output),
        Command::Update { what: UpdateWhat::Cluster(args) } => update::run(&args, &output),
        Command::Serve(args) => serve::run(&args, &output, &interrupt),
        Command::Bench { what: BenchWhat::Decode(args) } => bench::decode(&args, &output),
        Command::Bench { what: BenchWhat::Link(args) } => bench::link(*args, &output, &interrupt),
        Command::Bench { what: BenchWhat::Compare(args) } => bench::compare(&args),
        Command::Quickstart(args) => quickstart::run(&args, &output),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Version(args) => version::run(&args),
    };
    done.unwrap_or_else(|failure| {
        output.failed(&failure);
        failure.exit
    })
}

/// Whether a command line that cannot be understood asks for errors as JSON.
fn wants_json(args: &[OsString]) -> bool {
    let is_last = |at: usize| args.get(at).is_some_and(|arg| arg == "json");
    let mut numbered = args.iter().enumerate();
    numbered.any(|(at, arg)| arg == "--log-format=json" || (arg == "--log-format" && is_last(at + 1)))
}

/// As many descriptors as we may have: every bundle that is spooled and every connection takes one, and the usual soft
/// limit of 1024 is from another time. What is refused stays as it is.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Most threads that may wait: each body that is on its way to a mirror has one, and names, disks and the state need some
/// beside them. They begin when they are needed, and end again.
const WAITING_THREADS: usize = 4096;

/// The runtime of a command that talks to registries.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(WAITING_THREADS).thread_name("requests").enable_all();
    builder.build().map_err(|error| Failure::io("starting threads", &error))
}
