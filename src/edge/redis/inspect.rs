//! Whether Redis can be used as it is, for `task-engine doctor`.
//!
//! Promises to change nothing: what is written is HELLO, SELECT, CLIENT TRACKING of this connection, and reads.

use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use redis::Value;

use super::asker::{Asker, Lost, text};
use super::{Config, PROBE_KEYS, ROUTE_KEY_PREFIX};
use crate::edge::reach::{Way, compare_clocks, reach};
use crate::model::finding::{Check, Findings};

const WAY: Way = Way { name: Check::RedisName, tcp: Check::RedisTcp, key: "redis.addr" };
/// What to do about a right that is missing.
const RIGHTS: &str =
    "give the user +mget +hello +auth +client|tracking (+select for redis.db) and ~resonance:router:user:*";

/// Looks at it.
pub fn look(config: &Config, found: &mut Findings<'_>) {
    let Some(stream) = reach(WAY, &config.server.at, config.server.dial_timeout, found) else { return };
    if let Err(lost) = look_over(stream, config, found) {
        match lost {
            Lost::Tls(why) => found.fail_in_words(Check::RedisTls, &why),
            Lost::Away(why) => found.fail(
                Check::RedisLogin,
                format!("{}: {why}", config.server.at),
                "check that redis.addr is a Redis that is well, and redis.tls if it speaks TLS only",
            ),
        }
    }
}

fn look_over(stream: TcpStream, config: &Config, found: &mut Findings<'_>) -> Result<(), Lost> {
    found.begin(Check::RedisTls);
    let mut asker = Asker::over(stream, config)?;
    let is_tls = config.server.tls.is_written();
    found.begin(Check::RedisLogin);
    let Some(speaks_resp3) = login(&mut asker, config, found)? else { return Ok(()) };
    found.ok(Check::RedisTls, if is_tls { "TLS is spoken" } else { "plain, as redis.tls is not set" });
    if !select(&mut asker, config, found)? || !reads(&mut asker, found)? {
        return Ok(());
    }
    if speaks_resp3 {
        tracks(&mut asker, config, found)?;
    }
    says(&mut asker, found)?;
    clock(&mut asker, found)
}

/// Whether RESP3 is spoken; nothing when nobody is let in.
fn login(asker: &mut Asker<'_>, config: &Config, found: &mut Findings<'_>) -> Result<Option<bool>, Lost> {
    let hello = asker.greet(true)?;
    let why = match hello {
        Ok(Value::Map(_)) => {
            found.ok(Check::RedisLogin, format!("user {} is let in", config.user()));
            found.ok(Check::RedisResp3, "HELLO 3 is answered");
            return Ok(Some(true));
        }
        Ok(_) => "the answer is none of RESP3".to_owned(),
        Err(why) => why,
    };
    if is_of_login(&why) {
        found.fail_in_words(Check::RedisLogin, &config.refused(&why).why);
        return Ok(None);
    }
    // An older server, a proxy, or a user who may not say HELLO.
    let words = |ping: Result<Value, String>| ping.err().filter(|why| is_of_login(why));
    let said = [asker.greet(false)?, asker.ask(&redis::cmd("PING"))?];
    if let Some(why) = said.into_iter().find_map(words) {
        found.fail_in_words(Check::RedisLogin, &config.refused(&why).why);
        return Ok(None);
    }
    found.ok(Check::RedisLogin, format!("user {} is let in", config.user()));
    let advice =
        "use Redis 6 or newer without a proxy that hides HELLO: changes of routes are not told, and each event asks";
    found.warn(Check::RedisResp3, format!("HELLO 3 is refused: {why}"), advice);
    Ok(Some(false))
}

fn is_of_login(why: &str) -> bool {
    ["WRONGPASS", "NOAUTH", "DENIED"].iter().any(|code| why.starts_with(code))
        || why.contains("invalid password")
        || why.contains("password configured")
        || why.contains("no password is set")
}

fn select(asker: &mut Asker<'_>, config: &Config, found: &mut Findings<'_>) -> Result<bool, Lost> {
    found.begin(Check::RedisDb);
    let db = config.server.db;
    if db == 0 {
        found.ok(Check::RedisDb, "database 0");
        return Ok(true);
    }
    match asker.ask(redis::cmd("SELECT").arg(db))? {
        Ok(_) => found.ok(Check::RedisDb, format!("database {db}")),
        Err(why) if why.starts_with("NOPERM") => {
            found.fail(Check::RedisAcl, format!("SELECT is refused: {why}"), RIGHTS);
            return Ok(false);
        }
        Err(why) => {
            found.fail(
                Check::RedisDb,
                format!("SELECT {db} is refused: {why}"),
                "check redis.db, and `databases` in redis.conf",
            );
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether routes can be read.
fn reads(asker: &mut Asker<'_>, found: &mut Findings<'_>) -> Result<bool, Lost> {
    found.begin(Check::RedisAcl);
    let mut keys = redis::cmd("MGET");
    for number in 0..PROBE_KEYS {
        keys.arg(format!("{ROUTE_KEY_PREFIX}{number}"));
    }
    let cluster =
        "use one Redis, or a proxy before the cluster that splits MGET: routes of several users are read at once";
    match asker.ask(&keys)? {
        Ok(_) => {
            found.ok(Check::RedisAcl, "routes can be read");
            return Ok(true);
        }
        Err(why) if why.starts_with("NOPERM") => found.fail(Check::RedisAcl, format!("MGET is refused: {why}"), RIGHTS),
        Err(why) if ["CROSSSLOT", "MOVED", "CLUSTERDOWN"].iter().any(|code| why.starts_with(code)) => {
            found.fail(Check::RedisCluster, format!("this Redis is a cluster: {why}"), cluster);
        }
        Err(why) if why.starts_with("MASTERDOWN") => {
            found.fail(Check::RedisReplica, why, "bring its master back, or let redis.addr be the master");
        }
        Err(why) => found.fail(
            Check::RedisAcl,
            format!("MGET is refused: {why}"),
            "look at this server, and the proxy before it",
        ),
    }
    Ok(false)
}

fn tracks(asker: &mut Asker<'_>, config: &Config, found: &mut Findings<'_>) -> Result<(), Lost> {
    found.begin(Check::RedisTracking);
    if !config.is_tracked() {
        found.ok(Check::RedisTracking, "not wanted: routes.cache is off");
        return Ok(());
    }
    let mut tracking = redis::cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(ROUTE_KEY_PREFIX);
    match asker.ask(&tracking)? {
        Ok(_) => found.ok(Check::RedisTracking, "changes of routes are told"),
        Err(why) if why.starts_with("NOPERM") => {
            found.warn(Check::RedisAcl, format!("CLIENT TRACKING is refused, so that each event asks: {why}"), RIGHTS);
        }
        Err(why) => found.warn(
            Check::RedisTracking,
            format!("CLIENT TRACKING is refused, so that each event asks: {why}"),
            "use Redis 6 or newer without a proxy, or set routes.cache: off",
        ),
    }
    Ok(())
}

/// What the server says of itself.
fn says(asker: &mut Asker<'_>, found: &mut Findings<'_>) -> Result<(), Lost> {
    found.begin(Check::RedisEviction);
    let info = match asker.ask(&redis::cmd("INFO"))? {
        Ok(value) => text(&value).unwrap_or_default(),
        Err(why) => {
            let unknown = format!("not known: this user may not ask INFO ({why})");
            for check in [Check::RedisEviction, Check::RedisCluster, Check::RedisReplica] {
                found.ok(check, unknown.clone());
            }
            return Ok(());
        }
    };
    let of =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim);
    let (policy, bound) = (of("maxmemory_policy"), of("maxmemory"));
    match policy {
        "" | "noeviction" => found.ok(Check::RedisEviction, "nothing is evicted"),
        policy if bound == "0" || bound.is_empty() => {
            found.ok(Check::RedisEviction, format!("its policy is {policy}, and maxmemory sets no bound"));
        }
        policy => found.warn(
            Check::RedisEviction,
            format!("its policy is {policy} with maxmemory {bound}: a full server drops routes, and their users count as offline"),
            "set maxmemory-policy noeviction, or give routes a Redis of their own",
        ),
    }
    match of("cluster_enabled") {
        "1" => found.warn(
            Check::RedisCluster,
            "this Redis is a node of a cluster: it has the routes of its own slots only",
            "use one Redis, or a proxy before the cluster that splits MGET",
        ),
        _ => found.ok(Check::RedisCluster, "one server"),
    }
    match (of("role"), of("master_link_status")) {
        ("slave", "down") => found.warn(
            Check::RedisReplica,
            "it is a replica that has lost its master: its routes grow old",
            "bring its master back, or let redis.addr be the master",
        ),
        ("slave", _) => found.ok(Check::RedisReplica, "a replica whose master is there"),
        _ => found.ok(Check::RedisReplica, "a master"),
    }
    Ok(())
}

fn clock(asker: &mut Asker<'_>, found: &mut Findings<'_>) -> Result<(), Lost> {
    found.begin(Check::RedisClock);
    let asked = Instant::now();
    let time = match asker.ask(&redis::cmd("TIME"))? {
        Ok(Value::Array(parts)) => parts.iter().filter_map(text).filter_map(|part| part.parse::<u64>().ok()).collect(),
        _ => Vec::new(),
    };
    match time[..] {
        [seconds, micros] => {
            let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
            compare_clocks(Check::RedisClock, theirs, asked.elapsed(), found);
        }
        _ => found.ok(Check::RedisClock, "not known: this user may not ask TIME"),
    }
    Ok(())
}

/// The gateways that a user's route names (none: it cannot be read), and how long it holds; nothing when there is no route.
type RouteOf = Option<(Option<Vec<String>>, Option<Duration>)>;

/// Reads a user's route.
///
/// # Errors
/// Why Redis does not say, in words.
pub fn route_of(config: &Config, user: &str) -> Result<RouteOf, String> {
    let at = &config.server.at;
    let words = |lost: Lost| match lost {
        Lost::Tls(why) | Lost::Away(why) => config.lost_in_words(why).why,
    };
    let refused = |why: String| config.refused(&why).why;
    let mut quiet = |_| ();
    let stream = reach(WAY, at, config.server.dial_timeout, &mut Findings::new(&mut quiet));
    let stream =
        stream.ok_or_else(|| format!("redis {at}: it takes no connection; check that it runs, and redis.addr"))?;
    let mut asker = Asker::over(stream, config).map_err(words)?;
    if asker.greet(true).map_err(words)?.is_err() {
        asker.greet(false).map_err(words)?.map_err(refused)?;
    }
    if config.server.db > 0 {
        asker.ask(redis::cmd("SELECT").arg(config.server.db)).map_err(words)?.map_err(refused)?;
    }
    let key = format!("{ROUTE_KEY_PREFIX}{user}");
    let value = match asker.ask(redis::cmd("MGET").arg(&key)).map_err(words)?.map_err(refused)? {
        Value::Array(mut values) => values.pop(),
        _ => None,
    };
    let Some(Value::BulkString(value)) = value else { return Ok(None) };
    // A user who may read routes only is not told.
    let ttl = match asker.ask(redis::cmd("PTTL").arg(&key)).map_err(words)? {
        Ok(Value::Int(millis @ 0..)) => Some(Duration::from_millis(millis as u64)),
        _ => None,
    };
    Ok(Some((super::route_json::gateways_of(&value), ttl)))
}
