//! Several addresses of one host, tried one beside the other (RFC 8305).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::core::ground::time::Instant;

/// The addresses of a host, and the tries that are under way.
#[derive(Debug, Default)]
pub(super) struct Connecting {
    /// Those that have not been tried.
    left: VecDeque<SocketAddr>,
    /// The numbers of the tries that are under way.
    under_way: Vec<u8>,
    next_number: u8,
    /// When the next address is tried, if none has answered until then.
    next_at: Option<Instant>,
    /// Why the last try failed.
    pub error: String,
}

impl Connecting {
    /// Begins with `first` of these addresses, families in turn. At most [`ADDRESSES_MAX`] are
    /// tried.
    pub fn new(addresses: Vec<SocketAddr>, first: usize) -> Connecting {
        let mut left = in_turn(addresses);
        left.truncate(ADDRESSES_MAX);
        if !left.is_empty() {
            let count = left.len();
            left.rotate_left(first % count);
        }
        Connecting { left: left.into(), ..Connecting::default() }
    }

    /// Takes the next address to try, with the number of the try.
    pub fn poll(&mut self, now: Instant) -> Option<(u8, SocketAddr)> {
        let is_due = self.under_way.is_empty() || self.next_at.is_some_and(|at| at <= now);
        if !is_due {
            return None;
        }
        let address = self.left.pop_front();
        self.next_at = (!self.left.is_empty()).then(|| now + STAGGER);
        let number = self.next_number;
        self.next_number += 1;
        self.under_way.push(number);
        address.map(|address| (number, address)).or_else(|| {
            self.under_way.pop();
            None
        })
    }

    /// Returns when the next address is to be tried.
    pub fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Returns whether this try is under way.
    pub fn has(&self, number: u8) -> bool {
        self.under_way.contains(&number)
    }

    /// Takes note that a try has failed: the next address need not wait.
    pub fn failed(&mut self, now: Instant, number: u8, error: String) {
        self.under_way.retain(|other| *other != number);
        self.error = error;
        if !self.left.is_empty() {
            self.next_at = Some(now);
        }
    }

    /// Returns whether nothing is left to hope for.
    pub fn is_over(&self) -> bool {
        self.left.is_empty() && self.under_way.is_empty()
    }
}

/// Puts the two families in turn, beginning with that of the first address (RFC 8305, 4).
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (ones, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == begins_with_v6);
    let (mut ones, mut others) = (ones.into_iter(), others.into_iter());
    let mut all = Vec::new();
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return all,
            (one, other) => all.extend(one.into_iter().chain(other)),
        }
    }
}

/// RFC 8305, 5, recommends 250 ms; on radio links a handshake takes longer.
const STAGGER: Duration = Duration::from_millis(300);

/// A name may have any number of addresses.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| format!("{text}:80").parse().unwrap()).collect()
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn families_take_turns() {
        let mixed = addresses(&["[::1]", "[::2]", "[::3]", "1.1.1.1"]);
        let expected = addresses(&["[::1]", "1.1.1.1", "[::2]", "[::3]"]);
        assert_eq!(in_turn(mixed), expected);
    }

    #[test]
    fn the_next_address_waits_for_the_stagger_or_a_failure() {
        let all = addresses(&["1.1.1.1", "2.2.2.2", "3.3.3.3"]);
        let mut connecting = Connecting::new(all.clone(), 0);
        assert_eq!(connecting.poll(at(0)), Some((0, all[0])));
        assert_eq!(connecting.poll(at(299)), None);
        assert_eq!(connecting.next_at(), Some(at(300)));
        assert_eq!(connecting.poll(at(300)), Some((1, all[1])));
        connecting.failed(at(310), 0, "refused".into());
        assert_eq!(connecting.poll(at(310)), Some((2, all[2])));
        assert_eq!((connecting.poll(at(900)), connecting.next_at()), (None, None));
        assert!(connecting.has(1) && connecting.has(2) && !connecting.has(0));
        connecting.failed(at(910), 1, "refused".into());
        assert!(!connecting.is_over());
        connecting.failed(at(920), 2, "late".into());
        assert!(connecting.is_over() && connecting.error == "late");
    }

    #[test]
    fn there_may_be_no_address_many_or_another_one_first() {
        assert!(Connecting::new(Vec::new(), 3).is_over());
        let many: Vec<SocketAddr> = (0..200).map(|port| ([1, 1, 1, 1], port).into()).collect();
        let mut connecting = Connecting::new(many, 9);
        let tried: Vec<u16> = std::iter::from_fn(|| {
            let (number, address) = connecting.poll(at(0))?;
            connecting.failed(at(0), number, String::new());
            Some(address.port())
        })
        .collect();
        assert_eq!(tried, [1, 2, 3, 4, 5, 6, 7, 0]);
    }
}
