//! The class of a failure, for programs.

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FailureKind {
    /// The command line or a file of the user's is wrong.
    Usage,
    /// No credentials, or refused ones.
    Auth,
    /// The credentials are good, but not for this.
    Denied,
    /// The repository or content is not there.
    NotFound,
    /// No connection to the host can be made.
    Unreachable,
    /// The connection broke.
    Broken,
    /// Nothing moved for too long.
    Stalled,
    /// The other side's identity cannot be proven, or it speaks no TLS.
    Tls,
    /// The other side, or a proxy before it, takes no request that big.
    TooLarge,
    /// The registry refused, is overloaded, or answers what makes no sense.
    Registry,
    /// Content does not have its digest.
    Integrity,
    /// The bundle could not deliver the bytes to send.
    Source,
    /// This machine refuses something.
    Machine,
    /// A bug.
    Internal,
}

impl FailureKind {
    /// Whether the way to the registry is at fault rather than the registry.
    pub(crate) const fn is_network(self) -> bool {
        matches!(self, Self::Unreachable | Self::Broken | Self::Stalled)
    }
}
