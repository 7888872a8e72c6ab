//! Records the course of a run for its report. Bounded, however long the run takes.

use std::time::Duration;

use super::document::Document;
use super::event::{Event, Listener, Sample};
use super::timeline::{BytesPoint, MirrorStage, RetryCount, SlowBlob, StageSpan, Timeline};
use crate::clock::Instant;
use crate::locks::Mutex;

/// Points of all mirrors together, and the most and fewest of one.
const ALL_POINTS: usize = 12_000;
const MOST_POINTS: usize = 240;
const FEWEST_POINTS: usize = 12;
/// How far points lie apart at first, in seconds.
const FIRST_INTERVAL: f64 = 0.25;
/// Slow uploads, causes of retries and stages that are kept of a mirror.
const MAX_SLOW: usize = 10;
const MAX_CAUSES: usize = 12;
const MAX_STAGES: usize = 48;
/// The cause that stands for those beyond.
const OTHER_CAUSES: &str = "other causes";

/// Hears of a run.
#[derive(Debug)]
pub(crate) struct RunRecorder {
    began: Instant,
    course: Mutex<Course>,
}

#[derive(Debug, Default)]
struct Course {
    read_seconds: Option<f64>,
    mirrors: Vec<MirrorCourse>,
}

#[derive(Debug)]
struct MirrorCourse {
    name: String,
    timeline: Timeline,
    stage: Option<(MirrorStage, f64)>,
    series: ByteSeries,
    sent: u64,
    acknowledged: u64,
}

/// Points that lie further apart the more there are.
#[derive(Debug)]
struct ByteSeries {
    points: Vec<BytesPoint>,
    interval: f64,
    most: usize,
}

impl ByteSeries {
    fn new(most: usize) -> Self {
        Self { points: Vec::new(), interval: FIRST_INTERVAL, most }
    }

    /// The point of this moment takes the place of the last one, unless that lies far enough back.
    fn add(&mut self, point: BytesPoint) {
        let before = self.points.len().checked_sub(2).map_or(0.0, |at| self.points[at].at_seconds);
        match self.points.last_mut() {
            Some(last)
                if point.at_seconds <= last.at_seconds || point.at_seconds - before < self.interval =>
            {
                *last = point;
            }
            _ => self.points.push(point),
        }
        if self.points.len() > self.most {
            let last = self.points.len() - 1;
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at % 2 == 0 || at > last
            });
            self.interval *= 2.0;
        }
    }
}

impl MirrorCourse {
    fn new(name: String, limit: Option<u64>, most_points: usize) -> Self {
        let timeline = Timeline { limit_bytes_per_second: limit, ..Timeline::default() };
        let series = ByteSeries::new(most_points);
        Self { name, timeline, stage: None, series, sent: 0, acknowledged: 0 }
    }

    /// From now on this is done; nothing after the end.
    fn enter(&mut self, stage: Option<MirrorStage>, now: f64) {
        if let Some((stage, from_seconds)) = self.stage.take()
            && self.timeline.stages.len() < MAX_STAGES
        {
            self.timeline.stages.push(StageSpan { stage, from_seconds, to_seconds: now });
        }
        self.stage = stage.map(|stage| (stage, now));
    }

    fn point(&mut self, now: f64) {
        let (sent, acknowledged) = (self.sent, self.acknowledged);
        self.series.add(BytesPoint { at_seconds: now, sent, acknowledged });
    }

    fn uploaded(&mut self, blob: SlowBlob) {
        let slowest = &mut self.timeline.slowest_blobs;
        let at = slowest.partition_point(|slower| slower.seconds >= blob.seconds);
        slowest.insert(at, blob);
        slowest.truncate(MAX_SLOW);
    }

    fn retried(&mut self, cause: &str, after: Duration) {
        let retries = &mut self.timeline.retries;
        let known = retries.iter().position(|known| known.cause == cause);
        let at = known.unwrap_or_else(|| {
            let cause = if retries.len() + 1 < MAX_CAUSES { cause } else { OTHER_CAUSES };
            retries.iter().position(|known| known.cause == cause).unwrap_or_else(|| {
                retries.push(RetryCount { cause: cause.to_owned(), count: 0, seconds: 0.0 });
                retries.len() - 1
            })
        });
        retries[at].count += 1;
        retries[at].seconds += after.as_secs_f64();
    }

    fn hear(&mut self, event: &Event, now: f64) {
        match event {
            Event::Begun { .. } => self.enter(Some(MirrorStage::Connect), now),
            Event::Connected { .. } => self.enter(Some(MirrorStage::Probe), now),
            Event::Wanted { .. } if matches!(self.stage, Some((MirrorStage::Probe, _))) => {
                self.enter(Some(MirrorStage::Send), now);
                self.point(now);
            }
            Event::Publishes { .. } => self.enter(Some(MirrorStage::Tag), now),
            Event::Finished { .. } => {
                self.enter(None, now);
                self.point(now);
            }
            Event::Acknowledged { digest, bytes, took, .. } => {
                self.acknowledged += bytes;
                self.point(now);
                let whole = took.prepared + took.queued + took.sent;
                let blob = SlowBlob {
                    digest: *digest,
                    bytes: *bytes,
                    seconds: whole.as_secs_f64(),
                    bundle_seconds: took.prepared.as_secs_f64(),
                    turn_seconds: took.queued.as_secs_f64(),
                };
                self.uploaded(blob);
            }
            Event::Retried { cause, after, .. } => self.retried(cause, *after),
            Event::Measured { sample: Sample::Sent { bytes }, .. } => {
                self.sent += bytes;
                self.point(now);
            }
            Event::Measured { sample: Sample::Repositioned { from, to }, .. } => {
                self.timeline.bytes_repeated += from.saturating_sub(*to);
            }
            _ => {}
        }
    }

    fn timeline(&self, now: f64) -> Timeline {
        let mut timeline = self.timeline.clone();
        timeline.bytes.clone_from(&self.series.points);
        // What was under way when the run was interrupted.
        timeline.stages.extend(self.stage.map(|(stage, from_seconds)| StageSpan {
            stage,
            from_seconds,
            to_seconds: now,
        }));
        timeline
    }
}

impl RunRecorder {
    /// For a run that began then.
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, course: Mutex::default() }
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Puts what was heard into the report.
    pub(crate) fn write(&self, document: &mut Document) {
        let (now, course) = (self.now(), self.course.lock());
        document.read_seconds = course.read_seconds;
        for outcome in &mut document.mirrors {
            let mirror = course.mirrors.iter().find(|mirror| mirror.name == outcome.name);
            outcome.timeline = mirror.filter(|mirror| mirror.has_begun()).map(|mirror| mirror.timeline(now));
        }
    }
}

impl MirrorCourse {
    fn has_begun(&self) -> bool {
        self.stage.is_some() || !self.timeline.stages.is_empty()
    }
}

impl Listener for RunRecorder {
    fn hear(&self, event: &Event) {
        let now = self.now();
        let mut course = self.course.lock();
        match (event.mirror(), event) {
            (Some(mirror), _) => {
                if let Some(mirror) = course.mirrors.get_mut(mirror) {
                    mirror.hear(event, now);
                }
            }
            (None, Event::Planned { .. }) => course.read_seconds = Some(now),
            // Another bundle is tried: what was sent of the first one was sent all the same.
            (None, Event::Started { mirrors, limits }) if course.mirrors.is_empty() => {
                let most = (ALL_POINTS / mirrors.len().max(1)).clamp(FEWEST_POINTS, MOST_POINTS);
                let named = mirrors.iter().zip(limits);
                course.mirrors =
                    named.map(|(name, limit)| MirrorCourse::new(name.clone(), *limit, most)).collect();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Outcome;
    use crate::report::event::UploadTimes;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_course_of_a_run_is_kept_and_bounded() {
        let recorder = RunRecorder::new(Instant::now());
        let hear = |event: Event| recorder.hear(&event);
        let measured = |sample| recorder.hear(&Event::Measured { mirror: 0, sample });
        hear(Event::Started { mirrors: vec!["m".into(), "later".into()], limits: vec![Some(7), None] });
        hear(Event::Begun { mirror: 0 });
        tokio::time::advance(SECOND).await;
        hear(Event::Connected { mirror: 0 });
        hear(Event::Planned { images: vec![1, 1], bytes: vec![9, 9] });
        tokio::time::advance(SECOND).await;
        for number in 0..40_u32 {
            let digest = format!("sha256:{}", format!("{number:02x}").repeat(32)).parse().unwrap();
            hear(Event::Wanted { mirror: 0, bytes: 1000 });
            for _ in 0..10 {
                tokio::time::advance(SECOND * 30).await;
                measured(Sample::Sent { bytes: 100 });
            }
            let took = UploadTimes { prepared: SECOND, queued: 2 * SECOND, sent: SECOND * (number + 300) };
            hear(Event::Acknowledged { mirror: 0, digest, bytes: 1000, took });
            let cause = format!("cause {}", number % 20);
            let (what, why) = (String::new(), String::new());
            hear(Event::Retried { mirror: 0, what, why, cause, after: SECOND });
        }
        measured(Sample::Repositioned { from: 500, to: 200 });
        hear(Event::Publishes { mirror: 0 });
        tokio::time::advance(SECOND).await;
        hear(Event::Finished { mirror: 0, complete: 1, failed: 0, failure: None, took: SECOND });
        let mut document = Document::begin(Vec::new());
        document.mirrors = vec![Outcome::new("m".into()), Outcome::new("later".into())];
        recorder.write(&mut document);
        assert_eq!(document.read_seconds, Some(1.0));
        assert_eq!(document.mirrors[1].timeline, None, "it has not begun");
        let timeline = document.mirrors[0].timeline.clone().unwrap();
        let stages: Vec<_> = timeline.stages.iter().map(|span| (span.stage, span.from_seconds)).collect();
        let (connect, probe, send, tag) =
            (MirrorStage::Connect, MirrorStage::Probe, MirrorStage::Send, MirrorStage::Tag);
        assert_eq!(stages, [(connect, 0.0), (probe, 1.0), (send, 2.0), (tag, 12_002.0)]);
        assert!((100..=MOST_POINTS).contains(&timeline.bytes.len()), "{}", timeline.bytes.len());
        let last = timeline.bytes.last().unwrap();
        assert_eq!((last.at_seconds, last.sent, last.acknowledged), (12_003.0, 40_000, 40_000));
        assert!(timeline.bytes.windows(2).all(|two| two[0].at_seconds < two[1].at_seconds));
        assert_eq!(timeline.slowest_blobs.len(), MAX_SLOW);
        assert_eq!(timeline.slowest_blobs.first().map(|blob| blob.seconds), Some(342.0));
        assert_eq!(timeline.retries.len(), MAX_CAUSES);
        assert_eq!(timeline.retries.iter().map(|it| it.count).sum::<u64>(), 40);
        assert_eq!((timeline.limit_bytes_per_second, timeline.bytes_repeated), (Some(7), 300));
    }
}
