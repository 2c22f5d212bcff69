//! Which workloads cannot be run, and what to change about them.

use task_engine::model::limits::{EVENT_BYTES_MAX, ROUTE_GATEWAYS_MAX};

use super::{CONTENT_BYTES_MIN, How, Load, Misbehaving, SessionGroup, Workload};
use crate::error::{Error, Result};

/// Listening sockets and threads' books: more gateways than this are no test but a mistake.
const GATEWAYS_MAX: u32 = 10_000;
/// The places of so many users are half a gigabyte.
const USERS_MAX: u32 = 64 << 20;
/// A move is three steps and a write to Redis; one thread makes them all.
const MOVES_MAX: u32 = 100_000;
/// A guest is two statements; one connection makes them all.
const GUESTS_MAX: u32 = 1_000;
/// Room in an event for all but its content.
const EVENT_REST_BYTES: usize = 1024;
const DAY_SECONDS: u32 = 24 * 3600;

impl Workload {
    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// The first thing that is wrong: which number it is and what to change.
    pub fn check(&self) -> Result<()> {
        let all = [self.check_sizes(), self.check_sessions(), self.check_load(), self.check_gateways()];
        match all.into_iter().find_map(std::result::Result::err) {
            Some(words) if self.name.is_empty() => Err(Error::new(words)),
            Some(words) => Err(Error::of(&format!("workload {} cannot be run", self.name), words)),
            None => Ok(()),
        }
    }

    fn check_sizes(&self) -> std::result::Result<(), String> {
        let most_content = EVENT_BYTES_MAX - EVENT_REST_BYTES;
        if self.gateways == 0 || self.gateways > GATEWAYS_MAX {
            return Err(format!("gateways is {}: make it 1 to {GATEWAYS_MAX} (--gateways)", self.gateways));
        }
        if self.users < 2 || self.users > USERS_MAX {
            return Err(format!("users is {}: make it 2 to {USERS_MAX} (--users)", self.users));
        }
        if self.offline_percent > 99 {
            return Err(format!(
                "offline_percent is {}, so nobody is connected: make it 0 to 99 (--offline)",
                self.offline_percent
            ));
        }
        if !(1.0..=ROUTE_GATEWAYS_MAX as f64).contains(&self.devices) {
            return Err(format!("devices is {}: make it 1 to {ROUTE_GATEWAYS_MAX} (--devices)", self.devices));
        }
        if !(CONTENT_BYTES_MIN..=most_content).contains(&self.content_bytes) {
            return Err(format!(
                "content_bytes is {}: make it {CONTENT_BYTES_MIN} (a number, an instant and a checksum are in it) to \
                 {most_content} (--content-bytes)",
                self.content_bytes
            ));
        }
        Ok(())
    }

    fn check_sessions(&self) -> std::result::Result<(), String> {
        if self.sessions.is_empty() {
            return Err("it has no sessions: add a [[sessions]] with count and members".to_owned());
        }
        for (at, group) in self.sessions.iter().enumerate() {
            let group_name = format!("group {} of its sessions", at + 1);
            if group.count == 0 {
                return Err(format!(
                    "{group_name} has count 0: make it at least 1 (--sessions), or take the group out"
                ));
            }
            if group.members < 2 {
                return Err(format!(
                    "{group_name} has {} members: make it at least 2, the sender and whom it is for (--fan-out 1)",
                    group.members
                ));
            }
            if group.members > self.users {
                return Err(format!(
                    "{group_name} has {} members but there are only {} users: lower members (--fan-out) or raise users \
                     (--users)",
                    group.members, self.users
                ));
            }
        }
        if self.sessions_count() > u64::from(u32::MAX >> 1) {
            return Err(format!("it has {} sessions: make them fewer (--sessions)", self.sessions_count()));
        }
        if self.sessions.iter().all(|group| group.share == 0) {
            return Err("each group of its sessions has share 0: give one of them a share of 1 or more".to_owned());
        }
        Ok(())
    }

    fn check_load(&self) -> std::result::Result<(), String> {
        match self.load {
            Load::EventsPerSecond(0) => {
                return Err("its rate is 0 events per second: make it at least 1 (--rate)".to_owned());
            }
            Load::PushesInFlight(0) => {
                return Err("its window is 0 pushes: make it at least 1 (--window)".to_owned());
            }
            Load::PushesInFlight(_) if self.sessions.iter().any(SessionGroup::has_fleeting) => {
                return Err(
                    "it has fleeting messages, and what is shed of them never leaves a window: give a rate (--rate)"
                        .to_owned(),
                );
            }
            Load::EventsPerSecond(_) | Load::PushesInFlight(_) => {}
        }
        if self.seconds == 0 || self.seconds > DAY_SECONDS {
            return Err(format!("seconds is {}: make it 1 to {DAY_SECONDS} (--seconds)", self.seconds));
        }
        if self.warm_up_seconds > DAY_SECONDS {
            return Err(format!("warm_up_seconds is {}: make it 0 to {DAY_SECONDS} (--warm-up)", self.warm_up_seconds));
        }
        if self.cold && self.warm_up_seconds > 0 {
            return Err(format!(
                "it is cold, which allows no warm-up, but warm_up_seconds is {}: make it 0 (--warm-up 0)",
                self.warm_up_seconds
            ));
        }
        if self.guests_per_second > GUESTS_MAX {
            return Err(format!(
                "guests_per_second is {}: make it at most {GUESTS_MAX} (--guests)",
                self.guests_per_second
            ));
        }
        if self.moves_per_second > MOVES_MAX {
            return Err(format!(
                "moves_per_second is {}: make it at most {MOVES_MAX} (--moves)",
                self.moves_per_second
            ));
        }
        Ok(())
    }

    fn check_gateways(&self) -> std::result::Result<(), String> {
        for (at, misbehaving) in self.misbehaving.iter().enumerate() {
            self.check_misbehaving(*misbehaving)?;
            if self.misbehaving[..at].iter().any(|earlier| earlier.gateway == misbehaving.gateway) {
                return Err(format!("gateway {} misbehaves in two ways: leave one", misbehaving.gateway));
            }
        }
        let needed = self.devices.ceil() as u32 + u32::from(self.moves_per_second > 0 && self.devices > 1.0);
        if self.gateways < needed {
            return Err(format!(
                "devices is {} and there are {} gateways: make them {needed} at least (--gateways), or lower it (--devices)",
                self.devices, self.gateways
            ));
        }
        if self.devices > 1.0 && self.misbehaving.iter().any(|misbehaving| misbehaving.how.is_excused()) {
            return Err(
                "a gateway is deaf or refusing, and users have several: what such users get cannot be judged; leave \
                        one out (--misbehave, --devices)"
                    .to_owned(),
            );
        }
        let excused = self.misbehaving.iter().filter(|misbehaving| misbehaving.how.is_excused()).count();
        let judged = self.gateways as usize - excused;
        if judged == 0 {
            return Err(
                "all gateways are deaf or refusing, so nothing could be judged: leave one that is not (--misbehave)"
                    .to_owned(),
            );
        }
        if self.moves_per_second > 0 && judged < 2 {
            return Err(format!(
                "users move but there is one gateway that takes them: raise gateways from {} (--gateways) or set moves to \
                 0 (--moves)",
                self.gateways
            ));
        }
        Ok(())
    }

    fn check_misbehaving(&self, misbehaving: Misbehaving) -> std::result::Result<(), String> {
        let Misbehaving { gateway, how, ms } = misbehaving;
        if gateway >= self.gateways {
            return Err(format!(
                "gateway {gateway} is to misbehave but there are {}, 0 to {}: lower it (--misbehave) or raise gateways \
                 (--gateways)",
                self.gateways,
                self.gateways - 1
            ));
        }
        match (how, ms) {
            (How::Slow, 0) => {
                Err(format!("gateway {gateway} is slow by 0 ms: say how slow (--misbehave {gateway}=slow:20)"))
            }
            (How::Flapping, 0) => Err(format!(
                "gateway {gateway} cuts its streams every 0 ms: say how often (--misbehave {gateway}=flapping:500)"
            )),
            (How::Deaf | How::Refusing, 1..) => {
                Err(format!("gateway {gateway} is deaf or refusing, which takes no {ms} ms: leave them out"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use task_engine::model::priority::Priority;

    fn refused(change: impl FnOnce(&mut Workload)) -> String {
        let mut workload = Workload::find("mixed").expect("it is there");
        change(&mut workload);
        workload.check().expect_err("cannot be run").to_string()
    }

    fn misbehaving(gateway: u32, how: How, ms: u32) -> Misbehaving {
        Misbehaving { gateway, how, ms }
    }

    #[test]
    fn what_cannot_be_run_is_named_with_what_to_change() {
        for (words, what) in [
            (refused(|it| it.users = 4_999), "5000 members but there are only 4999 users"),
            (refused(|it| it.users = 0), "users is 0"),
            (refused(|it| it.gateways = 0), "gateways is 0"),
            (refused(|it| it.offline_percent = 100), "nobody is connected"),
            (refused(|it| it.devices = 0.5), "make it 1 to 16 (--devices)"),
            (refused(|it| (it.gateways, it.devices) = (2, 2.5)), "make them 3 at least"),
            (refused(|it| it.content_bytes = 47), "content_bytes is 47: make it 48"),
            (refused(|it| it.content_bytes = 8 << 20), "content_bytes is 8388608"),
            (refused(|it| it.sessions.clear()), "no sessions"),
            (refused(|it| it.sessions[1].count = 0), "group 2 of its sessions has count 0"),
            (refused(|it| it.sessions[0].members = 1), "has 1 members"),
            (refused(|it| it.sessions.iter_mut().for_each(|group| group.share = 0)), "share 0"),
            (refused(|it| it.sessions[0].count = u32::MAX), "(--sessions)"),
            (refused(|it| it.load = Load::EventsPerSecond(0)), "rate is 0 events per second"),
            (refused(|it| it.load = Load::PushesInFlight(0)), "window is 0 pushes"),
            (
                refused(|it| {
                    (it.sessions[0].classes, it.load) = (vec![Priority::Fleeting], Load::PushesInFlight(9));
                }),
                "never leaves a window",
            ),
            (refused(|it| it.seconds = 0), "seconds is 0"),
            (refused(|it| it.warm_up_seconds = u32::MAX), "warm_up_seconds is"),
            (refused(|it| it.cold = true), "make it 0 (--warm-up 0)"),
            (refused(|it| it.moves_per_second = u32::MAX), "moves_per_second is"),
            (refused(|it| it.guests_per_second = u32::MAX), "guests_per_second is"),
            (refused(|it| it.misbehaving = vec![misbehaving(8, How::Deaf, 0)]), "gateway 8 is to misbehave"),
            (refused(|it| it.misbehaving = vec![misbehaving(1, How::Slow, 0)]), "slow:20"),
            (refused(|it| it.misbehaving = vec![misbehaving(1, How::Flapping, 0)]), "flapping:500"),
            (refused(|it| it.misbehaving = vec![misbehaving(1, How::Deaf, 9)]), "takes no 9 ms"),
            (refused(|it| it.misbehaving = vec![misbehaving(1, How::Deaf, 0); 2]), "misbehaves in two ways"),
            (
                refused(|it| (it.gateways, it.misbehaving) = (1, vec![misbehaving(0, How::Refusing, 0)])),
                "nothing could be judged",
            ),
            (refused(|it| (it.gateways, it.moves_per_second) = (1, 5)), "users move but"),
        ] {
            assert!(words.starts_with("workload mixed cannot be run: ") && words.contains(what), "{what}: {words}");
        }
    }
}
