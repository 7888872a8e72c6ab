//! Keys of tables below `registry`.

use super::{SetFindings, is_rancher};
use crate::document::nearest;
use crate::node::containerd::Branch;

/// Keys that containerd does not know. Tells whether there is one.
pub(super) fn unknown(findings: &mut SetFindings<'_>, table: &[Branch], known: &[&str], place: &str) -> bool {
    let mut found = false;
    for branch in table.iter().filter(|branch| !known.contains(&branch.name.as_str())) {
        // The containerd of k3s and RKE2 knows one more.
        if branch.name == "rewrite" && is_rancher(&findings.set.files[branch.at.file]) {
            continue;
        }
        found = true;
        let meant =
            nearest(&branch.name, known).map(|key| format!(": did you mean {key}?")).unwrap_or_default();
        let words = [
            format!("{place} has no key {:?}", branch.name),
            "it is passed over without a word, and what it was to say is not said".to_owned(),
            format!("known are {}{meant}", known.join(", ")),
        ];
        findings.error("unknown-key", branch.at, words);
    }
    found
}
