//! From the wait before a try to the answer to the upgrade.

use std::net::{IpAddr, SocketAddr};

use super::{Action, Dialler, Means, Phase, Purpose, Upgrading};
#[cfg(feature = "deflate")]
use crate::core::client::compression::Compression;
use crate::core::client::connecting::Connecting;
use crate::core::client::exchange::Exchange;
use crate::core::client::link::{Link, after};
use crate::core::client::why::Why;
use crate::core::connection::heartbeat::Heartbeat;
use crate::core::outbox::Kind;
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{
    ResponseHead, ResponseReader, SwitchError, UpgradeKey, check_switch_with,
};

impl Dialler {
    pub(super) fn begin_try(&mut self, means: &mut Means<'_>) {
        self.tries = self.tries.wrapping_add(1);
        self.breaker().begin();
        self.asked_wait_ms = 0;
        let reached = self.setup.proxy.as_ref().unwrap_or(self.target());
        match reached.name().parse::<IpAddr>() {
            Ok(address) => {
                let address = SocketAddr::new(address, reached.port());
                self.connect(means, vec![address]);
            }
            Err(_) => {
                let (name, port) = (reached.name().to_owned(), reached.port());
                let number = self.tries;
                self.news().actions.push_back(Action::Resolve(number, name, port));
                let until = after(means.now, self.setup.rules.resolve);
                self.enter(Phase::Resolving, until);
            }
        }
    }

    pub(super) fn connect(&mut self, means: &mut Means<'_>, addresses: Vec<SocketAddr>) {
        // Each retry begins with another address.
        let mut connecting = Connecting::new(addresses, self.failures as usize);
        let first = connecting.poll(means.now);
        self.enter(
            Phase::Connecting(Box::new(connecting)),
            after(means.now, self.setup.rules.connect),
        );
        if let Some((number, address)) = first {
            self.news().actions.push_back(Action::Connect(number, address));
        }
    }

    pub(super) fn take_proxys_answer(&mut self, means: &mut Means<'_>, head: &ResponseHead) {
        match head.status() {
            200..300 => self.connected_to_server(means),
            status => {
                let error = format!("the proxy answered with status {status}");
                self.finish(means, Why::Unreachable(error), true);
            }
        }
    }

    pub(super) fn connected_to_server(&mut self, means: &mut Means<'_>) {
        if !self.target().is_secure() {
            return self.begin_request(means);
        }
        let name = self.target().name().to_owned();
        self.news().actions.push_back(Action::Secure(name));
        self.enter(Phase::Securing, after(means.now, self.setup.rules.secure));
    }

    /// Sends what the connection was made for.
    pub(super) fn begin_request(&mut self, means: &mut Means<'_>) {
        #[cfg(feature = "mqtt")]
        if let Purpose::Broker(_) = &self.setup.purpose {
            return self.begin_broker(means);
        }
        let mut bytes = [0; 16];
        let (one, other) = (means.random.next_u64(), means.random.next_u64());
        bytes[..8].copy_from_slice(&one.to_ne_bytes());
        bytes[8..].copy_from_slice(&other.to_ne_bytes());
        let key = UpgradeKey::new(bytes);
        let request = self.setup.request(self.target(), self.token.as_deref(), &key);
        let request = match request {
            Ok(request) => request.encode(),
            // It was checked when the client was made, and when the token was renewed.
            Err(error) => return self.finish(means, Why::Answer(error.to_string()), true),
        };
        self.queue(means, Frame::raw(request), Kind::Response);
        let phase = match &self.setup.purpose {
            Purpose::WebSocket | Purpose::Events(_) => {
                Phase::Upgrading(Box::new(Upgrading { key, reader: ResponseReader::default() }))
            }
            Purpose::Request(ask) => {
                Phase::Asking(Box::new(Exchange::new(ask, &self.setup.rules.head)))
            }
            #[cfg(feature = "mqtt")]
            Purpose::Broker(_) => return,
        };
        let until = after(means.now, self.setup.rules.upgrade);
        self.enter(phase, until);
    }

    pub(super) fn take_answer(&mut self, means: &mut Means<'_>, head: &ResponseHead) {
        if let Purpose::Events(_) = &self.setup.purpose {
            return self.take_stream(means, head);
        }
        let Phase::Upgrading(upgrading) = &self.phase else { return };
        let setup = self.setup.clone();
        let protocols: Vec<&str> = setup.protocols.iter().map(String::as_str).collect();
        #[cfg(not(feature = "deflate"))]
        let agrees = |_: &[u8]| false;
        #[cfg(feature = "deflate")]
        let mut answered = None;
        #[cfg(feature = "deflate")]
        let agrees = |element: &[u8]| {
            let offer = setup.rules.compression.offer.filter(|_| answered.is_none());
            answered = offer.and_then(|offer| offer.read(element));
            answered.is_some()
        };
        match check_switch_with(head, &upgrading.key, &protocols, agrees) {
            Ok(_) => {
                let heartbeat = Heartbeat::new(&setup.rules.rhythm, means.random);
                #[cfg_attr(not(feature = "deflate"), expect(unused_mut))]
                let mut link = Link::new(means.now, heartbeat, !setup.awaits_greeting);
                #[cfg(feature = "deflate")]
                if let Some(answered) = answered {
                    link.compression = Some(Box::new(Compression::new(&setup.rules, answered)));
                }
                self.enter(Phase::Open(Box::new(link)), means.now);
            }
            Err(SwitchError::Status) => self.finish(means, Why::status_of(head), true),
            Err(SwitchError::AcceptKey) => self.finish(means, Why::AcceptKey, true),
            Err(error) => self.finish(means, Why::Answer(error.to_string()), true),
        }
    }
}
