//! The manifests of `config/kubernetes`, read as the API server reads them.
#![cfg(feature = "kube")]

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::batch::v1::{CronJob, JobSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, PersistentVolumeClaim, Secret};
use serde::de::DeserializeOwned;

use super::*;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/kubernetes").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The object as Kubernetes knows it. A key that it does not know would be dropped without a word.
#[track_caller]
fn known<T: DeserializeOwned>(object: &Object) -> T {
    let mut ignored = Vec::new();
    let read = serde_ignored::deserialize(&object.value, |path| ignored.push(path.to_string()));
    assert!(ignored.is_empty(), "{object}: Kubernetes does not know {ignored:?}");
    read.unwrap_or_else(|error| panic!("{object}: {error}"))
}

struct Rendered {
    objects: Vec<Object>,
    job: JobSpec,
}

fn rendered() -> Vec<(String, Rendered)> {
    let read = |path: PathBuf| {
        let objects = parse(&fs::read_to_string(&path).unwrap()).unwrap();
        let cron: CronJob = known(objects.iter().find(|object| object.kind == "CronJob").unwrap());
        let job = cron.spec.unwrap().job_template.spec.unwrap();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), Rendered { objects, job })
    };
    files("rendered").into_iter().map(read).collect()
}

impl Rendered {
    fn container(&self) -> &Container {
        &self.job.template.spec.as_ref().unwrap().containers[0]
    }

    fn env(&self, name: &str) -> Option<&str> {
        let variables = self.container().env.as_ref().unwrap();
        variables.iter().find(|variable| variable.name == name)?.value.as_deref()
    }

    /// Names of objects of this kind.
    fn names(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.objects.iter().filter(|object| object.kind == kind);
        of_kind.map(|object| object.name.as_str()).collect()
    }
}

#[test]
fn kubernetes_knows_every_key_of_what_is_rendered() {
    for (_, rendered) in rendered() {
        for object in &rendered.objects {
            assert!(object.kind == "Namespace" || object.namespace.is_some(), "{object}");
            match object.kind.as_str() {
                "CronJob" => drop(known::<CronJob>(object)),
                "ConfigMap" => drop(known::<ConfigMap>(object)),
                "Secret" => drop(known::<Secret>(object)),
                "PersistentVolumeClaim" => drop(known::<PersistentVolumeClaim>(object)),
                "Namespace" => drop(known::<Namespace>(object)),
                kind => panic!("{kind}: give it its type here"),
            }
        }
    }
}

/// Nothing tells a pod how many there are, so the number is written twice.
#[test]
fn every_overlay_has_as_many_shards_as_pods() {
    let overlays = files("overlays");
    let rendered = rendered();
    assert_eq!(rendered.len(), overlays.len());
    let mut numbers = Vec::new();
    for (name, rendered) in rendered {
        assert!(overlays.iter().any(|overlay| overlay.ends_with(&name)), "{name}");
        let completions = rendered.job.completions.unwrap();
        assert_eq!(rendered.env("LAYERCAST_SHARDS"), Some(completions.to_string().as_str()), "{name}");
        assert!(rendered.job.parallelism.unwrap() <= completions, "{name}");
        numbers.push(completions);
    }
    assert!(numbers.contains(&1) && numbers.iter().any(|number| *number > 1), "{numbers:?}");
}

#[test]
fn a_shard_fails_alone_and_for_good_where_trying_again_mends_nothing() {
    for (name, rendered) in rendered() {
        let Rendered { job, .. } = &rendered;
        assert_eq!(job.completion_mode.as_deref(), Some("Indexed"), "{name}");
        assert!(job.backoff_limit_per_index.is_some() && job.backoff_limit.is_none(), "{name}");
        let pod = job.template.spec.as_ref().unwrap();
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"), "{name}");
        let rules = &job.pod_failure_policy.as_ref().unwrap().rules;
        let fails = rules.iter().find(|rule| rule.action == "FailIndex").unwrap();
        let codes = fails.on_exit_codes.as_ref().unwrap();
        assert_eq!((codes.operator.as_str(), &codes.values[..]), ("In", &[2, 4, 5][..]), "{name}");
        assert_eq!(codes.container_name.as_ref(), Some(&rendered.container().name), "{name}");
    }
}

#[test]
fn what_pods_mount_is_there_and_each_shard_has_a_state_of_its_own() {
    for (name, rendered) in rendered() {
        let pod = rendered.job.template.spec.as_ref().unwrap();
        for volume in pod.volumes.as_ref().unwrap() {
            let claim = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str());
            let map = volume.config_map.as_ref().map(|map| map.name.as_str());
            let secret = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref());
            for (kind, wanted) in [("PersistentVolumeClaim", claim), ("ConfigMap", map), ("Secret", secret)] {
                let there = wanted.is_none_or(|wanted| rendered.names(kind).contains(&wanted));
                assert!(there, "{name}: {kind} {wanted:?}");
            }
        }
        let mounts = rendered.container().volume_mounts.as_ref().unwrap();
        let state = mounts.iter().find(|mount| mount.mount_path.ends_with("/state")).unwrap();
        assert!(state.sub_path_expr.as_ref().unwrap().contains("$(JOB_COMPLETION_INDEX)"), "{name}");
        // What the path is made of is a variable of the container.
        let variables = rendered.container().env.as_ref().unwrap();
        let index = variables.iter().find(|variable| variable.name == "JOB_COMPLETION_INDEX").unwrap();
        let field = index.value_from.as_ref().and_then(|from| from.field_ref.as_ref()).unwrap();
        assert!(field.field_path.contains("batch.kubernetes.io/job-completion-index"), "{name}");
    }
}
