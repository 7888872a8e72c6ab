//! The file that says where an API server is and how to log in.

use std::path::{Path, PathBuf};

use hyper_util::client::proxy::matcher::Matcher;
use kube::client::AuthError;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::Failure;
use super::connection::causes;

/// Which kubeconfig it is, for errors that tell of it.
#[derive(Debug)]
pub(super) struct Login {
    path: PathBuf,
}

/// Reads the file.
pub(super) async fn read(path: &Path) -> Result<(kube::Config, Login), Failure> {
    let login = Login { path: path.to_owned() };
    let file = Kubeconfig::read_from(path).map_err(|error| login.failure(&error))?;
    let names_proxy = names_proxy(&file);
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| login.failure(&error))?;
    // Of a proxy of the environment, kube 5.0 asks NO_PROXY about the proxy's own address and not the server's.
    if !names_proxy && Matcher::from_env().intercept(&config.cluster_url).is_none() {
        config.proxy_url = None;
    }
    Ok((config, login))
}

impl Login {
    /// What an error means that came up when logging in was made ready or done.
    pub(super) fn failure(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        Failure::Kubeconfig(format!("{}: {}", self.path.display(), chain(error)))
    }
}

/// What went wrong with logging in, if it was that.
pub(super) fn auth<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a AuthError> {
    causes(error).find_map(|cause| cause.downcast_ref::<AuthError>())
}

/// An error with all its causes: the last of them is the one that helps.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

fn context(file: &Kubeconfig) -> Option<&kube::config::Context> {
    let context = file.contexts.iter().find(|known| Some(&known.name) == file.current_context.as_ref());
    context.and_then(|named| named.context.as_ref())
}

fn cluster(file: &Kubeconfig) -> Option<&kube::config::Cluster> {
    let name = &context(file)?.cluster;
    file.clusters.iter().find(|known| known.name == *name)?.cluster.as_ref()
}

/// Whether the current context's cluster has a proxy of its own, which the environment does not overrule.
fn names_proxy(file: &Kubeconfig) -> bool {
    let proxy = cluster(file).and_then(|cluster| cluster.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}
