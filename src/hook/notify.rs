//! Tells somebody that a run has ended, and how: a command gets the report on its standard input, a URL gets it by POST.
//!
//! That nobody could be told is worth a note; the run is what it was.

#[cfg(test)]
mod tests;

use std::error::Error as _;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::{Client, Url, redirect};
use tokio_util::sync::CancellationToken;

use super::Hook;
use crate::program::STOPPED;

/// How long it may take to tell.
const LIMIT: Duration = Duration::from_secs(30);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("layercast/", env!("CARGO_PKG_VERSION")));

/// Whom to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notify {
    /// A line for the shell.
    Command(Hook),
    /// A URL. Its path and query may be secret, as those of chat programs are: only its host is shown.
    Url(Url),
}

impl FromStr for Notify {
    type Err = String;

    /// What `text` names: a URL with `https://` or `http://`, in whatever case and with blanks around it, else a command.
    ///
    /// # Errors
    /// Why it is no URL. The message has nothing of it, because it may be secret.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let starts =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if !starts("https://") && !starts("http://") {
            return Ok(Self::Command(Hook::new(text, LIMIT)));
        }
        let url = Url::parse(text).map_err(|error| format!("it is no URL: {error}"))?;
        if url.host_str().is_none() {
            return Err("it is a URL without a host".to_owned());
        }
        Ok(Self::Url(url))
    }
}

impl Notify {
    /// Tells that the run with this report, a JSON document, has ended this way, unless it is told to stop. Needs a runtime.
    ///
    /// # Errors
    /// Why nobody was told, for people.
    pub(crate) async fn tell(
        &self,
        report: Vec<u8>,
        exit_code: u8,
        cancel: &CancellationToken,
    ) -> Result<(), String> {
        match self {
            Self::Command(hook) => {
                let variables = vec![("LAYERCAST_EXIT_CODE", exit_code.to_string())];
                let finished = hook.run(variables, report, cancel).await?;
                if finished.status.success() { Ok(()) } else { Err(finished.failure_with_output()) }
            }
            Self::Url(url) => {
                let told = cancel.run_until_cancelled(post(url.clone(), report)).await;
                told.unwrap_or_else(|| Err(STOPPED.to_owned()))
            }
        }
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(hook) => write!(f, "{}", hook.command),
            Self::Url(url) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
            }
        }
    }
}

async fn post(url: Url, report: Vec<u8>) -> Result<(), String> {
    // What a redirect would be told is not for us to say.
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(LIMIT).build();
    let client = client.map_err(|error| format!("the HTTP client cannot be set up: {error}"))?;
    let request = client.post(url).header(CONTENT_TYPE, "application/json").header(USER_AGENT, AGENT);
    let answer = request.body(report).send().await.map_err(|error| {
        // Without the address, which may be secret.
        let error = error.without_url();
        error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
    })?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}
