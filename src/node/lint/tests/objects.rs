//! Documents of clusters.

use super::memory::rules;
use crate::node::lint::FileKind::Objects;

#[test]
fn talos_reads_strictly_and_takes_a_star_for_all_registries() {
    let patch =
        |name: &str, rest: &str| format!("machine:\n  registries:\n    mirrors:\n      \"{name}\":\n{rest}");
    let good = "        endpoints: [\"http://127.0.0.1:5000\"]\n";
    for (text, expected) in [
        (patch("*", good), &[][..]),
        (patch("docker.io", &good.replace("endpoints", "endpoint")), &["error unknown-key 5"]),
        (patch("docker.io", "        endpoints: http://127.0.0.1:5000\n"), &["error wrong-type 5"]),
        (patch("docker.io/library", good), &["error wrong-registry-name 4"]),
        (
            "apiVersion: v1alpha1\nkind: RegistryTLSConfig\nname: m.example\ninsecureSkipVerifi: true\n"
                .to_owned(),
            &["error unknown-key 4"],
        ),
    ] {
        assert_eq!(rules("/p.yaml", Objects, &text), expected, "{text}");
    }
}

#[test]
fn mirror_sets_have_their_own_list_and_places_without_tags() {
    let set = |list: &str, mirror: &str| {
        format!(
            "kind: ImageDigestMirrorSet\nspec:\n  {list}:\n  - source: quay.io/x\n    mirrors: [\"{mirror}\"]\n"
        )
    };
    for (text, expected) in [
        (set("imageDigestMirrors", "m.example:5000/x"), &[][..]),
        (set("repositoryDigestMirrors", "m.example:5000/x"), &["error unknown-key 3"]),
        (set("imageDigestMirrors", "m.example:5000/x:1"), &["error not-a-name 5"]),
        (set("imageDigestMirrors", "nexus/x"), &["error not-a-name 5"]),
    ] {
        assert_eq!(rules("/s.yaml", Objects, &text), expected, "{text}");
    }
}

#[test]
fn a_patch_of_kind_with_mirrors_is_warned_of() {
    let patch = |text: &str| {
        format!(
            "kind: Cluster\ncontainerdConfigPatches:\n- |-\n  [plugins.\"io.containerd.grpc.v1.cri\".registry{text}\n"
        )
    };
    let mirrors = patch(".mirrors.\"localhost:5001\"]\n  endpoint = [\"http://kind-registry:5000\"]");
    assert_eq!(rules("/k.yaml", Objects, &mirrors), ["warning both-styles 4"]);
    assert_eq!(rules("/k.yaml", Objects, &patch("]\n  config_path = \"/etc/containerd/certs.d\"")), [""; 0]);
}
