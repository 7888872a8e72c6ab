//! What goes to standard output, what to standard error, and in which form. The only file that writes to either.

use std::io::{BufRead as _, ErrorKind, IsTerminal as _, Read as _, Write};

use clap::{Args, ValueEnum};

use super::display::{Display, ProgressForm};
use super::screen::{say, say_event};
use super::{screen, summary};
use crate::document::{Finding, Severity};
use crate::error::printable;
use crate::report::Outcome;
use crate::report::alike::{alike_mirrors, named};
use crate::report::document::LogEvent;
use crate::report::outcome::OutcomeState;
use crate::report::{Class, Failure};
use crate::units::count;

/// How much the program shows, and in which form.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Show errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Form of errors and warnings on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
    /// How far a run has come, on standard error: bar, plain, json, none [default: auto]
    #[arg(long, global = true, value_enum, default_value_t = ProgressForm::Auto, value_name = "FORM", hide_default_value = true, hide_possible_values = true)]
    progress: ProgressForm,
    /// Colours on standard error: always, never, or auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN", hide_default_value = true, hide_possible_values = true)]
    color: Colour,
    /// Log what is done, for bug reports; twice for every request (secrets are left out)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

/// Decides what may be written where.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) quiet: bool,
    json: bool,
    progress: ProgressForm,
    colours: bool,
}

impl Output {
    pub(super) fn new(args: &OutputArgs) -> Self {
        let level = match args.verbose {
            // What it would say of a server's error is said with the error.
            0 => "warn,kube_client=off",
            1 => "layercast=debug",
            _ => "layercast=trace",
        };
        let filter = tracing_subscriber::EnvFilter::new(level);
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(screen::LogWriter::default);
        if args.log_format == LogFormat::Json {
            subscriber.json().init();
        } else {
            subscriber.with_ansi(false).init();
        }
        let json = args.log_format == LogFormat::Json;
        // A terminal that cannot move its cursor says so.
        let draws = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|it| it != "dumb");
        let progress = match args.progress {
            ProgressForm::Auto if json => ProgressForm::Json,
            ProgressForm::Auto if draws => ProgressForm::Bar,
            ProgressForm::Auto => ProgressForm::Plain,
            form => form,
        };
        let colours = match args.color {
            Colour::Auto => draws && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
            Colour::Always => true,
            Colour::Never => false,
        };
        Self { quiet: args.quiet, json, progress, colours }
    }

    /// Shows the progress of a run until it is dropped. Drop it before showing how the run ended.
    pub(super) fn display(&self) -> Display {
        if self.quiet {
            return Display::silent();
        }
        Display::new(self.progress, screen::palette(self.colours))
    }

    /// Writes the result of a command to standard output. A closed pipe is not an error: its reader has seen enough.
    ///
    /// # Errors
    /// It could not be written: the disk is full.
    pub(super) fn result(text: &str) -> Result<(), Failure> {
        write_result(std::io::stdout().lock(), text)
    }

    /// The same as JSON.
    pub(super) fn document(document: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document);
        Self::result(&text.map_err(|error| Failure::internal(error.to_string()))?)
    }

    /// Writes a closing summary. The work is done, so a summary that cannot be written costs a warning only.
    pub(super) fn summary(&self, text: &str) {
        if !self.quiet
            && !self.json
            && !text.is_empty()
            && let Err(failure) = Self::result(text)
        {
            self.warn(&failure.message);
        }
    }

    /// Shows the failures of mirrors, and `with_images` those of their images, which a result may have shown already.
    pub(super) fn failures(&self, mirrors: &[Outcome], with_images: bool) {
        // What was to be left for later has not failed.
        let failed = mirrors.iter().filter(|mirror| mirror.state != OutcomeState::Deferred);
        if !self.json {
            failures_for_people(failed, with_images);
            return;
        }
        for mirror in failed {
            let whole = mirror.error.iter().map(|failure| (None, failure));
            let images = mirror.images_failed.iter().map(|failed| (Some(&failed.image), &failed.failure));
            for (image, failure) in whole.chain(images) {
                say_event(LogEvent::Failed {
                    mirror: mirror.name.clone(),
                    image: image.cloned(),
                    class: failure.class,
                    message: failure.message.clone(),
                    hint: failure.hint.clone(),
                });
            }
        }
    }

    /// A warning: the command goes on.
    pub(super) fn warn(&self, text: &str) {
        if !self.quiet {
            self.alarm(text);
        }
    }

    /// The same even with `--quiet`.
    pub(super) fn alarm(&self, text: &str) {
        if self.json {
            say_event(LogEvent::Warning { message: text.to_owned() });
        } else {
            say(&format!("warning: {}", printable(text)));
        }
    }

    /// A note: something else worth knowing.
    pub(super) fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        if self.json {
            say_event(LogEvent::Note { message: text.to_owned(), text: None });
        } else {
            say(&format!("note: {}", printable(text)));
        }
    }

    /// Shows why a command ended, and what to do next.
    pub(super) fn failed(&self, failure: &Failure) {
        if self.json {
            return say_event(failure.into());
        }
        say(&format!("error: {} [{}]", printable(&failure.message), failure.class));
        if let Some(hint) = &failure.hint {
            say(&format!("  next: {}", printable(hint)));
        }
    }

    /// Shows the parser's error for a wrong command line; there is no [`Output`] yet.
    pub(super) fn wrong_command_line(rendered: &str, json: bool) {
        let text = rendered.trim_end();
        let (first, more) = text.split_once('\n').unwrap_or((text, ""));
        if json {
            let message = first.trim_start_matches("error: ");
            say_event((&Failure::usage(message).hint(more.trim())).into());
        } else {
            say(&format!("{first} [{}]\n{more}", Class::Usage));
        }
    }

    /// Shows the mistakes in a file.
    pub(super) fn findings(&self, findings: &[Finding]) {
        for finding in findings {
            if self.json {
                say_event(finding.into());
            } else if !self.quiet || finding.severity == Severity::Error {
                let Finding { path, severity, line, column, what, fix, .. } = finding;
                let file = path.display().to_string();
                let (file, severity) = (printable(&file), severity.name());
                let place =
                    |number: &Option<usize>| number.map(|number| format!(":{number}")).unwrap_or_default();
                let (line, column) = (place(line), place(column));
                say(&format!("{file}{line}{column}: {severity}: {}", printable(what)));
                // What is at no line is not mended by writing something there.
                let remedy = if finding.line.is_some() { "write" } else { "next" };
                say(&format!("  {remedy}: {}", printable(fix)));
            }
        }
    }

    /// Asks on the terminal. The question goes to standard error, so that output can be redirected.
    pub(super) fn ask(question: &str) -> std::io::Result<String> {
        let _ = write!(std::io::stderr(), "{question}");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        // A terminal gives no longer line.
        std::io::stdin().lock().take(4096).read_line(&mut answer)?;
        Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Shows each cause of failures once. What was stopped has not failed.
fn failures_for_people<'a>(failed: impl Iterator<Item = &'a Outcome> + Clone, with_images: bool) {
    let is_stopped = |mirror: &Outcome| mirror.interrupted().is_some();
    for alike in alike_mirrors(failed.clone().filter(|mirror| !is_stopped(mirror))) {
        let Some((first, others)) = alike.split_first() else { continue };
        for line in first.error.iter().flat_map(summary::mirror_failed) {
            let line = if line.starts_with(' ') { line } else { format!("error: {}: {line}", first.name) };
            say(&line);
        }
        if !others.is_empty() {
            let names = named(others.iter().map(|mirror| mirror.name.as_str()));
            say(&format!("  the same: {}: {names}", count(others.len(), "more mirror")));
        }
    }
    for mirror in failed.clone().filter(|_| with_images) {
        for line in summary::images_failed(mirror) {
            say(&if line.starts_with(' ') { line } else { format!("error: {}: {line}", mirror.name) });
        }
    }
    for line in summary::interrupted(failed.filter(|mirror| is_stopped(mirror))) {
        say(&line);
    }
}

fn write_result(mut out: impl Write, text: &str) -> Result<(), Failure> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes()));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::io("standard output", &error)
            .hint("the output is missing or incomplete: free some disk, and run the command again")),
        _ => Ok(()),
    }
}

impl Output {
    pub(super) fn say(line: &str) {
        say(line);
    }

    pub(super) const fn is_json(&self) -> bool {
        self.json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_result_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_none() {
        let failure = write_result(Refusing(ErrorKind::StorageFull), "text").unwrap_err();
        assert_eq!(failure.exit, crate::exit::Exit::Internal);
        assert!(failure.message.starts_with("standard output: "), "{}", failure.message);
        assert!(write_result(Refusing(ErrorKind::BrokenPipe), "text").is_ok());
        let mut written = Vec::new();
        write_result(&mut written, "text").unwrap();
        assert_eq!(written, b"text\n");
    }
}
