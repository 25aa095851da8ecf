//! One bridge: what it has in flight, in both directions, and what it waits for.

use std::fmt;
use std::time::Duration;

use log::{Level, error, info, log, warn};

use super::far::{Far, Heard};
use crate::core::bridge::rules::gap_topic_here;
use crate::core::bridge::{Coming, Incoming, Outgoing, Rules, Sending};
use crate::core::config::Bridge as Settings;
use crate::core::engine::{Engine, TakenIn};
use crate::core::ground::time::{Instant, sooner};
use crate::core::observe::bridges::BridgeFigures;
use crate::core::topics::{EventId, ReaderKey, What};
use crate::io::client::Clients;

/// A bridge.
pub(super) struct Bridge {
    settings: Settings,
    rules: Rules,
    reader: ReaderKey,
    far: Option<Far>,
    outgoing: Outgoing,
    incoming: Incoming,
    /// When what was not taken is tried again.
    retry_at: Option<Instant>,
    /// When a far side that has stopped is tried again.
    restart_at: Option<Instant>,
    /// Topics that the far side has refused, and when they are asked for again.
    missing: Vec<String>,
    ask_at: Option<Instant>,
    /// That it does not connect was told.
    is_told: bool,
    /// What has become of an event was logged since the last connection.
    has_warned: bool,
    pub figures: BridgeFigures,
}

impl Bridge {
    /// Begins a bridge, perhaps in the place of another of the same name, from these positions.
    /// `None` if that cannot be, which is logged.
    pub fn begin(
        now: Instant,
        settings: &Settings,
        before: Option<&Bridge>,
        positions: &[(String, EventId)],
        engine: &mut Engine,
    ) -> Option<Bridge> {
        let name = settings.name();
        let rules = settings.rules().inspect_err(|fault| error!("bridge {name}: {fault}")).ok()?;
        let wants = rules.clone();
        let own = positions.iter().find(|(known, _)| known == name);
        let position = own.map_or(EventId::ZERO, |(_, position)| *position);
        let wants = Box::new(move |topic: &str| wants.sends(topic));
        let Some(reader) = engine.add_reader(wants, position, settings.window) else {
            error!("bridge {name}: there are too many bridges");
            return None;
        };
        let mut incoming = Incoming::default();
        for (known, id) in positions {
            if let Some((of, topic)) = known.split_once(FAR)
                && of == name
            {
                incoming.set_position(topic, *id);
            }
        }
        info!("bridge {name} begun url={}", settings.url.as_deref().unwrap_or_default());
        Some(Bridge {
            rules,
            reader,
            far: None,
            outgoing: Outgoing::default(),
            incoming,
            retry_at: None,
            restart_at: Some(now),
            missing: Vec::new(),
            ask_at: None,
            is_told: false,
            has_warned: false,
            figures: BridgeFigures {
                name: name.to_owned(),
                reader,
                is_connected: false,
                sent: before.map_or(0, |one| one.figures.sent),
                received: before.map_or(0, |one| one.figures.received),
                gaps: before.map_or(0, |one| one.figures.gaps),
                reconnects: before.map_or(0, |one| one.figures.reconnects),
            },
            settings: settings.clone(),
        })
    }

    /// Ends a bridge.
    pub fn end(self, now: Instant, engine: &mut Engine, clients: &mut Clients) {
        info!("bridge {} ended", self.settings.name());
        engine.remove_reader(self.reader);
        if let Some(far) = self.far {
            far.end(clients, now);
        }
    }

    /// Returns how far it has come, in both directions.
    pub fn positions(&self, engine: &Engine) -> impl Iterator<Item = (String, EventId)> {
        let name = self.settings.name();
        let own = (name.to_owned(), engine.readers().reader_position(self.reader));
        let far = self.incoming.positions();
        std::iter::once(own).chain(far.map(move |(topic, id)| (format!("{name}{FAR}{topic}"), id)))
    }

    /// Returns what it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns whether a turn would find something to do at once.
    pub fn is_due(&self, engine: &Engine, clients: &Clients) -> bool {
        let has_news = self.far.as_ref().is_some_and(|far| far.has_news(clients));
        let sends = self.figures.is_connected && self.retry_at.is_none();
        (has_news && self.incoming.has_room())
            || (sends && (self.outgoing.has_unsent() || engine.readers().has_reading(self.reader)))
    }

    /// Returns when the next turn must come.
    pub fn next_deadline(&self) -> Option<Instant> {
        let ack_at = self.outgoing.waits_since().filter(|_| self.figures.is_connected);
        let ack_at = ack_at.map(|at| at + self.settings.ack + Instant::RESOLUTION);
        let all = [self.retry_at, self.restart_at, self.ask_at];
        all.into_iter().fold(ack_at, sooner)
    }

    /// Does what is due, a share of it.
    pub fn turn(&mut self, now: Instant, engine: &mut Engine, clients: &mut Clients) {
        self.start(now, engine, clients);
        self.hear(now, engine, clients);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        while let Some((number, is_published)) = engine.poll_taken_in(self.reader) {
            match is_published {
                true => self.note_taken(number),
                false => {
                    self.incoming.retry(number);
                    self.wait(now);
                }
            }
        }
        self.take_in(now, engine);
        if let Some(far) = &self.far {
            std::iter::from_fn(|| self.incoming.poll_receipt())
                .for_each(|one| far.acknowledge(clients, now, one));
        }
        self.send(now, engine, clients);
        self.judge(now, clients);
    }

    /// Begins to connect, if that is due, and asks again for what was refused.
    fn start(&mut self, now: Instant, engine: &Engine, clients: &mut Clients) {
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = None;
            let missing = std::mem::take(&mut self.missing);
            let far = self.far.as_ref().filter(|_| !missing.is_empty());
            for (far, topic) in
                far.into_iter().flat_map(|far| missing.iter().map(move |topic| (far, topic)))
            {
                far.subscribe(clients, now, topic, self.incoming.position(topic));
            }
        }
        if self.far.is_some() || self.restart_at.is_none_or(|at| at > now) {
            return;
        }
        match Far::connect(clients, now, &self.settings, engine.config()) {
            Ok(far) => {
                for topic in self.rules.subscriptions() {
                    far.subscribe(clients, now, topic, self.incoming.position(topic));
                }
                self.far = Some(far);
                self.restart_at = None;
            }
            Err(fault) => {
                error!("{fault}");
                self.restart_at = Some(now + engine.config().client.broken_for);
            }
        }
    }

    fn hear(&mut self, now: Instant, engine: &mut Engine, clients: &mut Clients) {
        for _ in 0..HEARD_MAX {
            if !self.incoming.has_room() {
                return;
            }
            let heard = self.far.as_ref().and_then(|far| far.poll(clients, now));
            let Some(heard) = heard else { return };
            self.take_heard(now, heard, engine, clients);
        }
    }

    fn take_heard(
        &mut self,
        now: Instant,
        heard: Heard,
        engine: &mut Engine,
        clients: &mut Clients,
    ) {
        let name = self.settings.name();
        match heard {
            Heard::Connected => {
                info!("bridge {name} connected");
                self.figures.is_connected = true;
                self.is_told = false;
                self.has_warned = false;
                // Rights may be others now.
                self.ask_at = self.ask_at.map(|_| now);
                self.outgoing.wait_anew(now);
            }
            Heard::Lost(why) => self.note_lost(why.map(|why| why.to_string())),
            Heard::Stopped(why) => {
                self.note_lost(None);
                let why = why.map_or_else(String::new, |why| why.to_string());
                let wait = engine.config().client.broken_for;
                error!(
                    "bridge {} stopped retry_s={} why={why}",
                    self.settings.name(),
                    wait.as_secs()
                );
                self.restart_at = Some(now + wait);
                // What is not published here comes again.
                self.outgoing.forget_sent();
                self.incoming.reset();
                if let Some(far) = self.far.take() {
                    far.end(clients, now);
                }
            }
            Heard::Acknowledged(reference, id) => {
                let Some(sending) = self.outgoing.settle(reference) else { return };
                self.figures.sent += 1;
                self.figures.gaps += u64::from(sending.is_gap);
                if let Some(id) = id.filter(|_| self.rules.incoming(&sending.topic).is_ok()) {
                    self.incoming.note_echo(&sending.topic, id);
                }
                engine.acknowledge(self.reader, sending.number);
            }
            Heard::Unknown(reference) => {
                let sending = self.outgoing.settle(reference);
                sending.into_iter().for_each(|sending| self.outgoing.put_back(sending));
            }
            Heard::NotNow(reference, why) => {
                let Some(sending) = self.outgoing.settle(reference) else { return };
                self.tell(format_args!("not published topic={} why={why}", sending.topic));
                self.outgoing.put_back(sending);
                self.wait(now);
            }
            Heard::Refused(reference, why) => {
                let Some(sending) = self.outgoing.settle(reference) else { return };
                self.refuse(engine, sending, &why);
            }
            Heard::Came(coming) => self.incoming.push(coming),
            Heard::NotSubscribed(topic, why) => {
                warn!("bridge {name} not subscribed topic={topic} why={why}");
                self.missing.push(topic);
                self.ask_at = Some(now + ASK_AFTER);
            }
        }
    }

    fn note_lost(&mut self, why: Option<String>) {
        let (name, why) = (self.settings.name(), why.unwrap_or_default());
        if std::mem::take(&mut self.figures.is_connected) {
            self.figures.reconnects += 1;
            warn!("bridge {name} lost its connection why={why}");
        } else if !std::mem::replace(&mut self.is_told, true) {
            warn!("bridge {name} does not connect why={why}");
        }
    }

    /// Logs what has become of an event: as a warning the first time on a connection, since others
    /// may follow by the thousand. All are counted.
    fn tell(&mut self, what: fmt::Arguments<'_>) {
        let is_first = !std::mem::replace(&mut self.has_warned, true);
        let level = if is_first { Level::Warn } else { Level::Debug };
        log!(level, "bridge {} {what}", self.settings.name());
    }

    /// Tells a gap in place of what cannot be sent.
    fn refuse(&mut self, engine: &mut Engine, sending: Sending, why: &str) {
        let number = sending.number;
        self.tell(format_args!("refused topic={} why={why}: a gap", sending.topic));
        if self.outgoing.put_gap(&self.rules, sending).is_none() {
            self.figures.gaps += 1;
            engine.acknowledge(self.reader, number);
        }
    }

    /// Publishes here what has come.
    fn take_in(&mut self, now: Instant, engine: &mut Engine) {
        for _ in 0..HEARD_MAX {
            if self.retry_at.is_some() {
                return;
            }
            let Some((number, coming)) = self.incoming.next(&self.outgoing) else { return };
            let Coming { topic, content, is_gap, .. } = coming.clone();
            let mapped = self.rules.incoming(&topic);
            let mapped = mapped.map(|name| if is_gap { gap_topic_here(&name) } else { name });
            let taken = mapped.map_or(TakenIn::Never, |name| {
                engine.publish_from_far(now, self.reader, number, &name, content)
            });
            match taken {
                TakenIn::Full => return self.wait(now),
                TakenIn::Later => _ = self.incoming.ask(),
                TakenIn::Now | TakenIn::Never => {
                    self.incoming.ask();
                    self.note_taken(number);
                }
            }
            let is_never = taken == TakenIn::Never;
            self.figures.gaps += u64::from(is_gap || is_never);
            if is_never || is_gap {
                let what = if is_gap { "gap" } else { "no topic" };
                self.tell(format_args!("in: {what} topic={}", topic.escape_default()));
            }
        }
    }

    fn note_taken(&mut self, number: u64) {
        self.figures.received += 1;
        self.incoming.settle(number);
    }

    /// Sends what the reader gives.
    fn send(&mut self, now: Instant, engine: &mut Engine, clients: &mut Clients) {
        for _ in 0..HEARD_MAX {
            let Some(far) = self.far.as_ref().filter(|_| self.figures.is_connected) else { return };
            if self.retry_at.is_some() {
                return;
            }
            let Some(sending) = self.outgoing.unsent() else {
                let Some(reading) = engine.poll_reader(self.reader) else { return };
                let (number, topic) = (reading.number, reading.topic.clone());
                if matches!(reading.what, What::Gap(_)) {
                    self.tell(format_args!("out: gap topic={topic}"));
                }
                if self.outgoing.take(&self.rules, reading).is_err() {
                    self.tell(format_args!("out: no topic comes of {topic}"));
                    self.figures.gaps += 1;
                    engine.acknowledge(self.reader, number);
                }
                continue;
            };
            match far.publish(clients, now, sending) {
                Ok(Some(reference)) => self.outgoing.note_sent(now, reference),
                Ok(None) => return self.wait(now),
                Err(why) => {
                    let sending = self.outgoing.settle_unsent();
                    sending.into_iter().for_each(|sending| self.refuse(engine, sending, &why));
                }
            }
        }
    }

    /// Connects anew where the far side has acknowledged nothing for too long.
    fn judge(&mut self, now: Instant, clients: &mut Clients) {
        let waits_since = self.outgoing.waits_since().filter(|_| self.figures.is_connected);
        if waits_since.is_some_and(|at| at + self.settings.ack < now)
            && let Some(far) = &self.far
        {
            let name = self.settings.name();
            warn!("bridge {name} without an acknowledgement for {:?}", self.settings.ack);
            far.reconnect(clients, now);
            self.outgoing.wait_anew(now);
        }
    }

    fn wait(&mut self, now: Instant) {
        self.retry_at = Some(now + RETRY_AFTER);
    }
}

/// Stands in the names of positions between a bridge and a far topic.
const FAR: char = '<';
#[cfg(feature = "store")]
const _: () = assert!(FAR == crate::core::store::FAR);

/// How much of each kind a bridge does in one turn.
const HEARD_MAX: usize = 128;

/// When a topic that was refused is asked for again.
const ASK_AFTER: Duration = Duration::from_secs(60);

/// When what was not taken is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
