//! The environment as a source of keys.
//!
//! Promises that a variable which begins as ours do and is none is a mistake, as an unknown key is: a slip in the name of a
//! password's variable must not become an empty password. Passed over is what Kubernetes puts into each container about
//! services whose names begin as our variables do; what Resonance sets for its other services is taken with a note (`others.rs`).

use std::ffi::OsString;

use super::keys::KEYS;
use super::nearest;
use super::others;
use super::read::Reading;
use super::{Place, Remark};

/// What the variables of keys begin with.
const OURS: &str = "RESONANCE_";
/// What somebody may take for it: the program's name.
const NEARLY_OURS: &str = "TASK_ENGINE_";

impl Reading {
    /// Variables that begin as ours do, and where events are traced OpenTelemetry's; all others are nobody's business here.
    pub(super) fn take_environment(&mut self, environment: impl IntoIterator<Item = (OsString, OsString)>) {
        let named = environment.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let (mut ours, others): (Vec<_>, Vec<_>) = named.partition(|(name, value)| {
            [OURS, NEARLY_OURS].iter().any(|begin| name.starts_with(begin)) && !of_kubernetes(name, value)
        });
        ours.sort();
        self.take_ours(ours);
        self.take_standard(&others);
    }

    fn take_ours(&mut self, ours: Vec<(String, OsString)>) {
        for (name, value) in ours {
            let place = Place::Variable(name.clone());
            let found = KEYS.iter().enumerate().find_map(|(at, key)| {
                let spelling = key.variables().position(|variable| variable == name)?;
                Some((at, spelling.checked_sub(1).map_or(key.name, |alias| key.aliases[alias])))
            });
            let Some((found, spelling)) = found else {
                match others::why_without_effect(&name) {
                    Some(why) => self.note(place, "", format!("has no effect here: {why}")),
                    None => self.mistakes.push(unknown(&name, place)),
                }
                continue;
            };
            match value.to_str() {
                Some(text) => self.take(found, spelling, text, place),
                None => self.mistake(place, &KEYS[found].full(), "is not UTF-8 text".into()),
            }
        }
    }
}

fn unknown(name: &str, place: Place) -> Remark {
    let (what, nearest) = match name.strip_prefix(NEARLY_OURS) {
        Some(rest) => {
            ("unknown variable: those of keys begin with RESONANCE_", nearest::variable(&format!("{OURS}{rest}")))
        }
        None => ("unknown variable; correct its name, or unset it", nearest::variable(name)),
    };
    Remark { place, key: String::new(), what: what.to_owned(), nearest }
}

/// Whether this tells where a service of Kubernetes is, by the names that Kubernetes and Docker's links give.
fn of_kubernetes(name: &str, value: &OsString) -> bool {
    let is_url = value
        .to_str()
        .is_some_and(|value| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)));
    let is_port_of_a_protocol = || {
        let name = ["_PROTO", "_PORT", "_ADDR"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let Some((before, protocol)) = name.rsplit_once('_') else { return false };
        let number = before.rsplit_once("_PORT_").map_or("", |(_, number)| number);
        ["TCP", "UDP", "SCTP"].contains(&protocol) && number.parse::<u16>().is_ok()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_url)
        || is_port_of_a_protocol()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_says_of_services_is_told_from_keys() {
        for (name, value, is_of_kubernetes) in [
            ("TASK_ENGINE_SERVICE_HOST", "10.0.0.1", true),
            ("TASK_ENGINE_SERVICE_PORT", "9100", true),
            ("TASK_ENGINE_SERVICE_PORT_ADMIN", "9100", true),
            ("TASK_ENGINE_PORT", "tcp://10.0.0.1:9100", true),
            ("TASK_ENGINE_PORT_9100_TCP", "tcp://10.0.0.1:9100", true),
            ("TASK_ENGINE_PORT_9100_TCP_ADDR", "10.0.0.1", true),
            ("TASK_ENGINE_PORT_9100_TCP_PORT", "9100", true),
            ("TASK_ENGINE_PORT_9100_TCP_PROTO", "tcp", true),
            ("RESONANCE_MYSQL_PORT", "tcp://10.0.0.1:3306", true),
            ("RESONANCE_MYSQL_PORT", "3306", false),
            ("RESONANCE_MYSQL_PORT_X_TCP", "", false),
            ("RESONANCE_GATEWAY_SERVICE_NAME", "gw", false),
            ("RESONANCE_MYSQL_PASSWORD", "tcp://", false),
        ] {
            assert_eq!(of_kubernetes(name, &value.into()), is_of_kubernetes, "{name}={value}");
        }
    }
}
