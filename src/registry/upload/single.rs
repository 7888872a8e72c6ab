//! One PUT with all bytes, which also commits them: two requests with the one that opened the session.

use super::{Upload, UploadSession};
use crate::registry::Registry;
use crate::registry::error::RegistryError;

impl Registry {
    pub(super) async fn send_single(
        &self,
        upload: &Upload<'_>,
        session: &UploadSession,
    ) -> Result<(), RegistryError> {
        self.commit(upload, session, upload.payload()).await
    }
}
