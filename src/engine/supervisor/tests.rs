use super::Order::{Begin, Skip, Stop};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const GONE: End = End::Unreachable { rest: MINUTE };

fn open(_: usize) -> WindowState {
    WindowState::Open(None)
}

fn number(of: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(of)
}

/// Carries out steps of mirrors that end as they are told to, at once.
fn run(schedule: &Schedule, mirrors: usize, end: impl Fn(usize) -> End) -> Vec<Order> {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(schedule, mirrors);
    let mut all = Vec::new();
    loop {
        let steps = supervisor.orders(now, open);
        let began = steps.iter().filter(|step| matches!(step, Begin(_)));
        assert!(began.count() <= schedule.at_once(mirrors));
        all.extend(&steps);
        if supervisor.is_done() {
            return all;
        }
        for step in steps {
            if let Begin(mirror) = step {
                supervisor.ended(mirror, end(mirror), WindowState::Open(None), now);
            }
        }
    }
}

#[test]
fn all_begin_at_once_or_as_many_as_may() {
    let all = Schedule::default();
    assert_eq!(run(&all, 3, |_| End::Complete), [Begin(0), Begin(1), Begin(2)]);
    let (now, two) = (Instant::now(), Schedule { parallel: number(2), ..Schedule::default() });
    let mut supervisor = Supervisor::new(&two, 4);
    assert_eq!(supervisor.orders(now, open), [Begin(0), Begin(1)]);
    assert_eq!(supervisor.orders(now, open), []);
    assert!(supervisor.some_wait());
    supervisor.ended(1, End::Failed, WindowState::Open(None), now);
    assert_eq!(supervisor.orders(now, open), [Begin(2)]);
    assert_eq!(supervisor.next_look(now, open), None);
}

#[test]
fn a_wave_begins_when_the_one_before_has_ended_and_no_other_begins_when_too_many_have_failed() {
    let canaries = Schedule { waves: vec![vec![2], vec![0, 3]], ..Schedule::default() };
    assert_eq!(run(&canaries, 5, |_| End::Complete), [Begin(2), Begin(0), Begin(3), Begin(1), Begin(4)]);
    let careful = Schedule { max_failures: number(1), ..canaries };
    let halt = Halt::Failures(1);
    let skipped = [0, 1, 3, 4].map(|mirror| Skip(mirror, halt));
    assert_eq!(run(&careful, 5, |_| End::Failed)[1..], skipped);
    assert_eq!(run(&careful, 5, |_| GONE)[1..], skipped);
    let third = |mirror| if mirror == 3 { End::Failed } else { End::Complete };
    assert_eq!(run(&careful, 5, third)[3..], [1, 4].map(|mirror| Skip(mirror, halt)));
}

#[test]
fn a_mirror_waits_for_its_window_and_is_stopped_when_it_closes() {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(&Schedule::default(), 2);
    // The first opens in ten minutes for an hour, the other one not any more.
    let gate = |now: Instant, at: Instant| {
        move |mirror| match (mirror, at - now) {
            (1, _) => WindowState::Closed(None),
            (_, after) if after < 10 * MINUTE => WindowState::Closed(Some(now + 10 * MINUTE)),
            (_, after) if after < 70 * MINUTE => WindowState::Open(Some(now + 70 * MINUTE)),
            _ => WindowState::Closed(Some(now + 1440 * MINUTE)),
        }
    };
    assert_eq!(supervisor.orders(now, gate(now, now)), [Skip(1, Halt::Window)]);
    let soon = supervisor.next_look(now, gate(now, now)).unwrap();
    assert_eq!(soon, now + CLOCK_CHECK, "the clock may be set");
    let opens = now + 10 * MINUTE;
    let almost = opens - Duration::from_secs(1);
    assert_eq!(supervisor.next_look(almost, gate(now, almost)), Some(opens));
    assert_eq!(supervisor.orders(opens, gate(now, opens)), [Begin(0)]);
    let closes = now + 70 * MINUTE;
    let almost = closes - Duration::from_secs(1);
    assert_eq!(supervisor.next_look(almost, gate(now, almost)), Some(closes));
    assert_eq!(supervisor.orders(closes, gate(now, closes)), [Stop(0, Halt::Window)]);
    assert_eq!(supervisor.orders(closes, gate(now, closes)), [], "it is told once");
    supervisor.ended(0, End::Deferred { has_failed: false }, gate(now, closes)(0), closes);
    assert_eq!(supervisor.orders(closes, gate(now, closes)), []);
    let almost = now + 1440 * MINUTE - Duration::from_secs(1);
    assert_eq!(supervisor.next_look(almost, gate(now, closes)), Some(now + 1440 * MINUTE), "it goes on then");
    supervisor.interrupt();
    assert_eq!(supervisor.orders(closes, gate(now, closes)), [Skip(0, Halt::Interrupted)]);
    assert!(supervisor.is_done());
}

#[test]
fn the_deadline_stops_those_that_are_fed_and_keeps_the_others_from_beginning() {
    let now = Instant::now();
    let schedule = Schedule { parallel: number(1), deadline: Some(now + MINUTE), ..Schedule::default() };
    let mut supervisor = Supervisor::new(&schedule, 2);
    assert_eq!(supervisor.orders(now, open), [Begin(0)]);
    let then = supervisor.next_look(now, open).unwrap();
    assert_eq!(then, now + MINUTE);
    assert_eq!(supervisor.orders(then, open), [Stop(0, Halt::Deadline), Skip(1, Halt::Deadline)]);
    supervisor.ended(0, End::Failed, WindowState::Open(None), then);
    assert!(supervisor.is_done());
}

/// The window of the one mirror there is closes a minute after `now`, and opens again at some time.
fn closing(now: Instant, at: Instant) -> impl Fn(usize) -> WindowState {
    let (closes, opens) = (now + MINUTE, now + 600 * MINUTE);
    move |_| if at < closes { WindowState::Open(Some(closes)) } else { WindowState::Closed(Some(opens)) }
}

#[test]
fn a_mirror_that_was_stopped_because_its_window_closed_hears_of_the_deadline() {
    let now = Instant::now();
    let (closes, ends) = (now + MINUTE, now + 2 * MINUTE);
    let schedule = Schedule { deadline: Some(ends), ..Schedule::default() };
    let mut supervisor = Supervisor::new(&schedule, 1);
    assert_eq!(supervisor.orders(now, closing(now, now)), [Begin(0)]);
    assert_eq!(supervisor.orders(closes, closing(now, closes)), [Stop(0, Halt::Window)]);
    assert_eq!(supervisor.orders(ends, closing(now, ends)), [Stop(0, Halt::Deadline)]);
    assert_eq!(supervisor.orders(ends, closing(now, ends)), [], "it is told once");
}

#[test]
fn a_mirror_that_would_go_on_when_its_window_opens_is_told_why_it_does_not() {
    let now = Instant::now();
    let (closes, ends) = (now + MINUTE, now + 2 * MINUTE);
    let schedule = Schedule { deadline: Some(ends), ..Schedule::default() };
    for ended_at in [closes, ends] {
        let mut supervisor = Supervisor::new(&schedule, 1);
        assert_eq!(supervisor.orders(now, closing(now, now)), [Begin(0)]);
        assert_eq!(supervisor.orders(closes, closing(now, closes)), [Stop(0, Halt::Window)]);
        let gate = closing(now, ended_at);
        supervisor.ended(0, End::Deferred { has_failed: false }, gate(0), ended_at);
        assert!(!supervisor.is_done());
        assert_eq!(supervisor.orders(ends, closing(now, ends)), [Skip(0, Halt::Deadline)]);
        assert!(supervisor.is_done());
    }
}

#[test]
fn a_mirror_that_failed_before_its_window_closed_has_failed() {
    let now = Instant::now();
    let schedule = Schedule { max_failures: number(1), waves: vec![vec![0]], ..Schedule::default() };
    for (has_failed, then) in [(true, Skip(1, Halt::Failures(1))), (false, Begin(1))] {
        let mut supervisor = Supervisor::new(&schedule, 2);
        assert_eq!(supervisor.orders(now, open), [Begin(0)]);
        supervisor.ended(0, End::Deferred { has_failed }, WindowState::Closed(None), now);
        assert_eq!(supervisor.orders(now, open), [then]);
    }
}

#[test]
fn a_mirror_that_was_given_up_is_tried_again_while_others_are_fed() {
    let now = Instant::now();
    let mut supervisor = Supervisor::new(&Schedule::default(), 2);
    assert_eq!(supervisor.orders(now, open), [Begin(0), Begin(1)]);
    supervisor.ended(0, GONE, WindowState::Open(None), now);
    assert_eq!(supervisor.orders(now, open), []);
    let mut at = now;
    for minutes in [1, 2, 4] {
        let next = supervisor.next_look(at, open).unwrap();
        assert_eq!(next, at + minutes * MINUTE);
        at = next;
        assert_eq!(supervisor.orders(at, open), [Begin(0)]);
        supervisor.ended(0, GONE, WindowState::Open(None), at);
    }
    supervisor.ended(1, End::Complete, WindowState::Open(None), at);
    assert_eq!(supervisor.orders(at, open), []);
    assert!(supervisor.is_done(), "nobody waits for it alone");
}

#[test]
fn a_mirror_that_comes_back_is_not_among_those_that_failed() {
    let now = Instant::now();
    let schedule = Schedule { max_failures: number(1), waves: vec![vec![0, 1]], ..Schedule::default() };
    let mut supervisor = Supervisor::new(&schedule, 3);
    assert_eq!(supervisor.orders(now, open), [Begin(0), Begin(1)]);
    supervisor.ended(0, End::Complete, WindowState::Open(None), now);
    supervisor.ended(1, End::Complete, WindowState::Open(None), now);
    assert_eq!(supervisor.orders(now, open), [Begin(2)]);
}
