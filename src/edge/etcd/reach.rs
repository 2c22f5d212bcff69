//! The first endpoint of several that answers.
//!
//! Promises that a dead or hung endpoint costs a moment, however long its connection may take to fail, and that a few are asked at
//! once at the most.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// An endpoint that has not answered for this long is not waited for alone.
const ENDPOINT_PATIENCE: Duration = Duration::from_millis(250);
/// Endpoints asked at once.
const ENDPOINTS_AT_ONCE: usize = 16;

/// The first of `endpoints` places, from `turn` on, whose attempt succeeds, and what came of it. The next one is asked when one has
/// failed or has not answered for a moment; when all have failed, what the last of them said.
pub(super) async fn reach<T, F>(
    endpoints: usize,
    turn: usize,
    attempt: impl Fn(usize) -> F,
) -> Result<(usize, T), (usize, String)>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let mut untried = (0..endpoints).map(|step| turn.wrapping_add(step) % endpoints);
    let mut attempts = JoinSet::new();
    let mut last = (turn % endpoints, "no answer".to_owned());
    let mut is_due = true;
    loop {
        if is_due
            && attempts.len() < ENDPOINTS_AT_ONCE
            && let Some(endpoint) = untried.next()
        {
            let attempt = attempt(endpoint);
            attempts.spawn(async move { (endpoint, attempt.await) });
        }
        match timeout(ENDPOINT_PATIENCE, attempts.join_next()).await {
            Err(_) => is_due = true,
            Ok(None) => return Err(last),
            Ok(Some(Ok((endpoint, Ok(reached))))) => return Ok((endpoint, reached)),
            Ok(Some(Ok((endpoint, Err(why))))) => (last, is_due) = ((endpoint, why), true),
            Ok(Some(Err(error))) => (last.1, is_due) = (error.to_string(), true),
        }
    }
}
