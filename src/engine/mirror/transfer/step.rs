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
pub(crate) enum BlobPresence {
    Nothing,
    /// The blob.
    Blob,
    /// Something of another size, which is not this blob.
    OtherSize(u64),
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlobStep {
    /// Nothing: the repository has the blob.
    Known,
    /// Take it over from another repository of the mirror.
    Mount(Repository),
    /// Take it over from a repository of another mirror on the same host.
    Borrow(Repository),
    /// Ask whether the repository has it.
    Ask,
    /// Send it.
    Upload,
}

impl BlobStep {
    /// The step of a blob that is known to be in `known_in`, or `elsewhere` on the host, and that the repository was found to
    /// hold as `held`, if it was asked. Not every registry mounts; one that `declined` may have the blob here all the same.
    pub(crate) fn next(
        repository: &Repository,
        known_in: &[Repository],
        elsewhere: Option<&Repository>,
        trust: Trust,
        declined: bool,
        held: Option<BlobPresence>,
    ) -> Self {
        if trust == Trust::Nothing {
            return Self::Upload;
        }
        if held == Some(BlobPresence::Blob) || known_in.contains(repository) {
            return Self::Known;
        }
        match (known_in.first().filter(|_| !declined), elsewhere.filter(|_| !declined)) {
            (Some(from), _) => Self::Mount(from.clone()),
            (None, Some(from)) => Self::Borrow(from.clone()),
            (None, None) if held.is_none() => Self::Ask,
            (None, None) => Self::Upload,
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
        let mount = || BlobStep::Mount(there.clone());
        for (known_in, trust, declined, held, step) in [
            (&in_here[..], Trust::Mirror, false, None, BlobStep::Known),
            (&elsewhere, Trust::Mirror, false, None, mount()),
            (&elsewhere, Trust::Mirror, false, Some(BlobPresence::Nothing), mount()),
            (&elsewhere, Trust::Mirror, false, Some(BlobPresence::Blob), BlobStep::Known),
            (&elsewhere, Trust::Mirror, true, None, BlobStep::Ask),
            (&elsewhere, Trust::Mirror, true, Some(BlobPresence::Nothing), BlobStep::Upload),
            (&nowhere, Trust::Mirror, false, None, BlobStep::Ask),
            (&nowhere, Trust::Mirror, false, Some(BlobPresence::Nothing), BlobStep::Upload),
            (&nowhere, Trust::Mirror, false, Some(BlobPresence::OtherSize(3)), BlobStep::Upload),
            (&in_here, Trust::Nothing, false, Some(BlobPresence::Blob), BlobStep::Upload),
        ] {
            let next = BlobStep::next(&here, known_in, None, trust, declined, held);
            assert_eq!(next, step, "{known_in:?} {trust:?} {declined} {held:?}");
        }
    }

    #[test]
    fn a_repository_of_another_mirror_comes_after_the_own_ones_and_before_the_question() {
        let [here, there, other] = ["here", "there", "other"].map(|name| name.parse::<Repository>().unwrap());
        let next = |known_in: &[Repository], trust, declined| {
            BlobStep::next(&here, known_in, Some(&other), trust, declined, None)
        };
        assert_eq!(next(&[], Trust::Mirror, false), BlobStep::Borrow(other.clone()));
        assert_eq!(next(&[], Trust::Mirror, true), BlobStep::Ask);
        assert_eq!(next(&[], Trust::Nothing, false), BlobStep::Upload);
        assert_eq!(next(std::slice::from_ref(&there), Trust::Mirror, false), BlobStep::Mount(there.clone()));
        assert_eq!(next(std::slice::from_ref(&here), Trust::Mirror, false), BlobStep::Known);
    }
}
