//! Variables that begin as ours do and are for others: Resonance gives one file of variables to all its services, and to Compose.
//!
//! Promises one reason for each name that its deployment sets, and that none of them is a key's variable. A name that is not in
//! the tables stays a mistake: a slip in a key's variable is never taken for another service's.

const AGENTS: &str = "it is for Resonance's agent services";
const COMPOSE: &str = "Resonance's compose file uses it, and no service does";
const GATEWAYS: &str = "it is for Resonance's gateways; the engine finds them in etcd";
const FIRST_USER: &str = "Resonance's init module makes its first user of it; the admin port here has no users";
const HOST_PORT: &str =
    "Resonance's compose file opens this port on its host; the server's address is in the section of its name";
const TOKENS: &str = "Resonance's logic service signs its users' tokens with it";

/// What the variables of services begin with that have no section here.
const SERVICES: &[(&str, &str)] = &[
    ("RESONANCE_AUTH_", TOKENS),
    ("RESONANCE_LOGIC_", "it is for Resonance's logic service"),
    ("RESONANCE_WEB_", "it is for Resonance's web service"),
    ("RESONANCE_PILOT_", AGENTS),
    ("RESONANCE_GRAFANA_", "it is for the Grafana of Resonance's compose file"),
    ("RESONANCE_PROMETHEUS_", "it is for the Prometheus of Resonance's compose file"),
];

/// Whole names, where the services above do not tell.
const NAMES: &[(&str, &str)] = &[
    (
        "RESONANCE_ENV",
        "one file is read, and no second one over it (such as task.prod.yaml): write into it, or into variables, what differs there",
    ),
    ("RESONANCE_DEBUG_CONFIG", "task-engine check-config shows what holds"),
    ("RESONANCE_IMAGE", COMPOSE),
    ("RESONANCE_CONFIG_DIR", COMPOSE),
    ("RESONANCE_VERSION", COMPOSE),
    ("RESONANCE_TASK_HOSTNAME", "Resonance's compose file names the container with it; see engine.instance"),
    ("RESONANCE_TASK_SERVICE_NAME", "a label of the Go service"),
    ("RESONANCE_GATEWAY_HOSTNAME", GATEWAYS),
    ("RESONANCE_GATEWAY_DEV_HOST", GATEWAYS),
    ("RESONANCE_GATEWAY_HTTP_HOST", GATEWAYS),
    ("RESONANCE_GATEWAY_HTTP_PORT", GATEWAYS),
    ("RESONANCE_GATEWAY_GRPC_PORT", GATEWAYS),
    ("RESONANCE_GATEWAY_WS_PORT", GATEWAYS),
    ("RESONANCE_GATEWAY_PORT", GATEWAYS),
    ("RESONANCE_GATEWAY_SERVICE_AUTH_SECRET", GATEWAYS),
    ("RESONANCE_ADMIN_USERNAME", FIRST_USER),
    ("RESONANCE_ADMIN_PASSWORD", FIRST_USER),
    ("RESONANCE_ADMIN_NICKNAME", FIRST_USER),
    ("RESONANCE_JWT_SECRET", TOKENS),
    ("RESONANCE_MYSQL_ROOT_PASSWORD", "the database's administrator has it; the engine logs in as mysql.username"),
    ("RESONANCE_DB_PORT", HOST_PORT),
    ("RESONANCE_REDIS_PORT", HOST_PORT),
    ("RESONANCE_NATS_PORT", HOST_PORT),
    ("RESONANCE_ETCD_PORT", HOST_PORT),
    ("RESONANCE_REGISTRY_TTL", "the engine registers nothing, so it holds no lease"),
    ("RESONANCE_USER_ASSISTANT_PROFILE_VERSION", AGENTS),
    ("RESONANCE_IAM_ADMIN_PROFILE_VERSION", AGENTS),
];

/// Why a variable means nothing here that is another service's; none: it is nobody's that is known.
pub(super) fn why_without_effect(name: &str) -> Option<&'static str> {
    let whole = NAMES.iter().find(|(known, _)| *known == name);
    let service = || SERVICES.iter().find(|(begin, _)| name.len() > begin.len() && name.starts_with(begin));
    whole.or_else(service).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::super::keys::{KEYS, Key};
    use super::*;

    #[test]
    fn no_variable_of_a_key_is_taken_for_anothers() {
        let taken: Vec<_> =
            KEYS.iter().flat_map(Key::variables).filter(|name| why_without_effect(name).is_some()).collect();
        assert!(taken.is_empty(), "{taken:?} are keys'");
    }

    #[test]
    fn a_slip_is_nobodys() {
        for slip in [
            "RESONANCE_ENVV",
            "RESONANCE_AUTH_",
            "RESONANCE_LOGI_LEVEL",
            "RESONANCE_ADMIN_LISTN",
            "RESONANCE_IMAGES",
            "RESONANCE",
        ] {
            assert_eq!(why_without_effect(slip), None, "{slip}");
        }
    }
}
