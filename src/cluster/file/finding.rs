//! What is wrong with a file: where, what, and what to write instead.

use serde::Serialize;

/// Whether a file can be used with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// `bmctl` or the nodes would refuse it, or do something else than what is meant.
    Error,
    /// It works, and somebody should know.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whether the file can be used with it.
    pub severity: Severity,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what comes of it.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

/// Findings as they are made.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn error(&mut self, line: usize, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Error, line, message.into(), fix.into());
    }

    pub(super) fn warning(&mut self, line: usize, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Warning, line, message.into(), fix.into());
    }

    fn add(&mut self, severity: Severity, line: usize, message: String, fix: String) {
        self.0.push(Finding { severity, line, message, fix });
    }

    /// In the order of the file.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.line);
        self.0
    }
}
