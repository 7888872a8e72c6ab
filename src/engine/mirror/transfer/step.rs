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
    MountFromOtherMirror(Repository),
    /// Ask whether the repository has it.
    Ask,
    /// Send it.
    Upload,
}

/// How far a blob has come on its way into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobProgress {
    trust: Trust,
    /// What the repository was found to have, if it was asked.
    presence: Option<BlobPresence>,
    /// Not every registry mounts.
    mount_declined: bool,
}

impl BlobProgress {
    /// Of a blob that the repository was found to have, if it was asked ahead.
    pub(crate) fn new(trust: Trust, presence: Option<BlobPresence>) -> Self {
        Self { trust, presence, mount_declined: false }
    }

    /// The repository was asked.
    pub(crate) fn found(&mut self, presence: BlobPresence) {
        self.presence = Some(presence);
    }

    /// The registry did not mount it. It may have the blob here all the same.
    pub(crate) fn mount_was_declined(&mut self) {
        self.mount_declined = true;
    }

    /// The bytes of what was there in its place.
    pub(crate) fn other_size(&self) -> Option<u64> {
        match self.presence {
            Some(BlobPresence::OtherSize(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The next step of a blob that is known to be in `known_in`, or in a repository of another mirror on the host.
    pub(crate) fn next(
        &self,
        repository: &Repository,
        known_in: &[Repository],
        other_mirror: Option<&Repository>,
    ) -> BlobStep {
        if self.trust == Trust::Nothing {
            return BlobStep::Upload;
        }
        if self.presence == Some(BlobPresence::Blob) || known_in.contains(repository) {
            return BlobStep::Known;
        }
        let may_mount = |_: &&Repository| !self.mount_declined;
        match (known_in.first().filter(may_mount), other_mirror.filter(may_mount)) {
            (Some(from), _) => BlobStep::Mount(from.clone()),
            (None, Some(from)) => BlobStep::MountFromOtherMirror(from.clone()),
            (None, None) if self.presence.is_none() => BlobStep::Ask,
            (None, None) => BlobStep::Upload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let [here, there] = ["here", "there"].map(|name| name.parse::<Repository>().unwrap());
        let (nowhere, in_here, in_there) = ([], [there.clone(), here.clone()], [there.clone()]);
        let mount = || BlobStep::Mount(there.clone());
        for (known_in, trust, mount_declined, presence, step) in [
            (&in_here[..], Trust::Mirror, false, None, BlobStep::Known),
            (&in_there, Trust::Mirror, false, None, mount()),
            (&in_there, Trust::Mirror, false, Some(BlobPresence::Nothing), mount()),
            (&in_there, Trust::Mirror, false, Some(BlobPresence::Blob), BlobStep::Known),
            (&in_there, Trust::Mirror, true, None, BlobStep::Ask),
            (&in_there, Trust::Mirror, true, Some(BlobPresence::Nothing), BlobStep::Upload),
            (&nowhere, Trust::Mirror, false, None, BlobStep::Ask),
            (&nowhere, Trust::Mirror, false, Some(BlobPresence::Nothing), BlobStep::Upload),
            (&nowhere, Trust::Mirror, false, Some(BlobPresence::OtherSize(3)), BlobStep::Upload),
            (&in_here, Trust::Nothing, false, Some(BlobPresence::Blob), BlobStep::Upload),
        ] {
            let progress = BlobProgress { trust, presence, mount_declined };
            assert_eq!(progress.next(&here, known_in, None), step, "{known_in:?} {progress:?}");
        }
    }

    #[test]
    fn a_blob_goes_from_a_declined_mount_over_the_question_to_the_upload() {
        let [here, there] = ["here", "there"].map(|name| name.parse::<Repository>().unwrap());
        let mut progress = BlobProgress::new(Trust::Mirror, None);
        let next = |progress: BlobProgress| progress.next(&here, std::slice::from_ref(&there), None);
        assert_eq!(next(progress), BlobStep::Mount(there.clone()));
        progress.mount_was_declined();
        assert_eq!(next(progress), BlobStep::Ask);
        progress.found(BlobPresence::OtherSize(3));
        assert_eq!((next(progress), progress.other_size()), (BlobStep::Upload, Some(3)));
        progress.found(BlobPresence::Blob);
        assert_eq!((next(progress), progress.other_size()), (BlobStep::Known, None));
    }

    #[test]
    fn a_repository_of_another_mirror_comes_after_the_own_ones_and_before_the_question() {
        let [here, there, other] = ["here", "there", "other"].map(|name| name.parse::<Repository>().unwrap());
        let next = |known_in: &[Repository], trust, mount_declined| {
            BlobProgress { trust, presence: None, mount_declined }.next(&here, known_in, Some(&other))
        };
        assert_eq!(next(&[], Trust::Mirror, false), BlobStep::MountFromOtherMirror(other.clone()));
        assert_eq!(next(&[], Trust::Mirror, true), BlobStep::Ask);
        assert_eq!(next(&[], Trust::Nothing, false), BlobStep::Upload);
        assert_eq!(next(std::slice::from_ref(&there), Trust::Mirror, false), BlobStep::Mount(there.clone()));
        assert_eq!(next(std::slice::from_ref(&here), Trust::Mirror, false), BlobStep::Known);
    }
}
