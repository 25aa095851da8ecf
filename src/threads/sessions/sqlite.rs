//! Sessions in a file of SQLite.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{Claim, Claimed, Save, Saved, SessionId, SessionStore, StoreError};

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
/// Time is that of the machine. If its clock is set, sessions last so much longer or shorter.
pub struct SqliteSessions {
    connection: Mutex<Connection>,
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
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_MAX)?;
        connection.execute_batch(SCHEMA)?;
        let clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.as_millis() as u64
        };
        Ok(SqliteSessions { connection: Mutex::new(connection), clock: Box::new(clock) })
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
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
            });
            let (held_until_ms, frozen) = found.optional()?.unwrap_or_default();
            if held_until_ms > now_ms && !claim.force {
                return Ok(Claimed::Held);
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
}

impl fmt::Debug for SqliteSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteSessions")
    }
}

fn after(now_ms: i64, span: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

/// Numbers rise over all sessions, and though sessions are gone.
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
";
const FORGET: &str = "DELETE FROM heartwheel_sessions WHERE id IN (
    SELECT id FROM heartwheel_sessions WHERE ends_ms <= ?1 ORDER BY ends_ms LIMIT 64)";
const FIND: &str = "SELECT held_until_ms, frozen FROM heartwheel_sessions
    WHERE id = ?1 AND ends_ms > ?2";
const NUMBER: &str = "UPDATE heartwheel_session_numbers SET last = last + 1 RETURNING last";
const CLAIM: &str = "INSERT OR REPLACE INTO heartwheel_sessions VALUES (?1, ?2, ?3, ?4, ?5)";
const SAVE: &str = "UPDATE heartwheel_sessions
    SET frozen = coalesce(?1, frozen), ends_ms = ?2, held_until_ms = ?3
    WHERE id = ?4 AND number = ?5 AND ends_ms > ?6";
const DROP_EMPTY: &str = "DELETE FROM heartwheel_sessions WHERE id = ?1 AND frozen IS NULL";
/// How long a file that is locked is waited for.
const BUSY_MAX: Duration = Duration::from_secs(2);
