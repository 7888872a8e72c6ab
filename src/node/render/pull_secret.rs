//! A `kubernetes.io/dockerconfigjson` secret with the mirror's credentials.
//!
//! kubelet chooses credentials by the name in the image, which is the upstream's, and containerd then offers them to every
//! host it asks. With a fall-back the upstream would be sent the mirror's password and refuse the pull: so upstreams
//! stand in the secret only where they are never asked.

use secrecy::ExposeSecret as _;
use serde_json::{Map, json};

use super::{NodeMirror, Options, RenderRefusal, Rendered, RenderedFile};
use crate::document::Quoted;

pub(super) fn render(mirror: &NodeMirror, options: &Options) -> Result<Rendered, RenderRefusal> {
    let Some(credentials) = &mirror.credentials else {
        return Err(RenderRefusal::new(
            "image-pull-secret",
            "there are no credentials to put into it",
            "give a docker config.json that knows the mirror: --pull-credentials FILE",
        ));
    };
    let entry = json!({
        "username": credentials.username,
        "password": credentials.password.expose_secret(),
        "auth": credentials.basic().expose_secret(),
    });
    let mut auths = Map::from_iter([(mirror.authority(), entry.clone())]);
    let mut notes = vec![format!(
        "a pod uses it through imagePullSecrets, its own or its service account's, in the namespace {}",
        options.cluster_namespace
    )];
    if mirror.fallback {
        notes.push(format!(
            "it serves images named {}/…. For images of {} kubelet looks under that name, and the upstream, asked next, \
             would be sent this password and refuse: give the nodes the credentials (hosts.toml), or render with \
             --no-fallback",
            mirror.authority(),
            mirror.hosts()
        ));
    } else {
        for upstream in mirror.upstreams() {
            let key =
                if upstream.host == "docker.io" { "https://index.docker.io/v1/" } else { &upstream.host };
            auths.insert(key.to_owned(), entry.clone());
        }
    }
    let config = json!({ "auths": auths }).to_string();
    let text = format!(
        "{}apiVersion: v1\nkind: Secret\nmetadata:\n  name: layercast-mirror-pull\n  namespace: {}\ntype: \
         kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: {}\n",
        mirror.head(),
        Quoted(&options.cluster_namespace),
        Quoted(&config)
    );
    Ok(Rendered { files: vec![RenderedFile::new("layercast-mirror-pull-secret.yaml", 0o600, text)], notes })
}
