//! Sections of the file and their keys, each written down once: the macro makes the type of a section, the reader that names
//! what is wrong with it, and the schema for editors.

use crate::document::{Entry, Findings, Key, Node, Position, nearest};
use crate::error::printable;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) at: Position,
    pub(super) value: T,
}

/// What can stand behind a key.
pub(super) trait FromNode: Sized {
    /// Reads it. What is wrong with it goes to the findings.
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self>;
}

/// Keys that belong together.
pub(super) trait Section: Default {
    /// What it is, for messages: `a site`.
    const WHAT: &'static str;

    /// All of its keys.
    fn keys() -> Vec<&'static str>;

    /// Those that must be there.
    fn required() -> Vec<&'static str>;

    /// Takes what stands behind a key; false if it has no such key.
    fn take(&mut self, entry: &Entry, findings: &mut Findings) -> bool;

    /// What is wrong with a key that people expect and that is none: what, and the correction.
    fn advice(_key: &str) -> Option<(String, String)> {
        None
    }
}

/// A list of names, each with a section of its own.
#[derive(Debug, Clone)]
pub(super) struct NamedSections<T>(pub(super) Vec<(Key, T)>);

/// Something that was inherited and is taken back with `none`.
#[derive(Debug, Clone)]
pub(super) enum OrNone<T> {
    None,
    Some(T),
}

/// Reads what stands behind a key of a section.
pub(super) fn value<T: FromNode>(entry: &Entry, findings: &mut Findings) -> Option<At<T>> {
    let (key, node) = (&entry.key.name, &entry.value);
    if node.is_null() {
        let words =
            (format!("nothing stands behind {key}"), format!("{key}: and its value, or remove the line"));
        findings.error("no-value", entry.key.at, words);
        return None;
    }
    T::read(node, key, findings).map(|value| At { at: node.at, value })
}

/// Reads a section. `None` if it has no keys at all.
pub(super) fn section<S: Section>(node: &Node, findings: &mut Findings) -> Option<S> {
    let Some(mapping) = node.mapping() else {
        let keys = S::keys();
        let first = S::required().first().or(keys.first()).copied().unwrap_or_default();
        let words = (format!("{} has keys, and none stand here", S::WHAT), format!("{first}: …"));
        findings.error("wrong-type", node.at, words);
        return None;
    };
    let mut section = S::default();
    for entry in &mapping.entries {
        if !section.take(entry, findings) {
            unknown::<S>(entry, findings);
        }
    }
    for key in S::required().iter().filter(|key| node.entry(key).is_none()) {
        let words = (format!("{} needs {key}", S::WHAT), format!("{key}: …"));
        findings.error("missing-key", node.at, words);
    }
    Some(section)
}

fn unknown<S: Section>(entry: &Entry, findings: &mut Findings) {
    let (name, keys) = (&entry.key.name, S::keys());
    let (what, fix) = S::advice(name).unwrap_or_else(|| {
        let fix = match nearest(name, &keys) {
            Some(key) => format!("{key}: …"),
            None => format!("remove it; the keys are {}", keys.join(", ")),
        };
        (format!("{} is no key of {}", printable(name), S::WHAT), fix)
    });
    findings.error("unknown-key", entry.key.at, (what, fix));
}

impl<T: FromNode> FromNode for Vec<At<T>> {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let Some(items) = node.sequence() else {
            let words = (
                format!("{key} is not a list"),
                format!("{key}: and - before each entry, or [ ] around them"),
            );
            findings.error("wrong-type", node.at, words);
            return None;
        };
        let mut read = |item: &Node| Some(At { at: item.at, value: T::read(item, key, findings)? });
        Some(items.iter().filter_map(&mut read).collect())
    }
}

impl<T: FromNode> FromNode for NamedSections<T> {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        let Some(mapping) = node.mapping() else {
            let words = (format!("{key} has no names below it"), format!("{key}: {{NAME: {{…}}}}"));
            findings.error("wrong-type", node.at, words);
            return None;
        };
        let mut read = |entry: &Entry| Some((entry.key.clone(), value(entry, findings)?.value));
        Some(Self(mapping.entries.iter().filter_map(&mut read).collect()))
    }
}

impl<T: FromNode> FromNode for OrNone<T> {
    fn read(node: &Node, key: &str, findings: &mut Findings) -> Option<Self> {
        if node.text() == Some("none") {
            Some(Self::None)
        } else {
            T::read(node, key, findings).map(Self::Some)
        }
    }
}

/// Declares sections. `key (required): Type` must be there; `+ field: Type` are the keys of another section beside its own.
macro_rules! sections {
    ($($(#[doc = $doc:literal])* $name:ident = $what:literal $(advice $advice:path)? {
        $($(#[doc = $help:literal])* $field:ident $(($required:ident))?: $type:ty,)*
        $(+ $more:ident: $other:ty,)?
    })*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default)]
        #[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
        pub(super) struct $name {
            $($(#[doc = $help])* $(#[cfg_attr(test, schemars($required))])? pub(super) $field: Option<$crate::config::keys::At<$type>>,)*
            $(#[cfg_attr(test, schemars(flatten))] pub(super) $more: $other,)?
            /// Keys that stand there with something that was refused.
            #[cfg_attr(test, schemars(skip))]
            pub(super) refused: Vec<&'static str>,
        }

        impl $crate::config::keys::Section for $name {
            const WHAT: &'static str = $what;

            fn keys() -> Vec<&'static str> {
                [$(stringify!($field)),*].into_iter()$(.chain(<$other>::keys()))?.collect()
            }

            fn required() -> Vec<&'static str> {
                let all: &[(&'static str, &[&str])] = &[$((stringify!($field), &[$(stringify!($required))?])),*];
                all.iter().filter(|(_, required)| !required.is_empty()).map(|(key, _)| *key).collect()
            }

            fn take(&mut self, entry: &$crate::document::Entry, findings: &mut $crate::document::Findings) -> bool {
                match entry.key.name.as_str() {
                    $(stringify!($field) => {
                        self.$field = $crate::config::keys::value(entry, findings);
                        if self.$field.is_none() {
                            self.refused.push(stringify!($field));
                        }
                    })*
                    $(_ => return self.$more.take(entry, findings),)?
                    #[allow(unreachable_patterns, reason = "where there are no keys of another section")]
                    _ => return false,
                }
                true
            }

            $(fn advice(key: &str) -> Option<(String, String)> {
                $advice(key)
            })?
        }

        impl $crate::config::keys::FromNode for $name {
            fn read(
                node: &$crate::document::Node,
                _key: &str,
                findings: &mut $crate::document::Findings,
            ) -> Option<Self> {
                $crate::config::keys::section(node, findings)
            }
        }
    )*};
}
pub(super) use sections;
