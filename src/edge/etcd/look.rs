//! Whether the etcd that is followed answers: a watch is silent while nothing changes, and when etcd hangs.
//!
//! Promises that a small ask of the kind that listing makes goes out a moment after the last one was answered, that one without
//! an answer for [`LATE`] is said, and that one without an answer in time ends the connection. Refuses to end it sooner: a busy
//! etcd is no dead one.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use etcd_client::{GetOptions, KvClient};
use tokio::time::{sleep, timeout};

use super::{end_of, within};
use crate::config::HostPort;
use crate::ports::{Health, RegistrySink};

/// How long after an answer the next ask goes out.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long one may have no answer before that is said.
const LATE: Duration = Duration::from_secs(3);

/// Asks until an ask fails, or has no answer in time: why the connection is of no more use.
pub(super) async fn looks(
    mut kv: KvClient,
    (prefix, patience): (&str, Duration),
    endpoint: &HostPort,
    sink: &RegistrySink,
    kept: &str,
) -> Result<Infallible, String> {
    loop {
        sleep(LOOK_EVERY).await;
        let options = GetOptions::new().with_range(end_of(prefix)).with_limit(1).with_keys_only();
        let mut ask = pin!(within(patience, kv.get(prefix, Some(options))));
        match timeout(LATE, &mut ask).await {
            Ok(answer) => drop(answer?),
            Err(_) => {
                sink.report(Health::Waiting(format!(
                    "etcd at {endpoint} has not answered for {LATE:?}; {kept}; check that it runs and is not overloaded"
                )));
                ask.await?;
                sink.report(Health::Ready);
            }
        }
    }
}
