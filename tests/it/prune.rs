//! What layercast put on a site and no kept bundle has goes, and nothing that anything else names.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::build::{Bundle, digest};
use crate::support::registry::Registry;
use crate::support::{folder, layercast, tool, within};
use crate::sync::SitesFile;

/// Without these a registry does not give out what it has.
const ACCEPT: &str =
    "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A site that was given two releases, one after the other.
struct Site {
    room: tempfile::TempDir,
    registry: Registry,
}

impl Site {
    fn new(registry: Registry) -> Self {
        let site = Self { room: folder(), registry };
        let first = Bundle::oci_layout().image("x.io/app:1", &["app-1"]).image("x.io/shared:1", &["shared"]);
        let first = first.image("x.io/member:1", &["member"]).image("x.io/subject:1", &["subject"]);
        site.sync("one.tar", &first.image("x.io/lib:1", &["lib"]));
        site
    }

    fn file(&self, bundle: &Path) -> SitesFile {
        SitesFile::new(self.room.path(), bundle).site("one", &self.registry.host(), "")
    }

    fn sync(&self, name: &str, bundle: &Bundle) -> PathBuf {
        let path = self.room.path().join(name);
        fs::write(&path, bundle.bytes()).unwrap();
        self.file(&path).sync(&[]).complete();
        path
    }

    fn second(&self) -> PathBuf {
        let second = Bundle::oci_layout().image("x.io/app:2", &["app-2"]).image("x.io/lib:1", &["lib"]);
        self.sync("two.tar", &second)
    }

    fn run(&self, words: &[&str], bundle: &Path) -> (i32, Value, String) {
        let mut command = layercast();
        command.env_remove("LAYERCAST_NO_STATE").args(words).arg("-c").arg(self.file(bundle).write());
        command.arg("--state-dir").arg(self.room.path().join("state"));
        let output = within(Duration::from_secs(60), command);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), document, said)
    }

    /// What becomes of each tag, by its name.
    #[track_caller]
    fn prune(&self, words: &[&str], bundle: &Path) -> Vec<(String, String)> {
        let (exit, document, said) =
            self.run(&[&["prune", "--json", "--keep-bundles", "1"], words].concat(), bundle);
        assert_eq!(exit, 0, "{said}");
        let tags = document["sites"][0]["tags"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        tags.map(|tag| (text(&tag["place"]), text(&tag["fate"]))).collect()
    }

    fn curl(&self, path: &str, words: &[&str]) -> Vec<u8> {
        let url = format!("http://{}/v2/{path}", self.registry.host());
        let words = [&["-sf", "-H", ACCEPT, &url], words].concat();
        tool("curl", &words.iter().map(AsRef::as_ref).collect::<Vec<&OsStr>>()).stdout
    }

    fn put(&self, path: &str, media_type: &str, body: &[u8]) {
        let file = self.room.path().join("body");
        fs::write(&file, body).unwrap();
        let (header, data) = (format!("Content-Type: {media_type}"), format!("@{}", file.display()));
        self.curl(path, &["-X", "PUT", "-H", &header, "--data-binary", &data]);
    }

    fn manifest(&self, place: &str) -> Vec<u8> {
        let (repository, tag) = place.split_once(':').unwrap();
        self.curl(&format!("{repository}/manifests/{tag}"), &[])
    }

    fn is_there(&self, place: &str) -> bool {
        let (repository, tag) = place.split_once(':').unwrap();
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.registry.host());
        let words = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", ACCEPT, &url];
        tool("curl", &words.map(AsRef::as_ref)).stdout == b"200"
    }

    /// Somebody else names what is there: by another tag, in an index, and by referring to it.
    fn name_by_others(&self) {
        self.put("shared/manifests/theirs", MANIFEST, &self.manifest("shared:1"));
        let descriptor =
            |bytes: &[u8]| json!({"mediaType": MANIFEST, "digest": digest(bytes), "size": bytes.len()});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(&self.manifest("member:1"))]});
        self.put("member/manifests/all", INDEX, index.to_string().as_bytes());
        let subject = self.manifest("subject:1");
        let own: Value = serde_json::from_slice(&subject).unwrap();
        let referrer = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": own["config"], "layers": own["layers"],
                              "subject": descriptor(&subject)});
        self.put("subject/manifests/about", MANIFEST, referrer.to_string().as_bytes());
    }
}

const EVERYTHING: [&str; 9] = [
    "app:1",
    "app:2",
    "lib:1",
    "shared:1",
    "shared:theirs",
    "member:1",
    "member:all",
    "subject:1",
    "subject:about",
];

fn fates(fates: [&str; 4]) -> Vec<(String, String)> {
    let places = ["app:1", "member:1", "shared:1", "subject:1"];
    places.iter().zip(fates).map(|(place, fate)| ((*place).to_owned(), fate.to_owned())).collect()
}

#[test]
fn by_digest_nothing_goes_that_anything_else_names() {
    let site = Site::new(Registry::docker());
    let bundle = site.second();
    site.name_by_others();
    assert_eq!(site.prune(&[], &bundle), fates(["goes", "tag-goes", "tag-goes", "tag-goes"]));
    assert!(EVERYTHING.iter().all(|place| site.is_there(place)), "nothing goes without --yes");
    assert_eq!(site.prune(&["--yes"], &bundle), fates(["gone", "stays", "stays", "stays"]));
    let left: Vec<&str> = EVERYTHING.into_iter().filter(|place| site.is_there(place)).collect();
    assert_eq!(left, EVERYTHING[1..], "only what nothing else names");
    // What went is forgotten; the rest is looked at again.
    assert_eq!(site.prune(&[], &bundle), fates(["", "tag-goes", "tag-goes", "tag-goes"])[1..]);
    // The run after it finds everything as it was.
    let again = site.file(&bundle).sync(&[]).complete();
    assert_eq!(again.mirror(0)["images_unchanged"], 2);
}

#[test]
fn tags_go_alone_where_the_registry_can_do_that() {
    let store = folder();
    let site = Site::new(Registry::embedded(store.path()));
    let bundle = site.second();
    site.name_by_others();
    assert_eq!(site.prune(&["--yes"], &bundle), fates(["gone", "gone", "gone", "gone"]));
    let left: Vec<&str> = EVERYTHING.into_iter().filter(|place| site.is_there(place)).collect();
    assert_eq!(left, ["app:2", "lib:1", "shared:theirs", "member:all", "subject:about"]);
    let member = digest(&site.curl("member/manifests/all", &[]));
    assert!(member.starts_with("sha256:"));
}

#[test]
fn what_others_moved_or_a_configured_bundle_has_stays() {
    let site = Site::new(Registry::docker());
    let first = site.room.path().join("one.tar");
    let second = site.second();
    site.put("app/manifests/1", MANIFEST, &site.manifest("app:2"));
    let fates: Vec<(String, String)> = site.prune(&["--yes"], &second);
    let of = |place: &str| fates.iter().find(|(it, _)| it == place).map(|(_, fate)| fate.as_str());
    assert_eq!((of("app:1"), of("shared:1")), (Some("stays"), Some("gone")));
    assert!(site.is_there("app:1") && site.is_there("app:2") && !site.is_there("shared:1"));
    // The sites file names the first bundle: all of it stays.
    assert!(site.prune(&["--yes"], &first).is_empty());
}

#[test]
fn nothing_goes_while_the_newest_bundle_is_not_complete() {
    let site = Site::new(Registry::docker());
    let bundle = Bundle::oci_layout().image("x.io/app:2", &["app-2"]).image("x.io/broken:1", &["gone"]);
    let path = site.room.path().join("two.tar");
    fs::write(&path, bundle.bytes()).unwrap();
    // Somebody else's tag is kept, so that the image is not complete.
    site.put("app/manifests/2", MANIFEST, &site.manifest("app:1"));
    let file =
        SitesFile::new(site.room.path(), &path).site("one", &site.registry.host(), "no_overwrite: true");
    let run = file.sync(&[]);
    assert_eq!(run.exit, 3, "{}", run.said());
    let (exit, document, said) = site.run(&["prune", "--json", "--keep-bundles", "1", "--yes"], &path);
    assert_eq!(exit, 3, "{said}");
    assert!(
        document["sites"][0]["error"]["message"].as_str().unwrap().contains("not complete"),
        "{document}"
    );
    assert!(site.is_there("app:1") && site.is_there("lib:1"));
}

/// What cannot be read of a configured bundle may need anything.
#[test]
fn nothing_goes_while_a_part_of_a_bundle_cannot_be_read() {
    let site = Site::new(Registry::docker());
    let second = site.second();
    let parts = site.room.path().join("parts");
    fs::create_dir(&parts).unwrap();
    fs::copy(second, parts.join("two.tar")).unwrap();
    fs::write(parts.join("three.tar.xz"), "an error page").unwrap();
    let (exit, _, said) = site.run(&["prune", "--keep-bundles", "1", "--yes"], &parts);
    assert_eq!(exit, 3, "{said}");
    assert!(said.contains("three.tar.xz cannot be read") && said.contains("nothing goes"), "{said}");
    assert!(site.is_there("app:1"));
}

#[test]
fn the_sites_file_says_how_many_bundles_stay_and_a_flag_counts_more() {
    let site = Site::new(Registry::docker());
    let bundle = site.second();
    let going = |keys: &str, words: &[&str]| {
        let file = SitesFile::new(site.room.path(), &bundle).site("one", &site.registry.host(), keys);
        let mut command = layercast();
        command.env_remove("LAYERCAST_NO_STATE").args(["prune", "--json"]).args(words);
        command.arg("-c").arg(file.write()).arg("--state-dir").arg(site.room.path().join("state"));
        let output = within(Duration::from_secs(60), command);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["sites"][0]["tags"].as_array().unwrap().len()
    };
    assert_eq!(going("", &[]), 0, "three stay unless somebody says otherwise");
    assert_eq!(going("keep_bundles: 1", &[]), 4);
    assert_eq!(going("keep_bundles: 1", &["--keep-bundles", "2"]), 0);
    assert_eq!(going("keep_bundles: 2", &["--keep-bundles", "1"]), 4);
}

#[test]
fn tags_go_back_to_an_earlier_bundle_that_is_all_there() {
    let site = Site::new(Registry::docker());
    let release = |seed: &str| Bundle::oci_layout().image("x.io/moving:latest", &[seed]);
    site.sync("three.tar", &release("three"));
    let three = site.manifest("moving:latest");
    let path = site.sync("four.tar", &release("four"));
    let four = site.manifest("moving:latest");
    let (exit, _, said) = site.run(&["rollback", "--to", "three.tar"], &path);
    assert!(exit == 0 && said.contains("would go back"), "{said}");
    assert_eq!(site.manifest("moving:latest"), four);
    let (exit, _, said) = site.run(&["rollback", "--to", "three.tar", "--yes"], &path);
    assert!(exit == 0 && said.contains(&digest(&three)), "{said}");
    assert_eq!(site.manifest("moving:latest"), three);
    // What is not all there does not come back.
    let url = format!("http://{}/v2/moving/manifests/{}", site.registry.host(), digest(&four));
    tool("curl", &["-sf", "-X", "DELETE", &url].map(AsRef::as_ref));
    let (exit, _, said) = site.run(&["rollback", "--to", "four.tar", "--yes"], &path);
    assert!(exit == 3 && said.contains("not all there"), "{said}");
    assert_eq!(site.manifest("moving:latest"), three);
    let (exit, _, said) = site.run(&["rollback", "--to", "five.tar"], &path);
    assert!(exit == 2 && said.contains("three.tar"), "{said}");
}

#[test]
fn after_a_prune_tags_go_back_to_a_bundle_that_was_kept_and_to_no_other() {
    let site = Site::new(Registry::docker());
    let release = |number: usize| {
        let (tag, seed) = (format!("x.io/moving-app:{number}"), format!("release-{number}"));
        let bundle = Bundle::oci_layout().image("x.io/moving:latest", &[&seed]).image(&tag, &[&seed, "own"]);
        let path = site.sync(&format!("release-{number}.tar"), &bundle);
        (path, site.manifest("moving:latest"))
    };
    let (_, (_, second), (path, third)) = (release(1), release(2), release(3));
    let (exit, _, said) = site.run(&["prune", "--json", "--keep-bundles", "2", "--yes"], &path);
    assert_eq!(exit, 0, "{said}");
    assert!(!site.is_there("moving-app:1") && !site.is_there("shared:1"), "{said}");
    assert_eq!(site.manifest("moving:latest"), third, "another image has that tag now");
    let (exit, _, said) = site.run(&["rollback", "--to", "release-1.tar", "--yes"], &path);
    assert!(exit == 3 && said.contains("not whole there any more"), "{said}");
    let (exit, _, said) = site.run(&["rollback", "--to", "release-2.tar", "--yes"], &path);
    assert_eq!((exit, site.manifest("moving:latest") == second), (0, true), "{said}");
    assert!(site.is_there("moving-app:2"));
    // What was gone back to is what the next prune keeps.
    let (exit, _, said) = site.run(&["prune", "--json", "--keep-bundles", "1", "--yes"], &path);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(site.manifest("moving:latest"), second);
}
