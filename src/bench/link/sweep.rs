//! The sweep over settings of uploads: streams, then the size of requests, then the method, each by halving; and at the end the
//! best ones again, taking turns, so that a link that changes meanwhile changes for all of them.

use std::collections::HashMap;
use std::time::Duration;

use super::measure::Link;
use super::measure::commit::taken_apart;
use super::measure::setting::Setting;
use super::measure::upload::{Trial, trial};
use super::search::{Halving, Tried};
use super::statistics::{figure, median, ratio, whole};
use super::stop::Ended;
use crate::report::document::{CommitTime, HttpVersion, ThroughputFigures, TransferMethod, TrialEntry};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Sizes of requests. Limits on them are round numbers.
const SIZES: [u64; 6] = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB];
const STREAMS: [u64; 6] = [1, 2, 4, 8, 16, 32];
/// Where requests are counted, more streams only meet the limit.
const STREAMS_WHERE_COUNTED: usize = 3;
/// How often each of the last settings is tried.
const REPEATS: usize = 5;
/// One trial may take this part of all bytes: there are a dozen in the search, and fifteen at its end.
const PART_OF_BYTES: u64 = 50;
/// The largest body of the warm-up may take this part.
const PART_OF_WARM_UP: u64 = 12;
/// Less in a stream is mostly waiting.
const LEAST_IN_STREAM: u64 = 64 * KIB;
/// What is tried last: a push has at least so many uploads at a time (see `recommend`).
const LEAST_STREAMS: u32 = 4;
/// What is as quick is as good.
const AS_GOOD: f64 = 0.97;

/// What one trial may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrialTerms {
    pub(super) time: Duration,
    /// All bytes that the measurement may take.
    pub(super) bytes: u64,
}

/// What was found out of uploads, as far as the measurement came.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    pub(super) commits: Vec<CommitTime>,
    /// Bytes a second of one body, without its commit.
    pub(super) wire: Option<f64>,
    pub(super) refused_bytes: Option<u64>,
    /// The greatest size that was taken.
    pub(super) taken_bytes: u64,
    /// How much twice as many streams brought, at the greatest number.
    pub(super) growth: Option<f64>,
    pub(super) upload: Option<ThroughputFigures>,
    /// Numbers of streams that are as good as the best.
    pub(super) equivalent: Vec<u32>,
    /// Whether the greatest number of streams brings less than the best one.
    pub(super) loses_by_many: bool,
    pub(super) notes: Vec<String>,
    trials: HashMap<Setting, Vec<Trial>>,
    order: Vec<Setting>,
}

impl Sweep {
    /// Measures, until all is known or the end comes.
    pub(super) async fn run(&mut self, link: &Link, terms: TrialTerms) -> Result<(), Ended> {
        let outcome = self.all(link, terms).await;
        self.conclude();
        outcome
    }

    async fn all(&mut self, link: &Link, terms: TrialTerms) -> Result<(), Ended> {
        self.warm_up(link, terms).await?;
        if self.refused_bytes.is_none() {
            match self.settings(link, terms, TransferMethod::Put, SIZES[SIZES.len() - 1]).await {
                // Larger than any that was tried to warm up: all begins anew with requests that are taken.
                Err(Ended::TooLarge(bytes)) => {
                    self.refused_bytes = Some(bytes);
                    self.trials.clear();
                    self.order.clear();
                }
                outcome => return outcome,
            }
        }
        self.settings(link, terms, TransferMethod::Chunks, self.taken_bytes.max(1)).await
    }

    /// The sweep with one method, and requests up to a size.
    async fn settings(
        &mut self,
        link: &Link,
        terms: TrialTerms,
        method: TransferMethod,
        most: u64,
    ) -> Result<(), Ended> {
        let streams = self.streams(link, terms, method, most).await?;
        let fits = |streams: &u32| u64::from(*streams) * LEAST_IN_STREAM <= Self::most_bytes(terms);
        let streams = streams.max(Some(LEAST_STREAMS).filter(fits).unwrap_or(1));
        let of = |streams: u32, request_bytes: u64| Setting {
            streams,
            request_bytes,
            method,
            protocol: HttpVersion::Http1,
        };
        let best = of(streams, self.size_of(terms, method, streams, most));
        if method == TransferMethod::Put {
            self.sizes(link, terms, best).await?;
        }
        let patch = Setting { method: TransferMethod::Patch, ..best };
        let other_method = (method == TransferMethod::Put).then_some(patch);
        let doubled = streams * 2;
        let other_streams = if fits(&doubled) && u64::from(doubled) <= STREAMS[STREAMS.len() - 1] {
            doubled
        } else {
            (streams / 2).max(1)
        };
        let neighbour = of(other_streams, self.size_of(terms, method, other_streams, most));
        let http2 = Setting { protocol: HttpVersion::Http2, ..best };
        let http2 = link.over_http2.is_some().then_some(http2);
        let candidates: Vec<Setting> =
            [Some(best), Some(neighbour), other_method, http2].into_iter().flatten().collect();
        for _ in 0..REPEATS {
            for setting in &candidates {
                self.try_one(link, terms, setting).await?;
            }
        }
        Ok(())
    }

    /// Bodies one after the other, each larger than the last: how fast they come in, what a commit takes, and whether a size is
    /// refused.
    async fn warm_up(&mut self, link: &Link, terms: TrialTerms) -> Result<(), Ended> {
        for bytes in SIZES {
            let expected =
                self.wire.map_or(Duration::ZERO, |wire| Duration::from_secs_f64(bytes as f64 / wire));
            if bytes > terms.bytes / PART_OF_WARM_UP || expected > terms.time * 3 / 2 {
                break;
            }
            match taken_apart(link, bytes).await {
                Ok(apart) => {
                    self.commits.push(apart.commit);
                    self.wire = Some(self.wire.map_or(apart.wire, |wire| wire.max(apart.wire)));
                    self.taken_bytes = bytes;
                }
                Err(Ended::TooLarge(bytes)) => {
                    self.refused_bytes = Some(bytes);
                    break;
                }
                Err(ended) => return Err(ended),
            }
        }
        Ok(())
    }

    async fn streams(
        &mut self,
        link: &Link,
        terms: TrialTerms,
        method: TransferMethod,
        most: u64,
    ) -> Result<u32, Ended> {
        let counted = if link.rate_limited() > 0 { STREAMS_WHERE_COUNTED } else { STREAMS.len() };
        let fits = |streams: &u64| *streams == 1 || *streams * LEAST_IN_STREAM <= Self::most_bytes(terms);
        let mut search = Halving::new(STREAMS[..counted].iter().copied().filter(fits).collect());
        while let Some(streams) = search.next() {
            let streams = u32::try_from(streams).unwrap_or(u32::MAX);
            let request_bytes = self.size_of(terms, method, streams, most);
            let protocol = HttpVersion::Http1;
            let setting = Setting { streams, request_bytes, method, protocol };
            let rate = self.try_one(link, terms, &setting).await?;
            search.learn(Tried::Rate(rate));
        }
        let settled = search.settled().map_or(1, |(streams, _)| streams);
        Ok(u32::try_from(settled).unwrap_or(1))
    }

    /// The least size of requests that is as quick: what smaller blobs cost.
    async fn sizes(&mut self, link: &Link, terms: TrialTerms, best: Setting) -> Result<(), Ended> {
        let smaller = SIZES.into_iter().filter(|size| *size < best.request_bytes);
        let sizes = smaller.chain([best.request_bytes]).collect();
        let mut search = Halving::new(sizes);
        while let Some(request_bytes) = search.next() {
            let setting = Setting { request_bytes, ..best };
            let tried = match self.try_one(link, terms, &setting).await {
                Ok(rate) => Tried::Rate(rate),
                Err(Ended::TooLarge(bytes)) => {
                    self.refused_bytes = Some(self.refused_bytes.map_or(bytes, |known| known.min(bytes)));
                    Tried::Refused
                }
                Err(ended) => return Err(ended),
            };
            search.learn(tried);
        }
        Ok(())
    }

    async fn try_one(&mut self, link: &Link, terms: TrialTerms, setting: &Setting) -> Result<f64, Ended> {
        let (usual, once) = (self.trial_bytes(terms), u64::from(setting.streams) * setting.request_bytes);
        // One body for each stream, where two would be more than a trial may take.
        let bytes = if setting.method != TransferMethod::Chunks && 2 * once > usual { once } else { usual };
        let done = trial(link, setting, bytes).await?;
        if !self.trials.contains_key(setting) {
            self.order.push(*setting);
        }
        self.trials.entry(*setting).or_default().push(done);
        Ok(done.rate)
    }

    /// Bytes of one trial: those of its time, at the best rate so far.
    fn trial_bytes(&self, terms: TrialTerms) -> u64 {
        let rates = self.trials.values().flatten().map(|trial| trial.rate);
        let best = rates.chain(self.wire).fold(0.0, f64::max);
        let of_time = whole(best * terms.time.as_secs_f64());
        of_time.clamp(LEAST_IN_STREAM, Self::most_bytes(terms))
    }

    /// The most that one trial may take.
    const fn most_bytes(terms: TrialTerms) -> u64 {
        if terms.bytes / PART_OF_BYTES > LEAST_IN_STREAM {
            terms.bytes / PART_OF_BYTES
        } else {
            LEAST_IN_STREAM
        }
    }

    /// What one request carries, so that each stream has one body in a trial.
    fn size_of(&self, terms: TrialTerms, method: TransferMethod, streams: u32, most: u64) -> u64 {
        if method == TransferMethod::Chunks {
            return most;
        }
        let share = self.trial_bytes(terms) / u64::from(streams.max(1));
        let even = share / LEAST_IN_STREAM * LEAST_IN_STREAM;
        even.clamp(LEAST_IN_STREAM, most)
    }

    fn conclude(&mut self) {
        let Some((winner, as_good)) = self.winner() else { return };
        self.equivalent =
            as_good.iter().filter(|it| it.method == winner.method).map(|it| it.streams).collect();
        if as_good.len() > 1 {
            let words: Vec<String> = as_good.iter().map(in_words).collect();
            self.notes.push(format!("no significant difference between {}", words.join(", ")));
        }
        self.growth = self.growth_of(winner);
        if let Some(lost) = self.lost(winner) {
            self.loses_by_many = true;
            self.notes.push(lost);
        }
        let Some(rate) = figure(&self.rates(&winner)) else { return };
        if let Some(shared) = self.order.iter().find(|it| it.protocol == HttpVersion::Http2) {
            let each = Setting { protocol: HttpVersion::Http1, ..*shared };
            self.notes.extend(over_http2("uploads", &self.rates(&each), &self.rates(shared)));
        }
        let one = self.order.iter().find(|it| it.streams == 1 && it.method == winner.method);
        let entries = self.order.iter().map(|setting| TrialEntry {
            streams: setting.streams,
            request_bytes: setting.request_bytes,
            method: setting.method,
            protocol: setting.protocol,
            bytes_per_second: self.rates(setting),
        });
        let busy: Vec<f64> = self.trials[&winner].iter().map(|trial| trial.busy_cores).collect();
        self.upload = Some(ThroughputFigures {
            best_bytes_per_second: rate.median,
            streams: winner.streams,
            request_bytes: winner.request_bytes,
            method: winner.method,
            protocol: HttpVersion::Http1,
            one_stream_bytes_per_second: one.and_then(|setting| median(&self.rates(setting))),
            busy_cores: median(&busy),
            trials: entries.collect(),
            rate,
        });
    }

    /// The best of the settings that were tried most often, and all that are as good.
    fn winner(&self) -> Option<(Setting, Vec<Setting>)> {
        // A push sends no bodies over HTTP/2.
        let often = |setting: &&Setting| {
            setting.protocol == HttpVersion::Http1 && self.rates(setting).len() >= REPEATS
        };
        let is_repeated = self.order.iter().any(|setting| often(&setting));
        let last: Vec<Setting> =
            self.order.iter().filter(|setting| !is_repeated || often(setting)).copied().collect();
        let rate_of = |setting: &Setting| median(&self.rates(setting)).unwrap_or(0.0);
        let best = last.iter().copied().max_by(|a, b| rate_of(a).total_cmp(&rate_of(b)))?;
        let is_as_good = |setting: &&Setting| {
            let ratio = ratio(&self.rates(&best), &self.rates(setting));
            let is_same = ratio.is_some_and(|ratio| ratio.is_known() && !ratio.is_real());
            is_same || rate_of(setting) >= AS_GOOD * rate_of(&best)
        };
        let as_good: Vec<Setting> = last.iter().filter(is_as_good).copied().collect();
        // Of those that are as good the simplest one: few streams, and one request for a blob.
        let winner = as_good.iter().copied().min_by_key(|it| (it.streams, it.method)).unwrap_or(best);
        Some((winner, as_good))
    }

    fn rates(&self, setting: &Setting) -> Vec<f64> {
        let trials = self.trials.get(setting).map(Vec::as_slice).unwrap_or_default();
        trials.iter().map(|trial| trial.rate).collect()
    }

    /// What the greatest number of streams brought more than half as many; none where the best setting has fewer.
    fn growth_of(&self, winner: Setting) -> Option<f64> {
        let most = self.order.iter().map(|it| it.streams).max()?;
        let of = |streams: u32| {
            let same = self.order.iter().filter(|it| {
                it.streams == streams && it.method == winner.method && it.protocol == winner.protocol
            });
            same.filter_map(|it| median(&self.rates(it))).reduce(f64::max)
        };
        (winner.streams == most && most > 1).then(|| Some(of(most)? / of(most / 2)?)).flatten()
    }

    /// That many streams bring less than few.
    fn lost(&self, winner: Setting) -> Option<String> {
        let most = self.order.iter().max_by_key(|it| it.streams).filter(|it| it.streams > winner.streams)?;
        let compared = ratio(&self.rates(&winner), &self.rates(most))?;
        if compared.is_known() && !compared.is_real() {
            return None;
        }
        let (many, best) = (median(&self.rates(most))?, median(&self.rates(&winner))?);
        let less = 1.0 - many / best;
        (less > 0.1).then(|| {
            format!("{} streams bring {:.0} % less than {}", most.streams, less * 100.0, winner.streams)
        })
    }
}

/// What bodies over one connection came to, beside those over a connection each; none where they were not measured.
pub(super) fn over_http2(what: &str, each: &[f64], shared: &[f64]) -> Option<String> {
    let ratio = ratio(each, shared)?;
    let percent = (ratio.median - 1.0).abs() * 100.0;
    let found = match (ratio.is_real(), ratio.median < 1.0) {
        (false, _) => "make no significant difference".to_owned(),
        (true, true) => format!("are {percent:.0} % slower"),
        (true, false) => format!("are {percent:.0} % quicker"),
    };
    Some(format!(
        "{what} over HTTP/2, all on one connection, {found}; a push uses HTTP/1.1, a connection for each"
    ))
}

fn in_words(setting: &Setting) -> String {
    let method = match setting.method {
        TransferMethod::Put => "PUT",
        TransferMethod::Patch => "PATCH",
        TransferMethod::Chunks => "chunks",
        TransferMethod::Get => "GET",
    };
    format!("{} × {method}", setting.streams)
}
