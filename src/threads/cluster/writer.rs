//! The thread that publishes: one script for each publication, up to 64 at once, and the same again
//! when a connection was lost before the answers. It also renews the claim of the server's name.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{error, info, warn};

use super::session::{ANSWER_MAX, Backoff, CLAIM_EVERY, claim, look};
use super::{Order, Shared};
use crate::core::cluster::{
    Outcome, PUBLISH, REGISTER, RELEASE, UNDER_WAY_MAX, publish_parts, read_nodes, said_of,
};
use crate::core::config::{CLUSTER_QUEUE_BYTES, OFFLINE_QUEUE_BYTES, Offline};
use crate::core::contract::backbone::{Logged, Publication};
use crate::system::redis::{Link, LinkError};
use crate::threads::handle::Handle;

pub(super) struct Writer {
    shared: Arc<Shared>,
    handle: Handle,
    orders: Receiver<Order>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Sent, and not answered: first when a connection is there again.
    under_way: VecDeque<Waiting>,
    connection: Option<Connection>,
    backoff: Backoff,
    retry_at: StdInstant,
    claim_at: StdInstant,
    register_at: StdInstant,
    is_claim_lost: bool,
    is_refusing: bool,
    /// What the loop is to be told.
    told: Vec<Logged>,
    is_over: bool,
}

#[derive(Debug)]
struct Waiting {
    publication: Publication,
    since: StdInstant,
    /// The epoch in which it was sent without an answer.
    sent_in: Option<u16>,
    /// It was sent before without an answer: what comes now says nothing of that time.
    is_sent_again: bool,
}

impl Waiting {
    fn bytes(&self) -> usize {
        bytes_of(&self.publication)
    }
}

#[derive(Debug)]
struct Connection {
    link: Link,
    epoch: u16,
    /// What Redis calls the script by.
    script: String,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, handle: Handle, orders: Receiver<Order>) -> Writer {
        let now = StdInstant::now();
        Writer {
            shared,
            handle,
            orders,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: VecDeque::new(),
            connection: None,
            backoff: Backoff::new(),
            retry_at: now,
            claim_at: now,
            register_at: now,
            is_claim_lost: false,
            is_refusing: false,
            told: Vec::new(),
            is_over: false,
        }
    }

    /// Publishes until the loop has ended.
    pub fn run(&mut self) {
        while !self.is_over {
            self.take_orders();
            self.connect();
            self.publish();
            self.give_up();
            self.renew_claim();
            self.register();
            let told = std::mem::take(&mut self.told);
            if !told.is_empty() && !self.handle.logged_patiently(told) {
                break;
            }
        }
        self.release();
    }

    /// Waits for publications, unless there are some, and takes them.
    fn take_orders(&mut self) {
        let wait = match (self.has_work(), &self.connection) {
            (true, Some(_)) => Duration::ZERO,
            (true, None) => STEP,
            (false, _) => CLAIM_EVERY / 4,
        };
        match self.orders.recv_timeout(wait) {
            Ok(order) => self.obey(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.is_over = true,
        }
        while self.waiting.len() < TAKEN_MAX
            && let Ok(order) = self.orders.try_recv()
        {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Publish(publication) => {
                self.shared.queued.fetch_sub(bytes_of(&publication), Ordering::Relaxed);
                self.take(publication);
            }
            Order::Register => self.register_at = StdInstant::now(),
        }
    }

    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.under_way.is_empty()
    }

    fn take(&mut self, publication: Publication) {
        let most = match self.shared.is_reached() {
            true => CLUSTER_QUEUE_BYTES,
            false => OFFLINE_QUEUE_BYTES,
        };
        let bytes = bytes_of(&publication);
        let is_refused = !self.shared.is_reached() && self.shared.offline == Offline::Refuse;
        let has_room = self.waiting.is_empty() || self.waiting_bytes + bytes <= most;
        if is_refused || !has_room {
            return self.refuse(&publication);
        }
        self.waiting_bytes += bytes;
        let since = StdInstant::now();
        let (sent_in, is_sent_again) = (None, false);
        self.waiting.push_back(Waiting { publication, since, sent_in, is_sent_again });
    }

    /// Leaves a publication of which nobody can know what has become of it.
    fn leave(&mut self, publication: &Publication) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        self.told.push(Logged::Unknown(publication.ticket));
    }

    fn refuse(&mut self, publication: &Publication) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        self.told.push(Logged::Refused(publication.ticket));
    }

    /// Connects if the reader has. Before anything is published the log is looked at.
    fn connect(&mut self) {
        if !self.shared.is_reached() {
            // It is another Redis perhaps when it is reached again.
            self.connection = None;
            self.backoff.reset();
            self.retry_at = StdInstant::now();
            return;
        }
        let is_due = self.retry_at <= StdInstant::now();
        if self.connection.is_none() && is_due && !self.is_over {
            match open(&self.shared) {
                Ok(connection) => self.connection = Some(connection),
                Err(fault) => self.disconnect(&fault),
            }
        }
    }

    fn disconnect(&mut self, fault: &LinkError) {
        if self.connection.take().is_some() {
            warn!("cluster: the connection for publications is lost: {}", fault.sentence());
        }
        self.retry_at = StdInstant::now() + self.backoff.next();
    }

    /// Publishes what waits, as many as may be under way.
    fn publish(&mut self) {
        self.leave_behind();
        let mut bytes: usize = self.under_way.iter().map(Waiting::bytes).sum();
        while self.connection.is_some()
            && self.under_way.len() < UNDER_WAY_MAX
            && let Some(next) = self.waiting.front()
            && (bytes == 0 || bytes + next.bytes() <= UNDER_WAY_BYTES_MAX)
            && let Some(next) = self.waiting.pop_front()
        {
            bytes += next.bytes();
            self.waiting_bytes -= next.bytes();
            self.under_way.push_back(next);
        }
        if self.under_way.is_empty() {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        for waiting in &mut self.under_way {
            waiting.is_sent_again = waiting.sent_in.is_some();
            waiting.sent_in = Some(connection.epoch);
            connection.queue(&self.shared, &waiting.publication);
        }
        let mut answered = Vec::new();
        // So that the claim is renewed in time, however slowly answers come.
        let until = StdInstant::now() + WAIT_MAX;
        let received = connection.link.send().and_then(|()| {
            for _ in 0..self.under_way.len() {
                let wait = until.saturating_duration_since(StdInstant::now()).min(ANSWER_MAX);
                answered.push(Outcome::read(&connection.link.receive(wait)?));
            }
            Ok(())
        });
        let renewal = self.take_outcomes(answered);
        match received.and(renewal) {
            Ok(()) => {}
            Err(fault) => self.disconnect(&fault),
        }
    }

    /// Leaves what was sent without an answer in an epoch before. Others may have seen it, though
    /// the log does not know of it any more: it would come twice.
    fn leave_behind(&mut self) {
        let Some(connection) = &self.connection else { return };
        let epoch = connection.epoch;
        let is_behind = |waiting: &Waiting| waiting.sent_in.is_some_and(|sent_in| sent_in != epoch);
        let under_way = std::mem::take(&mut self.under_way);
        let (behind, rest): (VecDeque<_>, _) = under_way.into_iter().partition(is_behind);
        self.under_way = rest;
        behind.iter().for_each(|waiting| self.leave(&waiting.publication));
    }

    /// Follows the outcomes of the first that are under way. Those to be published again stay.
    fn take_outcomes(&mut self, outcomes: Vec<Outcome>) -> Result<(), LinkError> {
        let epoch = self.connection.as_ref().map_or(0, |connection| connection.epoch);
        let (mut again, mut is_stale, mut elsewhere) = (VecDeque::new(), false, None);
        for outcome in outcomes {
            let Some(mut waiting) = self.under_way.pop_front() else { break };
            waiting.sent_in = waiting.sent_in.filter(|_| waiting.is_sent_again);
            match outcome {
                Outcome::Taken => {
                    self.backoff.reset();
                    self.is_refusing = false;
                    self.shared.published.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Repeated(id, of) => {
                    self.shared.duplicates.fetch_add(1, Ordering::Relaxed);
                    let ticket = waiting.publication.ticket;
                    let event = id.event(of.unwrap_or(epoch));
                    self.told.extend(event.map(|id| Logged::Repeated(ticket, id)));
                }
                Outcome::OtherEpoch | Outcome::NoScript => {
                    is_stale = true;
                    again.push_back(waiting);
                }
                Outcome::Elsewhere(sentence) => {
                    elsewhere = Some(LinkError::Broken(sentence));
                    again.push_back(waiting);
                }
                Outcome::Refused(sentence) => {
                    if !std::mem::replace(&mut self.is_refusing, true) {
                        warn!("cluster: Redis does not take publications: {sentence}");
                    }
                    self.refuse(&waiting.publication);
                }
            }
        }
        again.append(&mut self.under_way);
        self.under_way = again;
        if let Some(fault) = elsewhere {
            return Err(fault);
        }
        if let Some(connection) = self.connection.as_mut().filter(|_| is_stale) {
            connection.renew(&self.shared)?;
        }
        Ok(())
    }

    /// Refuses what has waited for too long, and all that has not been sent while Redis is away,
    /// unless it may wait.
    fn give_up(&mut self) {
        let now = StdInstant::now();
        let is_late = |waiting: &Waiting| now.duration_since(waiting.since) >= WAIT_MAX;
        while self.under_way.front().is_some_and(is_late)
            && let Some(waiting) = self.under_way.pop_front()
        {
            match waiting.sent_in {
                Some(_) => self.leave(&waiting.publication),
                None => self.refuse(&waiting.publication),
            }
        }
        let is_away = self.connection.is_none() && !self.shared.is_reached();
        let is_refused = is_away && self.shared.offline == Offline::Refuse;
        while self.waiting.front().is_some_and(|waiting| is_refused || is_late(waiting))
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.waiting_bytes -= waiting.bytes();
            self.refuse(&waiting.publication);
        }
    }

    fn renew_claim(&mut self) {
        if self.claim_at > StdInstant::now() {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        self.claim_at = StdInstant::now() + CLAIM_EVERY;
        match claim(&self.shared, &mut connection.link) {
            Ok(other) => {
                let was_lost = std::mem::replace(&mut self.is_claim_lost, other.is_some());
                let node = &self.shared.node;
                match (was_lost, self.is_claim_lost) {
                    (false, true) => error!("cluster.node = {node}: another server has this name"),
                    (true, false) => info!("cluster.node = {node} is this server's again"),
                    _ => {}
                }
            }
            Err(fault) => self.disconnect(&fault),
        }
    }

    /// Tells the registry how this server does, and the loop how all do.
    fn register(&mut self) {
        if self.register_at > StdInstant::now() {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        self.register_at = StdInstant::now() + REGISTER_EVERY;
        let node = self.shared.node();
        let parts = [REGISTER, "1", &self.shared.keys.nodes, &node.name, &said_of(&node)];
        let parts = parts.map(str::as_bytes);
        match connection.link.ask([b"EVAL".as_slice()].into_iter().chain(parts)) {
            Ok(answer) => {
                let nodes = read_nodes(&answer);
                self.shared.nodes.store(nodes.len(), Ordering::Relaxed);
                self.told.push(Logged::Nodes(nodes));
            }
            Err(fault) => self.disconnect(&fault),
        }
    }

    /// Gives the server's name up.
    fn release(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let Shared { claim, keys, process, node, .. } = &*self.shared;
        let parts = [RELEASE, "2", claim, &keys.nodes, process, node].map(str::as_bytes);
        // It runs out by itself.
        let _ = connection.link.ask([b"EVAL".as_slice()].into_iter().chain(parts));
    }
}

/// Connects, looks at the log, and leaves the script with Redis.
fn open(shared: &Shared) -> Result<Connection, LinkError> {
    let link = Link::connect(&shared.url, shared.limits)?;
    let mut connection = Connection { link, epoch: 0, script: String::new() };
    connection.renew(shared)?;
    Ok(connection)
}

impl Connection {
    /// Looks at the log, and leaves the script with Redis.
    fn renew(&mut self, shared: &Shared) -> Result<(), LinkError> {
        let (found, _) = look(shared, &mut self.link, false)?;
        self.epoch = found.epoch.map_or(0, |epoch| epoch.number);
        let script = self.link.ask(["SCRIPT", "LOAD", PUBLISH].map(str::as_bytes))?;
        self.script = script.text().unwrap_or_default().into();
        Ok(())
    }

    fn queue(&mut self, shared: &Shared, publication: &Publication) {
        let (producer, parts) = publish_parts(&shared.process, publication, shared.retain_events);
        let producer = shared.keys.producer(&producer.name);
        let epoch = self.epoch.to_string();
        let head = [
            b"EVALSHA".as_slice(),
            self.script.as_bytes(),
            b"3",
            shared.keys.epoch.as_bytes(),
            shared.keys.log.as_bytes(),
            &producer,
            epoch.as_bytes(),
        ];
        self.link.queue(head.into_iter().chain(parts.iter().map(Vec::as_slice)));
    }
}

pub(super) fn bytes_of(publication: &Publication) -> usize {
    publication.topic.len() + publication.content.payload.len() + size_of::<Waiting>()
}

/// How long to wait for a connection before looking again.
const STEP: Duration = Duration::from_millis(20);
/// How long a publication may wait for Redis.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How many are taken from the loop at once.
const TAKEN_MAX: usize = 1024;
/// How often the registry is told.
const REGISTER_EVERY: Duration = Duration::from_secs(10);
/// How many bytes may be under way; one publication always may.
const UNDER_WAY_BYTES_MAX: usize = 1 << 20;
