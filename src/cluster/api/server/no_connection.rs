//! What stands in for the connection where the feature `kube` is not built in.

use std::path::Path;

use super::{Answer, ApiFailure, Broken, Request};

/// There is none.
#[derive(Debug)]
pub(super) enum Client {}

#[expect(clippy::unused_async, reason = "as the other one")]
pub(super) async fn new(_: &Path) -> Result<(Client, String), ApiFailure> {
    Err(ApiFailure::NotBuilt)
}

#[expect(clippy::unused_async, reason = "as the other one")]
pub(super) async fn send(client: &Client, _: Request) -> Result<Answer, Broken> {
    match *client {}
}
