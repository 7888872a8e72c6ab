//! Standard input as a bundle. It can be read once and forwards only; `decode` spools it.

use std::io::{IsTerminal, Read};

use crate::error::{BundleError, Fault};

/// Standard input, for a bundle given as `-`.
///
/// # Errors
/// [`Fault::Io`] when it is a terminal: nobody types a bundle.
pub(crate) fn stdin() -> Result<impl Read + Send + 'static, BundleError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(BundleError::new(Fault::Io, "is a terminal, not a bundle")
            .at("standard input")
            .hint("redirect a file or a pipe to it"));
    }
    Ok(stdin)
}
