//! Reports of shards, joined by `report merge`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::registry::Registry;
use crate::support::{Push, bundle, folder, layercast, within};

fn merge(from: &Path, flags: &[&str]) -> (i32, Vec<u8>, String) {
    let mut command = layercast();
    command.args(["report", "merge"]).arg(from).args(flags);
    let output = within(Duration::from_secs(60), command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), output.stdout, said)
}

/// The report of a real run, as a shard would have written it.
fn shard(report: &Value, index: u32, site: &str) -> Value {
    let mut report = report.clone();
    let more = json!({
        "schema_version": 2, "config": "layercast.yaml", "config_sha256": "c0ffee",
        "shard": {"index": index, "count": 2}, "bundles": [],
    });
    report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    report["mirrors"][0]["name"] = site.into();
    report
}

#[test]
fn reports_of_a_folder_become_one_and_give_the_exit_code() {
    let folder = folder();
    let registry = Registry::docker();
    let bundle = bundle(folder.path(), "b.tar", &["--preset", "tiny", "--format", "oci-layout"]);
    let good = Push::to(&registry).source(&bundle).run().complete().report;
    let bad = Push::to("127.0.0.1:1").source(&bundle).flag("--patience=0").run().report;
    let reports = folder.path().join("reports");
    fs::create_dir(&reports).unwrap();
    let write = |name: &str, report: &Value| fs::write(reports.join(name), report.to_string()).unwrap();
    write("shard-0.json", &shard(&good, 0, "berlin-1"));
    write("shard-1.json", &shard(&bad, 1, "lyon-1"));
    fs::write(reports.join("notes.txt"), "no report").unwrap();

    let (exit, out, said) = merge(&reports, &[]);
    assert_eq!(exit, 6, "{said}");
    let whole: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&whole["exit_code"], &whole["schema_version"]), (&6.into(), &2.into()));
    let names: Vec<&str> =
        whole["mirrors"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["berlin-1", "lyon-1"]);
    assert_eq!(whole["mirrors"][0]["images_complete"], good["mirrors"][0]["images_complete"]);
    assert!(said.contains("lyon-1"), "{said}");

    // What it writes into the folder is no shard's.
    let target = reports.join("whole.json");
    for _ in 0..2 {
        let (exit, ..) = merge(&reports, &["-o", target.to_str().unwrap()]);
        assert_eq!(
            (exit, serde_json::from_slice::<Value>(&fs::read(&target).unwrap()).unwrap()),
            (6, whole.clone())
        );
    }
    fs::remove_file(&target).unwrap();

    write("shard-1.json", &shard(&good, 1, "berlin-1"));
    let (exit, _, said) = merge(&reports, &[]);
    assert!(exit == 2 && said.contains("site berlin-1 is in"), "{said}");
    fs::remove_file(reports.join("shard-1.json")).unwrap();
    let (exit, out, said) = merge(&reports, &[]);
    assert!(exit == 3 && said.contains("shard 1 of 2 has no report"), "{said}");
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap()["exit_code"], 3);
}
