//! What is done with each byte of a layer, on one core: hashing, and compressing member by member.
#![allow(clippy::unwrap_used)] // what cannot be set up cannot be measured

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use layercast::measured::{Algorithm, Hasher};
use layercast::measured::{Method, compress_member};

const LAYER_BYTES: usize = 4 << 20;
/// Layers are compressed in members of this size.
const MEMBER_BYTES: usize = 1 << 20;

fn hash(c: &mut Criterion) {
    let layer = support::content(LAYER_BYTES, 2);
    let mut group = c.benchmark_group("hash");
    group.throughput(Throughput::Bytes(LAYER_BYTES as u64)).sample_size(20);
    group.bench_function("sha256", |b| {
        b.iter(|| {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            hasher.update(&layer);
            hasher.finish()
        });
    });
}

fn compress(c: &mut Criterion) {
    let layer = support::content(LAYER_BYTES, 3);
    let mut group = c.benchmark_group("compress");
    group.throughput(Throughput::Bytes(LAYER_BYTES as u64)).sample_size(10);
    for (name, method) in [("gzip", Method::Gzip), ("zstd", Method::Zstd)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let members =
                    layer.chunks(MEMBER_BYTES).map(|member| compress_member(member, method).unwrap());
                members.map(|member| member.len()).sum::<usize>()
            });
        });
    }
}

criterion_group!(benches, hash, compress);
criterion_main!(benches);
