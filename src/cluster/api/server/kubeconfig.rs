//! The file that says where an API server is and how to log in. What it holds, and what the programs say that it names to
//! log in with, is never shown: there may be tokens in it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use hyper_util::client::proxy::matcher::Matcher;
use kube::client::AuthError;
use kube::config::{AuthInfo, ExecInteractiveMode, KubeConfigOptions, Kubeconfig, KubeconfigError};
use secrecy::{ExposeSecret as _, SecretString};

use super::ApiFailure;
use super::causes::causes;
use crate::small_file;

/// A token has a few KiB.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// How a kubeconfig logs in, as far as errors tell of it.
#[derive(Debug)]
pub(super) struct Login {
    path: PathBuf,
    program: String,
}

/// Reads the file, and makes sure that what it names is there.
pub(super) async fn read(path: &Path) -> Result<(kube::Config, Login), ApiFailure> {
    let file = Kubeconfig::read_from(path).map_err(|error| unread(path, &error))?;
    let names_proxy = names_proxy(&file);
    let authority = cluster(&file).and_then(|cluster| {
        let inline = cluster.certificate_authority_data.is_some();
        cluster.certificate_authority.clone().filter(|_| !inline)
    });
    is_readable(path, "certificate-authority", authority.as_deref())?;
    if let Some(user) = user(&file) {
        let certificate =
            user.client_certificate.as_deref().filter(|_| user.client_certificate_data.is_none());
        is_readable(path, "client-certificate", certificate)?;
        let key = user.client_key.as_deref().filter(|_| user.client_key_data.is_none());
        is_readable(path, "client-key", key)?;
    }
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| unread(path, &error))?;
    // Of a proxy of the environment, kube 5.0 asks NO_PROXY about the proxy's own address and not the server's.
    if !names_proxy && Matcher::from_env().intercept(&config.cluster_url).is_none() {
        config.proxy_url = None;
    }
    trim_token(path, &mut config.auth_info)?;
    if let Some(exec) = &mut config.auth_info.exec
        && exec.interactive_mode != Some(ExecInteractiveMode::Always)
        && !std::io::stdin().is_terminal()
    {
        // Nobody is there to answer, and what it says would stand in the log of a job.
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    let login = Login { path: path.to_owned(), program: program(&config.auth_info) };
    Ok((config, login))
}

impl Login {
    /// What an error means that came up when logging in was made ready or done.
    pub(super) fn failure(&self, error: &(dyn std::error::Error + 'static)) -> ApiFailure {
        let program = &self.program;
        let text = match auth(error) {
            // Its arguments may hold secrets, and so may what it wrote.
            Some(AuthError::AuthExecRun { out, .. }) => {
                format!("its program to log in, {program}, ended with {}", out.status)
            }
            Some(AuthError::AuthExecStart(error)) => {
                format!("its program to log in, {program}, cannot be started: {error}")
            }
            Some(
                AuthError::AuthExecParse(_)
                | AuthError::ParseTokenKey(_)
                | AuthError::ExecPluginFailed
                | AuthError::MalformedTokenExpirationDate(_),
            ) => format!("its program to log in, {program}, wrote something that is no ExecCredential"),
            _ if is_about_proxy(error) => {
                "its proxy-url, or that of the environment, is of a kind that is not supported".to_owned()
            }
            _ => chain(error),
        };
        ApiFailure::Kubeconfig(format!("{}: {text}", self.path.display()))
    }
}

/// What went wrong with logging in, if it was that.
pub(super) fn auth<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a AuthError> {
    causes(error).find_map(|cause| cause.downcast_ref::<AuthError>())
}

/// Its text would hold the address with the password in it.
fn is_about_proxy(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| {
        matches!(
            cause.downcast_ref::<kube::Error>(),
            Some(kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. })
        )
    })
}

/// An error with all its causes: the last of them is the one that helps.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

fn unread(path: &Path, error: &KubeconfigError) -> ApiFailure {
    let text = match error {
        // It would quote the lines around, with the token that stands there.
        KubeconfigError::Parse(error) => match error.location() {
            Some(place) => format!("line {} column {}: it is no kubeconfig", place.line(), place.column()),
            None => "it is no kubeconfig".to_owned(),
        },
        other => chain(other),
    };
    ApiFailure::Kubeconfig(format!("{}: {text}", path.display()))
}

/// Files that are named and missing would show as a refusal of the server, or not at all.
fn is_readable(kubeconfig: &Path, field: &str, named: Option<&str>) -> Result<(), ApiFailure> {
    named.filter(|named| !named.is_empty()).map_or(Ok(()), |named| {
        std::fs::File::open(named).map(drop).map_err(|error| cannot_read(kubeconfig, field, named, &error))
    })
}

fn cannot_read(kubeconfig: &Path, field: &str, named: &str, error: &std::io::Error) -> ApiFailure {
    ApiFailure::Kubeconfig(format!("{}: its {field} {named} cannot be read: {error}", kubeconfig.display()))
}

/// Editors end files with a line feed, which no header can have. A file without one is left to be read again when the
/// token in it is replaced.
fn trim_token(kubeconfig: &Path, user: &mut AuthInfo) -> Result<(), ApiFailure> {
    let Some(file) = user.token_file.as_deref().filter(|_| user.token.is_none()) else { return Ok(()) };
    let text = small_file::read_text(Path::new(file), MAX_TOKEN_BYTES).map(SecretString::from);
    let text = text.map_err(|error| cannot_read(kubeconfig, "tokenFile", file, &error))?;
    let token = text.expose_secret().trim();
    if token.len() != text.expose_secret().len() {
        user.token = Some(SecretString::from(token));
    }
    Ok(())
}

/// The name alone of the program that is run to log in.
fn program(user: &AuthInfo) -> String {
    let command = user.exec.as_ref().and_then(|exec| exec.command.as_deref());
    let helper = user.auth_provider.as_ref();
    let helper = helper.map(|helper| helper.config.get("cmd-path").unwrap_or(&helper.name).as_str());
    let command = helper.or(command).unwrap_or("(none)");
    let name = Path::new(command).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| command.to_owned())
}

fn context(file: &Kubeconfig) -> Option<&kube::config::Context> {
    let context = file.contexts.iter().find(|known| Some(&known.name) == file.current_context.as_ref());
    context.and_then(|named| named.context.as_ref())
}

fn cluster(file: &Kubeconfig) -> Option<&kube::config::Cluster> {
    let name = &context(file)?.cluster;
    file.clusters.iter().find(|known| known.name == *name)?.cluster.as_ref()
}

fn user(file: &Kubeconfig) -> Option<&AuthInfo> {
    let name = context(file)?.user.as_ref()?;
    file.auth_infos.iter().find(|known| known.name == *name)?.auth_info.as_ref()
}

/// Whether the current context's cluster has a proxy of its own, which the environment does not overrule.
fn names_proxy(file: &Kubeconfig) -> bool {
    let proxy = cluster(file).and_then(|cluster| cluster.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}
