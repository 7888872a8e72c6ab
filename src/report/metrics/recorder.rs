//! Metrics of the list and where their values are kept: the only file that names the exporter.

use metrics::{Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::list::{ALL, BUCKETS_SECONDS, Counter, Description, Gauge, Histogram, Metric, MetricKind, RUN};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Takes values and renders them. Not the global recorder: a process may have several.
#[derive(Debug)]
pub(super) struct Recorder {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Recorder {
    /// One that puts the name of the run on all that it renders.
    pub(super) fn new(run: &str) -> Self {
        let builder = PrometheusBuilder::new().add_global_label(RUN, run);
        // It refuses an empty list only.
        let recorder = match builder.set_buckets(&BUCKETS_SECONDS) {
            Ok(builder) => builder.build_recorder(),
            Err(_) => PrometheusBuilder::new().build_recorder(),
        };
        for Description { name, kind, unit, help, .. } in ALL {
            match kind {
                MetricKind::Counter => recorder.describe_counter((*name).into(), Some(*unit), (*help).into()),
                MetricKind::Gauge => recorder.describe_gauge((*name).into(), Some(*unit), (*help).into()),
                MetricKind::Histogram => {
                    recorder.describe_histogram((*name).into(), Some(*unit), (*help).into());
                }
            }
        }
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    pub(super) fn counter<const N: usize>(
        &self,
        metric: &Metric<Counter, N>,
        values: [&str; N],
    ) -> metrics::Counter {
        self.recorder.register_counter(&key(metric, values), &METADATA)
    }

    pub(super) fn gauge<const N: usize>(
        &self,
        metric: &Metric<Gauge, N>,
        values: [&str; N],
    ) -> metrics::Gauge {
        self.recorder.register_gauge(&key(metric, values), &METADATA)
    }

    pub(super) fn histogram<const N: usize>(
        &self,
        metric: &Metric<Histogram, N>,
        values: [&str; N],
    ) -> metrics::Histogram {
        self.recorder.register_histogram(&key(metric, values), &METADATA)
    }

    /// Puts what histograms have taken in into their buckets; it takes memory until then.
    pub(super) fn settle(&self) {
        self.handle.run_upkeep();
    }

    /// All values in the text format of Prometheus.
    pub(super) fn render(&self) -> String {
        self.handle.render()
    }
}

fn key<K, const N: usize>(metric: &Metric<K, N>, values: [&str; N]) -> Key {
    let labels = metric.labels.iter().zip(values);
    Key::from_parts(
        metric.name,
        labels.map(|(label, value)| Label::new(*label, value.to_owned())).collect::<Vec<_>>(),
    )
}
