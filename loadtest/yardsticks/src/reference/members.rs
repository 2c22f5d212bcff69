//! Who is in a session, from MySQL: a few tasks, a connection each, that take all sessions that wait in one query.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use harness::error::{Error, Result};
use mysql::prelude::Queryable as _;
use mysql::{Conn, Value};
use task_engine::config::Config;
use tokio::sync::{mpsc, oneshot};

use super::delivery::User;
use crate::wiring;

/// Connections, each with one query at a time.
const CONNECTIONS: usize = 4;
/// Sessions in one query.
const BATCH: usize = 256;

struct Ask {
    session: String,
    answer: oneshot::Sender<Result<Vec<Bytes>>>,
}

/// The way to the member lists, and the one value for each user.
pub(super) struct Members {
    asks: mpsc::Sender<Ask>,
    users: Mutex<HashMap<Bytes, Arc<User>>>,
}

impl Members {
    /// Connects.
    ///
    /// # Errors
    /// When MySQL does not answer.
    pub async fn connect(config: &Config) -> Result<Self> {
        let options = wiring::mysql(config);
        let place = format!("MySQL at {}", config.mysql.at);
        let (asks, asked) = mpsc::channel(BATCH * CONNECTIONS);
        let asked = Arc::new(tokio::sync::Mutex::new(asked));
        for _ in 0..CONNECTIONS {
            let (options, place) = (options.clone(), place.clone());
            let connect = move || Conn::new(options.clone()).map_err(|cause| Error::of(&place, cause));
            let connection = blocking(connect.clone()).await??;
            tokio::spawn(load(asked.clone(), connection, connect));
        }
        Ok(Self { asks, users: Mutex::default() })
    }

    /// The members of a session as they are now; `known` itself when nothing has changed.
    ///
    /// # Errors
    /// When MySQL does not answer.
    pub async fn of(&self, session: &str, known: Option<&Arc<[Arc<User>]>>) -> Result<Arc<[Arc<User>]>> {
        let (answer, answered) = oneshot::channel();
        let gone = |_| Error::new("the members' tasks have ended");
        self.asks.send(Ask { session: session.to_owned(), answer }).await.map_err(|_| gone(()))?;
        let names = answered.await.map_err(|_| gone(()))??;
        if let Some(known) = known.filter(|known| known.iter().map(|user| &user.name).eq(&names)) {
            return Ok(known.clone());
        }
        let mut users = self.users();
        Ok(names
            .into_iter()
            .map(|name| users.entry(name.clone()).or_insert_with(|| Arc::new(User::new(name))).clone())
            .collect())
    }

    /// Forgets users whom no session has.
    pub fn forget_unused(&self) {
        self.users().retain(|_, user| Arc::strong_count(user) > 1);
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Bytes, Arc<User>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| Error::of("a lookup", cause))
}

/// Takes what waits, asks MySQL once for all of it, and answers; a connection that failed is replaced.
async fn load(
    asked: Arc<tokio::sync::Mutex<mpsc::Receiver<Ask>>>,
    connection: Conn,
    connect: impl Fn() -> Result<Conn> + Clone + Send + 'static,
) {
    let mut connection = Some(connection);
    loop {
        let mut batch = Vec::new();
        if asked.lock().await.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let (kept, connect) = (connection.take(), connect.clone());
        let sessions: Vec<String> = batch.iter().map(|ask| ask.session.clone()).collect();
        let looked = blocking(move || {
            let was_kept = kept.is_some();
            let mut connection = kept.map_or_else(&connect, Ok)?;
            match query(&mut connection, &sessions) {
                Ok(lists) => Ok((connection, lists)),
                // It may have been closed while it was idle.
                Err(_) if was_kept => {
                    let mut connection = connect()?;
                    query(&mut connection, &sessions).map(|lists| (connection, lists))
                }
                Err(error) => Err(error),
            }
        });
        match looked.await.and_then(|looked| looked) {
            Ok((good, mut lists)) => {
                connection = Some(good);
                for Ask { session, answer } in batch {
                    // Who asked may have ended.
                    let _ = answer.send(Ok(lists.remove(session.as_bytes()).unwrap_or_default()));
                }
            }
            Err(error) => batch.into_iter().for_each(|ask| drop(ask.answer.send(Err(error.clone())))),
        }
    }
}

type Lists = HashMap<Vec<u8>, Vec<Bytes>>;

fn query(connection: &mut Conn, sessions: &[String]) -> Result<Lists> {
    // Padded to a power of two, so that few statements are prepared.
    let places = sessions.len().next_power_of_two();
    let sql =
        format!("SELECT session_id, username FROM t_session_member WHERE session_id IN (?{})", ",?".repeat(places - 1));
    let last = sessions.last().into_iter().cycle().take(places - sessions.len());
    let values: Vec<Value> = sessions.iter().chain(last).map(Value::from).collect();
    let rows = connection.exec_iter(sql, values).map_err(|cause| Error::of("members", cause))?;
    let mut lists = Lists::new();
    for row in rows {
        let row: (Vec<u8>, Vec<u8>) = mysql::from_row(row.map_err(|cause| Error::of("members", cause))?);
        match lists.get_mut(&row.0) {
            Some(list) => list.push(row.1.into()),
            None => drop(lists.insert(row.0, vec![row.1.into()])),
        }
    }
    Ok(lists)
}
