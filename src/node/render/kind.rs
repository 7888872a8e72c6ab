//! kind: a cluster configuration that mounts the tree of `hosts.toml` into the node and tells containerd to read it.

use super::text::block;
use super::{NodeMirror, Options, RenderRefusal, Rendered, RenderedFile, containerd};

/// The tree, beside the configuration.
const TREE: &str = "certs.d";

pub(super) fn render(mirror: &NodeMirror, options: &Options) -> Result<Rendered, RenderRefusal> {
    let patch = format!(
        "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"{}\"\n",
        containerd::ROOT
    );
    let text = format!(
        "{head}kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\ncontainerdConfigPatches:\n  - {patch}nodes:\n  - role: \
         control-plane\n    extraMounts:\n      - hostPath: ./{TREE}\n        containerPath: {root}\n        readOnly: true\n",
        head = mirror.head(),
        patch = block(&patch, 4),
        root = containerd::ROOT,
    );
    let mut files = vec![RenderedFile::new("kind.yaml", 0o644, text)];
    let tree = containerd::tree(mirror, options)?;
    files.extend(tree.into_iter().map(|file| RenderedFile { path: format!("{TREE}/{}", file.path), ..file }));
    let mut notes = vec![
        "run kind create cluster --config kind.yaml in the folder of the file; every further node needs the same \
         extraMounts"
            .to_owned(),
    ];
    if mirror.authority().starts_with("localhost") || mirror.authority().starts_with("127.") {
        notes.push(
            "inside a kind node, localhost is the node itself: name the mirror by an address that it reaches"
                .to_owned(),
        );
    }
    Ok(Rendered { files, notes })
}
