//! The half-open probe of a host whose circuit breaker is open: `GET /v2/`, over a connection of its own.

use std::time::Duration;

use reqwest::{Method, Url};

use super::{ApiClient, ApiRequest};
use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::host::HostState;
use crate::registry::retry::MAX_PROBE_DELAY;
use crate::registry::retry::driver::RetryDriver;
use crate::registry::transport::Probe;

/// The last probe may take this long at least.
const MIN_PROBE_TIMEOUT: Duration = Duration::from_secs(1);

impl ApiClient {
    /// Probes the host of a URL until it answers.
    ///
    /// # Errors
    /// There is no patience left: the host is given up.
    pub(super) async fn probe_until_up(&self, host: &HostState, url: &Url) -> Result<(), Cause> {
        let api = self.endpoint.url("").ok().filter(|_| self.endpoint.is_origin_of(url));
        let at = api.unwrap_or_else(|| {
            let mut root = url.clone();
            root.set_path("/");
            root.set_query(None);
            root
        });
        let what = format!("GET {}", self.transport.shown_url(&at));
        let mut driver = RetryDriver::new(&self.policy, self.observer.as_ref(), what);
        loop {
            let (left, why, cause) = {
                let mut breaker = host.breaker();
                let left = breaker.left();
                if left.is_zero() {
                    return Err(breaker.give_up(Instant::now()));
                }
                (left, breaker.why(), breaker.in_short())
            };
            let began = Instant::now();
            driver.back_off_at_most(host, MAX_PROBE_DELAY.min(left), &why, &cause).await;
            let deadline = left.saturating_sub(began.elapsed()).max(MIN_PROBE_TIMEOUT);
            let deadline = deadline.min(self.transport.commit_timeout(0));
            let probe = Some(Probe { deadline, afresh: true });
            let request = ApiRequest { probe, follows: false, ..ApiRequest::new(Method::GET, at.clone()) };
            let outcome = self.attempt(&request, None).await;
            let mut breaker = host.breaker();
            match outcome {
                Err((cause, _)) if cause.says_away() => breaker.failed(&cause, began.elapsed()),
                _ => {
                    breaker.probed(began.elapsed());
                    return Ok(());
                }
            }
        }
    }
}
