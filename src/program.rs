//! Runs a program of the user's: with a limit on its time and on what is kept of its output, without our secrets in its
//! environment, and without leaving anything of it running when it fails.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded, never, select};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::clock::Instant;
use crate::error::printable;
use crate::locks::Mutex;

/// How much of its last words a person is shown, in characters.
const MAX_SHOWN_CHARS: usize = 300;
/// How long its pipes may stay open after its end: what it left running may hold them.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// So long after its end a run may still wait for an answer.
const DEADLINE_GRACE: Duration = Duration::from_secs(10);
/// Why one was stopped.
pub(crate) const STOPPED: &str = "it was stopped, because the run was interrupted";
/// The password that may stand in our own environment is nobody else's business.
const OWN_VARIABLES: [&str; 5] = [
    "LAYERCAST_PASSWORD",
    "LAYERCAST_USERNAME",
    "LAYERCAST_SOURCE_PASSWORD",
    "LAYERCAST_SOURCE_USERNAME",
    "DOCKER_AUTH_CONFIG",
];

/// What is kept of the output of a program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep {
    /// All of it, up to this many bytes; one that writes more has failed.
    AtMost(usize),
    /// Its end, this many bytes of it.
    Last(usize),
}

/// How a program is run.
#[derive(Debug)]
pub(crate) struct Terms {
    /// How long it may take.
    limit: Duration,
    keep: Keep,
    /// Closed by whoever wants it stopped.
    stop: Receiver<Infallible>,
}

impl Terms {
    /// For this long, with this of its output.
    pub(crate) fn new(limit: Duration, keep: Keep) -> Self {
        Self { limit, keep, stop: never() }
    }

    /// The same, until `stop` is closed.
    #[must_use]
    pub(crate) fn until(self, stop: Receiver<Infallible>) -> Self {
        Self { stop, ..self }
    }
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Finished {
    /// How it ended, with its last words on standard error. Standard output may hold a secret, whole or in part, also where
    /// the program failed: it is never shown.
    pub(crate) fn failure(&self) -> String {
        self.ended(last_words(&self.stderr))
    }

    /// The same of a program that tells no secret: with its last words on standard output where there are none on standard
    /// error. Credential helpers write their errors there, and scanners what they found.
    pub(crate) fn failure_with_output(&self) -> String {
        self.ended(last_words(&self.stderr).or_else(|| last_words(&self.stdout)))
    }

    fn ended(&self, words: Option<String>) -> String {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("it ended with exit code {code}"),
            (None, Some(signal)) => format!("it was ended by signal {signal}"),
            (None, None) => "it failed".to_owned(),
        };
        words.map_or_else(|| format!("{how}, and said nothing"), |words| format!("{how}: {words}"))
    }
}

/// Programs that run now, each by its group.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Stops every program that runs now, with what it started: this process is to end, or what they are asked for is not
/// needed any more.
pub(crate) fn stop_all() {
    for group in std::mem::take(&mut *RUNNING.lock()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// When the run for whose sake programs are asked must be over.
static DEADLINE: OnceLock<Instant> = OnceLock::new();

/// From now on programs have this time, and some grace, to answer.
pub(crate) fn answer_by(ends: Instant) {
    let _ = DEADLINE.set(ends + DEADLINE_GRACE);
}

/// How long an answer may be waited for: so long at most, and no longer than the run may take.
pub(crate) fn patience(most: Duration) -> Duration {
    patience_at(Instant::now(), DEADLINE.get().copied(), most)
}

fn patience_at(now: Instant, deadline: Option<Instant>, most: Duration) -> Duration {
    deadline.map_or(most, |deadline| most.min(deadline.saturating_duration_since(now)))
}

/// A program that is stopped by [`stop_all`].
struct Running(Pid);

impl Running {
    fn new(group: Pid) -> Self {
        RUNNING.lock().push(group);
        Self(group)
    }

    /// It is over. Whether it was stopped.
    fn was_stopped(self) -> bool {
        let mut running = RUNNING.lock();
        let place = running.iter().position(|group| *group == self.0);
        place.map(|place| running.swap_remove(place)).is_none()
    }
}

/// Runs `command`, gives it `input` and waits until its end, on these terms. It has no terminal to ask on.
///
/// # Errors
/// Why there is no result, for people to read after the program's name.
pub(crate) fn run(command: &mut Command, input: &[u8], terms: &Terms) -> Result<Finished, String> {
    for name in OWN_VARIABLES {
        command.env_remove(name);
    }
    // A group of its own, so that what it started ends with it.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => "it is not installed, or not in the PATH of this process".to_owned(),
        _ => format!("it cannot be run: {error}"),
    })?;
    let group = Pid::from_child(&child);
    let running = Running::new(group);
    let (stdout, stderr) = (drain(child.stdout.take(), terms.keep), drain(child.stderr.take(), terms.keep));
    let ended = wait(child, input.to_vec());
    let outcome = select! {
        recv(ended) -> status => match status {
            Ok(Ok(status)) => finished(status, stdout, stderr, terms.keep),
            Ok(Err(error)) => Err(format!("it cannot be waited for: {error}")),
            Err(_) => Err("it cannot be waited for".to_owned()),
        },
        recv(terms.stop) -> _ => Err(STOPPED.to_owned()),
        default(terms.limit) => {
            Err(format!("it did not answer within {} s, and was stopped", terms.limit.as_secs_f32()))
        }
    };
    if !matches!(&outcome, Ok(finished) if finished.status.success()) {
        // It, and what it started; both may have ended by themselves.
        let _ = kill_process_group(group, Signal::KILL);
    }
    if running.was_stopped() { Err(STOPPED.to_owned()) } else { outcome }
}

fn finished(status: ExitStatus, stdout: Drained, stderr: Drained, keep: Keep) -> Result<Finished, String> {
    let (stdout, stderr) = (stdout.rest(), stderr.rest());
    match keep {
        Keep::AtMost(most) if stdout.len() > most => Err("it wrote more than any secret has".to_owned()),
        _ => Ok(Finished { status, stdout, stderr }),
    }
}

/// What comes out of a pipe, read elsewhere.
struct Drained {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    ended: Receiver<()>,
}

impl Drained {
    /// All of it, if the pipe is closed soon, and else what has come until then.
    fn rest(self) -> Vec<u8> {
        let _ = self.ended.recv_timeout(PIPE_GRACE);
        std::mem::take(&mut *self.bytes.lock()).into()
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>, keep: Keep) -> Drained {
    let (sender, ended) = bounded(1);
    let bytes = Arc::new(Mutex::new(VecDeque::new()));
    let kept = Arc::clone(&bytes);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut pipe = pipe;
        // Read on whatever is kept, so that it comes to its end.
        while let Some(count) = pipe.as_mut().and_then(|pipe| pipe.read(&mut buffer).ok()).filter(|&n| n > 0)
        {
            let mut kept = kept.lock();
            match keep {
                // One byte too many says that there was more.
                Keep::AtMost(most) => {
                    let room = (most + 1).saturating_sub(kept.len());
                    kept.extend(&buffer[..count.min(room)]);
                }
                Keep::Last(most) => {
                    kept.extend(&buffer[..count]);
                    let surplus = kept.len().saturating_sub(most);
                    kept.drain(..surplus);
                }
            }
        }
        let _ = sender.send(());
    });
    Drained { bytes, ended }
}

/// Writes its input and waits for its end, elsewhere.
fn wait(mut child: Child, input: Vec<u8>) -> Receiver<std::io::Result<ExitStatus>> {
    let (sender, receiver) = bounded(1);
    thread::spawn(move || {
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read what it is asked may still answer.
            let _ = stdin.write_all(&input);
        }
        let _ = sender.send(child.wait());
    });
    receiver
}

/// The last line that says something, as it may be shown.
fn last_words(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(printable(&line.trim().chars().take(MAX_SHOWN_CHARS).collect::<String>()))
}
