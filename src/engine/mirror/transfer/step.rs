//! The steps of a blob into a repository: known → mount → ask → upload. Pure.

use crate::oci::Repository;

/// Whether the mirror is asked for a blob before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// What is known counts, and what is not known is asked.
    Mirror,
    /// The mirror was wrong about this blob: it is sent.
    Nothing,
}

/// What a repository has under the digest of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    /// The blob.
    Blob,
    /// Something of another size, which is not this blob.
    OtherSize(u64),
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: the repository has the blob.
    Known,
    /// Take it over from another repository of the mirror.
    Mount(Repository),
    /// Ask whether the repository has it.
    Ask,
    /// Send it.
    Upload,
}

impl Step {
    /// The step of a blob that is known to be in `known_in`, and that the repository was found to hold as `held`, if it was
    /// asked. Not every registry mounts; one that `declined` may have the blob here all the same.
    pub(crate) fn next(
        repository: &Repository,
        known_in: &[Repository],
        trust: Trust,
        declined: bool,
        held: Option<Held>,
    ) -> Self {
        if trust == Trust::Nothing {
            return Self::Upload;
        }
        if held == Some(Held::Blob) || known_in.contains(repository) {
            return Self::Known;
        }
        match known_in.first().filter(|_| !declined) {
            Some(from) => Self::Mount(from.clone()),
            None if held.is_none() => Self::Ask,
            None => Self::Upload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let [here, there] = ["here", "there"].map(|name| name.parse::<Repository>().unwrap());
        let (nowhere, in_here, elsewhere) = ([], [there.clone(), here.clone()], [there.clone()]);
        let mount = || Step::Mount(there.clone());
        for (known_in, trust, declined, held, step) in [
            (&in_here[..], Trust::Mirror, false, None, Step::Known),
            (&elsewhere, Trust::Mirror, false, None, mount()),
            (&elsewhere, Trust::Mirror, false, Some(Held::Nothing), mount()),
            (&elsewhere, Trust::Mirror, false, Some(Held::Blob), Step::Known),
            (&elsewhere, Trust::Mirror, true, None, Step::Ask),
            (&elsewhere, Trust::Mirror, true, Some(Held::Nothing), Step::Upload),
            (&nowhere, Trust::Mirror, false, None, Step::Ask),
            (&nowhere, Trust::Mirror, false, Some(Held::Nothing), Step::Upload),
            (&nowhere, Trust::Mirror, false, Some(Held::OtherSize(3)), Step::Upload),
            (&in_here, Trust::Nothing, false, Some(Held::Blob), Step::Upload),
        ] {
            let next = Step::next(&here, known_in, trust, declined, held);
            assert_eq!(next, step, "{known_in:?} {trust:?} {declined} {held:?}");
        }
    }
}
