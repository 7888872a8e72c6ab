use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::diff::{changes, object_changes};
use super::old::old;
use super::owners::owners;
use super::patience::{before_rereading, pause};
use super::ready::{RolloutProgress, progress};
use super::request::{self, Resource};
use super::secret::Secret;
use super::status::{Answer, AnswerMeaning, ApiRefusal, FieldOwner, meaning};
use super::wanted::{DesiredState, ResourceVersion};
use super::{How, manifest};
use crate::cluster::file::{ClusterMirrors, FileRequirements, parse};
use crate::node::render::{MirrorLogin, NodeMirror};
use crate::tls::Authorities;

const SAMPLE: &str = include_str!("../../../tests/cluster/admin1.yaml");
const PEM: &str = include_str!("../../../tests/it/support/authority.crt");

fn cluster(text: &str) -> ClusterMirrors {
    parse(std::path::Path::new(""), text, &FileRequirements::default()).mirrors.unwrap()
}

fn authorities(pem: &str) -> Authorities {
    Authorities::parse("ca.crt", pem.as_bytes()).unwrap()
}

fn node(ca: Option<&str>, password: Option<&str>) -> NodeMirror {
    let mut node = NodeMirror::new("https://172.18.0.20:5000", &["gcr.io"]).unwrap();
    node.authorities = ca.map(authorities);
    node.credentials =
        password.map(|word| MirrorLogin { username: "u".to_owned(), password: SecretString::from(word) });
    node
}

fn names(password: &str, ca: &str) -> Vec<String> {
    let wanted = DesiredState::new(&cluster(SAMPLE), &[node(Some(ca), Some(password))]);
    wanted.secrets.iter().map(|secret| secret.name.clone()).collect()
}

#[test]
fn names_of_secrets_follow_from_their_content() {
    let first = names("a", PEM);
    assert_eq!(
        first,
        names("a", &format!("a comment\n{PEM}")),
        "what stands beside certificates is not sent"
    );
    let (other, longer) = (names("b", PEM), names("a", &PEM.repeat(2)));
    assert!(first[0] == other[0] && first[1] != other[1]);
    assert!(first[0] != longer[0] && first[1] == longer[1]);
    assert!(first[0].starts_with("ca-") && first[1].starts_with("pull-creds-"));
    assert!(first.iter().all(|name| name.rsplit('-').next().unwrap().len() == 32));
}

#[test]
fn mirrors_without_files_need_no_secrets_and_one_authority_is_one_secret() {
    let wanted = DesiredState::new(&cluster(SAMPLE), &[node(None, None)]);
    let live = json!({"metadata": {"uid": "u", "resourceVersion": "7"}});
    let patch = wanted.patch(&live, ResourceVersion::Any);
    assert_eq!(
        patch["spec"],
        json!({"nodeConfig": {"registryMirrors": [{"endpoint": "https://172.18.0.20:5000"}]}})
    );
    assert_eq!(patch["metadata"], json!({"name": "admin1", "namespace": "cluster-admin1", "uid": "u"}));
    assert_eq!(wanted.patch(&live, ResourceVersion::AsRead)["metadata"]["resourceVersion"], "7");
    assert!(wanted.secrets.is_empty() && wanted.is(&patch) && !wanted.is(&live));

    let mut two = cluster(SAMPLE);
    two.mirrors.extend_from_within(..);
    let wanted = DesiredState::new(&two, &[node(Some(PEM), None), node(Some(PEM), None)]);
    assert_eq!(wanted.secrets.len(), 1);
}

#[test]
fn no_mirrors_are_wanted_as_an_empty_list() {
    let mut none = cluster(SAMPLE);
    none.mirrors.clear();
    let wanted = DesiredState::new(&none, &[]);
    assert!(wanted.is(&json!({})) && wanted.is(&json!({"spec": {"nodeConfig": {"registryMirrors": []}}})));
    let live = json!({"spec": {"nodeConfig": {"registryMirrors": [{"endpoint": "https://a"}]}}});
    assert!(!wanted.is(&live));
    assert_eq!(wanted.patch(&live, ResourceVersion::Any)["spec"]["nodeConfig"]["registryMirrors"], json!([]));
    assert_eq!(
        wanted.replacement(&live, ResourceVersion::Any),
        json!({"spec": {"nodeConfig": {"registryMirrors": []}}})
    );
}

#[test]
fn a_secret_is_there_only_with_all_that_makes_it_work() {
    let secret = Secret::authorities(&authorities(PEM));
    let mut live = secret.object("n");
    live["metadata"]["annotations"]["more"] = "is no harm".into();
    assert!(secret.is(&live));
    for (place, value) in [
        ("/type", json!("kubernetes.io/tls")),
        ("/data", json!({})),
        ("/metadata/annotations", json!({})),
        ("/metadata/labels", Value::Null),
    ] {
        let mut other = live.clone();
        *other.pointer_mut(place).unwrap() = value;
        assert!(!secret.is(&other), "{place}");
    }
}

#[test]
fn only_ours_go_and_only_when_nothing_names_them() {
    let item = |name: &str, by: &str, created: &str| {
        let labels = json!({"app.kubernetes.io/managed-by": by});
        json!({"metadata": {"name": name, "uid": "u", "resourceVersion": "1", "labels": labels,
               "creationTimestamp": created}})
    };
    let (early, late) = ("2020-01-01T10:59:59Z", "2020-01-01T11:00:00Z");
    let kept = Secret::authorities(&authorities(PEM));
    let mut going = item("g", "layercast", early);
    going["metadata"]["deletionTimestamp"] = late.into();
    let list = json!({"items": [
        item("a", "layercast", early), item("b", "helm", early), item("c", "layercast", early),
        item("young", "layercast", late), item("before", "layercast", late), item("timeless", "layercast", ""),
        item(&kept.name, "layercast", early), going,
    ]});
    let cluster = json!({
        "metadata": {"managedFields": [{"x": "a"}]},
        "spec": {"nodeConfig": {"privateRegistries": [{"caCertSecretRef": {"name": "c"}}]}},
    });
    let before = json!([{"caCertSecretRef": {"name": "before"}}, {"caCertSecretRef": {"name": "g"}}]);
    let now = "2020-01-01T12:00:00Z".parse().unwrap();
    let found = old(&list, &[kept], &[&cluster], &before, now);
    let found: Vec<String> = found.into_iter().map(|old| old.name).collect();
    assert_eq!(found, ["a", "before"]);
}

#[test]
fn owners_are_those_of_what_would_not_stay() {
    let entry = |endpoint: &str, hosts: u8| json!({"endpoint": endpoint, "hosts": hosts});
    let list = |items: Value| json!({"spec": {"nodeConfig": {"registryMirrors": items}}});
    let managed = |manager: &str, tree: Value| json!({"manager": manager, "fieldsV1": {"f:spec": {"f:nodeConfig": {"f:registryMirrors": tree}}}});
    let key = |endpoint: &str| format!("k:{{\"endpoint\":\"{endpoint}\"}}");
    let with = |items: Value, managers: Value| {
        let mut after = list(items);
        after["metadata"]["managedFields"] = managers;
        after
    };
    let told = |after: &Value, alone: &Value| -> Vec<String> {
        owners(after, alone).into_iter().map(|owner| format!("{} {}", owner.manager, owner.field)).collect()
    };
    let all = json!([entry("a", 1), entry("b", 2)]);
    let theirs = json!({key("a"): {".": {}, "f:hosts": {}}, key("b"): {".": {}}});
    let after = with(
        all.clone(),
        json!([managed("bmctl", theirs.clone()), managed("layercast", theirs), {"manager": "x"}]),
    );
    let place = ".spec.nodeConfig.registryMirrors";
    assert_eq!(told(&after, &list(json!([entry("a", 1)]))), [format!("bmctl {place}[\"b\"]")]);
    assert_eq!(
        told(&after, &list(json!([entry("a", 3), entry("b", 2)]))),
        [format!("bmctl {place}[\"a\"].hosts")]
    );
    // The order alone, or what an earlier replacement of our own left, is nobody's but ours.
    assert!(told(&after, &list(json!([entry("b", 2), entry("a", 1)]))).is_empty());
    let ours = with(all.clone(), json!([managed("layercast", json!({key("b"): {".": {}}}))]));
    assert!(told(&ours, &list(json!([entry("a", 1)]))).is_empty());
    // Who made the list owns none of it any more.
    let made = with(
        all.clone(),
        json!([managed("bmctl", json!({})), managed("layercast", json!({key("b"): {".": {}}}))]),
    );
    assert!(told(&made, &list(json!([entry("a", 1)]))).is_empty());
    // A list that is owned as a whole.
    let whole = with(all, json!([managed("kubectl", json!({}))]));
    assert_eq!(told(&whole, &list(json!([]))), [format!("kubectl {place}")]);
}

#[test]
fn a_server_is_not_waited_for_longer_than_said() {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    let all: Vec<_> = (1..6).map(|tries| pause(tries, s(0), None)).collect();
    assert_eq!(all, [Some(ms(500)), Some(s(1)), Some(s(2)), Some(s(4)), None]);
    assert_eq!(pause(1, s(0), Some(s(7))), Some(s(7)));
    assert_eq!(pause(1, s(5), Some(s(3600))), Some(s(15)), "no longer than there is time");
    assert_eq!(pause(1, s(1), Some(s(0))), Some(ms(500)), "a server that asks for no pause gets one");
    assert_eq!((pause(2, s(20), None), pause(1, s(60), Some(s(1)))), (None, None));
    assert_eq!([1, 2, 4, 7].map(before_rereading), [ms(200), ms(400), ms(1600), ms(1600)]);
}

#[test]
fn answers_mean_what_the_conventions_say() {
    let body = |causes: Value| json!({"message": "m", "details": {"causes": causes}}).to_string();
    let cause =
        |message: &str| json!({"reason": "FieldManagerConflict", "field": ".spec.a", "message": message});
    let owner = |manager: &str| FieldOwner { manager: manager.to_owned(), field: ".spec.a".to_owned() };
    let both = body(json!([
        cause("conflict with \"bmctl\" using baremetal.cluster.gke.io/v1"),
        cause("conflict with \"kubectl\" with subresource \"scale\" using v1"),
        {"reason": "FieldValueInvalid"}
    ]));
    let meaning = |code, body: &[u8]| meaning(&Answer { code, body: body.to_vec(), ..Answer::default() });
    let refusal = |code, body: &[u8]| match meaning(code, body) {
        AnswerMeaning::Refused(refusal) => refusal,
        other => panic!("{code}: {other:?}"),
    };
    assert_eq!(refusal(409, both.as_bytes()), ApiRefusal::Owned(vec![owner("bmctl"), owner("kubectl")]));
    assert_eq!(refusal(409, body(json!([])).as_bytes()), ApiRefusal::Changed("m".to_owned()));
    assert_eq!(refusal(404, b"404 page not found\n"), ApiRefusal::Missing("HTTP 404".to_owned()));
    assert_eq!(refusal(401, b""), ApiRefusal::Unauthorized("HTTP 401".to_owned()));
    let said = |message: &str| json!({"kind": "Status", "message": message}).to_string();
    for message in [
        "secrets is forbidden: User \"a\" cannot list resource \"secrets\" in API group \"\" in the namespace \"b\"",
        "forbidden: User \"system:anonymous\" cannot get path \"/apis\"",
    ] {
        assert_eq!(refusal(403, said(message).as_bytes()), ApiRefusal::Forbidden(message.to_owned()));
    }
    for message in [
        "admission webhook \"a\" denied the request: User \"b\" cannot do that",
        "secrets \"a\" is forbidden: exceeded quota: q",
    ] {
        assert_eq!(refusal(403, said(message).as_bytes()), ApiRefusal::Other(403, message.to_owned()));
    }
    let escape = json!({"message": "a\u{1b}[2Jb"}).to_string();
    assert_eq!(refusal(500, escape.as_bytes()), ApiRefusal::Other(500, "a\\u{1b}[2Jb".to_owned()));
    assert_eq!(meaning(502, b"<html>"), AnswerMeaning::Away("HTTP 502".to_owned()));
    assert_eq!(meaning(200, b"{}"), AnswerMeaning::CarriedOut(json!({})));
    for (code, body) in
        [(200, "null"), (200, "<html>"), (204, ""), (302, ""), (403, "{}"), (404, "<html>"), (407, "")]
    {
        assert!(matches!(meaning(code, body.as_bytes()), AnswerMeaning::Strange(_)), "{code} {body}");
    }
}

#[test]
fn paths_cannot_be_left_by_names() {
    let list = json!({"resources": [
        {"name": "clusters/status", "kind": "Cluster", "namespaced": true},
        {"name": "clusters", "kind": "Cluster", "namespaced": true},
    ]});
    let clusters = Resource::find(&list, "baremetal.cluster.gke.io/v1", "Cluster").unwrap();
    assert_eq!(
        clusters.object("cluster-a", "a"),
        "/apis/baremetal.cluster.gke.io/v1/namespaces/cluster-a/clusters/a"
    );
    assert_eq!(Resource::namespaces().object("", "a"), "/api/v1/namespaces/a");
    assert_eq!(
        Resource::secrets().object("..", "a/../b?x"),
        "/api/v1/namespaces/%2E%2E/secrets/a%2F..%2Fb%3Fx"
    );
    assert_eq!(Resource::find(&list, "v1", "Secret"), None);
    let request = request::apply("/p", &json!({}), How { force: true, dry_run: true });
    assert_eq!(request.path, "/p?fieldManager=layercast&fieldValidation=Strict&force=true&dryRun=All");
}

#[test]
fn differences_are_told_value_by_value() {
    let (before, after) =
        (json!({"a": [{"b": 1}, 2], "x.y": true}), json!({"a": [{"b": "1"}], "x.y": true, "n": null}));
    let found = changes("spec", &before, &after);
    let told: Vec<_> = found
        .iter()
        .map(|change| (change.path.as_str(), change.before.as_deref(), change.after.as_deref()))
        .collect();
    assert_eq!(told, [("spec.a[0].b", Some("1"), Some("\"1\"")), ("spec.a[1]", Some("2"), None)]);
    let secret = |value: &str| {
        json!({"kind": "Secret", "data": {"k": value, ".dockerconfigjson": value}, "status": value,
               "metadata": {"resourceVersion": value, "managedFields": [value]}})
    };
    let text = format!("{:?}", object_changes(&secret("hunter2"), &secret("hunter3")));
    assert!(
        text.contains("data.k") && text.contains("dockerconfigjson") && !text.contains("hunter"),
        "{text}"
    );
}

#[test]
fn what_servers_count_is_no_difference() {
    let set = |number: u8| {
        json!({"kind": "DaemonSet", "metadata": {"generation": number, "annotations": {
            "deprecated.daemonset.template.generation": number.to_string()}}})
    };
    assert!(object_changes(&set(1), &set(2)).is_empty());
    assert!(object_changes(&set(1), &json!({"kind": "DaemonSet", "metadata": {}})).is_empty());
}

#[test]
fn words_of_a_file_become_what_the_api_takes() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\n\
                x: [1, -2, 1.5, true, no, ~, '1', \"yes\", 1m, 256, 0]\ny: |\n  a\n  b\n";
    let object = manifest::parse(text).unwrap().remove(0);
    assert_eq!(object.to_string(), "ConfigMap b/a");
    assert_eq!(object.value["x"], json!([1, -2, 1.5, true, false, null, "1", "yes", "1m", 256, 0]));
    assert_eq!(object.value["y"], "a\nb\n");
    for (text, what) in [
        ("kind: A\nmetadata: {name: a}\n", "without apiVersion"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a}\nmode: 0644\n", "0644"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a}\nmode: .inf\nx: 1e999\n", "no number"),
    ] {
        let fault = manifest::parse(text).unwrap_err();
        assert!(fault.message.contains(what), "{text}: {fault}");
    }
}

#[test]
fn a_daemon_set_is_ready_by_the_rule_of_kubectl() {
    let set = |seen: Value, updated: u64, available: u64| {
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": seen, "desiredNumberScheduled": 3,
               "updatedNumberScheduled": updated, "numberAvailable": available}})
    };
    assert_eq!(progress(&set(Value::Null, 3, 3)), RolloutProgress::Unseen);
    assert_eq!(progress(&set(1.into(), 3, 3)), RolloutProgress::Unseen);
    assert_eq!(progress(&set(2.into(), 1, 3)), RolloutProgress::Going(1, 3));
    assert_eq!(progress(&set(2.into(), 3, 2)), RolloutProgress::Going(2, 3));
    assert_eq!(progress(&set(2.into(), 3, 3)), RolloutProgress::CarriedOut(3));
}
