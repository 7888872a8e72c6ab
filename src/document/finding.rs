//! What is wrong with a file: where, what, what happens because of it, and what to write instead.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ParseError, Position};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// The file, or what it is for, does not work.
    Error,
    /// It works, but not as safely or as far as it seems.
    Warning,
    /// Right for some sites and wrong for others.
    Note,
}

impl Severity {
    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// The rule's stable name.
    pub(crate) rule: Cow<'static, str>,
    /// The file, or the folder.
    pub(crate) path: PathBuf,
    /// From 1, if it is at one line.
    pub(crate) line: Option<usize>,
    /// From 1, in characters, if it is at one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
    /// What is wrong.
    pub(crate) what: String,
    /// What happens because of it; empty where that is plain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) effect: String,
    /// The correction.
    pub(crate) fix: String,
}

/// The sentences of a finding: what, effect and correction, or what and correction.
#[derive(Debug)]
pub(crate) struct Words {
    what: String,
    effect: String,
    fix: String,
}

impl From<[String; 3]> for Words {
    fn from([what, effect, fix]: [String; 3]) -> Self {
        Self { what, effect, fix }
    }
}

impl<W: Into<String>, F: Into<String>> From<(W, F)> for Words {
    fn from((what, fix): (W, F)) -> Self {
        Self { what: what.into(), effect: String::new(), fix: fix.into() }
    }
}

/// The findings about one file, as they are made.
#[derive(Debug)]
pub(crate) struct Findings {
    path: PathBuf,
    found: Vec<Finding>,
}

impl Findings {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), found: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        rule: &'static str,
        at: impl Into<Option<Position>>,
        words: impl Into<Words>,
    ) {
        let (at, Words { what, effect, fix }) = (at.into(), words.into());
        self.found.push(Finding {
            severity,
            rule: rule.into(),
            path: self.path.clone(),
            line: at.map(|at| at.line),
            column: at.map(|at| at.column),
            what,
            effect,
            fix,
        });
    }

    pub(crate) fn error(
        &mut self,
        rule: &'static str,
        at: impl Into<Option<Position>>,
        words: impl Into<Words>,
    ) {
        self.add(Severity::Error, rule, at, words);
    }

    pub(crate) fn warning(
        &mut self,
        rule: &'static str,
        at: impl Into<Option<Position>>,
        words: impl Into<Words>,
    ) {
        self.add(Severity::Warning, rule, at, words);
    }

    /// A warning about a key that several sections inherit: it is reported once.
    pub(crate) fn warning_once(&mut self, rule: &'static str, at: Position, words: impl Into<Words>) {
        let is_known = |found: &Finding| {
            found.rule == rule && (found.line, found.column) == (Some(at.line), Some(at.column))
        };
        if !self.found.iter().any(is_known) {
            self.warning(rule, at, words);
        }
    }

    /// That the text is not in its language.
    pub(crate) fn unreadable(&mut self, rule: &'static str, error: ParseError) {
        self.error(rule, error.at, (error.message, error.fix));
    }

    /// In the order of the file.
    pub(crate) fn sorted(mut self) -> Vec<Finding> {
        self.found.sort_by(|a, b| {
            (a.line, a.column, a.severity, &a.rule).cmp(&(b.line, b.column, b.severity, &b.rule))
        });
        self.found
    }
}
