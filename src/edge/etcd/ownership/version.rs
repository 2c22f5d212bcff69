//! Versions of etcd whose word about leases cannot be trusted.
//!
//! Promises one line for each endpoint with such a version, once a process. What the engine promises holds with them too: that is
//! what the margin, the fence and the generations are for.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::Client;
use tokio::time::timeout;

static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Asks an endpoint for its version. An endpoint that does not tell it is used all the same.
pub(super) async fn look(client: Client, place: String, patience: Duration) {
    let Ok(Ok(status)) = timeout(patience, client.maintenance_client().status()).await else { return };
    let Some(line) = warning(&place, status.version()) else { return };
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
        tracing::warn!("{line}");
    }
}

/// What to say of this version; nothing of a good one, or of one that is not understood.
fn warning(place: &str, version: &str) -> Option<String> {
    let numbers = version.split(['.', '-']).take(3).map(str::parse::<u32>).collect::<Result<Vec<_>, _>>().ok()?;
    let &[major, minor, patch] = &numbers[..] else { return None };
    let is_bad = match (major, minor) {
        (3, 4) => patch < 38,
        (3, 5) => patch < 23,
        (major, minor) => (major, minor) < (3, 4),
    };
    is_bad.then(|| {
        format!(
            "etcd at {place} is {version}: before 3.4.38 and 3.5.23 it may revoke a lease that is kept alive, or say that a revoked \
             one is kept. Partitions then move without need, and what was unacknowledged is pushed twice; upgrade it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_lie_about_leases_are_named_and_others_are_not() {
        for bad in ["3.3.27", "3.4.23", "3.4.37", "3.5.0", "3.5.22", "3.5.22-rc.1"] {
            let line = warning("10.0.0.1:2379", bad).expect(bad);
            assert!(line.contains("10.0.0.1:2379") && line.contains(bad) && line.contains("upgrade"), "{line}");
        }
        for good in ["3.4.38", "3.5.23", "3.6.0", "3.6.0-alpha.0", "4.0.0", "", "x", "3.5"] {
            assert_eq!(warning("10.0.0.1:2379", good), None, "{good}");
        }
    }
}
