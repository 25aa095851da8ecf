//! Sessions in a file of SQLite.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::warn;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{Claim, Claimed, Listener, Save, Saved, SessionId, SessionStore, StoreError};
use crate::system::spawn::spawn;

/// A [`SessionStore`] in a file of SQLite: for a server whose sessions outlast its restarts, and
/// for several servers on one machine that share the file.
///
/// The file has a table of its own, `heartwheel_sessions`, with the keys as they are: who may read
/// the file has the sessions. It may have other tables. It is written through a log (WAL); what was
/// saved outlasts a process that is killed, and of a machine that loses power all but the last
/// moments. A file that another process has locked is waited for, for two seconds. Each call drops
/// up to 64 sessions that are too old; the number of sessions has no bound but what `sessions.ttl`
/// and `sessions.bytes` make of it: let only clients with an identity have sessions where that
/// matters.
///
/// While a connection of a route holds a session, a thread of the route looks into the file every
/// 50 ms whether another server wants it. Where no other server has the file,
/// [`SqliteSessions::alone`] spares that.
///
/// Time is that of the machine. If its clock is set, sessions last so much longer or shorter.
pub struct SqliteSessions {
    connection: Mutex<Connection>,
    /// Where the file is looked into for what other servers want; `None` if there are none.
    path: Option<PathBuf>,
    clock: Clock,
}

/// Returns the milliseconds since 1970.
type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

impl SqliteSessions {
    /// Opens the file, and makes the table if it is not there; `:memory:` is no file.
    ///
    /// # Errors
    ///
    /// If the file is none of SQLite, or cannot be written.
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteSessions, StoreError> {
        let connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_MAX)?;
        connection.execute_batch(SCHEMA)?;
        let clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.as_millis() as u64
        };
        // One without a name is nobody else's.
        let path = connection.path().filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(SqliteSessions { connection: Mutex::new(connection), path, clock: Box::new(clock) })
    }

    /// Says that no other server has the file: nothing is looked for. If one has it all the same,
    /// that waits for a second for a session that is open here, and has it as it was saved last.
    pub fn alone(self) -> SqliteSessions {
        SqliteSessions { path: None, ..self }
    }

    /// Reads the time, in milliseconds since 1970, from elsewhere: for tests.
    pub fn with_clock(self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> SqliteSessions {
        SqliteSessions { clock: Box::new(clock), ..self }
    }

    /// Does something at once, or not at all.
    fn at_once<T>(
        &self,
        act: impl FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // Who only reads at first would have to give way later.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now_ms = (self.clock)() as i64;
        transaction.execute(FORGET, [now_ms])?;
        let result = act(&transaction, now_ms)?;
        transaction.commit()?;
        Ok(result)
    }
}

impl SessionStore for SqliteSessions {
    fn claim(&self, id: &SessionId, claim: &Claim) -> Result<Claimed, StoreError> {
        self.at_once(|transaction, now_ms| {
            let found = transaction.query_row(FIND, params![id.as_str(), now_ms], |row| {
                let numbers = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
                Ok((numbers, row.get::<_, Option<Vec<u8>>>(2)?))
            });
            let ((held_until_ms, older), frozen) = found.optional()?.unwrap_or_default();
            if held_until_ms > now_ms {
                transaction.execute(WANT, params![id.as_str(), older])?;
                transaction.execute(FORGET_WANTED, [WANTED_MAX])?;
                let number = older as u64;
                if claim.force != Some(number) {
                    return Ok(Claimed::Held { number });
                }
            }
            let number: i64 = transaction.query_row(NUMBER, [], |row| row.get(0))?;
            let (ends_ms, held_until_ms) = (after(now_ms, claim.ttl), after(now_ms, claim.lease));
            let row = params![id.as_str(), number, frozen, ends_ms, held_until_ms];
            transaction.execute(CLAIM, row)?;
            Ok(Claimed::Taken { number: number as u64, frozen })
        })
    }

    fn save(&self, id: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError> {
        self.at_once(|transaction, now_ms| {
            let held_until_ms = if save.end { 0 } else { after(now_ms, save.lease) };
            let ends_ms = after(now_ms, save.ttl);
            let number = save.number as i64;
            let row = params![save.frozen, ends_ms, held_until_ms, id.as_str(), number, now_ms];
            if transaction.execute(SAVE, row)? == 0 {
                return Ok(Saved::Fenced);
            }
            if save.end {
                transaction.execute(DROP_EMPTY, [id.as_str()])?;
            }
            Ok(Saved::Taken)
        })
    }

    fn listen(&self, listener: Listener) -> Box<dyn Any + Send> {
        let late = |fault: &dyn fmt::Display| {
            warn!("sessions that other servers want are handed over late: {fault}");
        };
        if let Some(path) = self.path.clone() {
            let run = move || {
                while let Err(error) = look(&path, &listener) {
                    late(&error);
                    if !listener.wait(REST) {
                        return;
                    }
                }
            };
            if let Err(error) = spawn("heartwheel-ear".into(), None, Box::new(run)) {
                late(&error);
            }
        }
        Box::new(())
    }
}

/// Looks into the file again and again, as long as the server runs, for what others want.
fn look(path: &Path, listener: &Listener) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_MAX)?;
    let mut find = connection.prepare(FIND_WANTED)?;
    let mut last: i64 = connection.query_row(LAST_WANTED, [], |row| row.get(0))?;
    while listener.wait(LOOK_EVERY) {
        let mut rows = find.query([last])?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            // Others may write there what they like.
            let (name, number) = (row.get_ref(1)?.as_str(), row.get::<_, i64>(2)?);
            if let Some(id) = name.ok().and_then(SessionId::read) {
                listener.wanted(&id, number as u64);
            }
        }
    }
    Ok(())
}

impl fmt::Debug for SqliteSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteSessions")
    }
}

fn after(now_ms: i64, span: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

/// Numbers rise over all sessions, and though sessions are gone. What is wanted is never taken
/// back: each server reads on from where it was.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS heartwheel_sessions (
        id TEXT PRIMARY KEY,
        number INTEGER NOT NULL,
        frozen BLOB,
        ends_ms INTEGER NOT NULL,
        held_until_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS heartwheel_sessions_by_end ON heartwheel_sessions (ends_ms);
    CREATE TABLE IF NOT EXISTS heartwheel_session_numbers (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        last INTEGER NOT NULL
    ) STRICT;
    INSERT OR IGNORE INTO heartwheel_session_numbers VALUES (1, 0);
    CREATE TABLE IF NOT EXISTS heartwheel_sessions_wanted (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        number INTEGER NOT NULL
    ) STRICT;
";
const FORGET: &str = "DELETE FROM heartwheel_sessions WHERE id IN (
    SELECT id FROM heartwheel_sessions WHERE ends_ms <= ?1 ORDER BY ends_ms LIMIT 64)";
const FIND: &str = "SELECT held_until_ms, number, frozen FROM heartwheel_sessions
    WHERE id = ?1 AND ends_ms > ?2";
const NUMBER: &str = "UPDATE heartwheel_session_numbers SET last = last + 1 RETURNING last";
const CLAIM: &str = "INSERT OR REPLACE INTO heartwheel_sessions VALUES (?1, ?2, ?3, ?4, ?5)";
const SAVE: &str = "UPDATE heartwheel_sessions
    SET frozen = coalesce(?1, frozen), ends_ms = ?2, held_until_ms = ?3
    WHERE id = ?4 AND number = ?5 AND ends_ms > ?6";
const DROP_EMPTY: &str = "DELETE FROM heartwheel_sessions WHERE id = ?1 AND frozen IS NULL";
const WANT: &str = "INSERT INTO heartwheel_sessions_wanted (id, number) VALUES (?1, ?2)";
const FORGET_WANTED: &str = "DELETE FROM heartwheel_sessions_wanted
    WHERE seq <= (SELECT max(seq) FROM heartwheel_sessions_wanted) - ?1";
const FIND_WANTED: &str = "SELECT seq, id, number FROM heartwheel_sessions_wanted
    WHERE seq > ?1 ORDER BY seq";
const LAST_WANTED: &str = "SELECT coalesce(max(seq), 0) FROM heartwheel_sessions_wanted";
/// How many times that something was wanted are kept.
const WANTED_MAX: i64 = 1000;
/// How often a server looks for what others want.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// When to look again after a failure.
const REST: Duration = Duration::from_secs(60);
/// How long a file that is locked is waited for.
const BUSY_MAX: Duration = Duration::from_secs(2);
