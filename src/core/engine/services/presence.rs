//! Who is on a topic, where `topics.presence` names it: asked for by `GET /topics/T?presence` and
//! on `/ws`, and told as events of `$presence.T` while that topic has subscribers.

use crate::core::admission::rights::Right;
use crate::core::engine::Engine;
use crate::core::engine::rights::NO_SUBSCRIBE;
use crate::core::engine::services::topics::check_name;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::json::Object;
use crate::core::ground::time::Instant;
use crate::core::topics::presence::{OWN, Seen, Told};
use crate::core::topics::{BadName, Name, Payload, SubscriptionKey};
use crate::core::wire::http::{Refusal, Request, Response};
use crate::core::wire::hub::{self, ErrorCode, Present, ServerMessage};

impl Engine {
    /// Returns how many members the topics have of which `topics.presence` has it known, those of
    /// persons who have gone and may come back among them.
    pub fn presence_members(&self) -> usize {
        self.presence.len()
    }

    /// Returns the memory of who is on topics, with that of the thread which tells other servers.
    pub(in crate::core::engine) fn presence_bytes(&self) -> usize {
        let bytes = self.presence.bytes();
        #[cfg(feature = "cluster")]
        let bytes = match self.member_changes {
            Some(_) => bytes + self.presence.len() * TOLD_BYTES,
            None => bytes,
        };
        bytes
    }

    /// Takes note that a connection has subscribed.
    pub(in crate::core::engine) fn enter(
        &mut self,
        now: Instant,
        id: ConnectionId,
        key: SubscriptionKey,
    ) {
        let topic = self.topics.topic_of(key);
        if !has_presence(self, topic) {
            return;
        }
        let topic = topic.clone();
        let Some(connection) = self.get(id) else { return };
        let identity = self.admission.identity(connection);
        let before = self.presence_bytes();
        let is_new = self.presence.enter(now, &topic, id, identity.clone());
        self.budget.add(self.presence_bytes().saturating_sub(before));
        if is_new {
            self.note_member(topic, Seen { identity, connection: id, info: None }, true);
        }
    }

    /// Takes note of what other servers are to be told.
    fn note_member(&mut self, _topic: Name, _seen: Seen, _is_here: bool) {
        #[cfg(feature = "cluster")]
        if let Some(changes) = &mut self.member_changes {
            changes.push_back(match _is_here {
                true => MemberChange::Here(_topic, _seen),
                false => MemberChange::Left(_topic, _seen),
            });
        }
    }

    /// Notes what a client says of itself on a topic.
    pub(super) fn describe(&mut self, id: ConnectionId, topic: &str, info: &str) {
        let Some(connection) = self.get(id) else { return };
        let identity = self.admission.identity(connection);
        if !self.presence.describe(topic, id, identity.clone(), info) {
            return;
        }
        self.budget.add(info.len());
        if let Ok(topic) = topic.parse() {
            let info = Some(info.into());
            self.note_member(topic, Seen { identity, connection: id, info }, true);
        }
    }

    /// Takes note that a subscription of a connection ends.
    pub(in crate::core::engine) fn leave(&mut self, now: Instant, id: ConnectionId, topic: &str) {
        if self.presence.is_empty() {
            return;
        }
        let Some(connection) = self.get(id) else { return };
        let identity = self.admission.identity(connection);
        if self.presence.leave(now, topic, id, identity.clone())
            && let Ok(topic) = topic.parse()
        {
            self.note_member(topic, Seen { identity, connection: id, info: None }, false);
        }
    }

    /// Takes note that all subscriptions of a connection end.
    pub(in crate::core::engine) fn leave_all(&mut self, now: Instant, id: ConnectionId) {
        if self.presence.is_empty() {
            return;
        }
        let Some(connection) = self.get(id) else { return };
        let keys: Vec<_> = self.topics.subscriptions_of(&connection.subscriptions).collect();
        for key in keys {
            let topic = self.topics.topic_of(key).clone();
            self.leave(now, id, &topic);
        }
    }

    /// Follows another configuration: members of other servers leave topics that do not tell of
    /// theirs any more, and are asked for again where others do. The connections of this server
    /// follow one by one.
    pub(in crate::core::engine) fn reload_presence(&mut self, _now: Instant) {
        #[cfg(feature = "cluster")]
        {
            let is_shared = self.settings.config.cluster.redis.is_some();
            if is_shared && !self.settings.config.topics.presence.is_empty() {
                self.tell_member_changes();
            }
            let patterns = &self.settings.config.topics.presence;
            let stays = |topic: &str| !patterns.is_empty() && patterns.name(topic);
            let count = self.presence.retain_others(_now, stays);
            self.allowance.charge_looks(count);
            if let Some(changes) = &mut self.member_changes {
                changes.push_back(MemberChange::Reloaded);
            }
        }
    }

    /// Has a connection enter the topics that tell of their members now, and leave those that do
    /// not any more: another configuration may name others.
    pub(in crate::core::engine) fn follow_presence(&mut self, now: Instant, slot: usize) {
        if self.presence.is_empty() && self.settings.config.topics.presence.is_empty() {
            return;
        }
        let Some(connection) = self.connections.get(slot) else { return };
        let id = connection.id;
        let keys: Vec<_> = self.topics.subscriptions_of(&connection.subscriptions).collect();
        self.allowance.charge_looks(keys.len());
        for key in keys {
            match has_presence(self, self.topics.topic_of(key)) {
                true => self.enter(now, id, key),
                false => {
                    let topic = self.topics.topic_of(key).clone();
                    self.leave(now, id, &topic);
                }
            }
        }
    }

    /// Tells who has joined and left by now, as far as the turn allows.
    pub(in crate::core::engine) fn tell_presence(&mut self, now: Instant) {
        while !self.allowance.is_spent()
            && let Some(told) = self.presence.poll_told(now)
        {
            self.stats.presence_joins += told.joined.len() as u64;
            self.stats.presence_leaves += told.left.len() as u64;
            self.allowance.charge_looks(told.joined.len() + told.left.len());
            let topic = [OWN, &told.topic].concat();
            if !self.topics.has_subscribers(&topic) {
                continue;
            }
            let names = told.count <= self.settings.config.topics.presence_members;
            let payload = Payload::Json(event_of(&told, names).into());
            // As with the figures: beside a log that is busy there may be no id for it.
            let _ = self.publish(now, &topic, payload);
        }
    }

    /// Answers `GET /topics/{topic}?presence`.
    pub(super) fn read_presence(&mut self, topic: &str) -> Result<Response, Refusal> {
        check_name(topic)?;
        if !has_presence(self, topic) {
            self.stats.presence_refused += 1;
            return Err(Refusal::new(404, NO_PRESENCE));
        }
        self.presence.note_listed(topic);
        let object = Object::new().string("topic", topic);
        let object = object.number("count", self.presence.count(topic) as u64);
        let object = match self.present(topic) {
            Some(members) => object.raw("members", &hub::list_of(&members)),
            None => object,
        };
        let text = object.end();
        self.allowance.charge_checked(text.len());
        Ok(Response::new(200).json(text))
    }

    /// Answers a client of `/ws` that asks who is on a topic.
    pub(super) fn presence_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        reference: Option<&str>,
    ) {
        let is_good = Name::is_valid(topic);
        let refused = match topic {
            _ if !is_good => Some((ErrorCode::BadRequest, BadName::SENTENCE)),
            _ if !self.may(id, Right::Subscribe, topic) => {
                Some((ErrorCode::Forbidden, NO_SUBSCRIBE))
            }
            _ if !has_presence(self, topic) => Some((ErrorCode::BadRequest, NO_PRESENCE)),
            _ => None,
        };
        if let Some((code, sentence)) = refused {
            self.stats.presence_refused += u64::from(sentence == NO_PRESENCE);
            let quoted = self.quoted(id, topic);
            let reference = Some(reference.unwrap_or(&quoted));
            return self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
        }
        self.presence.note_listed(topic);
        let count = self.presence.count(topic) as u64;
        let members = self.present(topic);
        let members = members.as_deref();
        let answer = ServerMessage::Presence { topic, count, members, reference };
        let answer = self.encode_for(id, &answer);
        self.allowance.charge_checked(answer.len());
        self.push_message(now, id, answer);
    }

    /// Returns the members of a topic; `None` if they are too many to be named.
    fn present(&self, topic: &str) -> Option<Vec<Present<'_>>> {
        let most = self.settings.config.topics.presence_members;
        if self.presence.count(topic) > most {
            return None;
        }
        let members = self.presence.members(topic);
        let members = members.map(|(connection, identity, info)| Present {
            identity: identity.map(Identity::as_str),
            connection,
            info,
        });
        Some(members.collect())
    }
}

/// What others are to be told of members of this server, or to be asked about theirs.
#[cfg(feature = "cluster")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A member is on the topic, or says something else of itself.
    Here(Name, Seen),
    /// A member is not on the topic any more.
    Left(Name, Seen),
    /// Other topics may tell of their members now: [`Engine::set_members_of`] is to be called anew
    /// for each other server.
    Reloaded,
}

#[cfg(feature = "cluster")]
impl Engine {
    /// Has members be told of by [`Engine::poll_member_change`] from now on. A reload that names
    /// topics where none was named does so by itself, before the first connection is a member.
    pub fn tell_member_changes(&mut self) {
        self.member_changes.get_or_insert_default();
    }

    /// Returns whether members are told of.
    pub fn tells_member_changes(&self) -> bool {
        self.member_changes.is_some()
    }

    /// Has members not be told of any more, since nobody takes what is told.
    pub fn keep_member_changes(&mut self) {
        self.member_changes = None;
    }

    /// Takes the next member of this server that has entered a topic, left it, or says something
    /// else of itself.
    pub fn poll_member_change(&mut self) -> Option<MemberChange> {
        self.member_changes.as_mut()?.pop_front()
    }

    /// Takes note of who is on the topics of another server now. Topics that are not to tell here
    /// are passed over.
    pub fn set_members_of(&mut self, now: Instant, server: &str, members: Vec<(Name, Seen)>) {
        let mut members = members;
        members
            .retain(|(topic, seen)| has_presence(self, topic) && !self.contains(seen.connection));
        self.allowance.charge_looks(members.len());
        let before = self.presence_bytes();
        self.presence.set_members_of(now, server, members);
        self.budget.add(self.presence_bytes().saturating_sub(before));
    }
}

/// Returns what a request says of its client.
///
/// # Errors
///
/// If it is too long or has control characters.
pub(super) fn info_of(request: &Request) -> Result<Option<String>, Refusal> {
    match request.query_value("info") {
        None => Ok(None),
        Some(info) if hub::is_info(&info) => Ok(Some(info.into_owned())),
        Some(_) => Err(Refusal::bad_request(hub::NO_INFO)),
    }
}

/// Returns whether a topic tells who is on it. The server's own topics do not.
fn has_presence(engine: &Engine, topic: &str) -> bool {
    let patterns = &engine.settings.config.topics.presence;
    !patterns.is_empty() && !Name::is_own(topic) && patterns.name(topic)
}

/// Returns the event of joins and leaves. If there are too many members, none is named.
fn event_of(told: &Told, names: bool) -> String {
    let object = Object::new();
    let object = match names {
        true => object
            .raw("joined", &hub::list_of(&presents(&told.joined)))
            .raw("left", &hub::list_of(&presents(&told.left))),
        false => object,
    };
    object.number("count", told.count as u64).end()
}

fn presents(all: &[Seen]) -> Vec<Present<'_>> {
    let presents = all.iter().map(|Seen { identity, connection, info }| Present {
        identity: identity.as_ref().map(Identity::as_str),
        connection: *connection,
        info: info.as_deref(),
    });
    presents.collect()
}

/// What a member takes in the thread that tells of it: a field and a value of a hash in a tree.
#[cfg(feature = "cluster")]
const TOLD_BYTES: usize = 200;

/// The sentence for a topic that `topics.presence` does not name.
const NO_PRESENCE: &str = "this topic does not tell who is on it: see topics.presence";
