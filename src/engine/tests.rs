//! Mirrors with rules of their own, against the embedded registry.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Locks, MirrorSettings, Pushed, Run, RunSettings, push, verify};
use crate::bundle::{Accept, Input, Opener, Resources};
use crate::exit::Exit;
use crate::plan::{Naming, Patterns, Rules};
use crate::registry::ClientOptions;
use crate::report::{Class, Listeners, Outcome};
use crate::serve::{Server, ServerOptions, Store};
use crate::source::IoMode;
use crate::state::State;

/// Twelve images, in five blocks.
const SAMPLE: &[u8] = include_bytes!("../cli/quickstart/bundle.tar.xz");

fn opener(folder: &Path) -> Opener {
    let resources = Resources {
        memory_bytes: 64 << 20,
        decode_memory_bytes: 64 << 20,
        spool_folder: folder.to_owned(),
        spool_limit_bytes: u64::MAX,
        threads: 2,
        io: IoMode::Auto,
    };
    Opener::new(resources, State::none()).unwrap()
}

/// A registry that serves until the test ends.
async fn registry(root: &Path) -> SocketAddr {
    let store = Arc::new(Store::open(root).unwrap());
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let server =
        Server::bind(anywhere, store, ServerOptions::default(), CancellationToken::new()).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run());
    address
}

fn mirror(address: SocketAddr, rules: Rules) -> MirrorSettings {
    MirrorSettings {
        name: address.to_string(),
        target: format!("http://{address}").parse().unwrap(),
        rules: Arc::new(rules),
        client: ClientOptions::default(),
        threads: None,
        atomic_tags: false,
        is_new: false,
    }
}

async fn push_sample(opener: Opener, mirrors: &[MirrorSettings]) -> Pushed {
    push(Run {
        inputs: vec![Input::Memory("sample", Bytes::from_static(SAMPLE))],
        sums: Vec::new(),
        opener,
        mirrors: mirrors.to_vec(),
        locks: Locks::Take,
        settings: RunSettings::default(),
        listeners: Listeners::default(),
        cancel: CancellationToken::new(),
    })
    .await
}

fn rewritten(rule: &str) -> Rules {
    let naming = Naming { rewrites: vec![rule.parse().unwrap()], ..Naming::default() };
    Rules { naming, ..Rules::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mirror_gets_what_its_own_rules_say_and_the_bundle_is_decoded_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let alone = opener(folder.path());
    let pushed = push_sample(alone.clone(), &[mirror(registry(&at("alone")).await, Rules::default())]).await;
    assert_eq!((pushed.exit(), pushed.outcomes[0].images_complete), (Exit::Complete, 12));

    let some = Rules { exclude: Patterns::new(&["quay.io/*"]).unwrap(), ..Rules::default() };
    let mirrors = [
        mirror(registry(&at("all")).await, Rules::default()),
        mirror(registry(&at("some")).await, some),
        mirror(registry(&at("renamed")).await, rewritten("[^/]+/(.*)=site/$1")),
    ];
    let shared = opener(folder.path());
    let pushed = push_sample(shared.clone(), &mirrors).await;
    assert_eq!(pushed.exit(), Exit::Complete);
    let complete: Vec<usize> = pushed.outcomes.iter().map(|outcome| outcome.images_complete).collect();
    let planned: Vec<usize> = pushed.outcomes.iter().map(|outcome| outcome.images).collect();
    assert_eq!(complete, planned);
    assert_eq!((complete[0], complete[2]), (12, 12));
    assert!(complete[1] < 12, "{complete:?}");
    let parts = |opener: &Opener| opener.decoder.meter().parts_decoded();
    assert_eq!(parts(&shared), parts(&alone), "three mirrors cost no more decoding than one");

    let read = pushed.read.unwrap();
    let checked = verify::mirrors_of(&read, mirrors.to_vec(), Accept::default(), false).await;
    assert!(checked.iter().all(Outcome::is_complete), "{checked:#?}");
    let place = read.plans.of_mirror(2).unwrap().images[0].place(None);
    assert!(place.starts_with("site/"), "{place}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_do_not_fit_the_bundle_cost_only_their_own_mirror() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let good = mirror(registry(&at("good")).await, Rules::default());
    let clash = mirror(registry(&at("clash")).await, rewritten(".*=one"));
    let pushed = push_sample(opener(folder.path()), &[good, clash.clone()]).await;
    assert_eq!(pushed.exit(), Exit::Incomplete);
    assert_eq!(pushed.outcomes[0].images_complete, 12);
    let error = pushed.outcomes[1].error.as_ref().unwrap();
    assert_eq!((error.class, pushed.outcomes[1].images_complete), (Class::Conflict, 0));

    let pushed = push_sample(opener(folder.path()), &[clash]).await;
    assert_eq!(pushed.exit(), Exit::Usage, "with no plan at all nothing is pushed");
    let only = &pushed.outcomes[0];
    assert_eq!((only.error.as_ref().unwrap().class, only.images_complete), (Class::Conflict, 0));
}
