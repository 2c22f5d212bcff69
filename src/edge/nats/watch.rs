//! Watches one connection until it is to be replaced or the source stops.
//!
//! Promises to say that all is well only after a round trip that began when the present connection stood, so that the
//! subscription is known to the server. A connection is lost when the server shows no sign of life (no PONG and no
//! message) for `ping_interval` times `max_pings_out`, when the client did not get through by itself for
//! [`CLIENT_TRIES_FOR`], or when the client ended or the server refused the subscription.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::keeper::{Keeper, Up};
use super::link::Ask;

/// The longest time between two signs of life that are asked for.
const PING_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// How long the client may try to reconnect before the keeper looks itself, which has deadlines and better words.
const CLIENT_TRIES_FOR: Duration = Duration::from_secs(15);
/// The net under a lost nudge.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why a connection is no longer watched.
pub(super) enum Ended {
    Stop,
    /// The engine began or ceased to be able to work.
    Turned,
    Lost(String),
}

/// A sign of life that was asked for.
struct Pulse {
    since: Instant,
    reconnects: u32,
    arrived: u64,
}

pub(super) struct Watch<'a> {
    keeper: &'a Keeper,
    up: &'a Up,
    interval: Duration,
    deadline: Duration,
    pulse: Option<Pulse>,
    last_asked: Instant,
    down_since: Option<Instant>,
    /// How many reconnects there had been when the subscription was last known to stand.
    confirmed: Option<u32>,
    seen: u32,
    /// Why nothing comes, as it was last reported.
    unfed: Option<String>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(keeper: &'a Keeper, up: &'a Up) -> Self {
        let nats = &keeper.shared.nats;
        let interval = nats.ping_interval.clamp(Duration::from_millis(10), PING_INTERVAL_MAX);
        Self {
            keeper,
            up,
            interval,
            deadline: interval * nats.max_pings_out.max(1),
            pulse: None,
            last_asked: Instant::now(),
            down_since: None,
            confirmed: None,
            seen: 0,
            unfed: None,
        }
    }

    pub(super) fn run(mut self) -> Ended {
        loop {
            if self.keeper.stopping() {
                return Ended::Stop;
            }
            if self.keeper.has_turned() {
                return Ended::Turned;
            }
            if let Some(why) = self.look() {
                return self.lost(&why);
            }
            self.look_at_unfed();
            let reply = select! {
                recv(self.keeper.nudged) -> _ => continue,
                recv(self.up.link.replies) -> reply => reply,
                default(LOOK_EVERY.min(self.interval)) => continue,
            };
            let Ok((_, result)) = reply else { return self.lost("the link thread ended") };
            if let Err(error) = self.hear(result) {
                return self.lost(&error.to_string());
            }
        }
    }

    /// Reports a stream or consumer that ceased to bring events, and that it brings them again.
    fn look_at_unfed(&mut self) {
        let Some(desk) = self.keeper.desk.as_ref().filter(|_| self.confirmed.is_some()) else { return };
        let unfed = desk.unfed();
        if unfed != self.unfed {
            self.unfed = unfed;
            self.keeper.ready(&self.up.servers);
        }
    }

    fn lost(&self, why: &str) -> Ended {
        Ended::Lost(format!("NATS at {}: {why}", self.up.servers))
    }

    /// Looks at the connection, and asks for a sign of life when it is time; says why it is lost.
    fn look(&mut self) -> Option<String> {
        let state = &self.up.state;
        if let Some(refusal) = state.take_refusal() {
            return Some(refusal);
        }
        if state.is_closed() {
            return Some("the client ended the connection".to_owned());
        }
        let now = Instant::now();
        // Pulls end with their connection, and what is prepared for them too.
        if self.keeper.desk.is_some() && (!state.is_connected() || state.reconnects() > 0) {
            return Some("the connection was lost; check that the server runs".to_owned());
        }
        if !state.is_connected() {
            self.confirmed = None;
            let since = *self.down_since.get_or_insert(now);
            if since == now {
                let servers = &self.up.servers;
                self.keeper.waiting(format!("NATS at {servers}: the connection was lost; check that the server runs"));
            }
            let too_long = now.duration_since(since) > CLIENT_TRIES_FOR;
            return too_long.then(|| "no connection; check that the server runs".to_owned());
        }
        let reconnects = state.reconnects();
        let is_new = self.down_since.take().is_some() || self.seen != reconnects;
        self.seen = reconnects;
        let arrived = self.up.progress.arrived(self.up.subscriptions.waiting());
        match &mut self.pulse {
            None if self.confirmed != Some(reconnects) || now.duration_since(self.last_asked) >= self.interval => {
                self.last_asked = now;
                self.pulse = Some(Pulse { since: now, reconnects, arrived });
                // There is room: the last one was answered.
                let _ = self.up.link.asks.try_send(Ask::Pulse);
            }
            Some(pulse) if is_new => (pulse.since, pulse.arrived) = (now, arrived),
            Some(pulse) if now.duration_since(pulse.since) > self.deadline => {
                if pulse.arrived == arrived {
                    return Some(format!("no sign of life for {:?}", self.deadline));
                }
                (pulse.since, pulse.arrived) = (now, arrived);
            }
            _ => {}
        }
        None
    }

    /// Takes the answer to a pulse.
    fn hear(&mut self, result: io::Result<()>) -> io::Result<()> {
        let asked = self.pulse.take().map(|pulse| pulse.reconnects);
        let connected = self.up.state.is_connected();
        if connected {
            result?;
            // A PONG that an older connection owed is given as soon as the new one stands: it says nothing of this one.
            if asked == Some(self.up.state.reconnects()) && self.confirmed != asked {
                self.confirmed = asked;
                self.unfed = self.keeper.desk.as_ref().and_then(|desk| desk.unfed());
                self.keeper.ready(&self.up.servers);
            }
        }
        Ok(())
    }
}
