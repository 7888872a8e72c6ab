//! What an upload has been through, and what follows from its next failure. Pure.

use crate::registry::cause::Cause;
use crate::registry::retry::RetryPolicy;

/// How often a blob is sent of which something else arrived.
const MANGLED_RESTARTS: u32 = 2;

/// What follows a failed request of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadDecision {
    /// The session goes on, at its present offset.
    Resume,
    /// A new session from the first byte, after a pause.
    Restart,
    /// A new session with the other method.
    SwitchMethod,
    /// The upload fails.
    GiveUp,
}

/// The failures of one upload since it last made progress.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UploadFailures {
    /// Connections that broke or stalled.
    pub(super) broken: u32,
    /// Answers that said "not now".
    pub(super) refused: u32,
    /// Answers that said that what arrived is not the blob.
    pub(super) mangled: u32,
    /// Whether both methods have been used.
    pub(super) switched: bool,
    /// How many bytes the registry had kept when the failures were last counted anew.
    pub(super) kept_bytes: u64,
}

impl UploadFailures {
    /// Whether nothing failed since the upload last made progress.
    pub(super) const fn has_none(&self) -> bool {
        self.broken == 0 && self.refused == 0 && self.mangled == 0
    }

    /// Counts a failure of an upload whose blob is not there, and whose session does not go on.
    pub(super) fn decide(&mut self, cause: &Cause, policy: &RetryPolicy) -> UploadDecision {
        let (count, limit) = match cause {
            Cause::Broken(_) | Cause::NotHttp(_) | Cause::Stalled(_) | Cause::TooSlow { .. } => {
                (&mut self.broken, policy.restarts)
            }
            Cause::Answer(refusal)
                if refusal.has_code("DIGEST_INVALID") || refusal.has_code("SIZE_INVALID") =>
            {
                (&mut self.mangled, MANGLED_RESTARTS)
            }
            // The session is gone. That says nothing of the method, unless it happens again.
            Cause::Answer(refusal) if refusal.has_code("BLOB_UPLOAD_UNKNOWN") && self.broken == 0 => {
                (&mut self.broken, policy.restarts)
            }
            Cause::Answer(refusal) if refusal.is_transient() => {
                (&mut self.refused, policy.attempts_for(cause))
            }
            Cause::Answer(refusal)
                if matches!(refusal.status, 400 | 404 | 405 | 411 | 413 | 415 | 416 | 501)
                    && !self.switched =>
            {
                self.switched = true;
                return UploadDecision::SwitchMethod;
            }
            // Nothing is there of what was taken: the other method may end in another way.
            Cause::NotStored { .. } if !self.switched => {
                self.switched = true;
                return UploadDecision::SwitchMethod;
            }
            // Both methods have been used, so the session is to blame.
            Cause::Answer(refusal) if refusal.status == 404 => (&mut self.broken, policy.restarts),
            _ => return UploadDecision::GiveUp,
        };
        *count += 1;
        if *count <= limit { UploadDecision::Restart } else { UploadDecision::GiveUp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::error_response::ErrorResponse;

    fn answered(status: u16, body: &str) -> Cause {
        Cause::Answer(ErrorResponse::new(status, None, body.as_bytes(), str::to_owned))
    }

    #[test]
    fn an_upload_restarts_switches_and_gives_up() {
        use UploadDecision::{GiveUp, Restart, SwitchMethod};
        let policy = RetryPolicy::default();
        let run = |causes: &[Cause]| {
            let mut failures = UploadFailures::default();
            causes.iter().map(|cause| failures.decide(cause, &policy)).collect::<Vec<_>>()
        };
        let broken = Cause::Broken(String::new());
        assert_eq!(run(&vec![broken; 4]), [Restart, Restart, Restart, GiveUp]);
        assert_eq!(run(&[answered(413, ""), answered(413, "")]), [SwitchMethod, GiveUp]);
        let lost = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#;
        assert_eq!(run(&vec![answered(404, lost); 5]), [Restart, SwitchMethod, Restart, Restart, GiveUp]);
        let mangled = r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#;
        assert_eq!(run(&vec![answered(400, mangled); 3]), [Restart, Restart, GiveUp]);
        assert_eq!(run(&[answered(403, "")]), [GiveUp]);
        assert_eq!(run(&vec![answered(503, ""); 9])[7..], [Restart, GiveUp]);
        assert_eq!(run(&vec![answered(500, ""); 5])[3..], [Restart, GiveUp]);
    }
}
