//! Patterns of `--include` and `--exclude`: shell globs over whole names, in which `*` matches `/` too.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns of one flag, in the order in which they were given.
#[derive(Debug, Default)]
pub struct Patterns {
    texts: Vec<String>,
    set: GlobSet,
}

/// Patterns of the same texts match the same names.
impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Patterns {
    /// These patterns.
    ///
    /// # Errors
    /// The first that is no pattern.
    pub(crate) fn new<T: AsRef<str>>(texts: &[T]) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for text in texts {
            set.add(GlobBuilder::new(text.as_ref()).literal_separator(false).build()?);
        }
        Ok(Self { texts: texts.iter().map(|text| text.as_ref().to_owned()).collect(), set: set.build()? })
    }

    /// As they were given.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether one of them matches a name.
    pub(crate) fn is_match(&self, name: &str) -> bool {
        self.set.is_match(name)
    }

    /// Those that match none of these names: likely typing mistakes.
    pub(super) fn idle<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<&str> {
        let mut idle = vec![true; self.texts.len()];
        for name in names {
            self.set.matches(name).into_iter().for_each(|at| idle[at] = false);
        }
        self.texts.iter().zip(idle).filter(|(_, idle)| *idle).map(|(text, _)| text.as_str()).collect()
    }
}
