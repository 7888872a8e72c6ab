//! `quickstart`: all of it once, on this machine alone.
//!
//! Starts the embedded registry on a free port, pushes a bundle through the same HTTP path as any other push, reads
//! everything back, and prints the commands that come next.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::bundle::CostArgs;
use super::output::Output;
use super::{Done, left_out, summary};
use crate::archive::LeftOut;
use crate::bundle::{Accept, Input, Opener};
use crate::clock::Instant;
use crate::engine::{self, Care, Locks, MirrorSettings, PushResult, Run, RunSettings, Schedule, verify};
use crate::plan::Plan;
use crate::registry::ClientOptions;
use crate::report::Failure;
use crate::report::Listeners;
use crate::report::outcome;
use crate::report::{Document, Outcome};
use crate::serve::{Server, ServerOptions, Store};
use crate::units::{ByteCount, count, human_duration};

/// Twelve made-up images: an OCI layout and docker-archives in one tar.xz of five blocks.
const SAMPLE: &[u8] = include_bytes!("quickstart/bundle.tar.xz");

/// Try it all on this machine: a registry, a bundle, a push, and the next commands
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Bundle to push [default: a small one inside this program]
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// Folder for the registry's files
    #[arg(long, value_name = "DIR", default_value = "layercast-quickstart")]
    root: PathBuf,
    #[command(flatten)]
    cost: CostArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    let started = Instant::now();
    let input = match &args.bundle {
        Some(path) => super::bundle::inputs(vec![path.clone()])?.remove(0),
        None => Input::Memory("(the sample inside this program)", Bytes::from_static(SAMPLE)),
    };
    // Nobody pushes to this registry again.
    let opener = args.cost.opener()?.without_state();
    let runtime = super::runtime()?;
    let display = output.display();
    let tried = runtime.block_on(all(args, input, opener, display.listeners()))?;
    drop(display);
    let FirstPush { left_out, .. } = &tried;
    let exit = outcome::exit(&[tried.pushed.clone(), tried.checked.clone()]);
    let exit = Accept::default().exit(exit, left_out);
    Output::result(&tell(args, &tried, started))?;
    if !left_out.is_empty() {
        Output::result(&left_out::text(left_out, Accept::default()))?;
    }
    Ok(exit)
}

/// The result.
struct FirstPush {
    address: SocketAddr,
    plan: Arc<Plan>,
    pushed: Outcome,
    checked: Outcome,
    left_out: Vec<LeftOut>,
}

/// Serve, push, read back.
async fn all(args: &Args, input: Input, opener: Opener, listeners: Listeners) -> Result<FirstPush, Failure> {
    let shutdown = CancellationToken::new();
    let store = Arc::new(Store::open(&args.root)?);
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(anywhere, store, ServerOptions::default(), shutdown.clone()).await?;
    let address = server.local_addr();
    let serving = tokio::spawn(server.run());
    let target = format!("http://{address}").parse().map_err(Failure::from)?;
    let mirror = MirrorSettings {
        name: address.to_string(),
        target,
        rules: Arc::default(),
        client: ClientOptions::default(),
        threads: None,
        care: Care::default(),
        atomic_tags: false,
        window: None,
        gate: None,
        is_new: true,
    };
    let run = Run {
        inputs: vec![input],
        sums: Vec::new(),
        opener,
        mirrors: vec![mirror.clone()],
        schedule: Schedule::default(),
        locks: Locks::Take,
        number: None,
        settings: RunSettings::default(),
        listeners,
        cancel: CancellationToken::new(),
    };
    let PushResult { outcomes, read, met, ended, .. } = engine::push(run).await;
    ended?;
    let lost = || Failure::internal("the push returned no result");
    let (read, pushed) = read.zip(outcomes.into_iter().next()).ok_or_else(lost)?;
    let plan = Arc::clone(read.plans.of_mirror(0).map_err(Failure::from)?);
    let checked =
        verify::mirrors_of(&read, vec![mirror], Accept::default(), true, &Listeners::default()).await;
    let checked = checked.into_iter().next().ok_or_else(lost)?;
    shutdown.cancel();
    if let Ok(served) = serving.await {
        served?;
    }
    Ok(FirstPush { address, plan, pushed, checked, left_out: met.left_out })
}

fn tell(args: &Args, tried: &FirstPush, started: Instant) -> String {
    let FirstPush { address, plan, pushed, checked, .. } = tried;
    let root = args.root.canonicalize().unwrap_or_else(|_| args.root.clone());
    let mut out = format!(
        "Served a registry on http://{address} from {}, pushed {}/{} images to it ({}, {}) and read {} back \
         whole, in {}.\n",
        root.display(),
        pushed.images_complete,
        plan.images.len(),
        count(pushed.blobs_sent, "blob"),
        ByteCount(pushed.bytes_sent),
        checked.images_complete,
        human_duration(started.elapsed()),
    );
    if !pushed.is_complete() || !checked.is_complete() {
        let mut document = Document::begin(Vec::new());
        document.images = plan.images.len();
        document.mirrors = vec![pushed.clone(), checked.clone()];
        out += &summary::table(&document);
        for mirror in &document.mirrors {
            let whole = mirror.error.iter().flat_map(summary::mirror_failed);
            let lines = whole.chain(summary::images_failed(mirror));
            lines.for_each(|line| out.extend([line.as_str(), "\n"]));
        }
        return out;
    }
    let program = program();
    let image = plan.images.first().map(|image| image.place(None)).unwrap_or_default();
    let _ = write!(
        out,
        "\nWhat comes next:\n\n\
         # serve the same folder again\n{program} serve --root {root} --listen 127.0.0.1:5000\n\n\
         # push a bundle of your own to it, or to any registry\n\
         {program} push images --source=./bmpackages_1.8.0.tar.xz --private-registry=127.0.0.1:5000 --need-credential=false\n\n\
         # pull one of these images with containerd\nctr images pull --plain-http 127.0.0.1:5000/{image}\n",
        root = root.display(),
    );
    out
}

/// How to call this program from here, as short as it can be.
fn program() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("layercast"));
    let here = std::env::current_dir().ok();
    match here.and_then(|here| program.strip_prefix(here).ok().map(Path::to_owned)) {
        Some(below) => format!("./{}", below.display()),
        None => program.display().to_string(),
    }
}
