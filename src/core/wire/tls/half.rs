//! One direction of a session: its secret, and the key, the vector and the number of the next
//! record that follow from it.

use std::fmt;

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{KeyType, Prk};
use zeroize::Zeroize;

use super::suite::{NUMBER_BYTES, VECTOR_BYTES};
use super::{HEADER_BYTES, Suite, TAG_BYTES};

/// A traffic secret; as long as the suite's hash. It stays where it is when its owner moves, and is
/// wiped when it goes.
pub struct Secret(Box<[u8; SECRET_BYTES_MAX]>);

impl Secret {
    /// Makes one from what the handshake has agreed on. None if it is longer than any.
    pub fn new(bytes: &[u8]) -> Option<Secret> {
        let mut secret = Box::new([0; SECRET_BYTES_MAX]);
        secret.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Secret(secret))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// One direction, lent: it lies in the session, each part as long as the suite says.
pub struct Half<'a> {
    suite: Suite,
    secret: &'a mut [u8],
    key: &'a mut [u8],
    vector: &'a mut [u8; VECTOR_BYTES],
    /// The number of the next record.
    number: &'a mut [u8; NUMBER_BYTES],
}

impl<'a> Half<'a> {
    /// Lends what lies in `bytes`: half of [`Suite::keys_len`].
    pub fn of(suite: Suite, bytes: &'a mut [u8]) -> Half<'a> {
        let (secret, rest) = bytes.split_at_mut(suite.secret_len());
        let (key, rest) = rest.split_at_mut(suite.key_len());
        let (vector, rest) = rest.split_first_chunk_mut().expect("a vector lies behind the key");
        let number = rest.first_chunk_mut().expect("a number lies behind the vector");
        Half { suite, secret, key, vector, number }
    }

    /// Derives a direction from its secret (RFC 8446, 7.3). `number` counts the records that were
    /// sealed with it before.
    pub fn begin(&mut self, secret: &Secret, number: u64) {
        let len = self.secret.len();
        self.secret.copy_from_slice(&secret.0[..len]);
        *self.number = number.to_be_bytes();
        expand(self.suite, self.secret, b"key", self.key);
        expand(self.suite, self.secret, b"iv", self.vector);
    }

    /// Goes on with the next secret (RFC 8446, 7.2).
    pub fn update(&mut self) {
        let mut next = Secret(Box::new([0; SECRET_BYTES_MAX]));
        expand(self.suite, self.secret, b"traffic upd", &mut next.0[..self.secret.len()]);
        self.begin(&next, 0);
    }

    /// The number of the next record.
    pub fn number(&self) -> u64 {
        u64::from_be_bytes(*self.number)
    }

    /// Sets up the cipher. Half a microsecond: once for all records that come together.
    pub fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(self.suite.algorithm(), self.key);
        LessSafeKey::new(key.expect("the key has the length that the suite says"))
    }

    /// Opens the body of a record in place. Returns how much of it is plaintext, inner type and
    /// padding; none if it is not what the peer has sealed.
    pub fn open(
        &mut self,
        cipher: &LessSafeKey,
        header: [u8; HEADER_BYTES],
        body: &mut [u8],
    ) -> Option<usize> {
        let nonce = self.nonce()?;
        let plain = cipher.open_in_place(nonce, Aad::from(header), body).ok()?;
        Some(plain.len())
    }

    /// Seals in place what stands behind the header that begins at `at`, and appends the tag.
    pub fn seal(&mut self, cipher: &LessSafeKey, at: usize, out: &mut Vec<u8>) -> bool {
        let body_at = at + HEADER_BYTES;
        let len = (out.len() - body_at + TAG_BYTES) as u16;
        let [high, low] = len.to_be_bytes();
        let header = [23, 3, 3, high, low];
        out[at..body_at].copy_from_slice(&header);
        let Some(nonce) = self.nonce() else { return false };
        let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[body_at..]);
        // Only what is longer than any record cannot be sealed.
        let tag = tag.expect("a record is short enough");
        out.extend_from_slice(tag.as_ref());
        true
    }

    /// Returns the nonce of the next record, each once. None where the numbers have run out.
    fn nonce(&mut self) -> Option<Nonce> {
        let next = self.number().checked_add(1)?;
        let mut nonce = *self.vector;
        for (byte, number) in nonce[4..].iter_mut().zip(&*self.number) {
            *byte ^= number;
        }
        *self.number = next.to_be_bytes();
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

impl fmt::Debug for Half<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Half").field("number", &self.number()).finish_non_exhaustive()
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446, 7.1).
fn expand(suite: Suite, secret: &[u8], label: &[u8], out: &mut [u8]) {
    struct Len(usize);
    impl KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let len = (out.len() as u16).to_be_bytes();
    let label_len = [(PREFIX.len() + label.len()) as u8];
    let info = [&len[..], &label_len, PREFIX, label, &[0]];
    let secret = Prk::new_less_safe(suite.hash(), secret);
    let okm = secret.expand(&info, Len(out.len()));
    let filled = okm.and_then(|okm| okm.fill(out));
    filled.expect("no more is asked for than a hash gives");
}

const PREFIX: &[u8] = b"tls13 ";

/// That of SHA-384.
const SECRET_BYTES_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| {
            u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("it is hex")
        };
        digits.chunks(2).map(byte).collect()
    }

    /// RFC 8448, 3: the server's application traffic keys, and the record that it seals with them.
    #[test]
    fn keys_and_records_are_those_of_rfc_8448() {
        let secret = hex(
            "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f \
             cb 63 16 43",
        );
        let mut bytes = vec![0; Suite::Aes128.keys_len() / 2];
        let mut half = Half::of(Suite::Aes128, &mut bytes);
        half.begin(&Secret::new(&secret).unwrap(), 0);
        assert_eq!(half.key[..], hex("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56"));
        assert_eq!(half.vector[..], hex("cf 78 2b 88 dd 83 54 9a ad f1 e9 84"));
        // The second record of the server under these keys bears the bytes 0 to 49.
        half.begin(&Secret::new(&secret).unwrap(), 1);
        let mut out = vec![0; HEADER_BYTES];
        out.extend((0..50).chain([23]));
        let cipher = half.cipher();
        assert!(half.seal(&cipher, 0, &mut out));
        let expected = hex(
            "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f \
             82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 \
             1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d",
        );
        assert_eq!(out, expected);
        assert_eq!(half.number(), 2);
    }

    #[test]
    fn no_number_is_used_twice() {
        let mut bytes = vec![0; Suite::Aes128.keys_len() / 2];
        let mut half = Half::of(Suite::Aes128, &mut bytes);
        half.begin(&Secret::new(&[1; 32]).unwrap(), u64::MAX - 1);
        assert!(half.nonce().is_some());
        assert!(half.nonce().is_none(), "the numbers have run out");
        assert!(half.nonce().is_none());
    }
}
