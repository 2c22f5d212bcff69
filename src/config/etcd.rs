//! What the keys of `etcd` mean together.

use super::sections::EtcdConfig;

impl EtcdConfig {
    /// Whether etcd must speak TLS.
    pub fn wants_tls(&self) -> bool {
        self.https || self.tls.is_written()
    }

    /// `etcd.endpoints` as one would write it.
    pub(super) fn endpoints_shown(&self) -> String {
        let scheme = if self.https { "https://" } else { "" };
        self.endpoints.iter().map(|at| format!("{scheme}{at}")).collect::<Vec<_>>().join(",")
    }
}
