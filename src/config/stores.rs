//! What the sections of Resonance's own file say together: which database it is, and what its two consumers mean here.

use super::keys::{self, KEYS};
use super::read::Reading;
use super::sections::{Config, Database, InboxStore, PostgresConfig, SslMode, TlsMode};
use super::value::Value;
use super::{Place, Remark};

/// Resonance's name for the section `consumer`.
const PUSH: &str = "push_consumer";
/// The section of its consumer that writes rows.
const STORAGE: &str = "storage_consumer";
/// The subject of newer versions of Resonance, whose messages this engine cannot read.
const MQ_EVENTS: &str = "resonance.chat.event.v1";
/// The keys of `push_consumer` that have a meaning.
const SHARED: [&str; 4] = ["topic", "queue_group", "max_retry", "retry_interval"];

/// Fills in what follows from more than one section.
pub(super) fn join(reading: &mut Reading, config: &mut Config) {
    config.database = database(reading);
    sslmode(reading, &mut config.postgres);
    consumers(reading, config);
}

/// Where the first key of this section is written.
fn section(reading: &Reading, section: &str) -> Option<(String, Place)> {
    let of = reading.values.iter().filter(|(at, ..)| KEYS[*at].section == section);
    of.map(|(at, _, place)| (KEYS[*at].full(), place.clone())).next()
}

/// The one whose section is there.
fn database(reading: &mut Reading) -> Database {
    let [mysql, postgres] = [Database::Mysql, Database::Postgres].map(|of| section(reading, of.section()));
    match (mysql, postgres) {
        (Some((mysql, at)), Some((key, place))) => {
            let at = match at {
                Place::File(line, _) => format!("line {line}"),
                Place::Variable(name) => format!("environment {name}"),
                Place::Flag(_) | Place::Default => "elsewhere".to_owned(),
            };
            let what = format!(
                "the sections mysql ({mysql}, {at}) and postgres are both there, and one database holds members and inbox: \
                 leave out the one that does not"
            );
            reading.mistake(place, &key, what);
            Database::Mysql
        }
        (None, Some(_)) => Database::Postgres,
        (_, None) => Database::Mysql,
    }
}

/// What `sslmode` demands, the block of TLS does.
fn sslmode(reading: &mut Reading, postgres: &mut PostgresConfig) {
    if postgres.sslmode.demands_tls() {
        postgres.tls.mode = TlsMode::Required;
    } else if postgres.tls.is_written() && postgres.sslmode == SslMode::Disable {
        let what =
            "is disable, and a key of postgres.tls asks for TLS; write require, or leave one of them out".to_owned();
        reading.mistake(reading.place("postgres", "sslmode"), "postgres.sslmode", what);
    }
}

/// What Resonance writes of its two consumers.
fn consumers(reading: &mut Reading, config: &mut Config) {
    for name in SHARED {
        let Some(value) = reading.value(PUSH, name) else { continue };
        let place = reading.place(PUSH, name);
        if reading.is_written("consumer", name) {
            let is_other = reading.value("consumer", name) != Some(value);
            let key = format!("{PUSH}.{name}");
            if is_other {
                reading.mistake(place, &key, format!("contradicts consumer.{name}: write one of them"));
            }
            continue;
        }
        take(reading, config, name, value, place);
    }
    let stored = section(reading, STORAGE).is_some();
    if !reading.is_written("consumer", "topic")
        && let Some(topic) = reading.value(STORAGE, "topic")
    {
        let place = reading.place(STORAGE, "topic");
        take(reading, config, "topic", topic, place);
    }
    if config.consumer.topic == MQ_EVENTS {
        let what = "carries MQEvent, the message of newer versions of Resonance, and this engine reads PushEvent: name the subject on \
                    which that is published, such as resonance.push.event.v1";
        reading.mistake(reading.place("consumer", "topic"), "consumer.topic", what.to_owned());
    }
    if stored && !reading.is_written("inbox", "store") {
        config.inbox.store = InboxStore::All;
    }
    if stored && config.inbox.store == InboxStore::All && !reading.is_written("inbox", "sender") {
        config.inbox.sender = true;
    }
    if let Some((key, place)) = section(reading, STORAGE) {
        let (store, sender) = (config.inbox.store.word(), config.inbox.sender);
        let what = format!(
            "its section means: inbox.store {store}, inbox.sender {sender}; rows are made of the events of {}",
            config.consumer.topic
        );
        reading.notes.push(Remark { place, key, what, nearest: None });
    }
}

/// Gives a value to a key of `consumer`, as if it were written there.
fn take(reading: &mut Reading, config: &mut Config, name: &str, value: Value, place: Place) {
    let found = keys::find("consumer", name).expect("the key is in the table");
    if let keys::Goes::Field(field) = KEYS[found].goes {
        field(config).set(value.clone());
    }
    reading.values.push((found, value, place));
}
