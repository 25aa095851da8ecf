//! What was published and may come back: MQTT 3.1.1 sends a client what it has published itself.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// The last publications to topics that are subscribed to, too.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    hashes: VecDeque<u32>,
    hasher: RandomState,
}

impl Echoes {
    /// Notes what is published.
    pub fn note(&mut self, topic: &str, payload: &[u8]) {
        if self.hashes.len() == ECHOES_MAX {
            self.hashes.pop_front();
        }
        self.hashes.push_back(self.hash(topic, payload));
    }

    /// Returns whether what has come is an echo: each publication has one.
    pub fn take(&mut self, topic: &str, payload: &[u8]) -> bool {
        let hash = self.hash(topic, payload);
        let found = self.hashes.iter().position(|other| *other == hash);
        found.is_some_and(|index| self.hashes.remove(index).is_some())
    }

    fn hash(&self, topic: &str, payload: &[u8]) -> u32 {
        self.hasher.hash_one((topic, payload)) as u32
    }
}

/// How many publications are remembered.
const ECHOES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_publication_has_one_echo() {
        let mut echoes = Echoes::default();
        echoes.note("a/b", b"1");
        echoes.note("a/b", b"1");
        assert!(!echoes.take("a/c", b"1") && !echoes.take("a/b", b"2"));
        assert!(echoes.take("a/b", b"1") && echoes.take("a/b", b"1"));
        assert!(!echoes.take("a/b", b"1"), "this one is another's");
        for n in 0..ECHOES_MAX as u32 + 1 {
            echoes.note("a", &n.to_be_bytes());
        }
        assert_eq!(echoes.hashes.len(), ECHOES_MAX);
        assert!(!echoes.take("a", &0u32.to_be_bytes()));
        assert!(echoes.take("a", &1u32.to_be_bytes()));
    }
}
