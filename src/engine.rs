//! The run: one bundle read once, many mirrors fed at the same time.
//!
//! In: a [`Run`]. Out: its result, with an [`Outcome`] for each mirror. This is the only module that knows both the runtime
//! (requests) and the pool of threads (decoding, compressing). `reading` opens the bundles and plans, while each mirror is an
//! actor of its own. The actors share the volume and the prepared images, and nothing that a slow or dead mirror could hold.
//! `forecast` and `verify` open and plan in the same way, and only send questions.

mod background_drop;
mod backlog;
mod body;
mod checksums;
mod context;
mod failure;
mod feed;
pub(crate) mod fleet;
pub(crate) mod forecast;
pub(crate) mod history;
mod image;
mod layers;
mod mirror;
mod ordered_semaphore;
pub(crate) mod preflight;
mod prepare;
mod prepared;
pub(crate) mod prune;
mod push;
mod read_back;
mod reading;
pub(crate) mod rollback;
mod staged_body;
mod staging;
mod stop;
mod supervisor;
mod synthesis;
#[cfg(test)]
mod tests;
pub(crate) mod verify;
mod work;

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::bundle::{Accept, Input, Opener};
use crate::compress::Method;
use crate::hook::Hook;
use crate::hook::gate::EarlierVerdicts;
use crate::plan::Rules;
use crate::registry::{ClientOptions, Target};
use crate::report::{Event, Listeners};
use crate::schedule::Window;
use crate::state::{Retention, RunId};

pub(crate) use checksums::{ExpectedSum, check_sums};
use context::Context;
pub(crate) use failure::of_connection as failure_of_connection;
pub(crate) use history::Locks;
pub(crate) use push::{PushResult, push};
pub(crate) use reading::Met;
pub(crate) use staging::entries;
pub(crate) use supervisor::Schedule;
pub(crate) use synthesis::synthesise;

/// All that a push needs to know.
#[derive(Debug)]
pub(crate) struct Run {
    /// The bundles.
    pub inputs: Vec<Input>,
    /// Sums that files of them must have before any tag moves.
    pub sums: Vec<ExpectedSum>,
    /// Opens them.
    pub opener: Opener,
    /// Where their images go.
    pub mirrors: Vec<MirrorSettings>,
    /// In which order, and when.
    pub schedule: Schedule,
    /// Who keeps other runs from them.
    pub locks: Locks,
    /// Its number in the history, where it stands there already: an earlier try over another bundle was made.
    pub number: Option<RunId>,
    /// How it behaves, whatever the mirror.
    pub settings: RunSettings,
    /// Who hears of it.
    pub listeners: Listeners,
    /// Ends it early, and well.
    pub cancel: CancellationToken,
}

/// How a run behaves, whatever the mirror.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunSettings {
    /// How layers of docker-archives are compressed.
    pub layer_compression: Method,
    /// Push the whole images of a damaged bundle.
    pub allow_damaged: bool,
    /// What is no failure.
    pub accept: Accept,
    /// Open connections while a bundle is read, before there is a question. That is a request more for each host, which a fleet
    /// of shards would send to each host from each shard.
    pub connect_early: bool,
    /// Which runs are remembered.
    pub retention: Retention,
    /// What becomes of what gates said in earlier runs.
    pub earlier_verdicts: EarlierVerdicts,
}

/// How far it is checked that images are there before their tags move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Verification {
    /// What the registry acknowledges counts.
    None,
    /// Children of indexes are asked for, and of blobs that were found some are asked for a byte.
    #[default]
    Sample,
    /// Everything of every image is read back and hashed.
    Pull,
}

/// How far the word of a mirror is trusted, and whether what it has may be replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Care {
    /// Ask for every blob, also of images whose manifest is there: the mirror may have lost some.
    pub recheck: bool,
    /// Do not overwrite tags that point to another image.
    pub no_overwrite: bool,
    /// How far it is looked after that the images are there.
    pub verification: Verification,
}

/// The run to these mirrors begins.
fn start_event(mirrors: &[MirrorSettings]) -> Event {
    let limit = |mirror: &MirrorSettings| mirror.client.bandwidth.iter().map(|limit| limit.rate().0).min();
    Event::Started {
        mirrors: mirrors.iter().map(|mirror| mirror.name.clone()).collect(),
        limits: mirrors.iter().map(limit).collect(),
    }
}

/// One mirror and how to talk to it.
#[derive(Debug, Clone)]
pub(crate) struct MirrorSettings {
    /// What it is called in reports.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// Which images it gets, and under which names.
    pub rules: Arc<Rules>,
    /// Certificates, credentials, time limits.
    pub client: ClientOptions,
    /// The most uploads at the same time; as many as the mirror bears where none is given.
    pub threads: Option<NonZeroUsize>,
    /// Move no tag unless every image is complete.
    pub atomic_tags: bool,
    /// How far its word is trusted, and what it has already.
    pub care: Care,
    /// When it may be fed; always where none is given.
    pub window: Option<Window>,
    /// What judges images before their tags move.
    pub gate: Option<Hook>,
    /// Nothing was ever brought to it, as far as is known. A guess that saves waiting, no more.
    pub is_new: bool,
}
