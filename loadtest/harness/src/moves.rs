//! Users that move from gateway to gateway while events are published.
//!
//! Promises that a user is always connected: it comes to the new gateway, its route is written, then it leaves the old one,
//! which refuses it from then on (`user not connected`). So an engine that is refused finds the new route at once. Each user
//! moves once before any moves again. Refuses to slow down: moves that are late are made up for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use task_engine::edge::memory::MemoryRoutes;

use crate::background::Background;
use crate::clock;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::world::{World, coprime_step, put_route};

/// Moves that share one write to Redis at the most.
const AT_ONCE: u64 = 500;
/// Moves are gathered for so long, so that many a second need not as many wakes.
const GATHER: Duration = Duration::from_millis(1);
const SEED: u64 = 11;

/// Where routes are written.
pub enum RouteWriter {
    /// A Redis server at this URL.
    Redis(String),
    /// Of an engine on stores in memory.
    Memory(MemoryRoutes),
}

/// Moves users until it is stopped.
pub struct Mover {
    moves: Arc<AtomicU64>,
    thread: Background,
}

enum Writer {
    Redis(Box<redis::Connection>),
    Memory(MemoryRoutes),
}

impl Mover {
    /// Starts to move the workload's users; none when they stay where they are.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub fn start(world: Arc<World>, writer: RouteWriter) -> Result<Option<Self>> {
        if world.workload().moves_per_second == 0 {
            return Ok(None);
        }
        let writer = Writer::open(writer)?;
        let moves = Arc::new(AtomicU64::new(0));
        let moving = Moving { order: Order::new(&world), world, writer, moves: moves.clone() };
        let thread = Background::start("mover", |stop| moving.run(stop))?;
        Ok(Some(Self { moves, thread }))
    }

    /// How many users have moved.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// Ends it; everybody is then where the routes say.
    ///
    /// # Errors
    /// What kept it from moving users.
    pub fn stop(self) -> Result<()> {
        self.thread.stop()
    }
}

impl Writer {
    fn open(writer: RouteWriter) -> Result<Self> {
        match writer {
            RouteWriter::Memory(routes) => Ok(Self::Memory(routes)),
            RouteWriter::Redis(url) => {
                let connection = redis::Client::open(url).and_then(|client| client.get_connection());
                connection
                    .map(|connection| Self::Redis(Box::new(connection)))
                    .map_err(|cause| Error::of("cannot move users: Redis does not answer", cause))
            }
        }
    }

    fn write(&mut self, world: &World, routes: &[(u32, u32)]) -> Result<()> {
        match self {
            Self::Memory(memory) => {
                for (user, gateway) in routes {
                    let gateways = world.gateways_of(*user, *gateway).map(World::gateway_name);
                    memory.set_each(&World::user_name(*user), gateways);
                }
                Ok(())
            }
            Self::Redis(connection) => {
                let mut pipe = redis::pipe();
                for (user, gateway) in routes {
                    put_route(&mut pipe, *user, world.gateways_of(*user, *gateway));
                }
                pipe.exec(connection).map_err(|cause| Error::of("cannot write the routes of users that move", cause))
            }
        }
    }
}

/// Whose turn it is to move, and where to.
struct Order {
    users: u64,
    step: u64,
    at: u64,
    rng: Rng,
}

impl Order {
    fn new(world: &World) -> Self {
        let users = u64::from(world.workload().users);
        Self { users, step: coprime_step(users), at: 0, rng: Rng::new(SEED) }
    }

    /// The next moves, each of another user.
    fn take(&mut self, world: &World, count: u64) -> Vec<(u32, u32)> {
        let mut moves = Vec::new();
        for _ in 0..self.users {
            if moves.len() as u64 == count {
                break;
            }
            self.at = (self.at + self.step) % self.users;
            let user = self.at as u32;
            moves.extend(world.places().elsewhere(user, &mut self.rng).map(|gateway| (user, gateway)));
        }
        moves
    }
}

struct Moving {
    world: Arc<World>,
    writer: Writer,
    order: Order,
    moves: Arc<AtomicU64>,
}

impl Moving {
    fn run(mut self, stopping: &Receiver<()>) -> Result<()> {
        let rate = u64::from(self.world.workload().moves_per_second);
        let (start, mut taken) = (clock::now(), 0_u64);
        loop {
            let next = start + (u128::from(taken + 1) * 1_000_000_000 / u128::from(rate)) as u64;
            let pause = Duration::from_nanos(next.saturating_sub(clock::now())).max(GATHER);
            if stopping.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
            let due = (u128::from(clock::now() - start) * u128::from(rate) / 1_000_000_000) as u64 - taken;
            let due = due.min(AT_ONCE);
            taken += due;
            self.make(due)?;
        }
    }

    fn make(&mut self, count: u64) -> Result<()> {
        let moves = self.order.take(&self.world, count);
        let places = self.world.places();
        moves.iter().for_each(|(user, gateway)| places.begin_move(*user, *gateway));
        self.writer.write(&self.world, &moves)?;
        moves.iter().for_each(|(user, _)| places.end_move(*user));
        self.moves.fetch_add(moves.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Instant;

    use crate::workload::{How, Misbehaving, Workload};

    fn world(change: impl FnOnce(&mut Workload)) -> Arc<World> {
        let mut workload = Workload::find("reconnect-storm").expect("it is there");
        change(&mut workload);
        World::new(&workload)
    }

    #[test]
    fn each_user_that_can_moves_once_before_any_moves_again() {
        let world = world(|it| {
            (it.users, it.offline_percent) = (1_000, 20);
            it.misbehaving = vec![Misbehaving { gateway: 2, how: How::Refusing, ms: 0 }];
        });
        let mut order = Order::new(&world);
        let moves: Vec<(u32, u32)> = (0..7).flat_map(|_| order.take(&world, 100)).collect();
        let users: HashSet<u32> = moves.iter().map(|(user, _)| *user).collect();
        assert_eq!((moves.len(), users.len()), (700, 700), "800 are online, 100 of them on the refusing gateway");
        for (user, gateway) in moves {
            assert!(world.is_judged(user) && gateway != 2 && gateway != world.place(user).current);
        }
    }

    #[test]
    fn a_world_where_nobody_can_move_moves_nobody() {
        let world = world(|it| it.gateways = 1);
        assert_eq!(Order::new(&world).take(&world, 10), []);
    }

    #[test]
    fn nobody_moves_when_the_workload_does_not_say_so() {
        let world = world(|it| it.moves_per_second = 0);
        let none = Mover::start(world, RouteWriter::Memory(MemoryRoutes::new())).expect("nothing to fail");
        assert!(none.is_none());
    }

    #[test]
    fn users_have_arrived_when_the_mover_has_stopped() {
        let world = world(|it| (it.users, it.moves_per_second) = (200, 20_000));
        let routes = MemoryRoutes::new();
        let mover = Mover::start(world.clone(), RouteWriter::Memory(routes)).expect("it starts").expect("they move");
        let until = Instant::now() + Duration::from_secs(20);
        while mover.moves() < 1_000 && Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(mover.moves() >= 1_000, "{}", mover.moves());
        mover.stop().expect("nothing failed");
        let places: Vec<_> = (0..200).map(|user| world.place(user)).collect();
        assert!(places.iter().all(|place| !place.is_moving && place.moves >= 4 && place.current != place.previous));
    }

    #[test]
    fn a_redis_that_is_not_there_is_told_at_the_start() {
        let port = crate::servers::free_port().expect("a port");
        let writer = RouteWriter::Redis(format!("redis://127.0.0.1:{port}/"));
        let words = Mover::start(world(|_| {}), writer).err().expect("nobody listens").to_string();
        assert!(words.contains("Redis does not answer"), "{words}");
    }
}
