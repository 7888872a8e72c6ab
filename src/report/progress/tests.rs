//! What a run looks like while it goes on.

use std::time::Duration;

use super::model::RunModel;
use super::style::{Palette, width};
use super::{status, view};
use crate::clock::Instant;
use crate::oci::Digest;
use crate::report::event::{Event, Sample, UploadTimes};
use crate::report::{Class, Failure};

const MIB: u64 = 1 << 20;

struct Run {
    model: RunModel,
    now: Instant,
}

impl Run {
    fn of(names: &[&str]) -> Self {
        let now = Instant::now();
        let mut run = Self { model: RunModel::new(now), now };
        run.hear(Event::Started {
            mirrors: names.iter().map(|name| (*name).to_owned()).collect(),
            limits: vec![None; names.len()],
        });
        run
    }

    #[expect(clippy::needless_pass_by_value, reason = "events are written where they happen")]
    fn hear(&mut self, event: Event) {
        self.model.hear(&event, self.now);
    }

    fn opened(&mut self) {
        self.hear(Event::Opened { path: "b".into(), structure: "xz".into(), stored_bytes: None });
    }

    fn planned(&mut self, images: usize, bytes: u64) {
        let mirrors = self.model.mirrors.len();
        self.hear(Event::Planned { images: vec![images; mirrors], bytes: vec![bytes; mirrors] });
    }

    fn connected(&mut self, mirror: usize) {
        self.hear(Event::Begun { mirror });
        self.hear(Event::Connected { mirror });
    }

    fn measured(&mut self, mirror: usize, sample: Sample) {
        self.hear(Event::Measured { mirror, sample });
    }

    fn acknowledged(&mut self, mirror: usize, bytes: u64) {
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        self.hear(Event::Acknowledged { mirror, digest, bytes, took: UploadTimes::default() });
    }

    fn finished(&mut self, mirror: usize, class: Option<Class>) {
        let failure = class.map(|class| Failure::new(class, "why"));
        self.hear(Event::Finished { mirror, complete: 1, failed: 0, failure, took: Duration::ZERO });
    }

    /// A link of 6 MiB/s, for so many seconds; buffers take 4 MiB at once.
    fn sends(&mut self, mirror: usize, seconds: u64) {
        if self.model.mirrors[mirror].taken == 0 {
            self.measured(mirror, Sample::Sent { bytes: 4 * MIB });
        }
        for _ in 0..seconds * 10 {
            self.now += Duration::from_millis(100);
            self.measured(mirror, Sample::Sent { bytes: 6 * MIB / 10 });
        }
    }

    fn lines(&self, columns: usize) -> Vec<String> {
        view::lines(&self.model, columns, 24, Palette::Plain, self.now)
    }
}

#[test]
fn nothing_is_promised_before_the_bundle_has_been_read() {
    let mut run = Run::of(&["m"]);
    run.opened();
    run.hear(Event::BundleRead { bytes: 210 * MIB, of: Some(933 * MIB) });
    run.connected(0);
    run.hear(Event::Wanted { mirror: 0, bytes: 100 * MIB });
    run.sends(0, 10);
    let lines = run.lines(80);
    assert_eq!(lines[0], "bundle read 210/933 MiB");
    assert!(!lines.join("\n").contains("ETA") && !lines.join("\n").contains('%'), "{lines:?}");
    assert!(lines[2].contains("sending 6.0 MiB/s"), "{lines:?}");
    run.planned(1, 100 * MIB);
    let lines = run.lines(80);
    assert!(lines[0].starts_with("all  ") && lines[0].contains("ETA"), "{lines:?}");
}

#[test]
fn the_time_left_is_right_from_half_way_on() {
    let mut run = Run::of(&["m"]);
    run.planned(1, 57 * MIB);
    run.connected(0);
    run.hear(Event::Wanted { mirror: 0, bytes: 57 * MIB });
    // Half-way, of the 57 MiB 27 to 30 have left this machine.
    run.sends(0, 5);
    let left = run.model.left(run.now).unwrap().as_secs_f64();
    let truly = 57.0 / 6.0 - 5.0;
    assert!((left / truly - 1.0).abs() < 0.25, "{left} s, and it will be {truly} s");
}

#[test]
fn all_of_it_is_done_only_with_the_last_answer() {
    let mut run = Run::of(&["m"]);
    run.planned(1, 6 * MIB);
    run.connected(0);
    run.hear(Event::Wanted { mirror: 0, bytes: 6 * MIB });
    run.measured(0, Sample::Sent { bytes: 6 * MIB });
    let line = &run.lines(80)[1];
    assert!(line.contains("[--------  ]") && line.contains(" 89 %"), "some waits on this side: {line}");
    run.acknowledged(0, 6 * MIB);
    run.hear(Event::ImageWhole { mirror: 0, image: "a".into(), already: false });
    run.hear(Event::Publishes { mirror: 0 });
    assert!(
        run.lines(80)[1].contains(" 99 %") && run.lines(80)[1].ends_with("publishing"),
        "{:?}",
        run.lines(80)
    );
    run.finished(0, None);
    assert!(run.lines(80)[1].contains("[==========] 100 %"), "{:?}", run.lines(80));
    assert!(run.lines(80)[1].ends_with("✓ complete"));
}

#[test]
fn what_must_be_sent_again_does_not_count_and_what_the_mirror_has_is_not_expected() {
    let mut run = Run::of(&["m"]);
    run.planned(2, 100 * MIB);
    run.connected(0);
    run.measured(0, Sample::Skipped { blobs: 3, bytes: 90 * MIB });
    run.hear(Event::Wanted { mirror: 0, bytes: 10 * MIB });
    run.measured(0, Sample::Sent { bytes: 8 * MIB });
    assert_eq!((run.model.expected(), run.model.mirrors[0].taken), (Some(10 * MIB), 8 * MIB));
    run.measured(0, Sample::Repositioned { from: 8 * MIB, to: MIB });
    assert_eq!(run.model.mirrors[0].taken, MIB);
    // A blob that is given up is not expected any more.
    run.measured(0, Sample::Repositioned { from: MIB, to: 0 });
    run.hear(Event::NotSent { mirror: 0, bytes: 10 * MIB });
    assert_eq!((run.model.expected(), run.model.mirrors[0].taken), (Some(0), 0));
}

#[test]
fn a_mirror_says_what_it_waits_for() {
    let mut run = Run::of(&["m", "dead"]);
    run.connected(0);
    run.hear(Event::Begun { mirror: 1 });
    let retried = |mirror, cause: &str, seconds| Event::Retried {
        mirror,
        what: "POST".into(),
        why: "long words".into(),
        cause: cause.to_owned(),
        after: Duration::from_secs(seconds),
    };
    run.hear(retried(0, "429 too many requests", 12));
    run.hear(retried(1, "no connection", 5));
    let lines = run.lines(80);
    assert!(lines[1].ends_with("waiting 12 s: 429"), "{lines:?}");
    assert!(lines[2].ends_with("waiting 5 s: no connection"), "{lines:?}");
    let told = status::line(&run.model, run.now).unwrap();
    assert!(
        told.ends_with("2 mirrors: 2 waiting; m waits 12 s (429); dead waits 5 s (no connection)"),
        "{told}"
    );
    run.now += Duration::from_secs(6);
    assert!(run.lines(80)[2].ends_with("retrying: no connection"), "{:?}", run.lines(80));
    run.now += Duration::from_secs(10);
    let after = Duration::ZERO;
    run.measured(0, Sample::Answered { method: "GET", status: Some(200), after });
    assert!(run.lines(80)[1].ends_with("probing"), "{:?}", run.lines(80));
    run.finished(1, Some(Class::Unreachable));
    let lines = run.lines(80);
    assert!(lines[2].contains("[          ]") && lines[2].ends_with("✗ unreachable"), "{lines:?}");
}

#[test]
fn of_many_mirrors_the_worst_are_shown_and_the_others_counted() {
    let names: Vec<String> =
        (0..40).map(|n| format!("registry.site-{n:02}.example.com:5000/anthos")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut run = Run::of(&names);
    run.planned(1, MIB);
    (0..40).for_each(|mirror| run.connected(mirror));
    (0..30).for_each(|mirror| run.finished(mirror, None));
    run.finished(33, Some(Class::Unreachable));
    for columns in [40, 60, 80, 120] {
        let lines = view::lines(&run.model, columns, 10, Palette::Plain, run.now);
        assert_eq!(lines.len(), 9, "a line is left for the cursor");
        assert!(lines.iter().all(|line| width(line) <= columns), "{columns}: {lines:?}");
        assert!(lines[1].contains('✗'), "{lines:?}");
        assert_eq!(lines[8], cut_to(columns, "and 33 more: 3 probing, 30 complete"));
    }
}

fn cut_to(columns: usize, text: &str) -> String {
    super::cut(text, columns)
}

#[test]
fn a_second_try_counts_from_the_beginning() {
    let mut run = Run::of(&["m"]);
    run.planned(2, 10 * MIB);
    run.connected(0);
    run.hear(Event::Wanted { mirror: 0, bytes: 10 * MIB });
    run.measured(0, Sample::Sent { bytes: 4 * MIB });
    run.hear(Event::ImageWhole { mirror: 0, image: "a".into(), already: false });
    run.connected(0);
    assert_eq!((run.model.mirrors[0].taken, run.model.mirrors[0].whole), (0, 0));
    assert_eq!(run.model.expected(), Some(10 * MIB));
}
