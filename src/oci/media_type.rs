//! Media types of manifests and layers, OCI's and Docker's.

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI artifact manifest, of the release candidates of image-spec 1.1; some tools still write it.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// The same before OCI took it over from ORAS.
pub const ORAS_ARTIFACT: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker schema 2 manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker schema 1, which registries have stopped taking.
pub const DOCKER_SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// OCI layer, plain tar.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Docker layer, plain tar.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What a client that can read every kind of manifest says in `Accept`. Some registries answer 404 for a manifest whose
/// type is not in it.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.artifact.manifest.v1+json, application/vnd.cncf.oras.artifact.manifest.v1+json, */*;q=0.1";

/// The name of a layer's type, where it is one that we write.
pub(crate) fn known_layer(media_type: &str) -> Option<&'static str> {
    [DOCKER_LAYER, DOCKER_LAYER_GZIP, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD]
        .into_iter()
        .find(|known| *known == media_type)
}

/// Whether a manifest of this type lists other manifests.
pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// Whether a descriptor of this type points at a manifest rather than a blob.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    is_index(media_type) || is_artifact(media_type) || matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Whether a manifest of this type lists blobs and has no configuration.
pub(crate) fn is_artifact(media_type: &str) -> bool {
    matches!(media_type, OCI_ARTIFACT | ORAS_ARTIFACT)
}

/// Whether a descriptor says nothing else than that it points at a manifest, be it one that registries still take or not.
pub(crate) fn may_be_manifest(media_type: &str) -> bool {
    media_type.is_empty() || is_manifest(media_type) || DOCKER_SCHEMA1.contains(&media_type)
}

/// Layers that are fetched from elsewhere and must not be pushed without being asked to
/// ([image-spec, non-distributable layers](https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#non-distributable-layers)).
pub(crate) fn is_foreign_layer(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".rootfs.foreign.")
}
