//! What says that a blob is in a repository, beside the answer to a HEAD. Pure.

use std::collections::HashSet;

use crate::oci::{Digest, Repository};

/// The evidence for the blobs of one mirror.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    proven: HashSet<(Repository, Digest)>,
    inferred: HashSet<(Repository, Digest)>,
    doubts_manifests: bool,
}

impl Evidence {
    /// The mirror has acknowledged a blob in this run, or returned bytes of it.
    pub(crate) fn prove(&mut self, repository: &Repository, digest: Digest) {
        self.proven.insert((repository.clone(), digest));
    }

    /// A manifest that the mirror has names a blob.
    pub(crate) fn infer(&mut self, repository: &Repository, digest: Digest) {
        self.inferred.insert((repository.clone(), digest));
    }

    /// The mirror lacked a blob that it had claimed to have, so it may lack what its manifests name as well.
    pub(crate) fn doubt_manifests(&mut self) {
        self.doubts_manifests = true;
    }

    /// Whether a manifest that is there says that its blobs are.
    pub(crate) fn trusts_manifests(&self) -> bool {
        !self.doubts_manifests
    }

    /// Whether only a manifest says that a blob is there.
    pub(crate) fn is_only_inferred(&self, repository: &Repository, digest: Digest) -> bool {
        self.inferred.contains(&(repository.clone(), digest)) && !self.is_proven(repository, digest)
    }

    /// Whether more than the word of a HEAD says that a blob is there.
    pub(crate) fn is_proven(&self, repository: &Repository, digest: Digest) -> bool {
        self.proven.contains(&(repository.clone(), digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_outweighs_an_inference_and_holds_for_one_repository() {
        let [here, there] = ["here", "there"].map(|name| name.parse::<Repository>().unwrap());
        let blob = Digest::of(b"blob");
        let mut evidence = Evidence::default();
        evidence.infer(&here, blob);
        assert!(evidence.is_only_inferred(&here, blob) && !evidence.is_proven(&here, blob));
        assert!(!evidence.is_only_inferred(&there, blob), "manifests are in one repository");
        evidence.prove(&here, blob);
        assert!(evidence.is_proven(&here, blob) && !evidence.is_only_inferred(&here, blob));
        assert!(!evidence.is_proven(&there, blob));
        assert!(evidence.trusts_manifests());
        evidence.doubt_manifests();
        assert!(!evidence.trusts_manifests() && evidence.is_proven(&here, blob));
    }
}
