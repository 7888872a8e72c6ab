//! Any Kubernetes cluster on containerd: a DaemonSet that installs the tree of `hosts.toml` on every node, keeps what was
//! there before, and takes its own files away again when it is removed.
//!
//! It may do as little as possible: one folder of the node, no service account token, no network of the node, no
//! capabilities, a read-only root. It must be root, because the folder is.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::text::block;
use super::{NodeMirror, Options, RenderRefusal, Rendered, RenderedFile, containerd};
use crate::document::Quoted;

/// The name of everything it makes.
const NAME: &str = "layercast-mirror";

const SCRIPT: &str = include_str!("install.sh");

pub(super) fn render(mirror: &NodeMirror, options: &Options) -> Result<Rendered, RenderRefusal> {
    let tree = containerd::tree(mirror, options)?;
    let namespace = Quoted(&options.cluster_namespace).to_string();
    // A key of a Secret has no slashes and no colons, so the paths stand in a list of their own. In reverse: the
    // authorities are there before the file that names them.
    let mut index = String::new();
    let mut data = String::new();
    let ordered = tree.iter().rev().enumerate();
    for (number, file) in ordered {
        let _ = writeln!(index, "f{number} {:04o} {}", file.mode, file.path);
        let _ = writeln!(data, "  f{number}: {}", Quoted(file.text()));
    }
    let _ = write!(data, "  index: {}", block(&index, 4));
    let _ = write!(data, "  install.sh: {}", block(SCRIPT, 4));
    let digest: String = Sha256::digest(&data).iter().take(16).fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    });
    let text = format!(
        "{head}apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
  labels:
    # It mounts a folder of the node, which the other levels forbid.
    pod-security.kubernetes.io/enforce: privileged
---
apiVersion: v1
kind: Secret
metadata:
  name: {NAME}
  namespace: {namespace}
type: Opaque
stringData:
{data}---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {NAME}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      app.kubernetes.io/name: {NAME}
  updateStrategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 1
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {NAME}
      annotations:
        layercast/content: \"{digest}\" # new files, new pods
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      hostNetwork: false
      terminationGracePeriodSeconds: 30
      nodeSelector:
        kubernetes.io/os: linux
      tolerations:
        - operator: Exists
      containers:
        - name: install
          image: {image}
          imagePullPolicy: IfNotPresent
          command: [\"/bin/sh\", \"/files/install.sh\"]
          securityContext:
            runAsUser: 0
            runAsGroup: 0
            privileged: false
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [\"ALL\"]
            seccompProfile:
              type: RuntimeDefault
          readinessProbe:
            exec:
              command: [\"test\", \"-f\", \"/run/layercast/installed\"]
            periodSeconds: 5
          resources:
            requests:
              cpu: 1m
              memory: 8Mi
            limits:
              memory: 32Mi
          volumeMounts:
            - name: files
              mountPath: /files
              readOnly: true
            - name: node
              mountPath: /node/certs.d
            - name: run
              mountPath: /run/layercast
      volumes:
        - name: files
          secret:
            secretName: {NAME}
            defaultMode: 256 # 0400, which readers of YAML 1.2 would take for four hundred
        - name: node
          hostPath:
            path: {root}
            type: DirectoryOrCreate
        - name: run
          emptyDir:
            medium: Memory
            sizeLimit: 1Mi
",
        head = mirror.head(),
        image = Quoted(&options.installer_image),
        root = containerd::ROOT,
    );
    let mut notes = containerd::notes(mirror, options);
    notes.push(format!(
        "the nodes must be able to pull {} before the mirror is configured: name another with --installer-image if they \
         cannot",
        options.installer_image
    ));
    let mode = if mirror.credentials.is_some() { 0o600 } else { 0o644 };
    Ok(Rendered { files: vec![RenderedFile::new("layercast-mirror-daemonset.yaml", mode, text)], notes })
}
