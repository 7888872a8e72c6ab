//! Colours by meaning, and text cut or filled to a number of columns. Pure.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What a text means, which is what its colour says besides its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    /// Something is waited for.
    Wait,
    /// It has no news.
    Quiet,
    Plain,
}

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    /// None.
    Plain,
    /// Those of the terminal.
    Colours,
}

impl Palette {
    /// The text in the colour of its meaning.
    pub(crate) fn paint(self, meaning: Tone, text: &str) -> String {
        let code = match (self, meaning) {
            (Self::Plain, _) | (_, Tone::Plain) => return text.to_owned(),
            (Self::Colours, Tone::Good) => "32",
            (Self::Colours, Tone::Bad) => "31",
            (Self::Colours, Tone::Wait) => "33",
            (Self::Colours, Tone::Quiet) => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// The columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most this many columns.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut: String = head(text, columns.saturating_sub(1)).to_owned();
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// The beginning of a text, in at most this many columns.
pub(super) fn head(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, char)| {
        taken += char.width().unwrap_or(0);
        taken > columns
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

/// The end of a text, in at most this many columns.
pub(super) fn tail(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let mut begin = text.len();
    for (at, char) in text.char_indices().rev() {
        taken += char.width().unwrap_or(0);
        if taken > columns {
            break;
        }
        begin = at;
    }
    &text[begin..]
}

/// The text, filled with blanks to this many columns.
pub(super) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_columns_and_not_by_characters() {
        assert_eq!(cut("registry", 8), "registry");
        assert_eq!(cut("registry", 5), "regi…");
        assert_eq!(cut("鏡鏡鏡", 4), "鏡…");
        assert_eq!((head("鏡a", 1), tail("a鏡", 2), tail("a鏡", 1)), ("", "鏡", ""));
        assert_eq!(pad("鏡", 3), "鏡 ");
    }

    #[test]
    fn colours_are_by_meaning_and_none_where_none_are_wanted() {
        assert_eq!(Palette::Colours.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Palette::Plain.paint(Tone::Bad, "x"), "x");
    }
}
