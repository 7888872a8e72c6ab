//! Whether a DaemonSet runs everywhere, by the rule of `kubectl rollout status`
//! ([rollout_status.go](https://github.com/kubernetes/kubectl/blob/master/pkg/polymorphichelpers/rollout_status.go)). Pure.

use serde_json::Value;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RolloutProgress {
    /// The controller has not seen the change yet.
    Unseen,
    /// Nodes that have it, of how many.
    Going(u64, u64),
    /// On that many nodes.
    CarriedOut(u64),
}

pub(super) fn progress(object: &Value) -> RolloutProgress {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let status = &object["status"];
    if status["observedGeneration"].is_null()
        || number(&status["observedGeneration"]) < number(&object["metadata"]["generation"])
    {
        return RolloutProgress::Unseen;
    }
    let desired = number(&status["desiredNumberScheduled"]);
    let have = number(&status["updatedNumberScheduled"]).min(number(&status["numberAvailable"]));
    if have < desired { RolloutProgress::Going(have, desired) } else { RolloutProgress::CarriedOut(desired) }
}
