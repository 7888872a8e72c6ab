//! Mirrors with rules of their own, against the embedded registry.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Care, Locks, MirrorSettings, PushResult, Run, RunSettings, Schedule, push, verify};
use crate::bundle::{Accept, Input, Opener, Resources};
use crate::exit::Exit;
use crate::locks::Mutex;
use crate::plan::{Naming, Patterns, Rules};
use crate::registry::{ClientOptions, Timeouts};
use crate::report::outcome::OutcomeState;
use crate::report::progress::{Progress, Telling};
use crate::report::{Class, Listeners, Outcome};
use crate::schedule::{Days, Outside, Window};
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
        care: Care::default(),
        atomic_tags: false,
        window: None,
        gate: None,
        is_new: false,
    }
}

async fn push_sample(opener: Opener, mirrors: &[MirrorSettings]) -> PushResult {
    push_as(Schedule::default(), opener, mirrors).await
}

async fn push_as(schedule: Schedule, opener: Opener, mirrors: &[MirrorSettings]) -> PushResult {
    push_told(schedule, opener, mirrors, Listeners::default()).await
}

async fn push_told(
    schedule: Schedule,
    opener: Opener,
    mirrors: &[MirrorSettings],
    listeners: Listeners,
) -> PushResult {
    push(Run {
        inputs: vec![Input::Memory("sample", Bytes::from_static(SAMPLE))],
        sums: Vec::new(),
        opener,
        mirrors: mirrors.to_vec(),
        schedule,
        locks: Locks::Take,
        number: None,
        settings: RunSettings::default(),
        listeners,
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
    let checked =
        verify::mirrors_of(&read, mirrors.to_vec(), Accept::default(), false, &Listeners::default()).await;
    assert!(checked.iter().all(Outcome::is_complete), "{checked:#?}");
    let place = read.plans.of_mirror(2).unwrap().images[0].place(None);
    assert!(place.starts_with("site/"), "{place}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_that_are_fed_one_after_the_other_cost_no_more_decoding_than_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut mirrors = Vec::new();
    for name in ["first", "second", "last"] {
        mirrors.push(mirror(registry(&folder.path().join(name)).await, Rules::default()));
    }
    let parts = |opener: &Opener| opener.decoder.meter().parts_decoded();
    let alone = opener(folder.path());
    let other = mirror(registry(&folder.path().join("alone")).await, Rules::default());
    assert_eq!(push_sample(alone.clone(), &[other]).await.exit(), Exit::Complete);
    let in_turn = opener(folder.path());
    let schedule = Schedule { parallel: NonZeroUsize::new(1), ..Schedule::default() };
    let pushed = push_as(schedule, in_turn.clone(), &mirrors).await;
    assert_eq!(pushed.exit(), Exit::Complete, "{:#?}", pushed.outcomes);
    assert!(parts(&alone) > 0);
    assert_eq!(parts(&in_turn), parts(&alone));
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

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_that_begin_late_get_everything() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut mirrors = Vec::new();
    for name in ["one", "two", "three", "four"] {
        mirrors.push(mirror(registry(&at(name)).await, Rules::default()));
    }
    for schedule in [
        Schedule { parallel: NonZeroUsize::new(1), ..Schedule::default() },
        Schedule { waves: vec![vec![3], vec![1, 0]], ..Schedule::default() },
    ] {
        let pushed = push_as(schedule, opener(folder.path()), &mirrors).await;
        assert_eq!(pushed.exit(), Exit::Complete, "{:#?}", pushed.outcomes);
        for outcome in &pushed.outcomes {
            assert_eq!((outcome.images_complete, outcome.state), (12, OutcomeState::Complete));
        }
        assert!(pushed.outcomes[0].blobs_sent == 0 || pushed.outcomes.iter().all(|it| it.blobs_sent > 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_whose_window_is_closed_is_deferred_and_that_is_not_undone() {
    let folder = tempfile::tempdir().unwrap();
    let open = mirror(registry(&folder.path().join("open")).await, Rules::default());
    let today = crate::clock::timestamp().to_zoned(jiff::tz::TimeZone::UTC).weekday();
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let in_three_days = (usize::try_from(today.to_monday_zero_offset()).unwrap() + 3) % 7;
    let window = Window {
        days: days[in_three_days].parse().unwrap(),
        hours: "01:00-02:00".parse().unwrap(),
        zone: "UTC".parse().unwrap(),
        outside: Outside::Stop,
    };
    let closed = MirrorSettings { window: Some(window), ..open.clone() };
    let pushed = push_sample(opener(folder.path()), &[closed.clone(), open]).await;
    assert_eq!(pushed.exit(), Exit::Complete, "{:#?}", pushed.outcomes);
    let states: Vec<OutcomeState> = pushed.outcomes.iter().map(|outcome| outcome.state).collect();
    assert_eq!(states, [OutcomeState::Deferred, OutcomeState::Complete]);
    assert_eq!(pushed.outcomes[0].requests, 0);

    let alone = opener(folder.path());
    let pushed = push_sample(alone.clone(), &[closed]).await;
    assert_eq!((pushed.exit(), pushed.outcomes[0].state), (Exit::Complete, OutcomeState::Deferred));
    assert_eq!(alone.decoder.meter().parts_decoded(), 0, "nothing is read for nobody");
}

/// Time stands still while something can be done, and else goes to the next moment that somebody waits for.
#[tokio::test(start_paused = true)]
async fn a_window_that_closes_before_all_is_sent_says_what_is_left_and_when_it_opens_next() {
    let folder = tempfile::tempdir().unwrap();
    // No image is there, and no upload is ever answered.
    let app = axum::Router::new().fallback(|request: axum::extract::Request| async move {
        match request.method().as_str() {
            "GET" => StatusCode::OK,
            "HEAD" => StatusCode::NOT_FOUND,
            _ => std::future::pending().await,
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut mirror = mirror(listener.local_addr().unwrap(), Rules::default());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let day = Duration::from_secs(86_400);
    mirror.client.timeouts =
        Timeouts { connect: day, stall: day, response: day, tcp_user: day, ..Timeouts::default() };
    mirror.client.retry.connect_patience = day;
    let now = crate::clock::timestamp().to_zoned(jiff::tz::TimeZone::UTC);
    let in_an_hour = now.checked_add(jiff::Span::new().hours(1)).unwrap();
    let hours = format!("{}-{}", now.strftime("%H:%M"), in_an_hour.strftime("%H:%M"));
    mirror.window = Some(Window {
        days: Days::ALL,
        hours: hours.parse().unwrap(),
        zone: "UTC".parse().unwrap(),
        outside: Outside::Stop,
    });
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let lines =
        Progress::new(Telling::Everything, Box::new(move |line: &str| heard.lock().push(line.to_owned())));
    let listeners = Listeners::new(vec![Arc::new(lines)]);
    let pushed = push_told(Schedule::default(), opener(folder.path()), &[mirror], listeners).await;
    let [outcome] = &pushed.outcomes[..] else { panic!("{:#?}", pushed.outcomes) };
    assert_eq!((pushed.exit(), outcome.state), (Exit::Complete, OutcomeState::Deferred), "{outcome:#?}");
    let [closing] = &outcome.window_closings[..] else { panic!("{outcome:#?}") };
    assert_eq!(closing.images_left, Some(12));
    assert!(closing.opens_at > closing.closed_at, "{closing:?}");
    let told = said.lock().iter().filter(|line| line.contains("has closed, with 12 images left")).count();
    assert_eq!(told, 1, "{:?}", said.lock());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mirror_begins_when_a_canary_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let good = mirror(registry(&folder.path().join("good")).await, Rules::default());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut dead = mirror(nobody, Rules::default());
    dead.client.retry.connect_patience = std::time::Duration::ZERO;
    let schedule =
        Schedule { waves: vec![vec![1]], max_failures: NonZeroUsize::new(1), ..Schedule::default() };
    let pushed = push_as(schedule, opener(folder.path()), &[good, dead]).await;
    assert_eq!(pushed.exit(), Exit::Incomplete, "{:#?}", pushed.outcomes);
    let ends: Vec<(OutcomeState, Class)> = pushed
        .outcomes
        .iter()
        .map(|outcome| (outcome.state, outcome.error.as_ref().unwrap().class))
        .collect();
    let wanted = [(OutcomeState::NotBegun, Class::NotBegun), (OutcomeState::Incomplete, Class::Unreachable)];
    assert_eq!(ends, wanted);
}
