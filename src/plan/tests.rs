use std::collections::BTreeMap;

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::archive::catalog::AttachmentKind;
use crate::archive::{Attachment, ImageName};
use crate::exit::Exit;
use crate::oci::{Manifest, Platform, media_type};

fn manifest(json: &str) -> Arc<Manifest> {
    Arc::new(Manifest::parse(Bytes::copy_from_slice(json.as_bytes()), media_type::OCI_MANIFEST).unwrap())
}

fn simple(seed: &str) -> Arc<Manifest> {
    let config = Digest::of(seed.as_bytes());
    manifest(&format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":1}},"layers":[]}}"#
    ))
}

fn image(manifest: &Manifest, names: &[&str]) -> Image {
    let names = names.iter().map(|name| ImageName::Full(name.parse().unwrap())).collect();
    let content = Content::Manifest(manifest.digest);
    let annotations = BTreeMap::new();
    Image { names, content, origin: String::new(), annotations, partial: None, attachment: None, unit: None }
}

fn catalog(images: &[(&Arc<Manifest>, &[&str])]) -> Catalog {
    let mut catalog = Catalog::default();
    for (manifest, names) in images {
        catalog.images.push(image(manifest, names));
        catalog.manifests.insert(manifest.digest, Arc::clone(manifest));
    }
    catalog
}

fn places(plan: &Plan) -> Vec<String> {
    plan.images.iter().map(|image| image.place(None)).collect()
}

#[test]
fn the_host_is_dropped_and_path_and_tag_stay() {
    let catalog = catalog(&[
        (&simple("a"), &["gcr.io/kubernetes-e2e-test-images/nautilus:1.0"]),
        (&simple("b"), &["busybox"]),
    ]);
    let mut with_tag = catalog;
    with_tag.images[1].names = vec![ImageName::Full("busybox:1.36".parse().unwrap())];
    let plan = Plan::new(&with_tag, &Rules::default(), Accept::default()).unwrap();
    assert_eq!(places(&plan), ["kubernetes-e2e-test-images/nautilus:1.0", "library/busybox:1.36"]);
    let namespace: Repository = "test-namespace".parse().unwrap();
    assert_eq!(
        plan.images[0].place(Some(&namespace)),
        "test-namespace/kubernetes-e2e-test-images/nautilus:1.0"
    );
}

#[test]
fn two_images_on_one_name_are_refused_unless_the_user_says_which_wins() {
    let (a, b) = (simple("a"), simple("b"));
    let catalog = catalog(&[(&a, &["gcr.io/x/y:1"]), (&b, &["quay.io/x/y:1"])]);
    let error = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap_err();
    assert_eq!(error.fault(), Fault::Conflict);
    assert!(error.to_string().contains("x/y:1") && error.to_string().contains(&b.digest.to_string()));
    let mut apart = catalog.clone();
    for (image, (unit, origin)) in
        apart.images.iter_mut().zip([("d/one.tar", "one.tar"), ("d/two.tar", "two.tar/in.tar")])
    {
        (image.unit, image.origin) = (Some(unit.into()), origin.to_owned());
    }
    let told = Plan::new(&apart, &Rules::default(), Accept::default()).unwrap_err().to_string();
    let named = ["gcr.io/x/y:1 in d/one.tar and", "quay.io/x/y:1 in d/two.tar/in.tar are different"];
    assert!(named.iter().all(|it| told.contains(it)), "{told}");
    for (rule, winner) in [(OnConflict::First, &a), (OnConflict::Last, &b)] {
        let plan =
            Plan::new(&catalog, &Rules { on_conflict: rule, ..Rules::default() }, Accept::default()).unwrap();
        assert_eq!(plan.images.len(), 1);
        assert!(matches!(plan.images[0].content, Content::Manifest(digest) if digest == winner.digest));
    }
    let rewrite = Naming { rewrites: vec!["quay.io/(.*)=quay/$1".parse().unwrap()], ..Naming::default() };
    let plan =
        Plan::new(&catalog, &Rules { naming: rewrite, ..Rules::default() }, Accept::default()).unwrap();
    assert_eq!(places(&plan), ["x/y:1", "quay/x/y:1"]);
}

#[test]
fn one_image_under_two_names_is_pushed_once_with_two_tags() {
    let a = simple("a");
    let catalog = catalog(&[(&a, &["gcr.io/x/y:1", "gcr.io/x/y:latest"]), (&a, &["gcr.io/x/y:1"])]);
    let plan = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap();
    assert_eq!(plan.images.len(), 1);
    assert_eq!(plan.images[0].tags.len(), 2);
}

#[test]
fn the_same_image_with_and_without_a_manifest_keeps_the_manifest() {
    let a = simple("a");
    let mut catalog = catalog(&[(&a, &["gcr.io/x/y:1"])]);
    let unpacked = Unpacked {
        config: Bytes::from_static(b"a"),
        config_digest: Digest::of(b"a"),
        platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
        layers: Vec::new(),
    };
    let twin = Image { content: Content::Unpacked(Arc::new(unpacked)), ..catalog.images[0].clone() };
    catalog.images.insert(0, twin);
    let plan = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap();
    assert_eq!(plan.images.len(), 1);
    assert!(matches!(plan.images[0].content, Content::Manifest(_)));
}

#[test]
fn what_has_no_name_says_which_flag_gives_one() {
    let a = simple("a");
    let mut catalog = catalog(&[(&a, &[])]);
    let error = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap_err();
    assert!(error.hint_text().unwrap().contains("--name REPOSITORY:TAG"));
    let naming = Naming { names: vec!["gcr.io/x/y:1".parse().unwrap()], ..Naming::default() };
    assert_eq!(
        places(&Plan::new(&catalog, &Rules { naming, ..Rules::default() }, Accept::default()).unwrap()),
        ["x/y:1"]
    );

    catalog.images[0].names = vec![ImageName::TagOnly("v1".parse().unwrap())];
    let error = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap_err();
    assert!(error.hint_text().unwrap().contains("--repository"));
    let naming = Naming { repository: Some("gcr.io/x/y".parse().unwrap()), ..Naming::default() };
    assert_eq!(
        places(&Plan::new(&catalog, &Rules { naming, ..Rules::default() }, Accept::default()).unwrap()),
        ["x/y:v1"]
    );
}

#[test]
fn several_without_a_name_are_named_by_digest_or_annotation() {
    let (a, b) = (simple("a"), simple("b"));
    let mut catalog = catalog(&[(&a, &[]), (&b, &[])]);
    for (image, name) in catalog.images.iter_mut().zip(["ghcr.io/x/a:1", "ghcr.io/x/b:1"]) {
        image.annotations.insert("org.opencontainers.image.base.name".into(), name.into());
    }
    let error = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap_err();
    assert!(error.hint_text().unwrap().contains("--name-annotation org.opencontainers.image.base.name"));
    let naming =
        Naming { annotation: Some("org.opencontainers.image.base.name".into()), ..Naming::default() };
    assert_eq!(
        places(&Plan::new(&catalog, &Rules { naming, ..Rules::default() }, Accept::default()).unwrap()),
        ["x/a:1", "x/b:1"]
    );
    let names =
        [&a, &b].map(|m| format!("{}=x/{}:1", m.digest, &m.digest.hex()[..4]).parse().unwrap()).to_vec();
    let naming = Naming { names, ..Naming::default() };
    assert_eq!(
        Plan::new(&catalog, &Rules { naming, ..Rules::default() }, Accept::default()).unwrap().images.len(),
        2
    );
}

#[test]
fn referrers_follow_their_subject_and_theirs_follow_them() {
    let subject = simple("a");
    let about = |digest: Digest, size: usize| {
        manifest(&format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":1}},"layers":[],
            "subject":{{"mediaType":"m","digest":"{digest}","size":{size}}}}}"#
        ))
    };
    let signature = about(subject.digest, subject.bytes.len());
    let second = about(signature.digest, signature.bytes.len());
    let catalog = catalog(&[(&second, &[]), (&signature, &[]), (&subject, &["gcr.io/x/y:1"])]);
    let plan = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap();
    let order: Vec<_> = plan.images.iter().map(|image| identity(&image.content, &catalog).0).collect();
    assert_eq!(order, [subject.digest, signature.digest, second.digest]);
    assert!(plan.images.iter().all(|image| image.repository.as_str() == "x/y"));
}

#[test]
fn attachments_go_where_their_image_goes_under_tags_of_their_own() {
    let (image, signature, other) = (simple("a"), simple("signature"), simple("b"));
    let mut catalog =
        catalog(&[(&signature, &[]), (&image, &["gcr.io/x/y:1", "quay.io/z:2"]), (&other, &["gcr.io/o:1"])]);
    let attachment = Attachment { subject: image.digest, kind: AttachmentKind::Signatures };
    catalog.images[0].attachment = Some(attachment);
    let tag = format!("sha256-{}.sig", image.digest.hex());
    let plan = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap();
    assert_eq!(
        places(&plan),
        ["x/y:1", "z:2", "o:1", &format!("x/y:{tag}"), &format!("z:{tag}")].map(str::to_owned)
    );
    // A name for the image is one for what is attached to it.
    catalog.images[1].names.clear();
    let naming = Naming { names: vec!["x/renamed:1".parse().unwrap()], ..Naming::default() };
    let plan = Plan::new(&catalog, &Rules { naming, ..Rules::default() }, Accept::default()).unwrap();
    assert_eq!(places(&plan), ["x/renamed:1", "o:1", &format!("x/renamed:{tag}")].map(str::to_owned));
    // Where the image is not wanted, nobody wants its signature; that is said.
    catalog.images[1].names = vec![ImageName::Full("gcr.io/x/y:1".parse().unwrap())];
    let exclude = Patterns::new(&["*/x/*"]).unwrap();
    let plan = Plan::new(&catalog, &Rules { exclude, ..Rules::default() }, Accept::default()).unwrap();
    assert_eq!((places(&plan), plan.notes.len()), (vec!["o:1".to_owned()], 1));
}

#[test]
fn a_plus_in_a_tag_is_written_as_helm_writes_it_where_that_is_wanted() {
    let (full, short) = (simple("a"), simple("b"));
    let mut catalog = catalog(&[(&full, &[]), (&short, &[])]);
    let invalid = |text: &str| ImageName::Invalid { text: text.to_owned(), why: "no tag".to_owned() };
    catalog.images[0].names = vec![invalid("gcr.io/c/app:1+2")];
    catalog.images[1].names = vec![invalid("3+4")];
    let plan = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap();
    let told: Vec<&str> = plan.left_out.iter().map(|it| it.why.as_str()).collect();
    assert_eq!((plan.images.len(), told.len()), (0, 2));
    assert!(told.iter().all(|why| why.contains("--fix-tags")), "{told:?}");

    let fix = |repository: Option<&str>| Naming {
        fix_tags: true,
        repository: repository.map(|name| name.parse().unwrap()),
        ..Naming::default()
    };
    let plan =
        Plan::new(&catalog, &Rules { naming: fix(None), ..Rules::default() }, Accept::default()).unwrap();
    assert_eq!(places(&plan), ["c/app:1_2"]);
    assert!(plan.left_out[0].why.contains("--repository"), "a tag alone is still one: {:?}", plan.left_out);
    let plan =
        Plan::new(&catalog, &Rules { naming: fix(Some("gcr.io/d")), ..Rules::default() }, Accept::default())
            .unwrap();
    assert_eq!(places(&plan), ["c/app:1_2", "d:3_4"]);
    assert_eq!((plan.images[0].name.as_str(), plan.notes.len()), ("gcr.io/c/app:1+2", 2));
    // What is wrong with a name in another way stays wrong.
    catalog.images[1].names = vec![invalid("gcr.io/C/app:1+2")];
    let plan =
        Plan::new(&catalog, &Rules { naming: fix(None), ..Rules::default() }, Accept::default()).unwrap();
    assert_eq!((plan.images.len(), plan.left_out.len()), (1, 1));
    assert!(!plan.left_out[0].why.contains("--fix-tags"));
}

#[test]
fn what_is_listed_beside_the_index_that_holds_it_needs_no_name() {
    let (a, b) = (simple("a"), simple("b"));
    let child = |m: &Manifest| {
        format!(r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#, m.media_type, m.digest, m.bytes.len())
    };
    let media_type = media_type::OCI_INDEX;
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{},{}]}}"#,
        child(&a),
        child(&b)
    );
    let index = manifest(&index);
    let catalog = catalog(&[(&a, &[]), (&index, &["x/y:1"]), (&b, &[]), (&index, &[])]);
    assert_eq!(places(&Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap()), ["x/y:1"]);
    let naming = Naming { names: vec![format!("{}=x/a:1", a.digest).parse().unwrap()], ..Naming::default() };
    assert_eq!(
        places(&Plan::new(&catalog, &Rules { naming, ..Rules::default() }, Accept::default()).unwrap()),
        ["x/a:1", "x/y:1"]
    );
}

#[test]
fn subjects_come_before_what_refers_to_them_under_a_name_of_its_own() {
    let subject = simple("a");
    let about = manifest(&format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{0}","size":1}},"layers":[],
        "subject":{{"mediaType":"m","digest":"{0}","size":1}}}}"#,
        subject.digest
    ));
    let elsewhere = catalog(&[(&about, &["gcr.io/x/bill:1"]), (&subject, &["gcr.io/x/y:1"])]);
    assert_eq!(
        places(&Plan::new(&elsewhere, &Rules::default(), Accept::default()).unwrap()),
        ["x/bill:1", "x/y:1"]
    );
    let beside = catalog(&[(&about, &["gcr.io/x/y:bill"]), (&subject, &["gcr.io/x/y:1"])]);
    let plan = Plan::new(&beside, &Rules::default(), Accept::default()).unwrap();
    assert_eq!(places(&plan), ["x/y:1", "x/y:bill"]);
    assert_eq!(plan.images.iter().map(|image| image.after_subjects).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn closures_hold_children_before_parents_and_each_once() {
    let (a, b) = (simple("a"), simple("b"));
    let child = |m: &Manifest| {
        format!(r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#, m.media_type, m.digest, m.bytes.len())
    };
    let index = manifest(&format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{},{}]}}"#,
        media_type::OCI_INDEX,
        child(&a),
        child(&b),
        child(&a)
    ));
    let catalog = catalog(&[(&a, &[]), (&b, &[]), (&index, &["x/y:1"])]);
    let closure = Closure::of(&catalog, &index.digest);
    assert_eq!(closure.manifests, [a.digest, b.digest, index.digest]);
    assert_eq!(closure.blobs.len(), 2);
    // What an index lists and is no manifest is a blob that must be there before it.
    let mut cache = catalog;
    cache.manifests.remove(&b.digest);
    let closure = Closure::of(&cache, &index.digest);
    assert_eq!(closure.manifests, [a.digest, index.digest]);
    assert!(closure.blobs.iter().any(|blob| blob.digest == b.digest));
}

#[test]
fn include_and_exclude_choose_by_the_name_in_the_bundle() {
    let catalog = catalog(&[(&simple("a"), &["gcr.io/x/y:1"]), (&simple("b"), &["quay.io/x/z:1"])]);
    let globs = |glob: &str| Patterns::new(&[glob]).unwrap();
    let plan =
        Plan::new(&catalog, &Rules { include: globs("gcr.io/*"), ..Rules::default() }, Accept::default())
            .unwrap();
    assert_eq!((places(&plan), plan.not_chosen), (vec!["x/y:1".to_owned()], 1));
    let plan = Plan::new(&catalog, &Rules { exclude: globs("*/y:*"), ..Rules::default() }, Accept::default())
        .unwrap();
    assert_eq!(places(&plan), ["x/z:1"]);
    let include = Patterns::new(&["quay.io/*", "quay.io/x/Z:1"]).unwrap();
    let plan = Plan::new(&catalog, &Rules { include, ..Rules::default() }, Accept::default()).unwrap();
    assert_eq!(
        (places(&plan).len(), plan.unmatched),
        (1, vec!["no image matches --include 'quay.io/x/Z:1': the pattern must match the whole name, host and tag included; \
                 nearest is quay.io/x/z:1".to_owned()])
    );
}

#[test]
fn a_name_by_digest_alone_stays_one() {
    let a = simple("a");
    let name = format!("gcr.io/x/y@{}", a.digest);
    let plan = Plan::new(&catalog(&[(&a, &[name.as_str()])]), &Rules::default(), Accept::default()).unwrap();
    assert_eq!((plan.images.len(), plan.images[0].tags.len()), (1, 0));
}

use crate::archive::Unpacked;

#[test]
fn mirrors_with_equal_rules_share_a_plan_and_one_that_fits_none_leaves_the_others() {
    let rules = |rewrite: &str| {
        let naming = Naming { rewrites: vec![rewrite.parse().unwrap()], ..Naming::default() };
        Arc::new(Rules { naming, ..Rules::default() })
    };
    let mirrors = [rules("(.*)=a/$1"), Arc::default(), rules("(.*)=a/$1"), rules(".*=clash")];
    let groups = Groups::by_rules(&mirrors);
    assert_eq!(groups.rules().len(), 3);
    assert_eq!([0, 1, 2, 3].map(|mirror| groups.of_mirror(mirror)), [0, 1, 0, 2]);

    let catalog = catalog(&[(&simple("a"), &["x.io/p:1"]), (&simple("b"), &["y.io/q:1"])]);
    let plans = groups.plan(&catalog, Accept::default()).check().unwrap();
    assert_eq!(places(plans.of_mirror(2).unwrap()), ["a/x.io/p:1", "a/y.io/q:1"]);
    assert!(Arc::ptr_eq(plans.of_mirror(0).unwrap(), plans.of_mirror(2).unwrap()));
    assert_eq!(plans.of_mirror(3).unwrap_err().fault(), Fault::Conflict);
    let alone = Groups::by_rules(&mirrors[3..]).plan(&catalog, Accept::default());
    assert_eq!(alone.check().unwrap_err().fault(), Fault::Conflict);
}

#[test]
fn an_image_without_a_name_is_left_out_and_the_others_are_planned() {
    let (named, nameless) = (simple("a"), simple("b"));
    let catalog = catalog(&[(&named, &["x.io/p:1"]), (&nameless, &[])]);
    let plan = Plan::new(&catalog, &Rules::default(), Accept::default()).unwrap();
    assert_eq!(places(&plan), ["p:1"]);
    let [left_out] = plan.left_out.as_slice() else { panic!("{:?}", plan.left_out) };
    assert_eq!(left_out.class, LeftOutClass::NoName);
    let flag = format!("--name {}=REPOSITORY:TAG", nameless.digest);
    assert!(left_out.why.contains(&flag), "{}", left_out.why);
    assert_eq!(Accept::default().exit(Exit::Complete, &plan.left_out), Exit::Incomplete);

    let include = Patterns::new(&["x.io/*"]).unwrap();
    let chosen = Plan::new(&catalog, &Rules { include, ..Rules::default() }, Accept::default()).unwrap();
    assert!(chosen.left_out.is_empty(), "who chooses by names has not asked for it");
}
