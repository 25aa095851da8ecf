//! Tokens that expire and bear a name: JSON Web Tokens (RFC 7519), signed (RFC 7515).
//!
//! ```text
//! header . claims . signature         each in base64url
//! {"alg":"ES256","kid":"1"}  {"sub":"device 7","exp":1798761600,"subscribe":["commands.7"]}
//! ```
//!
//! What a token says of itself is believed only as far as it is harmless. Its `alg` must be that of
//! the key: a key is good for one algorithm, which its own type says. Its `kid` chooses among the
//! keys of the file, and no key comes from anywhere else. Claims are read when the signature has
//! been found good, not before. A token of more than [`BYTES_MAX`] is not looked at.

mod claims;
mod keys;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use crate::core::ground::base64;
use crate::core::ground::json;

pub use crate::core::admission::grant::BUILT_MS;
pub use claims::{Claims, Expected};
pub use keys::{KeyIndex, Keys, KeysError};

/// The longest token, in bytes.
pub const BYTES_MAX: usize = 4096;

/// What a token is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: who can check a token can make one.
    Hs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Returns the name of the algorithm in `alg`.
    pub const fn label(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    fn find(name: &str) -> Option<Algorithm> {
        let all = [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa];
        all.into_iter().find(|algorithm| algorithm.label() == name)
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The wall clock was never set: it is before [`BUILT_MS`]. The token may be good.
    Clock,
    /// The token is longer than [`BYTES_MAX`].
    TooLong,
    /// The token is not of three parts, or a part is not what it must be: base64url, JSON, without
    /// two members of one name.
    Malformed,
    /// No key here is good for its algorithm.
    Algorithm,
    /// The header has `crit`: the token must not be taken by who does not know what that is about.
    Critical,
    /// No key here has the header's `kid`.
    UnknownKey,
    /// None of the keys has signed the token.
    Signature,
    /// A claim is missing, or is not what it must be.
    Claims,
    /// The time of the token is over.
    Expired,
    /// The time of the token has not come.
    NotYet,
    /// Another issuer than `admission.jwt_issuer`.
    Issuer,
    /// Other audiences than `admission.jwt_audience`.
    Audience,
}

impl Fault {
    /// Returns the label for log lines.
    pub const fn label(self) -> &'static str {
        match self {
            Fault::Clock => "clock",
            Fault::TooLong => "too_long",
            Fault::Malformed => "malformed",
            Fault::Algorithm => "algorithm",
            Fault::Critical => "crit",
            Fault::UnknownKey => "kid",
            Fault::Signature => "signature",
            Fault::Claims => "claims",
            Fault::Expired => "expired",
            Fault::NotYet => "nbf",
            Fault::Issuer => "iss",
            Fault::Audience => "aud",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Keys {
    /// Checks a token at a time of the wall clock, in milliseconds since 1970. Returns what it
    /// claims, and the key that has signed it.
    ///
    /// It takes time linear in the token's length, and a signature's time for each key that may
    /// have signed it: one where the token has a `kid`.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the token.
    pub fn verify(
        &self,
        token: &str,
        unix_ms: u64,
        expected: Expected<'_>,
    ) -> Result<(Claims, KeyIndex), Fault> {
        if unix_ms < BUILT_MS {
            return Err(Fault::Clock);
        }
        if token.len() > BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed)?;
        let header = text_of(header)?;
        let header = Header::read(&header)?;
        let signature = base64::decode_url(signature).ok_or(Fault::Malformed)?;
        let key = self.find_signer(&header, signed.as_bytes(), &signature)?;
        let claims = Claims::read(&text_of(claims)?)?;
        claims.check(unix_ms, expected)?;
        Ok((claims, key))
    }
}

/// What the header of a token says that counts.
struct Header<'a> {
    algorithm: Algorithm,
    kid: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    fn read(text: &'a str) -> Result<Header<'a>, Fault> {
        let (mut algorithm, mut kid, mut is_critical) = (None, None, false);
        members(text, |name, value| {
            match name {
                "alg" => algorithm = Some(json::string(value)?),
                "kid" => kid = Some(json::string(value)?),
                "crit" => is_critical = true,
                _ => {}
            }
            Some(())
        })
        .ok_or(Fault::Malformed)?;
        if is_critical {
            return Err(Fault::Critical);
        }
        let algorithm = Algorithm::find(&algorithm.ok_or(Fault::Malformed)?);
        Ok(Header { algorithm: algorithm.ok_or(Fault::Algorithm)?, kid })
    }
}

/// Reads the members of an object. `None` if the text is none, if two members have one name, or if
/// `take` refuses one.
fn members<'a>(text: &'a str, mut take: impl FnMut(&str, &'a str) -> Option<()>) -> Option<()> {
    let (mut names, mut is_good) = (BTreeSet::new(), true);
    json::members(text, |name, value| {
        is_good = is_good && take(&name, value).is_some() && names.insert(name);
    })
    .ok()?;
    is_good.then_some(())
}

/// Decodes a part that is JSON.
fn text_of(part: &str) -> Result<String, Fault> {
    let bytes = base64::decode_url(part).ok_or(Fault::Malformed)?;
    String::from_utf8(bytes).map_err(|_| Fault::Malformed)
}
