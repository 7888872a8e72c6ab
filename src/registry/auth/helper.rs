//! Credential helpers: the programs `docker-credential-NAME`
//! ([protocol](https://github.com/docker/docker-credential-helpers#development)).

use std::process::Command;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::Proof;
use crate::program::{self, Keep, Terms};

const TIMEOUT: Duration = Duration::from_secs(10);
/// The limit on the output of a helper: a secret, or an error.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The answer of a helper.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: SecretString,
}

/// The name of the program.
pub(super) fn label(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// Asks for the credential of `server`. Returns `None` if the helper has none.
///
/// # Errors
/// Why it did not answer, with the end of its output.
pub(super) fn ask(helper: &str, server: &str) -> Result<Option<Proof>, String> {
    use secrecy::ExposeSecret as _;
    if helper.contains(['/', '\\', '\0']) {
        return Err("that is not the name of a credential helper".to_owned());
    }
    let terms = Terms::new(program::patience(TIMEOUT), Keep::AtMost(MAX_ANSWER_BYTES));
    let finished = program::run(Command::new(label(helper)).arg("get"), server.as_bytes(), &terms)?;
    if !finished.status.success() {
        return if has_nothing(&finished.stdout) { Ok(None) } else { Err(finished.failure_with_output()) };
    }
    // The text of the parser's error may quote a secret.
    let answer: HelperAnswer = serde_json::from_slice(&finished.stdout)
        .map_err(|_| "what it answered is not the JSON of a credential helper".to_owned())?;
    Ok(match (answer.username.as_str(), answer.secret.expose_secret()) {
        (_, "") => None,
        ("<token>", _) => Some(Proof::IdentityToken(answer.secret)),
        _ => Some(Proof::Password { user: answer.username, password: answer.secret }),
    })
}

/// The words of the protocol for "not found", which all helpers share.
fn has_nothing(stdout: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stdout);
    ["credentials not found", "no credentials server URL", "no credentials username"]
        .iter()
        .any(|words| text.contains(words))
}
