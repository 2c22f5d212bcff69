//! The numbers of a workload that the command line may set anew.
//!
//! Promises that each number has one clear rule when a workload has several groups of sessions; the rules are in the help.
//! Refuses nothing by itself: what came out is checked as any workload is.

use harness::error::{Error, Result};
use harness::workload::{How, Load, Misbehaving, SessionGroup, Workload};

/// What `--rate` may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many events per second.
    Events(u32),
    /// The highest that keeps the bound of `--slo-p99`.
    Max,
}

/// Numbers that take the place of the workload's own.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Numbers of the workload")]
pub struct Overrides {
    /// Users; sessions share them.
    #[arg(long)]
    pub users: Option<u32>,
    /// Sessions. Several groups share them out by their own counts, at least one each.
    #[arg(long)]
    pub sessions: Option<u32>,
    /// Users each event goes to: all groups become one of N + 1 members, with as many sessions as they had together (or
    /// --sessions). Raises users when they are too few and --users is not given.
    #[arg(long, value_name = "N")]
    pub fan_out: Option<u32>,
    /// Gateways.
    #[arg(long)]
    pub gateways: Option<u32>,
    /// Open loop: events per second; `max` finds the highest rate that keeps --slo-p99.
    #[arg(long, value_name = "N|max", value_parser = parse_rate, conflicts_with = "window")]
    pub rate: Option<Rate>,
    /// Closed loop: the next event goes out as soon as fewer pushes than this are under way.
    #[arg(long, value_name = "PUSHES")]
    pub window: Option<u64>,
    /// Seconds that are measured.
    #[arg(long)]
    pub seconds: Option<u32>,
    /// Seconds of load before.
    #[arg(long, value_name = "SECONDS")]
    pub warm_up: Option<u32>,
    /// Bytes of each message's content.
    #[arg(long, value_name = "BYTES")]
    pub content_bytes: Option<usize>,
    /// Of 100 users, how many are offline; or the part of all: 0.8 is 80.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub offline: Option<u32>,
    /// Gateways that a user is connected to in the mean: 1.6 has three of five users at two.
    #[arg(long, value_name = "MEAN")]
    pub devices: Option<f64>,
    /// Users that move to another gateway each second.
    #[arg(long, value_name = "A_SECOND")]
    pub moves: Option<u32>,
    /// Guests, connected nowhere, that join the largest session each second and leave it five seconds later (with --servers); of
    /// MariaDB the times of each kind of statement are told.
    #[arg(long, value_name = "A_SECOND")]
    pub guests: Option<u32>,
    /// Gateway number G misbehaves: slow:MS, deaf, flapping:MS (mean time between cuts), refusing. May be given again for
    /// others; takes the place of what the workload says of G.
    #[arg(long, value_name = "G=HOW[:MS]", value_parser = parse_misbehaving)]
    pub misbehave: Vec<Misbehaving>,
}

impl Overrides {
    /// Whether the highest rate is to be found.
    pub fn rate_is_max(&self) -> bool {
        self.rate == Some(Rate::Max)
    }

    /// The workload with these numbers; [`Workload::check`] is still to be asked.
    ///
    /// # Errors
    /// When sessions cannot be shared out over the groups.
    pub fn apply(&self, mut workload: Workload) -> Result<Workload> {
        set(&mut workload.users, self.users);
        set(&mut workload.gateways, self.gateways);
        set(&mut workload.seconds, self.seconds);
        set(&mut workload.warm_up_seconds, self.warm_up);
        set(&mut workload.content_bytes, self.content_bytes);
        set(&mut workload.offline_percent, self.offline);
        set(&mut workload.moves_per_second, self.moves);
        set(&mut workload.guests_per_second, self.guests);
        set(&mut workload.devices, self.devices);
        set(&mut workload.load, self.window.map(Load::PushesInFlight));
        if let Some(Rate::Events(rate)) = self.rate {
            workload.load = Load::EventsPerSecond(rate);
        }
        for misbehaving in &self.misbehave {
            workload.misbehaving.retain(|known| known.gateway != misbehaving.gateway);
        }
        workload.misbehaving.extend(&self.misbehave);
        if let Some(fan_out) = self.fan_out {
            self.one_group(&mut workload, fan_out)?;
        }
        if let Some(sessions) = self.sessions {
            share_out(&mut workload.sessions, sessions)?;
        }
        Ok(workload)
    }

    fn one_group(&self, workload: &mut Workload, fan_out: u32) -> Result<()> {
        let members = fan_out.checked_add(1);
        let members = members.ok_or_else(|| Error::new(format!("--fan-out {fan_out} is too much: lower it")))?;
        let count = u32::try_from(workload.sessions_count()).unwrap_or(u32::MAX);
        workload.sessions = vec![SessionGroup { count, members, share: 1, ..SessionGroup::default() }];
        // What the file says of its own groups is no longer so.
        workload.about = format!("as {}, but with a fan-out of {fan_out}", workload.name);
        if self.users.is_none() {
            workload.users = workload.users.max(members);
        }
        Ok(())
    }
}

fn set<T: Copy>(number: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *number = given;
    }
}

/// In proportion to the groups' counts, at least one each; what rounding leaves goes to the group with the most.
fn share_out(groups: &mut [SessionGroup], sessions: u32) -> Result<()> {
    if let [group] = groups {
        group.count = sessions;
        return Ok(());
    }
    if (sessions as usize) < groups.len() {
        return Err(Error::new(format!(
            "--sessions {sessions} is fewer than the {} groups of the workload: raise it, or give --fan-out to make one \
             group of them",
            groups.len()
        )));
    }
    let all: u64 = groups.iter().map(|group| u64::from(group.count)).sum();
    let largest = groups.iter().enumerate().max_by_key(|(_, group)| group.count).map_or(0, |(at, _)| at);
    for group in &mut *groups {
        group.count = ((u64::from(group.count) * u64::from(sessions) / all.max(1)) as u32).max(1);
    }
    let others: u32 = groups.iter().enumerate().filter(|(at, _)| *at != largest).map(|(_, group)| group.count).sum();
    groups[largest].count = sessions.saturating_sub(others).max(1);
    Ok(())
}

fn parse_rate(text: &str) -> std::result::Result<Rate, String> {
    match text {
        "max" => Ok(Rate::Max),
        number => number.parse().map(Rate::Events).map_err(|_| "give a number of events per second, or max".to_owned()),
    }
}

/// A number of a hundred, or with a point a part of one.
fn parse_percent(text: &str) -> std::result::Result<u32, String> {
    let words = || "give a number of 100, or a part of 1 with a point: 80, or 0.8".to_owned();
    if !text.contains('.') {
        return text.parse().map_err(|_| words());
    }
    let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
    part.map(|part| (part * 100.0).round() as u32).ok_or_else(words)
}

fn parse_misbehaving(text: &str) -> std::result::Result<Misbehaving, String> {
    let words =
        || format!("give G=HOW[:MS], as 0=slow:20; HOW is one of {}", How::WORDS.map(|(word, _)| word).join(", "));
    let (gateway, rest) = text.split_once('=').ok_or_else(words)?;
    let (how, ms) = rest.split_once(':').unwrap_or((rest, "0"));
    let (_, how) = *How::WORDS.iter().find(|(word, _)| *word == how).ok_or_else(words)?;
    let gateway = gateway.parse().map_err(|_| words())?;
    Ok(Misbehaving { gateway, how, ms: ms.parse().map_err(|_| words())? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        overrides: Overrides,
    }

    fn parsed(words: &str) -> std::result::Result<Overrides, clap::Error> {
        Line::try_parse_from(std::iter::once("it").chain(words.split_whitespace())).map(|line| line.overrides)
    }

    fn applied(name: &str, words: &str) -> Workload {
        let overrides = parsed(words).expect(words);
        overrides.apply(Workload::find(name).expect(name)).expect(words)
    }

    fn groups(workload: &Workload) -> Vec<(u32, u32)> {
        workload.sessions.iter().map(|group| (group.count, group.members)).collect()
    }

    #[test]
    fn nothing_given_changes_nothing() {
        for name in Workload::names() {
            assert_eq!(Ok(applied(name, "")), Workload::find(name));
        }
    }

    #[test]
    fn every_number_takes_the_place_of_the_workloads_own() {
        let it = applied(
            "group-100",
            "--users 500 --sessions 7 --gateways 3 --rate 9 --seconds 4 --warm-up 0 --content-bytes 64 --offline 5 \
             --moves 6 --devices 1.6 --guests 7",
        );
        assert_eq!((it.users, it.gateways, it.seconds, it.warm_up_seconds), (500, 3, 4, 0));
        assert_eq!((it.content_bytes, it.offline_percent), (64, 5));
        assert_eq!((it.moves_per_second, it.guests_per_second), (6, 7));
        assert_eq!((it.load, groups(&it), it.devices), (Load::EventsPerSecond(9), vec![(7, 101)], 1.6));
        assert_eq!(applied("huge-group", "--offline 0.8").offline_percent, 80);
        assert_eq!(applied("group-100", "--window 77").load, Load::PushesInFlight(77));
    }

    #[test]
    fn a_fan_out_makes_one_group_and_users_for_it() {
        let it = applied("mixed", "--fan-out 10");
        assert_eq!((groups(&it), it.users), (vec![(221, 11)], 10_000));
        assert_eq!(it.about, "as mixed, but with a fan-out of 10");
        let it = applied("mixed", "--fan-out 20000 --sessions 3");
        assert_eq!((groups(&it), it.users), (vec![(3, 20_001)], 20_001));
        let it = applied("mixed", "--fan-out 20000 --users 9");
        assert_eq!(it.users, 9);
        assert!(it.check().is_err(), "users that were given are not raised");
    }

    #[test]
    fn sessions_are_shared_out_over_groups() {
        assert_eq!(groups(&applied("mixed", "--sessions 2210")), [(2_000, 2), (200, 100), (10, 5_000)]);
        assert_eq!(groups(&applied("mixed", "--sessions 3")), [(1, 2), (1, 100), (1, 5_000)]);
        assert_eq!(groups(&applied("mixed", "--sessions 50")), [(45, 2), (4, 100), (1, 5_000)]);
        let words = parsed("--sessions 2").expect("it parses").apply(Workload::find("mixed").expect("mixed"));
        assert!(words.expect_err("too few").to_string().contains("--sessions 2 is fewer than the 3 groups"));
    }

    #[test]
    fn gateways_misbehave_as_told() {
        let it = applied("mixed", "--misbehave 0=slow:20 --misbehave 3=deaf --misbehave 0=flapping:500");
        assert_eq!(it.misbehaviour_of(3), Some(Misbehaving { gateway: 3, how: How::Deaf, ms: 0 }));
        assert!(it.check().is_err(), "one gateway in two ways");
        let mut known = Workload::find("mixed").expect("mixed");
        known.misbehaving = vec![Misbehaving { gateway: 1, how: How::Deaf, ms: 0 }];
        let it = parsed("--misbehave 1=refusing").expect("it parses").apply(known).expect("it can be");
        assert_eq!(it.misbehaving, [Misbehaving { gateway: 1, how: How::Refusing, ms: 0 }]);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for words in [
            "--rate fast",
            "--rate 5 --window 5",
            "--misbehave 1",
            "--offline 1.5",
            "--offline few",
            "--misbehave 1=rude",
            "--misbehave x=deaf",
            "--misbehave 1=slow:x",
        ] {
            assert!(parsed(words).is_err(), "{words}");
        }
        assert!(parsed("--rate max").expect("it parses").rate_is_max());
        let words = parsed("--misbehave 1=rude").expect_err("rude").to_string();
        assert!(words.contains("slow, deaf, flapping, refusing"), "{words}");
    }
}
