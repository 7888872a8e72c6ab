//! Runs a program of the user's that tells a secret: with a limit on its time and on its output, and without leaving
//! anything of it running when it fails.

use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::printable;
use crate::sync::Mutex;

/// What a program may write: a secret, or an error.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// How much of its last words a person is shown, in characters.
const MAX_SHOWN_CHARS: usize = 300;
/// How long its pipes may stay open after its end: what it left running may hold them.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// The password that may stand in our own environment is nobody else's business.
const OWN_VARIABLES: [&str; 2] = ["LAYERCAST_PASSWORD", "LAYERCAST_USERNAME"];

/// What a program said, and how it ended.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Finished {
    /// How it ended, with its last words on standard error. Standard output may hold the secret, whole or in part, also where
    /// the program failed: it is never shown.
    pub(super) fn failure(&self) -> String {
        self.ended(last_words(&self.stderr))
    }

    /// The same of a program whose protocol writes errors to standard output, as credential helpers do.
    pub(super) fn failure_of_helper(&self) -> String {
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

/// What `command` writes to standard output.
///
/// # Errors
/// It cannot be run, fails, or does not end within `limit`, with its last words.
pub(crate) fn output_of(command: &mut Command, limit: Duration) -> Result<Vec<u8>, String> {
    let finished = run(command, b"", limit)?;
    if finished.status.success() { Ok(finished.stdout) } else { Err(finished.failure()) }
}

/// Runs `command`, gives it `input` and waits until its end, for `limit` at most. It has no terminal to ask on.
///
/// # Errors
/// Why there is no result, for people to read after the program's name.
pub(super) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Finished, String> {
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
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let ended = wait(child, input.to_vec());
    let outcome = match ended.recv_timeout(limit) {
        Ok(Ok(status)) => {
            let (stdout, stderr) = (stdout.rest(), stderr.rest());
            if stdout.len() > MAX_OUTPUT_BYTES {
                Err("it wrote more than any secret has".to_owned())
            } else {
                Ok(Finished { status, stdout, stderr })
            }
        }
        Ok(Err(error)) => Err(format!("it cannot be waited for: {error}")),
        Err(_) => Err(format!("it did not answer within {} s, and was stopped", limit.as_secs_f32())),
    };
    if !matches!(&outcome, Ok(finished) if finished.status.success()) {
        // It, and what it started; both may have ended by themselves.
        let _ = kill_process_group(group, Signal::KILL);
    }
    outcome
}

/// What comes out of a pipe, read elsewhere.
struct Drained {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Drained {
    /// All of it, if the pipe is closed soon, and else what has come until then.
    fn rest(self) -> Vec<u8> {
        let _ = self.ended.recv_timeout(PIPE_GRACE);
        std::mem::take(&mut *self.bytes.lock())
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Drained {
    let (sender, ended) = mpsc::channel();
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bytes);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut pipe = pipe;
        while let Some(count) = pipe.as_mut().and_then(|pipe| pipe.read(&mut buffer).ok()).filter(|&n| n > 0)
        {
            let mut kept = kept.lock();
            // Read on, so that it comes to its end; one byte too many says that there was more.
            let room = (MAX_OUTPUT_BYTES + 1).saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..count.min(room)]);
        }
        let _ = sender.send(());
    });
    Drained { bytes, ended }
}

/// Writes its input and waits for its end, elsewhere.
fn wait(mut child: Child, input: Vec<u8>) -> Receiver<std::io::Result<ExitStatus>> {
    let (sender, receiver) = mpsc::channel();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::eventually_blocking;

    fn shell(script: &str, limit: Duration) -> Result<Finished, String> {
        run(Command::new("sh").args(["-c", script]), b"question\n", limit)
    }

    #[test]
    fn what_it_says_is_heard_and_how_it_ends() {
        let second = Duration::from_secs(20);
        let good = shell("read line; echo \"got $line\"; echo noise >&2", second).unwrap();
        assert!(good.status.success());
        assert_eq!(good.stdout, b"got question\n");
        let bad =
            shell("echo secret; echo first >&2; echo 'the store is locked' >&2; exit 3", second).unwrap();
        assert_eq!(bad.failure(), "it ended with exit code 3: the store is locked");
        assert_eq!(shell("exit 1", second).unwrap().failure(), "it ended with exit code 1, and said nothing");
        let silent = shell("echo secret; exit 1", second).unwrap();
        assert_eq!(silent.failure(), "it ended with exit code 1, and said nothing");
        assert_eq!(silent.failure_of_helper(), "it ended with exit code 1: secret");
        assert!(shell("head -c 3000000 /dev/zero", second).is_err(), "endless output");
        let missing = run(&mut Command::new("no-such-helper"), b"", second).err().unwrap();
        assert!(missing.contains("not installed"), "{missing}");
    }

    #[test]
    fn one_that_hangs_is_stopped_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", mark.display());
        let error = shell(&script, Duration::from_millis(500)).err().unwrap();
        assert!(error.contains("did not answer within 0.5 s"), "{error}");
        let child: i32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        let is_there = || {
            // An orphan that nobody has waited for yet is dead all the same.
            let status = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        eventually_blocking("what it started has ended", || !is_there());
    }

    #[test]
    fn one_that_leaves_something_running_is_not_waited_for() {
        let done = shell("echo answer; sleep 3 & exit 0", Duration::from_secs(60)).unwrap();
        assert!(done.status.success());
        assert_eq!(done.stdout, b"answer\n");
    }
}
