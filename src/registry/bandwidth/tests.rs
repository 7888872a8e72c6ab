//! What passes a limit, counted while the clock stands still.

use super::*;

const TEN_SECONDS: Duration = Duration::from_secs(10);

fn limiter(rate: &str) -> Arc<BandwidthLimiter> {
    Arc::new(BandwidthLimiter::new(rate.parse().unwrap()))
}

/// What each of some bodies brings through its limits in ten seconds.
async fn passed(bodies: Vec<Vec<Arc<BandwidthLimiter>>>) -> Vec<u64> {
    let end = Instant::now() + TEN_SECONDS;
    let bodies = bodies.into_iter().map(|limiters| async move {
        let mut passage = BandwidthLimits::new(&limiters).passage();
        let mut bytes = 0;
        loop {
            let slice = passage.slice(1 << 20);
            passage.pass(slice).await;
            if Instant::now() > end {
                return bytes;
            }
            bytes += slice as u64;
        }
    });
    futures_util::future::join_all(bodies).await
}

fn is_within(bytes: u64, expected: u64, percent: u64) -> bool {
    bytes.abs_diff(expected) * 100 <= expected * percent
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_exact_over_ten_seconds_whatever_it_is_and_bodies_share_it_alike() {
    for (rate, bytes_per_second) in [
        ("64kbit/s", 8_000),
        ("8Mbit/s", 1_000_000),
        ("20 Mbit/s", 2_500_000),
        ("100MB/s", 100_000_000),
        ("10Gbit/s", 1_250_000_000),
    ] {
        for bodies in [1, 7, 32] {
            let limiter = limiter(rate);
            let slice = limiter.slice_bytes;
            let passed = passed(vec![vec![limiter]; bodies]).await;
            let (all, least, most) =
                (passed.iter().sum(), *passed.iter().min().unwrap(), *passed.iter().max().unwrap());
            assert!(is_within(all, 10 * bytes_per_second, 5), "{rate}, {bodies}: {all}");
            // The first one takes what was free when nobody had asked yet. Beyond that, a timer is coarser than a slice.
            let is_alike = most - least <= bytes_per_second / 10 + 2 * slice;
            assert!(is_alike || bytes_per_second > 10_000_000, "{rate}, {bodies}: {least} to {most}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_passes_all_its_limits() {
    let (run, slow, group) = (limiter("6MB/s"), limiter("1MB/s"), limiter("2MB/s"));
    let bodies = vec![
        vec![Arc::clone(&slow), Arc::clone(&group), Arc::clone(&run)],
        vec![Arc::clone(&group), Arc::clone(&run)],
        vec![Arc::clone(&run)],
    ];
    let passed = passed(bodies).await;
    assert!(
        passed[0] > 8_000_000 && passed[0] < 10_500_000,
        "its own limit and half of its group's: {passed:?}"
    );
    assert!(is_within(passed[0] + passed[1], 20_000_000, 5), "that of its group: {passed:?}");
    assert!(is_within(passed.iter().sum(), 60_000_000, 5), "that of the run: {passed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_is_not_saved_up() {
    let limiter = limiter("1MB/s");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let passed = passed(vec![vec![limiter]]).await;
    assert!(is_within(passed[0], 10_000_000, 5), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits() {
    let mut passage = Passage::default();
    assert_eq!(passage.slice(1 << 30), 1 << 30);
    assert_eq!(passage.pass(1 << 30).await, Duration::ZERO);
}
