//! Tickets for resumption: the session's state, sealed, kept by the client.
//!
//! A ticket is the name of its key, a nonce, and the sealed state with the moment at which it was
//! made. Sealed with it, though not in it, is the digest of who may come: after a change of that no
//! ticket opens, and the handshake is a full one.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::unix_seconds_now;

/// Seals and opens tickets.
pub(super) struct Tickets {
    keys: Mutex<Keys>,
    policy: [u8; 32],
    lifetime: Duration,
    random: SystemRandom,
}

struct Keys {
    current: Key,
    /// The one before, for tickets that are still good.
    previous: Option<Key>,
    /// When the current one is replaced; never if it is that of a file.
    rotates_at: Option<Instant>,
}

struct Key {
    name: [u8; NAME_BYTES],
    cipher: LessSafeKey,
}

impl Tickets {
    /// Makes one with keys of its own, another after each lifetime of tickets.
    pub fn rotated(policy: &[u8], lifetime: Duration) -> Tickets {
        let random = SystemRandom::new();
        let current = Key::random(&random);
        let rotates_at = Some(Instant::now() + lifetime);
        Tickets::new(Keys { current, previous: None, rotates_at }, policy, lifetime)
    }

    /// Makes one with the key of a file. None if the file is not as long as it must be.
    pub fn from_file(bytes: &[u8], policy: &[u8], lifetime: Duration) -> Option<Tickets> {
        let bytes: &[u8; FILE_BYTES] = bytes.try_into().ok()?;
        let keys = Keys { current: Key::derive(bytes), previous: None, rotates_at: None };
        Some(Tickets::new(keys, policy, lifetime))
    }

    fn new(keys: Keys, policy: &[u8], lifetime: Duration) -> Tickets {
        let policy = policy.try_into().expect("a digest has 32 bytes");
        Tickets { keys: Mutex::new(keys), policy, lifetime, random: SystemRandom::new() }
    }

    /// Does something with the keys of now.
    fn with_keys<T>(&self, act: impl FnOnce(&Keys) -> T) -> T {
        let mut keys = self.keys.lock().expect("nobody panics with them");
        let now = Instant::now();
        if keys.rotates_at.is_some_and(|at| at <= now) {
            let next = Key::random(&self.random);
            let last = std::mem::replace(&mut keys.current, next);
            // One that rests longer than a lifetime seals no ticket that is still good.
            let is_fresh = keys.rotates_at.is_some_and(|at| now < at + self.lifetime);
            keys.previous = is_fresh.then_some(last);
            keys.rotates_at = Some(now + self.lifetime);
        }
        act(&keys)
    }

    fn seal(&self, plain: &[u8], now: i64) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        self.with_keys(|keys| {
            let key = &keys.current;
            let mut sealed = [&now.to_be_bytes()[..], plain].concat();
            let aad = Aad::from(&self.policy);
            let nonce_of = Nonce::assume_unique_for_key(nonce);
            key.cipher.seal_in_place_append_tag(nonce_of, aad, &mut sealed).ok()?;
            Some([&key.name[..], &nonce, &sealed].concat())
        })
    }

    fn open(&self, ticket: &[u8], now: i64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let plain = self.with_keys(|keys| {
            let all = [Some(&keys.current), keys.previous.as_ref()];
            let key = all.into_iter().flatten().find(|key| key.name == *name)?;
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = key.cipher.open_in_place(nonce, Aad::from(&self.policy), &mut sealed);
            plain.ok().map(|plain| plain.to_vec())
        })?;
        let (made_at, state) = plain.split_first_chunk::<8>()?;
        let age = now.checked_sub(i64::from_be_bytes(*made_at))?;
        (0..=self.lifetime.as_secs() as i64).contains(&age).then(|| state.to_vec())
    }
}

impl Key {
    fn random(random: &SystemRandom) -> Key {
        let mut bytes = Zeroizing::new([0; FILE_BYTES]);
        random.fill(&mut *bytes).expect("the kernel gives random bytes");
        Key::derive(&bytes)
    }

    fn derive(bytes: &[u8; FILE_BYTES]) -> Key {
        struct Len;
        impl KeyType for Len {
            fn len(&self) -> usize {
                NAME_BYTES + KEY_BYTES
            }
        }
        let mut derived = Zeroizing::new([0; NAME_BYTES + KEY_BYTES]);
        let secret = Prk::new_less_safe(HKDF_SHA256, bytes);
        let expanded = secret.expand(&[b"heartwheel tickets"], Len);
        let filled = expanded.and_then(|okm| okm.fill(&mut *derived));
        filled.expect("no more is asked for than a hash gives");
        let (name, key) = derived.split_at(NAME_BYTES);
        let cipher = UnboundKey::new(&AES_256_GCM, key).expect("it has the length asked for");
        let name = name.try_into().expect("it was split there");
        Key { name, cipher: LessSafeKey::new(cipher) }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, unix_seconds_now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, unix_seconds_now())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

const FILE_BYTES: usize = 80;
const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_ticket_opens_where_the_same_may_come_and_while_it_is_young() {
        let file = [7; FILE_BYTES];
        let of = |policy: u8| Tickets::from_file(&file, &[policy; 32], HOUR).unwrap();
        let ticket = of(1).seal(b"state", 1000).unwrap();
        assert_eq!(of(1).open(&ticket, 1000 + 3600).as_deref(), Some(&b"state"[..]));
        assert_eq!(of(1).open(&ticket, 1000 + 3601), None, "it is too old");
        assert_eq!(of(1).open(&ticket, 999), None, "it is from the future");
        assert_eq!(of(2).open(&ticket, 1000), None, "others may come");
        let other = Tickets::rotated(&[1; 32], HOUR);
        assert_eq!(other.open(&ticket, 1000), None, "another server has sealed it");
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(of(1).open(&changed, 1000), None);
            assert_eq!(of(1).open(&ticket[..at], 1000), None);
        }
    }

    #[test]
    fn a_key_is_replaced_and_the_one_before_still_opens() {
        let tickets = Tickets::rotated(&[1; 32], HOUR);
        let first = tickets.seal(b"first", 0).unwrap();
        let rotate = || tickets.keys.lock().unwrap().rotates_at = Some(Instant::now());
        rotate();
        let second = tickets.seal(b"second", 0).unwrap();
        assert_ne!(first[..NAME_BYTES], second[..NAME_BYTES]);
        assert!(tickets.open(&first, 0).is_some() && tickets.open(&second, 0).is_some());
        rotate();
        assert!(tickets.open(&first, 0).is_none() && tickets.open(&second, 0).is_some());
    }
}
