//! Which mirrors are fed, and when. Pure: no clock, no tasks.
//!
//! In: a [`Schedule`], which windows are open, how mirrors ended, and the time. Out: [`Order`]s, which `feed` carries out. A
//! mirror begins when its wave has begun, its window is open, and fewer mirrors than the limit are being fed. A mirror whose
//! window closes is stopped. A mirror that can no longer be reached is tried again while others are fed or will be (the half-open
//! state of a circuit breaker), so a registry that comes back within the run is completed.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::clock::Instant;

#[cfg(test)]
mod tests;

/// The longest pause before a mirror that was given up is tried again; each pause is twice as long as the one before.
const LAST_RETRY: Duration = Duration::from_secs(30 * 60);

/// How often windows are looked at while there are any: the clock may be set, and the machine may have slept, which a monotonic
/// clock does not tell.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// In which order mirrors are fed, and what ends that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schedule {
    /// Mirrors that are fed at the same time, at the most; all where none is given.
    pub parallel: Option<NonZeroUsize>,
    /// Mirrors by their places in the run, in groups. Each group begins when the one before it has ended. Mirrors in no group
    /// come last, together.
    pub waves: Vec<Vec<usize>>,
    /// After this many failed mirrors no other one begins.
    pub max_failures: Option<NonZeroUsize>,
    /// When the run ends, whatever is still to be done.
    pub deadline: Option<Instant>,
}

impl Schedule {
    /// The most of `mirrors` that are fed at the same time.
    pub(super) fn at_once(&self, mirrors: usize) -> usize {
        self.parallel.map_or(mirrors, |parallel| parallel.get().min(mirrors))
    }
}

/// Whether a mirror may be fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowState {
    /// Until then.
    Open(Option<Instant>),
    /// Until then; for all of the run where no time is given.
    Closed(Option<Instant>),
}

/// An order for `feed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A mirror is fed from now on.
    Begin(usize),
    /// A mirror is stopped when its requests in flight have ended.
    Stop(usize, Halt),
    /// A mirror is not fed in this run.
    Skip(usize, Halt),
}

/// Why a mirror is not fed, or not to its end; the gravest comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Halt {
    /// Its window is closed.
    Window,
    /// As many mirrors have failed as may.
    Failures(usize),
    /// The run reached its deadline.
    Deadline,
    /// The run was interrupted.
    Interrupted,
}

/// How the feeding of a mirror ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    Failed,
    /// It can no longer be reached. It is left alone this long, then twice as long, and so on.
    Unreachable {
        rest: Duration,
    },
    /// Its window has closed; whether something else failed before.
    Deferred {
        has_failed: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MirrorPhase {
    Waiting,
    /// Since a stop was ordered, with the reason of that.
    Running {
        stopped: Option<Halt>,
    },
    /// To be tried again then.
    GivenUp {
        retry_at: Instant,
    },
    Ended,
}

#[derive(Debug)]
struct Supervised {
    standing: MirrorPhase,
    wave: usize,
    tries: u32,
    has_failed: bool,
}

/// Decides which mirrors are fed.
#[derive(Debug)]
pub(super) struct Supervisor {
    mirrors: Vec<Supervised>,
    at_once: usize,
    max_failures: usize,
    deadline: Option<Instant>,
    is_interrupted: bool,
}

impl Supervisor {
    pub(super) fn new(schedule: &Schedule, mirrors: usize) -> Self {
        let wave = |mirror: usize| {
            let given = schedule.waves.iter().position(|wave| wave.contains(&mirror));
            given.unwrap_or(schedule.waves.len())
        };
        let mirror = |number| Supervised {
            standing: MirrorPhase::Waiting,
            wave: wave(number),
            tries: 0,
            has_failed: false,
        };
        Self {
            mirrors: (0..mirrors).map(mirror).collect(),
            at_once: schedule.at_once(mirrors),
            max_failures: schedule.max_failures.map_or(usize::MAX, NonZeroUsize::get),
            deadline: schedule.deadline,
            is_interrupted: false,
        }
    }

    /// The run was interrupted. Mirrors that are being fed stop by themselves.
    pub(super) fn interrupt(&mut self) {
        self.is_interrupted = true;
    }

    pub(super) const fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// The feeding of a mirror has ended.
    pub(super) fn ended(&mut self, mirror: usize, end: End, gate: WindowState, now: Instant) {
        let waits = !self.is_over(now);
        let mirror = &mut self.mirrors[mirror];
        mirror.has_failed =
            matches!(end, End::Failed | End::Unreachable { .. } | End::Deferred { has_failed: true });
        mirror.standing = match (end, gate) {
            (End::Unreachable { rest }, _) if waits => {
                let after = rest.saturating_mul(1 << mirror.tries.min(16)).min(LAST_RETRY);
                mirror.tries += 1;
                MirrorPhase::GivenUp { retry_at: now + after }
            }
            // It goes on when its window opens again, or is told why not.
            (End::Deferred { .. }, WindowState::Open(_) | WindowState::Closed(Some(_))) => {
                MirrorPhase::Waiting
            }
            _ => MirrorPhase::Ended,
        };
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.mirrors.iter().all(|mirror| mirror.standing == MirrorPhase::Ended)
    }

    /// Whether a mirror may begin that was not fed yet.
    pub(super) fn some_wait(&self) -> bool {
        self.mirrors.iter().any(|mirror| mirror.standing == MirrorPhase::Waiting)
    }

    /// The orders of this moment.
    pub(super) fn orders(&mut self, now: Instant, gate: impl Fn(usize) -> WindowState) -> Vec<Order> {
        let mut orders = Vec::new();
        let over = self.why_over(now);
        for (number, mirror) in self.mirrors.iter_mut().enumerate() {
            let is_closed = || matches!(gate(number), WindowState::Closed(_));
            match (mirror.standing, over) {
                (MirrorPhase::Waiting, Some(halt)) => {
                    mirror.standing = MirrorPhase::Ended;
                    orders.push(Order::Skip(number, halt));
                }
                (MirrorPhase::Waiting, None) if gate(number) == WindowState::Closed(None) => {
                    mirror.standing = MirrorPhase::Ended;
                    orders.push(Order::Skip(number, Halt::Window));
                }
                (MirrorPhase::GivenUp { .. }, Some(_)) => mirror.standing = MirrorPhase::Ended,
                (MirrorPhase::Running { stopped }, over) => {
                    let deadline = over.filter(|halt| *halt == Halt::Deadline);
                    let halt = deadline.or_else(|| is_closed().then_some(Halt::Window));
                    // One that waits for a blob after its window closed hears of the deadline too.
                    if let Some(halt) = halt.filter(|halt| Some(*halt) > stopped) {
                        mirror.standing = MirrorPhase::Running { stopped: Some(halt) };
                        orders.push(Order::Stop(number, halt));
                    }
                }
                _ => {}
            }
        }
        let wave = self.wave();
        let may_begin = |mirror: &Supervised| match mirror.standing {
            MirrorPhase::Waiting => mirror.wave == wave,
            MirrorPhase::GivenUp { retry_at } => retry_at <= now,
            MirrorPhase::Running { .. } | MirrorPhase::Ended => false,
        };
        // Those that had no turn yet come before those that are tried again.
        let mut ready: Vec<usize> =
            (0..self.mirrors.len()).filter(|at| may_begin(&self.mirrors[*at])).collect();
        ready.sort_by_key(|at| self.mirrors[*at].tries);
        ready.retain(|at| matches!(gate(*at), WindowState::Open(_)));
        for number in ready.into_iter().take(self.at_once.saturating_sub(self.running())) {
            self.mirrors[number].standing = MirrorPhase::Running { stopped: None };
            orders.push(Order::Begin(number));
        }
        // Nobody waits for mirrors that were given up alone.
        if self.running() == 0 && !self.some_wait() {
            self.mirrors.iter_mut().for_each(|mirror| mirror.standing = MirrorPhase::Ended);
        }
        orders
    }

    /// When there is something to be done at the latest, if no mirror ends before.
    pub(super) fn next_look(&self, now: Instant, gate: impl Fn(usize) -> WindowState) -> Option<Instant> {
        let full = self.running() >= self.at_once;
        let of_mirror = |(number, mirror): (usize, &Supervised)| match (mirror.standing, gate(number)) {
            (MirrorPhase::Running { stopped: None }, WindowState::Open(until))
            | (MirrorPhase::Waiting | MirrorPhase::GivenUp { .. }, WindowState::Closed(until)) => until,
            (MirrorPhase::GivenUp { retry_at }, WindowState::Open(_)) if !full => Some(retry_at),
            _ => None,
        };
        let of_mirrors = self.mirrors.iter().enumerate().filter_map(of_mirror);
        let of_clock = self.follows_clock(&gate).then(|| now + CLOCK_CHECK);
        of_mirrors.chain(self.deadline).chain(of_clock).filter(|at| *at > now).min()
    }

    /// Whether the time of day decides on a mirror that has not ended.
    fn follows_clock(&self, gate: impl Fn(usize) -> WindowState) -> bool {
        let unbounded = [WindowState::Open(None), WindowState::Closed(None)];
        let mut mirrors = self.mirrors.iter().enumerate();
        mirrors.any(|(number, mirror)| {
            mirror.standing != MirrorPhase::Ended && !unbounded.contains(&gate(number))
        })
    }

    /// The group whose turn it is. A mirror that was given up holds up nobody.
    fn wave(&self) -> usize {
        let busy = |mirror: &&Supervised| {
            matches!(mirror.standing, MirrorPhase::Waiting | MirrorPhase::Running { .. })
        };
        self.mirrors.iter().filter(busy).map(|mirror| mirror.wave).min().unwrap_or(0)
    }

    fn running(&self) -> usize {
        self.mirrors.iter().filter(|mirror| matches!(mirror.standing, MirrorPhase::Running { .. })).count()
    }

    fn is_over(&self, now: Instant) -> bool {
        self.is_interrupted || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Why no other mirror begins.
    fn why_over(&self, now: Instant) -> Option<Halt> {
        let failed = self.mirrors.iter().filter(|mirror| mirror.has_failed).count();
        if self.is_interrupted {
            Some(Halt::Interrupted)
        } else if self.is_over(now) {
            Some(Halt::Deadline)
        } else {
            (failed >= self.max_failures).then_some(Halt::Failures(failed))
        }
    }
}
