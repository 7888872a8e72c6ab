//! `update cluster` and `mirror apply` against an API server: what is asked, in which order, and what is told of answers.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::api_server::{ApiServer, Asked, status};
use crate::support::{folder, layercast, within};

mod together;
mod trouble;

const KINDS: &str = "/apis/baremetal.cluster.gke.io/v1";
const NAMESPACE: &str = "/api/v1/namespaces/cluster-admin1";
const CLUSTER: &str = "/apis/baremetal.cluster.gke.io/v1/namespaces/cluster-admin1/clusters/admin1";
const SECRETS: &str = "/api/v1/namespaces/cluster-admin1/secrets";

const CERTIFICATE: &str = include_str!("support/authority.crt");

/// A workspace with a cluster, and the API server on which it is.
struct Site {
    server: ApiServer,
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { server: ApiServer::start(), folder: folder() };
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{}'}}}}]\n\
             users: [{{name: u, user: {{token: hunter2}}}}]\n",
            site.server.port
        );
        std::fs::write(site.path("kubeconfig"), kubeconfig).unwrap();
        std::fs::create_dir_all(site.path("work/admin1")).unwrap();
        site.certificate(CERTIFICATE);
        // The password of another registry stands in the file as well.
        let pull = json!({"auths": {
            "172.18.0.20:5000": {"auth": STANDARD.encode("puller:secret")},
            "other.example": {"auth": STANDARD.encode("me:private")},
        }});
        std::fs::write(site.path("pull.json"), pull.to_string()).unwrap();
        site.cluster_file("https://172.18.0.20:5000/v2/test-namespace");
        let list = json!({"resources": [{"name": "clusters", "kind": "Cluster", "namespaced": true}]});
        site.server.with(|state| state.kinds.insert(KINDS.to_owned(), list));
        site.server.put(NAMESPACE, json!({"kind": "Namespace", "metadata": {"name": "cluster-admin1"}}));
        site.server.put(CLUSTER, cluster("admin1", &json!([{"endpoint": "https://old:5000"}])));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn certificate(&self, text: &str) {
        std::fs::write(self.path("ca.crt"), text).unwrap();
    }

    fn cluster_file(&self, endpoint: &str) {
        let text = format!(
            "gcrKeyPath: /root/key-of-the-header.json\nsshPrivateKeyPath: /root/.ssh/id_rsa\n\
             registryMirrors:\n- endpoint: {endpoint}\n  caCertPath: {ca}\n  pullCredentialConfigPath: {pull}\n  \
             hosts:\n  - quay.io\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: cluster-admin1\n---\n\
             apiVersion: baremetal.cluster.gke.io/v1\nkind: Cluster\nmetadata:\n  name: admin1\n  \
             namespace: cluster-admin1\nspec:\n  type: admin\n  nodeConfig:\n    containerRuntime: containerd\n",
            ca = self.path("ca.crt").display(),
            pull = self.path("pull.json").display(),
        );
        std::fs::write(self.path("work/admin1/admin1.yaml"), text).unwrap();
    }

    fn run(&self, words: &[&str]) -> (i32, String) {
        let mut command = layercast();
        command.args(words).arg("--kubeconfig").arg(self.path("kubeconfig")).current_dir(self.folder.path());
        let output = within(Duration::from_secs(60), command);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!said.contains("hunter2") && !said.contains("secret\""), "{said}");
        (output.status.code().unwrap(), said)
    }

    fn update(&self, flags: &[&str]) -> (i32, String) {
        self.run(&[&["update", "cluster", "-c", "admin1", "--workspace-dir", "work"], flags].concat())
    }

    fn secrets(&self) -> Vec<String> {
        self.server.with(|state| {
            let names = state.objects.keys().filter_map(|path| path.strip_prefix(&format!("{SECRETS}/")));
            names.map(str::to_owned).collect()
        })
    }
}

fn cluster(name: &str, mirrors: &Value) -> Value {
    json!({
        "apiVersion": "baremetal.cluster.gke.io/v1", "kind": "Cluster",
        "metadata": {"name": name, "namespace": "cluster-admin1", "labels": {"keep": "me"}},
        "spec": {"type": "admin", "nodeConfig": {"containerRuntime": "containerd", "registryMirrors": mirrors}},
        "status": {"ready": true},
    })
}

/// A secret of ours that no run can be about to use.
fn labelled(name: &str) -> Value {
    json!({"kind": "Secret", "metadata": {"name": name, "creationTimestamp": "2020-01-01T00:00:00Z", "labels": {
        "app.kubernetes.io/managed-by": "layercast", "app.kubernetes.io/component": "registry-mirror"}}})
}

fn writes(asked: &[Asked]) -> Vec<&Asked> {
    asked.iter().filter(|asked| asked.method != "GET").collect()
}

fn kept(asked: &[Asked]) -> Vec<String> {
    writes(asked).iter().filter(|asked| !asked.is_dry()).map(|asked| asked.line()).collect()
}

#[test]
fn secrets_come_first_then_the_cluster_points_at_them_then_old_ones_go() {
    let site = Site::new();
    site.server.put(&format!("{SECRETS}/ca-old"), labelled("ca-old"));
    site.server.put(&format!("{SECRETS}/ca-elsewhere"), labelled("ca-elsewhere"));
    site.server
        .put(&format!("{SECRETS}/somebodys"), json!({"kind": "Secret", "metadata": {"name": "somebodys"}}));
    let neighbour = cluster("two", &json!([{"caCertSecretRef": {"name": "ca-elsewhere"}}]));
    site.server.put(&CLUSTER.replace("/admin1", "/two"), neighbour);

    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 0 && said.is_empty(), "{exit} {said}");
    let asked = site.server.asked();
    let lines = kept(&asked);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].starts_with(&format!("PATCH {SECRETS}/ca-")), "{lines:#?}");
    assert!(lines[1].starts_with(&format!("PATCH {SECRETS}/pull-creds-")), "{lines:#?}");
    assert_eq!(lines[2..], [format!("PATCH {CLUSTER}"), format!("DELETE {SECRETS}/ca-old")]);
    for write in asked.iter().filter(|asked| asked.method == "PATCH") {
        assert_eq!(write.headers["content-type"], "application/apply-patch+yaml");
        assert_eq!(write.headers["authorization"], "Bearer hunter2");
        assert_eq!(
            (write.query["fieldManager"].as_str(), write.query["force"].as_str()),
            ("layercast", "false")
        );
        assert_eq!(write.query["fieldValidation"], "Strict");
    }
    // Nothing of the header, and nothing of what others log in with.
    for write in &asked {
        let body = write.body.to_string();
        assert!(
            !body.contains("key-of-the-header")
                && !body.contains("id_rsa")
                && !body.contains("other.example")
        );
    }

    let writes: Vec<&Asked> = writes(&asked).into_iter().filter(|asked| !asked.is_dry()).collect();
    let (ca, pull, change, gone) = (&writes[0].body, &writes[1].body, &writes[2].body, &writes[3].body);
    let (ca_name, pull_name) =
        (ca["metadata"]["name"].as_str().unwrap(), pull["metadata"]["name"].as_str().unwrap());
    assert_eq!((&ca["type"], &pull["type"]), (&json!("Opaque"), &json!("kubernetes.io/dockerconfigjson")));
    assert_eq!(ca["data"], json!({"ca.crt": STANDARD.encode(CERTIFICATE)}));
    let config = STANDARD.decode(pull["data"][".dockerconfigjson"].as_str().unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config, json!({"auths": {"172.18.0.20:5000": {"auth": STANDARD.encode("puller:secret")}}}));
    for secret in [ca, pull] {
        assert_eq!(
            secret["metadata"]["annotations"],
            json!({"baremetal.cluster.gke.io/mark-source": "true"})
        );
        assert_eq!(secret["metadata"]["namespace"], "cluster-admin1");
    }
    let version = change["metadata"]["resourceVersion"].clone();
    assert!(version.is_string());
    let reference = |name| json!({"name": name, "namespace": "cluster-admin1"});
    let mirrors = json!([{
        "endpoint": "https://172.18.0.20:5000/v2/test-namespace", "hosts": ["gcr.io", "quay.io"],
        "caCertSecretRef": reference(ca_name), "pullCredentialSecretRef": reference(pull_name),
    }]);
    let metadata = json!({
        "name": "admin1", "namespace": "cluster-admin1", "uid": change["metadata"]["uid"], "resourceVersion": version,
    });
    assert_eq!(
        *change,
        json!({
            "apiVersion": "baremetal.cluster.gke.io/v1", "kind": "Cluster", "metadata": metadata,
            "spec": {"nodeConfig": {"registryMirrors": mirrors}},
        })
    );
    assert!(gone["preconditions"]["uid"].is_string() && gone["preconditions"]["resourceVersion"].is_string());

    let live = site.server.object(CLUSTER).unwrap();
    assert_eq!(
        live["spec"],
        json!({"type": "admin", "nodeConfig": {"containerRuntime": "containerd", "registryMirrors": mirrors}})
    );
    assert_eq!(live["metadata"]["labels"], json!({"keep": "me"}));
    assert_eq!(site.secrets(), [ca_name, "ca-elsewhere", pull_name, "somebodys"].map(str::to_owned));

    // Again: nothing is written. A new certificate: a new secret, and the one before it goes.
    let (exit, said) = site.update(&[]);
    assert!(exit == 0 && said.contains("no change is needed"), "{said}");
    assert!(writes_none(&site.server.asked()));
    site.certificate(&CERTIFICATE.repeat(2));
    let (exit, said) = site.update(&["--quiet"]);
    assert_eq!(exit, 0, "{said}");
    let lines = kept(&site.server.asked());
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(lines[1..], [format!("PATCH {CLUSTER}"), format!("DELETE {SECRETS}/{ca_name}")]);
}

fn writes_none(asked: &[Asked]) -> bool {
    writes(asked).is_empty()
}

#[test]
fn without_an_answer_nothing_is_changed() {
    let site = Site::new();
    let before = site.server.object(CLUSTER);
    let (exit, said) = site.update(&[]);
    assert!(exit == 2 && said.contains("--quiet") && said.contains("nothing was changed"), "{said}");
    // What would change is shown first.
    assert!(said.contains("- spec.nodeConfig.registryMirrors[0].endpoint: \"https://old:5000\""), "{said}");
    assert!(said.contains("+ spec.nodeConfig.registryMirrors[0].hosts[1]: \"quay.io\""), "{said}");
    assert!(said.contains("+ Secret ca-") && said.contains("+ Secret pull-creds-"), "{said}");
    assert!(kept(&site.server.asked()).is_empty());
    assert_eq!(site.server.object(CLUSTER), before);
}

#[test]
fn a_dry_run_is_the_servers() {
    let site = Site::new();
    site.server.put(&format!("{SECRETS}/ca-old"), labelled("ca-old"));
    let before = site.server.object(CLUSTER);
    let (exit, said) = site.update(&["--dry-run"]);
    assert!(exit == 0 && said.contains("nothing was changed") && said.contains("- Secret ca-old"), "{said}");
    let asked = site.server.asked();
    assert!(kept(&asked).is_empty());
    let lines: Vec<String> = writes(&asked).iter().map(|asked| asked.line()).collect();
    assert_eq!(lines.last().unwrap(), &format!("DELETE {SECRETS}/ca-old (dry)"));
    assert_eq!(lines.iter().filter(|line| line.starts_with(&format!("PATCH {SECRETS}"))).count(), 2);
    assert_eq!((site.server.object(CLUSTER), site.secrets()), (before, vec!["ca-old".to_owned()]));
}

/// The versions of the Cluster that changes were made to.
fn patched_versions(asked: &[Asked]) -> Vec<&Value> {
    let patches = asked.iter().filter(|asked| asked.line() == format!("PATCH {CLUSTER}"));
    patches.map(|asked| &asked.body["metadata"]["resourceVersion"]).collect()
}

#[test]
fn another_owner_is_named_and_its_fields_are_taken_by_choice() {
    let site = Site::new();
    site.server.with(|state| state.owners.insert(CLUSTER.to_owned(), "kubectl-edit".to_owned()));
    let (exit, said) = site.update(&["--quiet"]);
    let owned = said.contains("\"kubectl-edit\"") && said.contains(".spec.nodeConfig.registryMirrors");
    assert!(
        exit == 3 && owned && said.contains("--force-conflicts") && said.contains("[conflict]"),
        "{said}"
    );
    assert!(kept(&site.server.asked()).is_empty() && site.secrets().is_empty());

    let (exit, said) = site.update(&["--force-conflicts"]);
    assert!(exit == 2 && said.contains("is taken over from \"kubectl-edit\""), "{said}");
    site.server.asked();
    let (exit, said) = site.update(&["--force-conflicts", "--quiet"]);
    assert_eq!(exit, 0, "{said}");
    let asked = site.server.asked();
    let last = asked.iter().rfind(|asked| asked.line() == format!("PATCH {CLUSTER}")).unwrap();
    assert_eq!(last.query["force"], "true");
}

/// What a replacement of a list leaves behind on a real server: fields of this program that it did not apply.
#[test]
fn fields_of_an_earlier_replacement_are_taken_back_without_being_asked() {
    let site = Site::new();
    let conflict = || {
        let message = "conflict with \"layercast\" using baremetal.cluster.gke.io/v1";
        let cause = json!({"reason": "FieldManagerConflict", "field": ".spec.nodeConfig.registryMirrors", "message": message});
        status(409, "conflict", &[cause])
    };
    for dry in [" (dry)", ""] {
        site.server.instead(&format!("PATCH {CLUSTER}{dry}"), move |_| Some(conflict()));
    }
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 0 && said.is_empty(), "{said}");
    let asked = site.server.asked();
    let forced: Vec<bool> = asked
        .iter()
        .filter(|asked| asked.line().starts_with(&format!("PATCH {CLUSTER}")))
        .map(|asked| asked.query.get("force").is_some_and(|force| force == "true"))
        .collect();
    assert_eq!(forced, [false, true, false, true], "the trial, then the change");
}

#[test]
fn what_is_being_deleted_is_not_changed() {
    let site = Site::new();
    site.server.with(|state| {
        let cluster = state.objects.get_mut(CLUSTER).unwrap();
        cluster["metadata"]["deletionTimestamp"] = json!("2026-11-25T17:00:00Z");
    });
    let (exit, said) = site.update(&["--quiet"]);
    assert!(
        exit == 3 && said.contains("Cluster cluster-admin1/admin1 was deleted, or is being deleted"),
        "{said}"
    );
    assert!(kept(&site.server.asked()).is_empty());
}

#[test]
fn what_is_missing_is_told_apart() {
    let site = Site::new();
    site.server.with(|state| state.objects.remove(CLUSTER));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 2 && said.contains("the namespace cluster-admin1 has no Cluster admin1"), "{said}");
    site.server.with(|state| state.objects.remove(NAMESPACE));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(
        exit == 2 && said.contains("no namespace cluster-admin1") && said.contains("admin cluster"),
        "{said}"
    );
    site.server.with(|state| {
        let list = state.kinds.remove(KINDS).unwrap();
        state.kinds.insert(KINDS.replace("/v1", "/v2"), list);
    });
    let (exit, said) = site.update(&["--quiet"]);
    let other = "no kind Cluster in baremetal.cluster.gke.io/v1 (it has baremetal.cluster.gke.io/v2)";
    assert!(exit == 2 && said.contains(other), "{said}");
    site.server.with(|state| state.kinds.remove(&KINDS.replace("/v1", "/v2")));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 2 && said.contains("no kind Cluster") && said.contains("not installed"), "{said}");
    assert!(writes_none(&site.server.asked()));

    std::fs::create_dir(site.path("work/b")).unwrap();
    std::fs::copy(site.path("work/admin1/admin1.yaml"), site.path("work/b/b.yaml")).unwrap();
    let (exit, said) = site.run(&["update", "cluster", "-c", "b", "--workspace-dir", "work"]);
    assert!(exit == 2 && said.contains("b.yaml:15") && said.contains("admin1"), "{said}");
    let (exit, said) = site.run(&["update", "cluster", "-c", "../admin1", "--workspace-dir", "work"]);
    assert!(exit == 2 && said.contains("no name of a cluster"), "{said}");
    assert!(site.server.asked().is_empty());
}

#[test]
fn a_change_in_between_is_not_written_over() {
    let site = Site::new();
    // Its controller writes a status: the same change is made to the newer version.
    site.server.instead(&format!("PATCH {CLUSTER}"), |state| {
        state.objects.get_mut(CLUSTER).unwrap()["metadata"]["resourceVersion"] = "99".into();
        None
    });
    let (exit, said) = site.update(&["--quiet"]);
    assert_eq!(exit, 0, "{said}");
    let asked = site.server.asked();
    let versions = patched_versions(&asked);
    assert_eq!((versions.len(), versions[1]), (2, &json!("99")));

    // Somebody sets other mirrors: that was not shown.
    site.server.put(&format!("{SECRETS}/ca-old"), labelled("ca-old"));
    site.cluster_file("https://172.18.0.20:5000");
    site.server.instead(&format!("PATCH {CLUSTER}"), |state| {
        let live = state.objects.get_mut(CLUSTER).unwrap();
        live["metadata"]["resourceVersion"] = "100".into();
        live["spec"]["nodeConfig"]["registryMirrors"] = json!([{"endpoint": "https://theirs"}]);
        None
    });
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 3 && said.contains("changed by somebody else"), "{said}");
    let live = site.server.object(CLUSTER).unwrap();
    assert_eq!(live["spec"]["nodeConfig"]["registryMirrors"][0]["endpoint"], "https://theirs");
    assert!(site.secrets().contains(&"ca-old".to_owned()), "nothing goes before the change is in");

    // It is deleted in between: it must not come back.
    site.server.instead(&format!("PATCH {CLUSTER}"), |state| {
        state.objects.remove(CLUSTER);
        None
    });
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 2 && said.contains("no Cluster admin1"), "{said}");
    assert_eq!(site.server.object(CLUSTER), None);
}

#[test]
fn refusals_end_with_their_codes() {
    let site = Site::new();
    let rights = "secrets is forbidden: User \"me\" cannot list resource \"secrets\" in API group \"\"";
    // Admission refuses with 403 too: other credentials would not help.
    let webhook = "admission webhook \"a.b\" denied the request: mirrors cannot be changed";
    let quota = "clusters \"admin1\" is forbidden: exceeded quota: small";
    for (line, code, message, exit, word) in [
        (format!("GET {KINDS}"), 401, "Unauthorized", 4, "may have expired"),
        (format!("GET {SECRETS}"), 403, rights, 4, "cannot list resource"),
        (format!("PATCH {CLUSTER} (dry)"), 403, webhook, 3, "mirrors cannot be changed"),
        (
            format!("PATCH {CLUSTER} (dry)"),
            403,
            quota,
            3,
            "refused with 403: clusters \"admin1\" is forbidden: exceeded",
        ),
        (format!("PATCH {CLUSTER} (dry)"), 422, "the list is wrong", 3, "the list is wrong"),
        (format!("PATCH {CLUSTER} (dry)"), 500, "the list is wrong", 3, "refused with 500"),
    ] {
        site.server.with(|state| state.always.insert(line.clone(), status(code, message, &[])));
        let (ended, said) = site.update(&["--quiet"]);
        site.server.with(|state| state.always.clear());
        assert!(ended == exit && said.contains(word), "{line} {code}: {ended} {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error")).count(), 1, "{said}");
        assert!(kept(&site.server.asked()).is_empty(), "{line}");
    }
    // A secret that may not be removed does not undo what is in.
    site.server.put(&format!("{SECRETS}/ca-old"), labelled("ca-old"));
    site.server.instead(&format!("DELETE {SECRETS}/ca-old"), |_| Some(status(403, "no deleting", &[])));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 3 && said.contains("the change was made") && said.contains("no deleting"), "{said}");
    assert_eq!(kept(&site.server.asked()).len(), 4);
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 0 && kept(&site.server.asked()) == [format!("DELETE {SECRETS}/ca-old")], "{said}");

    let mut command = layercast();
    command.args([
        "update",
        "cluster",
        "-c",
        "admin1",
        "--workspace-dir",
        "work",
        "--dry-run",
        "--kubeconfig",
    ]);
    let absent = site.path("absent");
    let output = within(Duration::from_secs(20), {
        command.arg(&absent).current_dir(site.folder.path());
        command
    });
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("absent"), "{said}");
    site.certificate(&CERTIFICATE.repeat(2));
    let text = std::fs::read_to_string(site.path("kubeconfig")).unwrap();
    std::fs::write(site.path("kubeconfig"), text.replace(&format!(":{}", site.server.port), ":1")).unwrap();
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 6 && said.contains("no answer") && said.contains("refused"), "{said}");
}

#[test]
fn the_api_server_is_known_by_the_authority_of_the_kubeconfig() {
    let site = Site::new();
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let port = site.server.behind_tls(&own);
    let plain = format!("server: 'http://127.0.0.1:{}'", site.server.port);
    let kubeconfig = std::fs::read_to_string(site.path("kubeconfig")).unwrap();
    let trust = |pem: &str| {
        let tls = format!(
            "server: 'https://127.0.0.1:{port}', certificate-authority-data: {}",
            STANDARD.encode(pem)
        );
        std::fs::write(site.path("kubeconfig"), kubeconfig.replace(&plain, &tls)).unwrap();
    };
    trust(&other.cert.pem());
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 6 && said.contains("certificate") && !said.contains("asking again"), "{said}");
    assert!(site.server.asked().is_empty());
    trust(&own.cert.pem());
    let (exit, said) = site.update(&["--quiet"]);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(kept(&site.server.asked()).len(), 3);

    // A proxy of the environment is used, unless NO_PROXY names the server.
    let proxied = |exception: &str| {
        let mut command = layercast();
        command.args([
            "update",
            "cluster",
            "-c",
            "admin1",
            "--workspace-dir",
            "work",
            "--kubeconfig",
            "kubeconfig",
        ]);
        command.env("HTTPS_PROXY", "http://127.0.0.1:1").env("NO_PROXY", exception);
        command.current_dir(site.folder.path());
        within(Duration::from_secs(60), command).status.code()
    };
    assert_eq!(proxied("other.example"), Some(6));
    assert!(site.server.asked().is_empty());
    assert_eq!(proxied("127.0.0.1"), Some(0));
}

#[test]
fn what_the_server_adds_to_mirrors_is_no_change_to_make() {
    let site = Site::new();
    assert_eq!(site.update(&["--quiet"]).0, 0);
    site.server.asked();
    // As the default of a field of the custom resource would: the trial gives what is there.
    let live = site.server.with(|state| {
        let live = state.objects.get_mut(CLUSTER).unwrap();
        live["spec"]["nodeConfig"]["registryMirrors"][0]["defaulted"] = true.into();
        live.clone()
    });
    // Whoever writes the list, it comes back.
    for _ in 0..2 {
        let live = live.clone();
        site.server.instead(&format!("PATCH {CLUSTER} (dry)"), move |_| Some((200, live)));
    }
    let (exit, said) = site.update(&[]);
    assert!(exit == 0 && said.contains("no change is needed"), "{said}");
    assert!(kept(&site.server.asked()).is_empty());
}

const DAEMON_SET: &str = "/apis/apps/v1/namespaces/layercast/daemonsets/layercast-mirror";
const APPLY: [&str; 5] =
    ["mirror", "apply", "--endpoint=https://172.18.0.20:5000/v2/ns", "--host=gcr.io", "--quiet"];

/// The controller's word on a DaemonSet, put in when it is next looked at.
fn controller(server: &ApiServer, generation: u64, has: u64, of: u64) {
    server.instead(&format!("GET {DAEMON_SET}"), move |state| {
        let set = state.objects.get_mut(DAEMON_SET).unwrap();
        set["metadata"]["generation"] = 2.into();
        set["status"] = json!({
            "observedGeneration": generation, "desiredNumberScheduled": of, "updatedNumberScheduled": of,
            "numberAvailable": has,
        });
        None
    });
}

#[test]
fn rendered_objects_are_applied_and_waited_for() {
    let site = Site::new();
    // The first look is that of the plan.
    site.server.instead(&format!("GET {DAEMON_SET}"), |_| None);
    controller(&site.server, 1, 3, 3);
    controller(&site.server, 2, 2, 3);
    controller(&site.server, 2, 3, 3);
    let (exit, said) = site.run(&APPLY);
    assert_eq!(exit, 0, "{said}");
    let asked = site.server.asked();
    let secret = "/api/v1/namespaces/layercast/secrets/layercast-mirror";
    let lines = kept(&asked);
    assert_eq!(
        lines,
        ["/api/v1/namespaces/layercast", secret, DAEMON_SET].map(|path| format!("PATCH {path}"))
    );
    for write in writes(&asked) {
        assert_eq!(write.headers["content-type"], "application/apply-patch+yaml");
        assert_eq!(
            (write.query["fieldManager"].as_str(), write.query["force"].as_str()),
            ("layercast", "false")
        );
    }
    assert_eq!(asked.iter().rev().take_while(|asked| asked.line() == format!("GET {DAEMON_SET}")).count(), 3);
    let stored = site.server.object(secret).unwrap();
    assert!(stored["stringData"].is_null());
    let index = STANDARD.decode(stored["data"]["index"].as_str().unwrap()).unwrap();
    assert!(String::from_utf8(index).unwrap().contains("gcr.io/hosts.toml"));
    let set = site.server.object(DAEMON_SET).unwrap();
    assert_eq!(set["spec"]["template"]["spec"]["volumes"][0]["secret"]["defaultMode"], 256);
    assert_eq!(set["spec"]["template"]["spec"]["automountServiceAccountToken"], false);

    let (exit, said) = site.run(&APPLY[..4]);
    assert!(
        exit == 0 && said.contains("= DaemonSet layercast/layercast-mirror") && said.contains("3 nodes"),
        "{said}"
    );
    assert!(kept(&site.server.asked()).is_empty());
    // Another mirror: what changes is shown, but never what is in a secret.
    let other = ["mirror", "apply", "--endpoint=https://other.example", "--host=gcr.io"];
    let (exit, said) = site.run(&other);
    assert!(exit == 2 && said.contains("~ Secret layercast/layercast-mirror"), "{said}");
    assert!(said.contains("data.index: (not shown)") || said.contains("data.f0: (not shown)"), "{said}");
    assert!(kept(&site.server.asked()).is_empty());
}

#[test]
fn pods_that_are_not_ready_in_time_are_told() {
    let site = Site::new();
    site.server.instead(&format!("GET {DAEMON_SET}"), |_| None);
    for _ in 0..4 {
        controller(&site.server, 2, 1, 3);
    }
    let (exit, said) = site.run(&[&APPLY[..], &["--timeout=2"]].concat());
    assert!(exit == 3 && said.contains("not ready after 2 s: on 1 of 3 nodes"), "{said}");
}

#[test]
fn objects_of_a_file_are_applied_too() {
    let site = Site::new();
    let text =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: cluster-admin1}\nstringData: {x: y}\n";
    std::fs::write(site.path("a.yaml"), text).unwrap();
    let (exit, said) = site.run(&["mirror", "apply", "a.yaml", "--quiet"]);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(site.server.object(&format!("{SECRETS}/a")).unwrap()["data"], json!({"x": "eQ=="}));
    for (text, exit, word) in [
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: gone}\n", 2, "no namespace gone"),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: gone}\n",
            2,
            "put its Namespace before it",
        ),
        ("apiVersion: apps/v1\nkind: Strange\nmetadata: {name: a}\n", 2, "no kind Strange in apps/v1"),
        ("apiVersion: apps/v1\nkind: Strange\nmetadata: {name: a}\n", 2, "is apiVersion right"),
        ("apiVersion: v1\nkind: List\nitems: []\n", 2, "line 1: a List is no object"),
        ("apiVersion: v1\nkind: Secret\n", 2, "line 1: an object without metadata.name"),
        ("a: b: c\n", 2, "line 1"),
        ("", 2, "no objects"),
    ] {
        std::fs::write(site.path("a.yaml"), text).unwrap();
        let (ended, said) = site.run(&["mirror", "apply", "a.yaml", "--quiet"]);
        assert!(ended == exit && said.contains(word), "{text}: {ended} {said}");
    }
    let (exit, said) = site.run(&["mirror", "apply", "--quiet"]);
    assert!(exit == 2 && said.contains("no mirror is given"), "{said}");

    site.server.asked();
    site.certificate(&CERTIFICATE.repeat((1 << 20) / CERTIFICATE.len() + 1));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 2 && said.contains("ca.crt: it is larger than 1 MiB"), "{said}");
    assert!(site.server.asked().is_empty());
}
