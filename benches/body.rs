//! Blobs from memory to the embedded registry over the loopback: what the client, HTTP and the kernel take, with nothing
//! read, decoded or kept. The registry throws away what it is sent, and runs in this process.
#![allow(clippy::unwrap_used)] // what cannot be set up cannot be measured

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::try_join_all;
use layercast::measured::{BlobBody, ClientOptions, Registry, Target};
use layercast::measured::{Digest, Repository};
use layercast::measured::{Discard, Server, ServerOptions};
use tokio_util::sync::CancellationToken;

const BLOB_BYTES: usize = 4 << 20;

fn push(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shutdown = CancellationToken::new();
    let sink = Arc::new(Discard::default());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let binding =
        Server::bind_discard(address, Arc::clone(&sink), ServerOptions::default(), shutdown.clone());
    let server = runtime.block_on(binding).unwrap();
    let target: Target = format!("http://{}", server.local_addr()).parse().unwrap();
    let serving = runtime.spawn(server.run());
    let connecting = Registry::connect(&target.endpoint, ClientOptions::default());
    let registry = runtime.block_on(connecting).unwrap();

    let repository: Repository = "measured".parse().unwrap();
    let mut group = c.benchmark_group("body");
    for at_once in [1, 4] {
        let blobs: Vec<_> =
            (0..at_once).map(|seed| Bytes::from(support::content(BLOB_BYTES, seed))).collect();
        let blobs: Vec<(Digest, Arc<dyn BlobBody>)> =
            blobs.into_iter().map(|blob| (Digest::of(&blob), Arc::new(blob) as Arc<dyn BlobBody>)).collect();
        let bytes = at_once * BLOB_BYTES as u64;
        group.throughput(Throughput::Bytes(bytes)).sample_size(10);
        group.bench_function(BenchmarkId::new("push", at_once), |b| {
            b.iter(|| {
                let pushes =
                    blobs.iter().map(|(digest, body)| registry.push_blob(&repository, digest, body, None));
                let pushed = runtime.block_on(try_join_all(pushes)).unwrap();
                assert_eq!(pushed.iter().map(|blob| blob.bytes_sent).sum::<u64>(), bytes);
            });
        });
    }
    group.finish();
    drop(registry);
    shutdown.cancel();
    runtime.block_on(serving).unwrap().unwrap();
}

criterion_group!(benches, push);
criterion_main!(benches);
