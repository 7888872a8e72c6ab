//! One PATCH with all bytes and a PUT that commits them: what every registry understands.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::{Upload, UploadSession};
use crate::registry::Registry;
use crate::registry::client::ApiRequest;
use crate::registry::error::RegistryError;
use crate::registry::retry::Replay;
use crate::registry::transport::Payload;

impl Registry {
    pub(super) async fn send_stream(
        &self,
        upload: &Upload<'_>,
        session: &mut UploadSession,
    ) -> Result<(), RegistryError> {
        let request = ApiRequest::new(Method::PATCH, session.location()?)
            .header(CONTENT_TYPE, "application/octet-stream")
            .payload(upload.payload(), Replay::Never);
        let reply = self.call(upload.repository, &request).await?;
        if let Some(next) = self.location(&request, &reply)? {
            session.goes_on_at(&next);
        }
        match self.commit(upload, session, Payload::Empty).await {
            // The bytes are all there: once more is cheap, unless it came true already.
            Err(error) if error.is_retryable() => {
                if self.is_there_after(upload, &error).await? {
                    return Ok(());
                }
                self.commit(upload, session, Payload::Empty).await
            }
            outcome => outcome,
        }
    }
}
