//! A gateway: devices send readings, which go into SQLite; people watch their own devices.
//!
//! | path | what |
//! |---|---|
//! | `/device` | the WebSocket of a device. Each text is a reading, a number. Its number is the answer, once it is on the disk; a reading without an answer is to be sent again |
//! | `/events?topic=readings.ada.boiler&topic=presence.ada.boiler` | an event stream; it resumes with `Last-Event-ID` |
//! | `/topics/presence.ada.boiler` | `online` or `offline`; nothing for a device that has not been there for long |
//! | `/devices`, `/readings/boiler?after=7` | what the database has, as JSON |
//!
//! All of them take a token: `Authorization: Bearer TOKEN`, or `access_token=TOKEN` in the query,
//! because a page can set no header of an `EventSource`. `cargo run --features sqlite --example
//! gateway` makes `gateway.db` with a user and a device, and prints their tokens. It takes the
//! options of the program; SIGTERM ends it gracefully.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heartwheel::http::{self, Refusal, Request, Response};
use heartwheel::{
    Accept, Builder, CloseReason, ConnectionId, Handler, Message, Payload, Peer, Route, program,
};
use rusqlite::{Connection, OptionalExtension, params};

/// What all routes share.
pub struct Gateway {
    pub store: Store,
    present: Mutex<HashMap<String, ConnectionId>>,
}

impl Gateway {
    pub fn new(store: Store) -> Arc<Gateway> {
        Arc::new(Gateway { store, present: Mutex::default() })
    }

    /// Adds everything that the gateway serves.
    pub fn routes(self: &Arc<Self>, builder: Builder) -> Builder {
        let (devices, users) = (self.clone(), self.clone());
        let for_users = move |route: Route| {
            let gateway = users.clone();
            route.authorize(move |request| gateway.admit_user(request))
        };
        let (list, history) = (self.clone(), self.clone());
        builder
            .health()
            .route(
                Route::websocket("/device", Devices(self.clone()))
                    .authorize(move |request| devices.admit_device(request)),
            )
            .route(for_users(Route::events("/events")))
            .route(for_users(Route::topics("/topics/{topic}")))
            .route(for_users(Route::get("/devices", move |request| list.devices(request))))
            .route(for_users(Route::get("/readings/{device}", move |request| {
                history.readings(request)
            })))
    }

    fn admit_device(&self, request: &Request) -> Result<Accept, Refusal> {
        let token = token(request)?;
        let device = self.store.find_device(&token).map_err(unavailable)?;
        Ok(Accept::new().identity(device.ok_or_else(unauthorized)?))
    }

    /// The patterns let a user watch devices that are added later, too.
    fn admit_user(&self, request: &Request) -> Result<Accept, Refusal> {
        let token = token(request)?;
        let user = self.store.find_user(&token).map_err(unavailable)?.ok_or_else(unauthorized)?;
        let own = [format!("readings.{user}.*"), format!("presence.{user}.*")];
        Ok(Accept::new().identity(user).subscribe(own))
    }

    fn devices(&self, request: &Request) -> Response {
        let user = request.identity().expect("authorize has given it");
        let devices = self.store.devices(user).map(|devices| {
            let present = lock(&self.present);
            list(devices.iter().map(|(device, newest)| {
                let online = present.contains_key(device);
                format!(r#"{{"device":"{device}","online":{online},"newest":{newest}}}"#)
            }))
        });
        answer(devices)
    }

    fn readings(&self, request: &Request) -> Response {
        let user = request.identity().expect("authorize has given it");
        let name = request.parameter("device").expect("the path has it");
        let after = request.query_value("after").unwrap_or("0".into());
        let Ok(after) = after.parse() else {
            return Response::new(400).text("after is the number of a reading\n");
        };
        // The names of others begin with another user.
        let readings = self.store.readings(&format!("{user}.{name}"), after);
        answer(readings.map(|readings| list(readings.iter().map(Reading::to_json))))
    }
}

/// What a device talks to. Its name is the identity of the peer.
struct Devices(Arc<Gateway>);

impl Handler for Devices {
    type Session = ();

    /// A device that is there already has come back before its old connection was seen to be dead.
    fn open(&self, peer: &Peer, _: Request) {
        let mut present = lock(&self.0.present);
        if let Some(before) = present.insert(device(peer).into(), peer.id()) {
            log_failure(peer, peer.handle().peer(before).close(4001, "replaced"));
        }
        tell_presence(&present, peer, "online");
    }

    /// Blocks until the reading is on the disk, which holds up this device and one worker.
    fn message(&self, (): &mut (), peer: &Peer, message: Message) {
        let Some(value) = message.as_text().and_then(parse) else {
            return log_failure(peer, peer.close(1008, "a reading is a number"));
        };
        let device = device(peer);
        match self.0.store.add_reading(device, value) {
            Ok(reading) => {
                let number = reading.number.to_string();
                let json = Payload::Json(reading.to_json().into());
                // Who watches sees by the numbers that one is missing, and asks for it.
                log_failure(peer, peer.publish(format!("readings.{device}"), json));
                peer.send(number);
            }
            Err(error) => {
                log::error!("reading of {device} not kept: {error}");
                log_failure(peer, peer.close(1013, "the reading was not kept: send it again"));
            }
        }
    }

    /// Topics forget by and by: who is there is told again.
    fn timer(&self, (): &mut (), peer: &Peer, _: u64) {
        let present = lock(&self.0.present);
        if present.get(device(peer)) == Some(&peer.id()) {
            tell_presence(&present, peer, "online");
        }
    }

    /// Also called when pings went unanswered, and for each connection of a server that stops.
    fn closed(&self, (): (), peer: &Peer, reason: CloseReason) {
        log::info!("{} ended: {reason}", device(peer));
        let mut present = lock(&self.0.present);
        if present.get(device(peer)) == Some(&peer.id()) {
            present.remove(device(peer));
            tell_presence(&present, peer, "offline");
        }
    }
}

/// Tells who is there, and tells it again before the topic forgets it. What is told leaves while
/// the table is locked: two workers tell it in the order in which it became true.
fn tell_presence(_: &MutexGuard<'_, HashMap<String, ConnectionId>>, peer: &Peer, state: &str) {
    log_failure(peer, peer.publish(format!("presence.{}", device(peer)), state));
    if state == "online" {
        log_failure(peer, peer.after(TELL_AGAIN_AFTER, 0));
    }
    peer.flush();
}

fn device(peer: &Peer) -> &str {
    peer.identity().expect("authorize has given it")
}

fn parse(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// A command is not taken if the server has ended, or, without workers, if too many wait.
fn log_failure<E: std::fmt::Display>(peer: &Peer, taken: Result<(), E>) {
    if let Err(error) = taken {
        log::warn!("{}: {error}", device(peer));
    }
}

fn token(request: &Request) -> Result<String, Refusal> {
    http::bearer(request).map(Into::into).ok_or_else(unauthorized)
}

/// No word about whether there is such a token.
fn unauthorized() -> Refusal {
    let refusal = Refusal::new(401, "this takes the token of a device or of a user");
    refusal.header("WWW-Authenticate", "Bearer").expect("the header can be sent")
}

fn unavailable(error: rusqlite::Error) -> Refusal {
    log::error!("database: {error}");
    Refusal::new(503, "the database does not answer: try again later")
}

fn answer(json: rusqlite::Result<String>) -> Response {
    json.map_or_else(|error| unavailable(error).into(), |json| Response::new(200).json(json))
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]\n", items.collect::<Vec<_>>().join(","))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The database, for one thread at a time: SQLite has one writer anyway.
pub struct Store(Mutex<Connection>);

/// A row of the table of readings.
pub struct Reading {
    /// The readings of a device are numbered from 1.
    pub number: i64,
    /// Seconds since 1970.
    pub at: f64,
    pub value: f64,
}

impl Reading {
    fn of(row: &rusqlite::Row) -> rusqlite::Result<Reading> {
        Ok(Reading { number: row.get(0)?, at: row.get(1)?, value: row.get(2)? })
    }

    fn to_json(&self) -> String {
        let Reading { number, at, value } = self;
        format!(r#"{{"number":{number},"at":{at:.3},"value":{value}}}"#)
    }
}

impl Store {
    /// Opens the database, and makes its tables if they are not there; `:memory:` is no file.
    pub fn open(path: &str) -> rusqlite::Result<Store> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Store(Mutex::new(connection)))
    }

    /// Adds a user and gives the token.
    pub fn add_user(&self, user: &str) -> rusqlite::Result<String> {
        let sql = "INSERT INTO users VALUES (?1, lower(hex(randomblob(16)))) RETURNING token";
        lock(&self.0).query_row(sql, [user], |row| row.get(0))
    }

    /// Adds a device of a user and gives the token.
    pub fn add_device(&self, user: &str, name: &str) -> rusqlite::Result<String> {
        let sql = "INSERT INTO devices VALUES (?1 || '.' || ?2, ?1, lower(hex(randomblob(16)))) \
                   RETURNING token";
        lock(&self.0).query_row(sql, [user, name], |row| row.get(0))
    }

    /// Adds a user and a device if there are none, and gives their tokens.
    fn begin(&self) -> rusqlite::Result<Option<(String, String)>> {
        let sql = "SELECT count(*) FROM users";
        let count: i64 = lock(&self.0).query_row(sql, [], |row| row.get(0))?;
        match count {
            0 => Ok(Some((self.add_user("ada")?, self.add_device("ada", "boiler")?))),
            _ => Ok(None),
        }
    }

    fn find_user(&self, token: &str) -> rusqlite::Result<Option<String>> {
        self.find("SELECT name FROM users WHERE token = ?1", token)
    }

    fn find_device(&self, token: &str) -> rusqlite::Result<Option<String>> {
        self.find("SELECT name FROM devices WHERE token = ?1", token)
    }

    /// Tokens are random: how far a comparison gets helps nobody to guess the rest.
    fn find(&self, sql: &str, token: &str) -> rusqlite::Result<Option<String>> {
        lock(&self.0).query_row(sql, [token], |row| row.get(0)).optional()
    }

    /// Adds a reading. When this returns, no power cut can take it back.
    pub fn add_reading(&self, device: &str, value: f64) -> rusqlite::Result<Reading> {
        let sql = "INSERT INTO readings \
                   SELECT ?1, coalesce(max(number), 0) + 1, unixepoch('subsec'), ?2 \
                   FROM readings WHERE device = ?1 RETURNING number, at, value";
        lock(&self.0).query_row(sql, params![device, value], Reading::of)
    }

    /// Gives the devices of a user, with the number of the newest reading.
    fn devices(&self, user: &str) -> rusqlite::Result<Vec<(String, i64)>> {
        let sql = "SELECT name, (SELECT coalesce(max(number), 0) FROM readings WHERE device = name)
                   FROM devices WHERE owner = ?1 ORDER BY name LIMIT 1000";
        let connection = lock(&self.0);
        let mut statement = connection.prepare(sql)?;
        statement.query_map([user], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// Gives the readings of a device after a number: there are a thousand at most.
    pub fn readings(&self, device: &str, after: i64) -> rusqlite::Result<Vec<Reading>> {
        let sql = "SELECT number, at, value FROM readings WHERE device = ?1 AND number > ?2 \
                   ORDER BY number LIMIT 1000";
        let connection = lock(&self.0);
        let mut statement = connection.prepare(sql)?;
        statement.query_map(params![device, after], Reading::of)?.collect()
    }

    /// Moves what is in the log of SQLite into the database itself, and empties the log.
    pub fn flush(&self) -> rusqlite::Result<()> {
        lock(&self.0).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
    }
}

/// A name is a piece of a topic's, and stands in JSON as it is. A device keeps 1,000 readings.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    CREATE TABLE IF NOT EXISTS users (
        name TEXT PRIMARY KEY
            CHECK (length(name) BETWEEN 1 AND 32 AND name NOT GLOB '*[^a-z0-9-]*'),
        token TEXT NOT NULL UNIQUE CHECK (length(token) >= 32)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS devices (
        name TEXT PRIMARY KEY
            CHECK (length(name) BETWEEN length(owner) + 2 AND length(owner) + 33
                AND substr(name, 1, length(owner) + 1) = owner || '.'
                AND substr(name, length(owner) + 2) NOT GLOB '*[^a-z0-9-]*'),
        owner TEXT NOT NULL REFERENCES users,
        token TEXT NOT NULL UNIQUE CHECK (length(token) >= 32)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS devices_of ON devices (owner);
    CREATE TABLE IF NOT EXISTS readings (
        device TEXT NOT NULL REFERENCES devices,
        number INTEGER NOT NULL,
        at REAL NOT NULL,
        value REAL NOT NULL,
        PRIMARY KEY (device, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER IF NOT EXISTS readings_kept AFTER INSERT ON readings BEGIN
        DELETE FROM readings WHERE device = new.device AND number <= new.number - 1000;
    END;
";

/// Half of `topics.retain_for` as it is by default.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(5 * 60);

fn main() -> ExitCode {
    let store = Store::open("gateway.db").and_then(|store| Ok((store.begin()?, store)));
    let (begun, store) = match store {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("gateway.db: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some((user, device)) = begun {
        eprintln!("the user ada has the token {user}, the device boiler {device}");
    }
    let gateway = Gateway::new(store);
    let status = program::run(|builder| gateway.routes(builder));
    // Every reading that was answered is on the disk already; this leaves one file instead of two.
    match gateway.store.flush() {
        Ok(()) => status,
        Err(error) => {
            eprintln!("gateway.db: {error}");
            ExitCode::FAILURE
        }
    }
}
