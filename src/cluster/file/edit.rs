//! Changing the mirrors of a cluster's file in place.
//!
//! In: the text of the file and one [`Edit`]. Out: the text with exactly that changed: comments, order and every other
//! byte stay. The new text is read again before anything is written, and has to say what the old one said but for the
//! change. Never touches more than the header.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{ClusterError, FileRequirements, endpoint, header};
use crate::document::{Entry, Key, Mapping, Node, Position, Scalar, Severity, Style, Value, yaml};
use crate::error::printable;
use crate::small_file;

const ENDPOINT: &str = "endpoint";

/// One wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Which entry, by its endpoint; may be left out where there is one only.
    pub of: Option<String>,
    /// What is to change in it.
    pub change: EntryEdit,
}

/// What is to change in an entry of `registryMirrors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryEdit {
    /// `endpoint`. Makes the first entry where there is none.
    Endpoint(String),
    /// `caCertPath`; `None` for a registry whose certificate everybody trusts.
    Ca(Option<PathBuf>),
    /// `pullCredentialConfigPath`; `None` for a registry that asks for nothing.
    Credentials(Option<PathBuf>),
}

/// Why a file was left as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] ClusterError),
    /// The wish cannot be written into a file.
    #[error("{message}; {fix}")]
    Wish {
        /// What is wrong with it.
        message: String,
        /// What to wish for.
        fix: String,
    },
    /// There is no such entry, or it is not clear which.
    #[error("{0}")]
    Which(String),
    /// The place is written in a way that is not edited.
    #[error("line {line}: {message}; change it by hand")]
    Unusual {
        /// Where.
        line: usize,
        /// What is unusual.
        message: String,
    },
    /// More would change than what was wished for.
    #[error(
        "the change would not be the only one in the file (an anchor or a tag may stand there); change it by hand"
    )]
    TooMuch,
}

impl EntryEdit {
    fn key(&self) -> &'static str {
        match self {
            Self::Endpoint(_) => ENDPOINT,
            Self::Ca(_) => "caCertPath",
            Self::Credentials(_) => "pullCredentialConfigPath",
        }
    }

    /// The text to be written; blank for none.
    fn text(&self) -> Result<String, EditError> {
        let (Self::Ca(path) | Self::Credentials(path)) = self else {
            let Self::Endpoint(text) = self else { return Ok(String::new()) };
            let endpoint =
                endpoint::parse(text).map_err(|(message, fix)| EditError::Wish { message, fix })?;
            // Whoever reads the file would warn of it from then on.
            if !text.contains("://") {
                let message = format!("{} has no scheme", printable(text));
                return Err(EditError::Wish { message, fix: format!("give it as {}", endpoint.text) });
            }
            return Ok(text.clone());
        };
        let Some(path) = path else { return Ok(String::new()) };
        match path.to_str() {
            Some(text) if path.is_absolute() && !text.contains(['\n', '\r', '\0', '$']) => {
                Ok(text.to_owned())
            }
            _ => Err(EditError::Wish {
                message: format!("{} is not the absolute path of a file", printable(&path.to_string_lossy())),
                fix: "the file is read on the machine where bmctl runs: give the whole path".to_owned(),
            }),
        }
    }
}

/// What became of a file.
#[derive(Debug)]
pub(crate) struct Edited {
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
}

/// Changes a file. It is replaced in one step, keeps its owner and mode, and is not written if nothing changes.
///
/// # Errors
/// See [`EditError`]; the file is then as it was.
pub(crate) fn edit_file(path: &Path, edit: &Edit) -> Result<Edited, EditError> {
    let failed = |error: io::Error| ClusterError::Io { path: path.to_owned(), error };
    // A link stays a link.
    let real = fs::canonicalize(path).map_err(failed)?;
    let before = super::read_text(&real)?;
    let after = self::edit(&before, edit)?;
    if after != before {
        replace(&real, &before, &after).map_err(failed)?;
    }
    Ok(Edited { before, after })
}

fn replace(path: &Path, before: &str, after: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let old = fs::metadata(path)?;
    let mut file = tempfile::Builder::new().prefix(".layercast-").tempfile_in(folder)?;
    file.write_all(after.as_bytes())?;
    let new = file.as_file().metadata()?;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    file.as_file().set_permissions(old.permissions())?;
    file.as_file().sync_all()?;
    let now = small_file::read(path, before.len() as u64);
    if now
        .as_ref()
        .map_or_else(|error| error.kind() == ErrorKind::FileTooLarge, |now| now != before.as_bytes())
    {
        return Err(io::Error::other("somebody else changed it just now; try again"));
    }
    now?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()?;
    if small_file::read(path, after.len() as u64)? == after.as_bytes() {
        Ok(())
    } else {
        Err(io::Error::other("it does not hold what was written into it"))
    }
}

/// The text with the change in it. Pure.
///
/// # Errors
/// See [`EditError`].
pub(crate) fn edit(text: &str, edit: &Edit) -> Result<String, EditError> {
    let wanted = edit.change.text()?;
    let mut documents = yaml::read(text).map_err(|error| EditError::Unusual {
        line: error.at.line,
        message: format!("{}; {}", error.message, error.fix),
    })?;
    let Some(root) = header::find(&documents) else {
        return Err(EditError::Which("the file has no header to write registryMirrors into".to_owned()));
    };
    let items = root.get(header::MIRRORS).map(Node::items).unwrap_or_default();
    let new = if items.is_empty() && matches!(edit.change, EntryEdit::Endpoint(_)) && edit.of.is_none() {
        let new = add(text, root, &wanted)?;
        add_to(&mut documents, &wanted);
        new
    } else {
        let index = which(items, edit.of.as_deref())?;
        let new = change(text, &items[index], edit.change.key(), &wanted)?;
        change_in(&mut documents, index, edit.change.key(), wanted);
        new
    };
    let said = yaml::read(&new).map_err(|_| EditError::TooMuch)?;
    let same = said.len() == documents.len()
        && said.iter().zip(&documents).all(|(said, wanted)| said.says_the_same(wanted));
    if !same {
        return Err(EditError::TooMuch);
    }
    no_worse(text, &new)?;
    Ok(new)
}

/// What is right by itself may be wrong beside the rest: an endpoint that is there already.
fn no_worse(old: &str, new: &str) -> Result<(), EditError> {
    let errors = |text| {
        let reading = super::parse(Path::new(""), text, &FileRequirements::default());
        reading.findings.into_iter().filter(|found| found.severity == Severity::Error).collect::<Vec<_>>()
    };
    let (old, new) = (errors(old), errors(new));
    let worse = new.into_iter().find(|new| !old.iter().any(|old| old.what == new.what));
    worse.map_or(Ok(()), |found| Err(EditError::Wish { message: found.what, fix: found.fix }))
}

/// The entry that is meant.
fn which(items: &[Node], of: Option<&str>) -> Result<usize, EditError> {
    let endpoints: Vec<&str> =
        items.iter().map(|item| item.get(ENDPOINT).and_then(Node::text).unwrap_or_default()).collect();
    let listed = || endpoints.iter().map(|text| printable(text)).collect::<Vec<_>>().join(", ");
    let Some(of) = of else {
        return match items.len() {
            0 => {
                Err(EditError::Which("there is no mirror in the file yet: set its endpoint first".to_owned()))
            }
            1 => Ok(0),
            _ => Err(EditError::Which(format!("say which one with --of: {}", listed()))),
        };
    };
    let place = |text: &str| endpoint::parse(text).map(|endpoint| endpoint.target).ok();
    let wanted = place(of);
    let found = endpoints.iter().position(|text| *text == of || wanted.is_some() && place(text) == wanted);
    found.ok_or_else(|| {
        EditError::Which(format!("no mirror has the endpoint {}; there are: {}", printable(of), listed()))
    })
}

/// Writes a value behind its key, or the key behind the endpoint.
fn change(text: &str, item: &Node, key: &str, wanted: &str) -> Result<String, EditError> {
    let unusual =
        |at: Position, message: &str| EditError::Unusual { line: at.line, message: message.to_owned() };
    let Value::Mapping(mapping) = &item.value else {
        return Err(unusual(item.at, "the entry has no keys"));
    };
    if let Some(entry) = item.entry(key) {
        let Some(scalar) = entry.value.scalar() else {
            return Err(unusual(entry.value.at, "it is more than one value"));
        };
        if is_blank(scalar) && wanted.is_empty() || scalar.text == wanted && entry.value.text().is_some() {
            return Ok(text.to_owned());
        }
        if scalar.text.is_empty() && scalar.style == Style::Plain {
            let colon = colon(text, &entry.key).ok_or_else(|| unusual(entry.key.at, "no colon behind it"))?;
            return Ok(splice(text, colon..colon, &format!(" {}", plain(wanted))));
        }
        let span = entry.value.span.clone();
        let written = &text[span.clone()];
        if written.contains('\n') || written.starts_with('*') || scalar.style == Style::Block {
            return Err(unusual(entry.value.at, "the value is an alias, or longer than a line"));
        }
        let new = match written.chars().next() {
            Some('\'') => format!("'{}'", wanted.replace('\'', "''")),
            Some('"') => quoted(wanted),
            _ => plain(wanted),
        };
        return Ok(splice(text, span, &new));
    }
    if wanted.is_empty() {
        return Ok(text.to_owned());
    }
    let Some(beside) = item.entry(ENDPOINT).filter(|entry| entry.value.text().is_some()) else {
        return Err(unusual(item.at, "the entry has no endpoint"));
    };
    let end = beside.value.span.end;
    if mapping.flow {
        return Ok(splice(text, end..end, &format!(", {key}: {}", plain(wanted))));
    }
    let line = format!("{}{key}: {}", indent(&beside.key), plain(wanted));
    Ok(insert_line(text, end, &line))
}

/// The first mirror of a header without one.
fn add(text: &str, root: &Node, wanted: &str) -> Result<String, EditError> {
    let item = format!("- {ENDPOINT}: {}", plain(wanted));
    if let Some(entry) = root.entry(header::MIRRORS) {
        if !entry.value.is_null() {
            let message = format!("{} is not a list with entries", header::MIRRORS);
            return Err(EditError::Unusual { line: entry.value.at.line, message });
        }
        let item = format!("{}{item}", indent(&entry.key));
        return Ok(insert_line(text, entry.key.span.end, &item));
    }
    let last = root.entries().last().ok_or(EditError::TooMuch)?;
    // Where nothing is written, the library's place for it may lie further down.
    let end = if last.value.is_null() { last.key.span.end } else { last.value.span.end };
    let key = format!("{}{}:", indent(&last.key), header::MIRRORS);
    let with_key = insert_line(text, end, &key);
    let key_end = end + with_key[end..].find(header::MIRRORS).unwrap_or(0) + header::MIRRORS.len();
    Ok(insert_line(&with_key, key_end, &format!("{}{item}", indent(&last.key))))
}

/// The same change to what the text says.
fn change_in(documents: &mut [Node], index: usize, key: &str, wanted: String) {
    let item = mirrors_of(documents).and_then(|value| match value {
        Value::Sequence(items) => items.get_mut(index),
        _ => None,
    });
    let Some(Node { value: Value::Mapping(mapping), .. }) = item else { return };
    match mapping.entries.iter_mut().find(|entry| entry.key.name == key) {
        // Blank stays as blank as it was.
        Some(entry) if wanted.is_empty() && entry.value.is_null() => {}
        Some(entry) => entry.value = quoted_node(wanted),
        None if wanted.is_empty() => {}
        None => {
            let beside =
                mapping.entries.iter().position(|entry| entry.key.name == ENDPOINT).map_or(0, |at| at + 1);
            mapping.entries.insert(beside, entry(key, quoted_node(wanted)));
        }
    }
}

fn add_to(documents: &mut [Node], wanted: &str) {
    let item = entry(ENDPOINT, quoted_node(wanted.to_owned()));
    let item = node(Value::Mapping(Mapping { flow: false, entries: vec![item] }));
    if let Some(value) = mirrors_of(documents) {
        *value = Value::Sequence(vec![item]);
    } else if let Some(Value::Mapping(mapping)) = documents.first_mut().map(|first| &mut first.value) {
        mapping.entries.push(entry(header::MIRRORS, node(Value::Sequence(vec![item]))));
    }
}

fn mirrors_of(documents: &mut [Node]) -> Option<&mut Value> {
    let Value::Mapping(mapping) = &mut documents.first_mut()?.value else { return None };
    let entry = mapping.entries.iter_mut().find(|entry| entry.key.name == header::MIRRORS)?;
    Some(&mut entry.value.value)
}

fn node(value: Value) -> Node {
    Node { at: Position::START, span: 0..0, value }
}

fn quoted_node(text: String) -> Node {
    node(Value::Scalar(Scalar::quoted(text)))
}

fn entry(name: &str, value: Node) -> Entry {
    Entry { key: Key { name: name.to_owned(), at: Position::START, span: 0..0 }, value }
}

fn is_blank(scalar: &Scalar) -> bool {
    scalar.is_null() || scalar.text.is_empty()
}

/// The spaces before a key.
fn indent(key: &Key) -> String {
    " ".repeat(key.at.column - 1)
}

/// The place behind the colon of a key.
fn colon(text: &str, key: &Key) -> Option<usize> {
    let rest = &text[key.span.end..];
    let spaces = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    rest[spaces..].starts_with(':').then_some(key.span.end + spaces + 1)
}

/// Puts a line behind the one that `at` is in.
fn insert_line(text: &str, at: usize, line: &str) -> String {
    // A block scalar ends behind its line feed.
    let at = if at > 0 && text[..at].ends_with('\n') { at - 1 } else { at };
    let end = text[at..].find('\n').map_or(text.len(), |found| at + found);
    let (end, feed) = if text[..end].ends_with('\r') { (end - 1, "\r\n") } else { (end, "\n") };
    splice(text, end..end, &format!("{feed}{line}"))
}

fn splice(text: &str, span: std::ops::Range<usize>, new: &str) -> String {
    format!("{}{new}{}", &text[..span.start], &text[span.end..])
}

/// As it stands, if no reader can take it for anything else.
fn plain(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._:@+-".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        || text.starts_with(|c: char| c.is_ascii_digit()) && text.matches('.').count() > 1;
    if starts && text.chars().all(safe) && !text.ends_with(':') && !is_word(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn is_word(text: &str) -> bool {
    node(Value::Scalar(Scalar::plain(text.to_owned()))).text().is_none()
}

/// In double quotes; JSON's are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
