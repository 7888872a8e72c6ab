//! Documents as the program wrote them when version 1 was made: they are read, and written again as they were.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::exit::Exit;
use crate::report::outcome::Phase;
use crate::report::{Class, Failure};

macro_rules! written {
    ($name:literal) => {
        include_str!(concat!("tests/", $name, ".json"))
    };
}

/// Reads a document, and holds what is written of it against what stood there. Fields may have been added: their paths.
#[track_caller]
fn read_and_write<T: Serialize + DeserializeOwned>(text: &str) -> (T, Vec<String>) {
    let read: T = serde_json::from_str(text).unwrap();
    let mut added = Vec::new();
    compare("", &serde_json::from_str(text).unwrap(), &serde_json::to_value(&read).unwrap(), &mut added);
    (read, added)
}

#[track_caller]
fn compare(path: &str, before: &Value, after: &Value, added: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let now = after.get(key).unwrap_or_else(|| panic!("{path}.{key} is gone"));
                compare(&format!("{path}.{key}"), value, now, added);
            }
            added.extend(
                after.keys().filter(|key| !before.contains_key(*key)).map(|key| format!("{path}.{key}")),
            );
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{path}");
            before.iter().zip(after).for_each(|(before, after)| compare(path, before, after, added));
        }
        _ => assert_eq!(before, after, "{path}"),
    }
}

#[test]
fn a_report_is_read_and_written_as_it_was() {
    let (push, added) = read_and_write::<Document>(written!("push"));
    let of_mirror = [
        ".mirrors.bytes_found",
        ".mirrors.images",
        ".mirrors.images_verified",
        ".mirrors.resume",
        ".mirrors.state",
        ".mirrors.uploads_resumed",
        ".mirrors.waits",
    ];
    let (of_decode, of_failure, of_run) =
        ([".decode.cpu_seconds"], [".mirrors.error.exit_code"], [".compress"]);
    assert_eq!(added, [&of_decode[..], &of_mirror, &of_failure, &of_mirror, &of_run].concat());
    assert_eq!(push.mirrors[0].images_complete, 12);
    let error = push.mirrors[1].error.as_ref().unwrap();
    assert_eq!((error.class, error.exit), (Class::Unreachable, Exit::Unreachable));

    let (verify, _) = read_and_write::<Document>(written!("verify"));
    let failed = &verify.mirrors[1].images_failed[0];
    assert_eq!((failed.failure.class, failed.failure.exit), (Class::Missing, Exit::Incomplete));

    let (failed, added) = read_and_write::<Document>(written!("failed"));
    assert_eq!(failed.error, Some(Failure::usage("there is no nothere.tar")));
    assert_eq!(added, [".decode.cpu_seconds", ".error.exit_code", ".compress"]);
    // A code that is not the one of the class is kept.
    let accepted = Failure::new(Class::DigestMismatch, "x").exit(Exit::Complete);
    let read: Failure = serde_json::from_value(serde_json::to_value(&accepted).unwrap()).unwrap();
    assert_eq!(read, accepted);
}

/// Version 2 has all that version 1 has, and is read and written as it was when it was made.
#[test]
fn the_report_of_sync_is_read_and_written_as_it_was() {
    let (sync, added) = read_and_write::<Document>(written!("sync"));
    let of_mirror = [".mirrors.bytes_found", ".mirrors.resume", ".mirrors.uploads_resumed", ".mirrors.waits"];
    assert_eq!(added, [of_mirror, of_mirror].concat());
    assert_eq!(sync.schema_version, SchemaVersion::Two);
    let failed = &sync.mirrors[0].images_failed[0];
    assert_eq!((failed.phase, failed.failure.class), (Phase::Gate, Class::GateRefused));
    let site = sync.mirrors[1].site.as_ref().unwrap();
    assert_eq!((site.wave, &site.window), (2, &None));
    assert_eq!(sync.sync.unwrap().shard, Some(ShardEntry { index: 1, count: 4 }));
    let causes: Vec<DeferralCause> = sync.deferred.iter().map(|site| site.why).collect();
    assert_eq!(causes, [DeferralCause::Window, DeferralCause::Running]);

    let keys = |text: &str| {
        let document: Value = serde_json::from_str(text).unwrap();
        let of = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        (of(&document), of(&document["mirrors"][0]))
    };
    let ((of_run, of_mirror), (known_of_run, known_of_mirror)) =
        (keys(written!("push")), keys(written!("sync")));
    assert!(of_run.iter().filter(|key| *key != "error").all(|key| known_of_run.contains(key)), "{of_run:?}");
    assert!(of_mirror.iter().all(|key| known_of_mirror.contains(key)), "{of_mirror:?}");
}

#[test]
fn documents_of_plan_inspect_and_bench_are_read_and_written_as_they_were() {
    let (plan, added) = read_and_write::<PlanDocument>(written!("plan"));
    assert_eq!(plan.mirrors[0].images[0].action, Action::Push);
    assert!(added.iter().all(|path| path.ends_with(".exit_code")), "{added:?}");
    for text in [written!("inspect"), written!("docker_archive"), written!("broken")] {
        assert!(read_and_write::<BundleDocument>(text).1.is_empty());
    }
    let (bench, added) = read_and_write::<DecodeDocument>(written!("bench"));
    assert_eq!(bench.push.gzip.bottleneck, BenchStep::Decode);
    assert_eq!(added, [".pool_busy_share"]);
}

#[test]
fn a_document_of_another_version_is_refused() {
    let other = written!("failed").replace(r#""schema_version": 1"#, r#""schema_version": 3"#);
    let error = serde_json::from_str::<Document>(&other).unwrap_err().to_string();
    assert!(error.contains("schema_version 3 is not known"), "{error}");
}
