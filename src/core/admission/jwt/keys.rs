//! The keys that tokens are signed with.
//!
//! ```text
//! # secrets, one a line; or a JWKS (RFC 7517) instead
//! hs256:8cKJ0mQ2uYx3pX1oVb7mZt5cA9sD4fG6hJ0kL2zX8wE=
//! ```
//!
//! A key of a JWKS says by its type which algorithm it is good for: `oct` for HS256, `EC` on
//! `P-256` for ES256, `OKP` of `Ed25519` for EdDSA. Keys of other types, for other uses, or with
//! another `alg` are left out, with a warning.

use std::fmt;

use ring::{hmac, signature};

use super::{Algorithm, Fault, Header, members};
use crate::core::ground::base64;
use crate::core::ground::json;

/// Keys that tokens may be signed with: at least one.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<Key>,
    warnings: Vec<String>,
}

/// The place of a key, valid until the keys are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyIndex(u8);

/// A fault of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysError {
    /// The line with this number is none of a secret, or its secret is too short.
    Line(usize),
    /// The text begins as JSON and is no JWKS.
    NoJwks,
    /// No key can be used.
    None,
    /// There are more keys than [`Keys::MAX`].
    TooMany,
}

#[derive(Clone)]
struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    /// The secret, or the public key as its algorithm has it.
    material: Vec<u8>,
    /// What is made of a secret once.
    hmac: Option<hmac::Key>,
}

impl Keys {
    /// How many keys there may be: a token without a `kid` is tried with each.
    pub const MAX: usize = 16;

    /// Reads a JWKS, or secrets one a line.
    ///
    /// # Errors
    ///
    /// The first fault. No fault repeats a secret.
    pub fn parse(text: &str) -> Result<Keys, KeysError> {
        let mut keys = Keys { keys: Vec::new(), warnings: Vec::new() };
        match text.trim_ascii_start().starts_with('{') {
            true => keys.read_jwks(text)?,
            false => keys.read_lines(text)?,
        }
        match keys.keys.len() {
            0 => Err(KeysError::None),
            1..=Keys::MAX => Ok(keys),
            _ => Err(KeysError::TooMany),
        }
    }

    /// Returns how many keys can be used.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns what is to be said of keys that were left out, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Finds a key of `other` among these.
    pub(crate) fn find_again(&self, other: &Keys, index: KeyIndex) -> Option<KeyIndex> {
        let key = other.keys.get(usize::from(index.0))?;
        // Both come from files of the operator's: the time that it takes reveals nothing to peers.
        let is_same = |one: &Key| one.algorithm == key.algorithm && one.material == key.material;
        self.keys.iter().position(is_same).map(|place| KeyIndex(place as u8))
    }

    /// Finds the key that has signed a token.
    pub(super) fn find_signer(
        &self,
        header: &Header,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<KeyIndex, Fault> {
        let mut fault = Fault::Algorithm;
        for (place, key) in self.keys.iter().enumerate() {
            if key.algorithm != header.algorithm {
                continue;
            }
            if let (Some(key), Some(token)) = (&key.kid, &header.kid)
                && *key != **token
            {
                fault = if fault == Fault::Algorithm { Fault::UnknownKey } else { fault };
                continue;
            }
            if key.has_signed(signed, signature) {
                return Ok(KeyIndex(place as u8));
            }
            fault = Fault::Signature;
        }
        Err(fault)
    }

    fn read_lines(&mut self, text: &str) -> Result<(), KeysError> {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let secret = line.strip_prefix("hs256:").and_then(base64::decode);
            let key = secret.and_then(|secret| Key::new(None, Algorithm::Hs256, secret));
            self.keys.push(key.ok_or(KeysError::Line(number))?);
        }
        Ok(())
    }

    fn read_jwks(&mut self, text: &str) -> Result<(), KeysError> {
        let mut list = None;
        members(text, |name, value| {
            if name == "keys" {
                list = Some(value);
            }
            Some(())
        })
        .ok_or(KeysError::NoJwks)?;
        let list = list.and_then(json::elements).ok_or(KeysError::NoJwks)?;
        for (number, jwk) in (1..).zip(list) {
            match Jwk::read(jwk).map_or(Err("two of its members have one name"), Jwk::into_key) {
                Ok(key) => self.keys.push(key),
                Err(why) => self.warnings.push(format!("key {number} is left out: {why}")),
            }
        }
        Ok(())
    }
}

/// Without the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Key {
    /// Makes a key; `None` if its material is not as long as its algorithm needs it.
    fn new(kid: Option<String>, algorithm: Algorithm, material: Vec<u8>) -> Option<Key> {
        let is_good = match algorithm {
            Algorithm::Hs256 => material.len() >= SECRET_BYTES_MIN,
            Algorithm::Es256 => material.len() == 1 + 2 * COORDINATE_BYTES,
            Algorithm::EdDsa => material.len() == COORDINATE_BYTES,
        };
        let hmac =
            (algorithm == Algorithm::Hs256).then(|| hmac::Key::new(hmac::HMAC_SHA256, &material));
        is_good.then_some(Key { kid, algorithm, material, hmac })
    }

    fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        let by_public = |algorithm: &'static dyn signature::VerificationAlgorithm| {
            signature::UnparsedPublicKey::new(algorithm, &self.material).verify(signed, signature)
        };
        let verified = match (self.algorithm, &self.hmac) {
            (Algorithm::Hs256, Some(key)) => hmac::verify(key, signed, signature),
            (Algorithm::Hs256, None) => return false,
            (Algorithm::Es256, _) => by_public(&signature::ECDSA_P256_SHA256_FIXED),
            (Algorithm::EdDsa, _) => by_public(&signature::ED25519),
        };
        verified.is_ok()
    }
}

/// A key as a JWKS has it: its members that count, the text of each.
#[derive(Default)]
struct Jwk {
    members: [Option<String>; JWK_NAMES.len()],
    /// It has operations, and verifying is none of them.
    is_for_others: bool,
}

impl Jwk {
    fn read(text: &str) -> Option<Jwk> {
        let mut jwk = Jwk::default();
        members(text, |name, value| {
            if name == "key_ops" {
                let mut operations = json::elements(value)?;
                jwk.is_for_others = !operations.any(|operation| operation == "\"verify\"");
            } else if let Some(place) = JWK_NAMES.iter().position(|other| *other == name) {
                jwk.members[place] = Some(json::string(value)?.into_owned());
            }
            Some(())
        })?;
        Some(jwk)
    }

    fn into_key(self) -> Result<Key, &'static str> {
        let [kty, algorithm, usage, kid, curve, k, x, y] = self.members;
        if self.is_for_others || usage.is_some_and(|usage| usage != "sig") {
            return Err("it is not for signatures");
        }
        let bytes = |code: Option<String>| code.and_then(|code| base64::decode_url(&code));
        let (found, material) = match (kty.as_deref(), curve.as_deref()) {
            (Some("oct"), _) => (Algorithm::Hs256, bytes(k)),
            (Some("EC"), Some("P-256")) => (Algorithm::Es256, point(bytes(x), bytes(y))),
            (Some("OKP"), Some("Ed25519")) => (Algorithm::EdDsa, bytes(x)),
            _ => return Err("no algorithm for its kty and crv"),
        };
        if algorithm.is_some_and(|algorithm| algorithm != found.label()) {
            return Err("its alg is another than that of its kty and crv");
        }
        let key = material.and_then(|material| Key::new(kid, found, material));
        key.ok_or(match found {
            Algorithm::Hs256 => "its k must be base64url of 32 bytes or more",
            _ => "its coordinates must be base64url of 32 bytes each",
        })
    }
}

/// Returns a point of P-256 as ECDSA takes it: 4, and both coordinates (SEC 1, 2.3.3).
fn point(x: Option<Vec<u8>>, y: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (x, y) = (x?, y?);
    let is_good = x.len() == COORDINATE_BYTES && y.len() == COORDINATE_BYTES;
    is_good.then(|| [&[4], &*x, &*y].concat())
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeysError::Line(number) => {
                write!(f, "line {number}: must be hs256: and base64 of 32 bytes or more")
            }
            KeysError::NoJwks => f.write_str("must be a JWKS, or lines of hs256:BASE64"),
            KeysError::None => f.write_str("there must be a key that can be used"),
            KeysError::TooMany => write!(f, "there must be at most {} keys", Keys::MAX),
        }
    }
}

impl std::error::Error for KeysError {}

const JWK_NAMES: [&str; 8] = ["kty", "alg", "use", "kid", "crv", "k", "x", "y"];

/// As long as what it makes (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

const COORDINATE_BYTES: usize = 32;
