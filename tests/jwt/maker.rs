//! Who makes tokens, good ones and others.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use heartwheel::core::admission::jwt::{Claims, Expected, Fault, Keys};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use ring::{digest, hmac};

/// 1 January 2027.
pub const NOW: u64 = 1_798_761_600;

pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// What signs tokens.
pub enum Maker {
    Secret(Vec<u8>),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Maker {
    pub fn secret() -> Maker {
        Maker::Secret((0..32).map(|n| n * 7 + 1).collect())
    }

    pub fn ecdsa() -> Maker {
        let (random, algorithm) =
            (SystemRandom::new(), &signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("there is chance");
        Maker::Ecdsa(EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap())
    }

    pub fn ed25519() -> Maker {
        Maker::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed will do"))
    }

    /// Gives the name of its algorithm.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Maker::Secret(_) => "HS256",
            Maker::Ecdsa(_) => "ES256",
            Maker::Ed25519(_) => "EdDSA",
        }
    }

    /// Gives the bytes that a server knows of its key.
    pub fn public(&self) -> &[u8] {
        match self {
            Maker::Secret(secret) => secret,
            Maker::Ecdsa(pair) => pair.public_key().as_ref(),
            Maker::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// Gives its key as a JWKS has it; `more` begins with a comma.
    pub fn jwk(&self, more: &str) -> String {
        let public = self.public();
        let members = match self {
            Maker::Secret(_) => format!(r#""kty":"oct","k":"{}""#, url(public)),
            Maker::Ecdsa(_) => format!(
                r#""kty":"EC","crv":"P-256","x":"{}","y":"{}""#,
                url(&public[1..33]),
                url(&public[33..])
            ),
            Maker::Ed25519(_) => {
                format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, url(public))
            }
        };
        format!("{{{members}{more}}}")
    }

    /// Gives the line of a secret.
    pub fn line(&self) -> String {
        format!("hs256:{}\n", BASE64.encode(self.public()))
    }

    /// Gives a file with its key alone.
    pub fn file(&self) -> String {
        jwks(&[self.jwk("")])
    }

    pub fn sign(&self, signed: &[u8]) -> Vec<u8> {
        match self {
            Maker::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, signed).as_ref().to_vec()
            }
            Maker::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), signed).expect("there is chance").as_ref().to_vec()
            }
            Maker::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
        }
    }

    /// Makes a token of any header and any claims.
    pub fn token_of(&self, header: &str, claims: &str) -> String {
        let signed = [header, claims].map(|part| url(part.as_bytes())).join(".");
        let signature = url(&self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Makes a token that says its algorithm.
    pub fn token(&self, claims: &str) -> String {
        self.token_of(&format!(r#"{{"alg":"{}"}}"#, self.algorithm()), claims)
    }

    /// Makes a token that expires so many seconds after [`NOW`], with further claims that begin
    /// with a comma.
    pub fn token_for(&self, seconds: f64, more: &str) -> String {
        self.token(&format!(r#"{{"exp":{}{more}}}"#, NOW as f64 + seconds))
    }
}

pub fn url(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

pub fn jwks(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// Judges a token at [`NOW`].
pub fn judge(keys: &str, token: &str) -> Result<Claims, Fault> {
    judge_at(keys, token, NOW * 1000)
}

pub fn judge_at(keys: &str, token: &str, unix_ms: u64) -> Result<Claims, Fault> {
    let keys = Keys::parse(keys).unwrap_or_else(|fault| panic!("{fault}: {keys}"));
    keys.verify(token, unix_ms, Expected::default()).map(|(claims, _)| claims)
}

/// Gives what an operator calls a token.
pub fn name_of(token: &str) -> String {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
