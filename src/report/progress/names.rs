//! Long names in few columns, cut where they do not differ. Pure.

use std::collections::HashSet;

use super::style::{head, tail, width};

/// How much of a short name is from the beginning of the long one, in quarters, as long as the short ones differ.
const HEADS: [usize; 5] = [2, 1, 3, 0, 4];

/// The names in at most `columns` columns each. They are cut in the middle, and where that makes two alike, before and after the
/// first place where they differ.
pub(super) fn shortened(names: &[&str], columns: usize) -> Vec<String> {
    let cut = |quarters: usize| -> Vec<String> {
        names.iter().map(|name| in_the_middle(name, columns, quarters)).collect()
    };
    let distinct = |names: &[String]| names.iter().collect::<HashSet<_>>().len();
    let different = names.iter().collect::<HashSet<_>>().len();
    let mut ways = HEADS.into_iter().map(cut);
    if let Some(good) = ways.find(|way| distinct(way) == different) {
        return good;
    }
    let common = common_prefix(names);
    names
        .iter()
        .map(|name| match name.get(common..).filter(|_| common > 1 && width(name) > columns) {
            Some(rest) => format!("…{}", head(rest, columns.saturating_sub(1))),
            None => in_the_middle(name, columns, HEADS[0]),
        })
        .collect()
}

fn in_the_middle(name: &str, columns: usize, quarters: usize) -> String {
    if width(name) <= columns {
        return name.to_owned();
    }
    let kept = columns.saturating_sub(1);
    let first = kept * quarters / 4;
    format!("{}…{}", head(name, first), tail(name, kept - first))
}

/// The bytes that all names begin with.
fn common_prefix(names: &[&str]) -> usize {
    let Some((first, others)) = names.split_first() else { return 0 };
    let common = |other: &&str| {
        let pairs = first.char_indices().zip(other.chars());
        pairs.take_while(|((_, a), b)| a == b).last().map_or(0, |((at, char), _)| at + char.len_utf8())
    };
    others.iter().map(common).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_stay_and_long_ones_lose_their_middle() {
        assert_eq!(shortened(&["berlin", "lyon"], 10), ["berlin", "lyon"]);
        assert_eq!(shortened(&["registry.berlin.example:5000/anthos"], 13), ["regist…anthos"]);
    }

    #[test]
    fn similar_names_keep_what_differs() {
        let sites = |middle: &str| format!("registry.{middle}.example.com:5000/anthos/mirror");
        let names: Vec<String> = ["berlin-1", "berlin-2", "lyon-1"].map(sites).to_vec();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let short = shortened(&names, 18);
        assert_eq!(short.iter().collect::<HashSet<_>>().len(), 3, "{short:?}");
        assert!(short.iter().all(|name| width(name) <= 18), "{short:?}");
        let ends = shortened(&["registry.example:5000/site-01", "registry.example:5000/site-02"], 12);
        assert_eq!(ends, ["regis…ite-01", "regis…ite-02"]);
    }
}
