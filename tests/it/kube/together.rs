//! `update cluster` while others change the same cluster: other runs, other field managers, somebody who deletes it.

use serde_json::{Value, json};

use super::{CLUSTER, NAMESPACE, SECRETS, Site, cluster, kept, labelled, patched_versions, writes_none};
use crate::support::api_server::{Asked, status};

fn lines(asked: &[Asked]) -> Vec<String> {
    asked.iter().map(Asked::line).collect()
}

/// A secret of ours, made at a time.
fn made(name: &str, at: &str) -> Value {
    let mut secret = labelled(name);
    secret["metadata"]["creationTimestamp"] = at.into();
    secret
}

#[test]
fn secrets_that_another_run_may_be_about_to_use_stay() {
    let site = Site::new();
    // The time is the server's: by the clock here, the second one would be years old too.
    site.server.with(|state| state.headers.insert("Date", "Wed, 01 Jan 2020 12:00:00 GMT".to_owned()));
    site.server.put(&format!("{SECRETS}/ca-old"), made("ca-old", "2020-01-01T10:59:00Z"));
    site.server.put(&format!("{SECRETS}/ca-theirs"), made("ca-theirs", "2020-01-01T11:01:00Z"));
    site.server.put(&format!("{SECRETS}/ca-before"), made("ca-before", "2020-01-01T11:59:00Z"));
    let mut going = made("ca-going", "2019-01-01T00:00:00Z");
    going["metadata"]["deletionTimestamp"] = "2020-01-01T11:58:00Z".into();
    site.server.put(&format!("{SECRETS}/ca-going"), going);
    let before = json!([{"endpoint": "https://old:5000", "caCertSecretRef": {"name": "ca-before"}}]);
    site.server.put(CLUSTER, cluster("admin1", &before));

    let (exit, said) = site.update(&["--quiet"]);
    assert_eq!(exit, 0, "{said}");
    let asked = site.server.asked();
    let removed: Vec<String> = kept(&asked).into_iter().filter(|line| line.starts_with("DELETE")).collect();
    assert_eq!(removed, [format!("DELETE {SECRETS}/ca-before"), format!("DELETE {SECRETS}/ca-old")]);
    // What is listed first cannot hold a secret that a cluster read later does not name yet.
    let lines = lines(&asked);
    let clusters = CLUSTER.strip_suffix("/admin1").unwrap();
    let place =
        |from: usize, what: String| from + lines[from..].iter().position(|line| *line == what).unwrap();
    assert!(place(0, format!("GET {SECRETS}")) < place(0, format!("GET {CLUSTER}")), "{lines:#?}");
    let pointed = place(0, format!("PATCH {CLUSTER}"));
    let listed = place(pointed, format!("GET {SECRETS}"));
    assert!(listed < place(pointed, format!("GET {clusters}")), "{lines:#?}");
    // The wanted ones are looked at between the change and the removals.
    let looks =
        lines[pointed..listed].iter().filter(|line| line.starts_with(&format!("GET {SECRETS}/"))).count();
    assert_eq!(looks, 2, "{lines:#?}");

    let (exit, said) = site.update(&[]);
    assert!(exit == 0 && said.contains("no change is needed"), "{said}");
    assert!(writes_none(&site.server.asked()));
}

#[test]
fn a_secret_that_another_run_removes_meanwhile_is_brought_in_again() {
    let site = Site::new();
    site.server.instead(&format!("PATCH {CLUSTER}"), |state| {
        state.objects.retain(|path, _| !path.starts_with(&format!("{SECRETS}/ca-")));
        None
    });
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 0 && said.contains("went away meanwhile"), "{said}");
    let live = site.server.object(CLUSTER).unwrap();
    let name = live["spec"]["nodeConfig"]["registryMirrors"][0]["caCertSecretRef"]["name"].as_str().unwrap();
    assert!(site.secrets().contains(&name.to_owned()), "the Cluster points at {name}: {:?}", site.secrets());
    let lines = kept(&site.server.asked());
    assert_eq!(
        lines.iter().filter(|line| **line == format!("PATCH {SECRETS}/{name}")).count(),
        2,
        "{lines:#?}"
    );
}

#[test]
fn secrets_for_a_cluster_that_is_deleted_meanwhile_go_again() {
    let site = Site::new();
    site.server.instead(&format!("PATCH {CLUSTER}"), |state| {
        state.objects.remove(CLUSTER);
        None
    });
    let (exit, said) = site.update(&["--quiet"]);
    assert!(
        exit == 2 && said.contains("no Cluster admin1") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(site.secrets(), Vec::<String>::new());
    let asked = site.server.asked();
    for delete in asked.iter().filter(|asked| asked.method == "DELETE") {
        assert!(delete.body["preconditions"]["uid"].is_string() && !delete.is_dry());
    }
    assert!(site.server.object(NAMESPACE).is_some() && site.server.object(CLUSTER).is_none());
}

#[test]
fn what_stops_the_change_half_way_says_what_is_in() {
    let site = Site::new();
    site.server.with(|state| state.always.insert(format!("PATCH {CLUSTER}"), status(422, "not today", &[])));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 3 && said.contains("not today") && said.contains("already in: Secret ca-"), "{said}");
    assert!(!said.contains("nothing was changed"), "{said}");
    // Secrets are tried before anything is sent for good.
    let fresh = Site::new();
    fresh.server.with(|state| state.always.insert(format!("PATCH {CLUSTER}"), status(422, "too late", &[])));
    fresh.update(&["--dry-run"]);
    let tried = lines(&fresh.server.asked());
    let secrets: Vec<&String> =
        tried.iter().filter(|line| line.starts_with(&format!("PATCH {SECRETS}/"))).collect();
    assert!(secrets.len() == 2 && secrets.iter().all(|line| line.ends_with("(dry)")), "{tried:#?}");
    for line in secrets {
        let refused = Site::new();
        refused
            .server
            .instead(line, |_| Some(status(403, "admission webhook \"w\" denied the request", &[])));
        let (exit, said) = refused.update(&["--quiet"]);
        assert!(exit == 3 && said.contains("admission webhook"), "{said}");
        assert!(kept(&refused.server.asked()).is_empty());
        let cause =
            json!({"reason": "FieldManagerConflict", "field": ".data", "message": "conflict with \"vault\""});
        refused.server.instead(line, |_| Some(status(409, "conflict", &[cause])));
        let (exit, said) = refused.update(&["--quiet"]);
        assert!(exit == 3 && said.contains("Secret ") && said.contains("owned by \"vault\""), "{said}");
        assert!(kept(&refused.server.asked()).is_empty());
    }
}

#[test]
fn what_cannot_be_cleared_away_is_left_and_told() {
    let site = Site::new();
    site.server.instead(&format!("PATCH {CLUSTER}"), |state| {
        state.always.insert(format!("GET {SECRETS}"), status(422, "no list", &[]));
        None
    });
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 3 && said.contains("the change was made, but") && said.contains("no list"), "{said}");
    assert!(said.contains("[left-over]") && !said.contains("nothing was changed"), "{said}");
}

#[test]
fn a_removal_that_came_too_late_is_told() {
    let site = Site::new();
    site.server.put(&format!("{SECRETS}/ca-old"), labelled("ca-old"));
    site.server.instead(&format!("DELETE {SECRETS}/ca-old"), |state| {
        let other =
            cluster("two", &json!([{"endpoint": "https://b", "caCertSecretRef": {"name": "ca-old"}}]));
        state.objects.insert(CLUSTER.replace("/admin1", "/two"), other);
        None
    });
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 3 && said.contains("removed: Secret ca-old") && said.contains("[conflict]"), "{said}");
}

/// The list as a server has it that merges entries by their endpoint: `entries` stay beside ours, and are `bmctl`'s.
fn merged(site: &Site, entries: &[(Value, Value)]) -> Value {
    let live = site.server.object(CLUSTER).unwrap();
    let mut after = live;
    let mut tree = json!({});
    for (entry, fields) in entries {
        let key = format!("k:{}", json!({"endpoint": entry["endpoint"]}));
        tree[key] = fields.clone();
    }
    after["spec"]["nodeConfig"]["registryMirrors"] = entries.iter().map(|(entry, _)| entry.clone()).collect();
    let owned = |manager: &str, tree: &Value| {
        json!({"manager": manager, "operation": "Update",
               "fieldsV1": {"f:spec": {"f:nodeConfig": {"f:registryMirrors": tree}}}})
    };
    after["metadata"]["managedFields"] = json!([owned("bmctl", &tree), owned("layercast", &json!({}))]);
    after
}

#[test]
fn entries_of_others_in_a_merged_list_are_a_conflict_and_not_the_wanted_list() {
    let site = Site::new();
    // Without the CA of the file nothing changes by the server's word: the reference is another manager's.
    let entry = json!({"endpoint": "https://172.18.0.20:5000/v2/test-namespace",
                       "caCertSecretRef": {"namespace": "cluster-admin1"}});
    let fields = json!({".": {}, "f:endpoint": {}, "f:caCertSecretRef": {"f:namespace": {}}});
    let other = json!({"endpoint": "https://old:5000"});
    let answer = merged(&site, &[(entry, fields), (other, json!({".": {}, "f:endpoint": {}}))]);
    site.server.with(|state| {
        state.objects.get_mut(CLUSTER).unwrap()["spec"] = answer["spec"].clone();
    });
    let canned = answer.clone();
    site.server.instead(&format!("PATCH {CLUSTER} (dry)"), move |_| Some((200, canned)));
    let (exit, said) = site.update(&["--quiet"]);
    assert!(exit == 3 && said.contains("owned by \"bmctl\"") && said.contains("[conflict]"), "{said}");
    for place in ["v2/test-namespace\"].caCertSecretRef", "[\"https://old:5000\"]", "--force-conflicts"] {
        assert!(said.contains(place), "{place}: {said}");
    }
    assert!(kept(&site.server.asked()).is_empty());

    // By choice the whole list is replaced, as it was read and no later, and then applied.
    site.server.instead(&format!("PATCH {CLUSTER} (dry)"), move |_| Some((200, answer)));
    let (exit, said) = site.update(&["--quiet", "--force-conflicts"]);
    assert_eq!(exit, 0, "{said}");
    let asked = site.server.asked();
    let changes: Vec<&Asked> =
        asked.iter().filter(|asked| asked.line() == format!("PATCH {CLUSTER}")).collect();
    let kinds: Vec<&str> = changes.iter().map(|asked| asked.headers["content-type"].as_str()).collect();
    assert_eq!(kinds, ["application/merge-patch+json", "application/apply-patch+yaml"]);
    assert_eq!(changes[0].query["fieldManager"], "layercast");
    let version = &changes[0].body["metadata"]["resourceVersion"];
    assert!(version.is_string() && *version != changes[1].body["metadata"]["resourceVersion"]);
    assert_eq!(changes[0].body["spec"], changes[1].body["spec"]);
    let live = site.server.object(CLUSTER).unwrap();
    assert_eq!(
        live["spec"]["nodeConfig"]["registryMirrors"],
        changes[1].body["spec"]["nodeConfig"]["registryMirrors"]
    );
    assert_eq!(live["spec"]["nodeConfig"]["containerRuntime"], "containerd");
    assert!(live["spec"]["nodeConfig"]["registryMirrors"][0]["caCertSecretRef"]["name"].is_string());
}

#[test]
fn a_replacement_is_not_written_over_a_change_in_between() {
    let site = Site::new();
    let other = json!({"endpoint": "https://old:5000"});
    let answer = merged(&site, &[(other, json!({".": {}}))]);
    site.server.instead(&format!("PATCH {CLUSTER} (dry)"), move |_| Some((200, answer)));
    // Its controller writes a status: the same change is made to the newer version.
    site.server.instead(&format!("PATCH {CLUSTER}"), |state| {
        state.objects.get_mut(CLUSTER).unwrap()["metadata"]["resourceVersion"] = "99".into();
        None
    });
    let (exit, said) = site.update(&["--quiet", "--force-conflicts"]);
    assert_eq!(exit, 0, "{said}");
    let asked = site.server.asked();
    let versions = patched_versions(&asked);
    assert_eq!((versions.len(), versions[1]), (3, &json!("99")));
}
