//! Tokens that expire: whatever header and claims are signed, what is believed is what another JSON
//! reader reads, and nothing is believed that was not signed.

use std::collections::HashMap;

use data_encoding::BASE64URL_NOPAD;
use heartwheel::core::admission::jwt::{Claims, Expected, Fault, Keys};
use ring::hmac;
use tinyjson::JsonValue;

type Object = HashMap<String, JsonValue>;

/// 1 January 2027.
const NOW_MS: u64 = 1_798_761_600_000;
const SECRET: &[u8; 32] = b"thirty-two bytes of no secrecy..";

/// A line is a header, the next one claims, the rest a file of keys.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (header, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (claims, file) = rest.split_once('\n').unwrap_or((rest, ""));
    let jwk = BASE64URL_NOPAD.encode(SECRET);
    let keys = format!(r#"{{"keys":[{{"kty":"oct","k":"{jwk}"}}]}}"#);
    let keys = Keys::parse(&keys).expect("it is a JWKS");
    let signed = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = BASE64URL_NOPAD.encode(hmac::sign(&key, signed.as_bytes()).as_ref());
    let token = format!("{signed}.{signature}");
    let verify = |keys: &Keys, token: &str| keys.verify(token, NOW_MS, Expected::default());
    match verify(&keys, &token) {
        Ok((believed, _)) => check(header, claims, &believed),
        Err(fault) => {
            assert!(!matches!(fault, Fault::Signature | Fault::UnknownKey | Fault::Clock));
        }
    }
    assert!(verify(&keys, &format!("{token}A")).is_err());
    assert!(verify(&keys, &format!("{signed}.")).is_err());
    assert!(verify(&keys, text).is_err(), "nobody has signed it");
    if let Ok(other) = Keys::parse(file) {
        assert!((1..=Keys::MAX).contains(&other.len()));
        assert!(file.contains(&jwk) || verify(&other, &token).is_err(), "none of them signed it");
    }
}

fn check(header: &str, claims: &str, believed: &Claims) {
    // The other reader recurses, and has a mind of its own about halves of surrogate pairs.
    if [header, claims].iter().any(|text| text.contains("\\u") || text.len() > 2000) {
        return;
    }
    let read = |text: &str| -> Object {
        text.parse::<JsonValue>().expect("JSON").try_into().expect("an object")
    };
    let (header, claims) = (read(header), read(claims));
    assert_eq!(header["alg"].get::<String>().map(String::as_str), Some("HS256"));
    assert!(!header.contains_key("crit"));
    let seconds: f64 = *claims["exp"].get().expect("a number");
    let millis = seconds * 1000.0;
    assert!(millis + 1.0 > NOW_MS as f64);
    assert!((believed.expires_ms as f64 - millis).abs() <= 1.0 + millis / 1e12 || millis > 1e18);
    let subject = claims.get("sub").map(|sub| sub.get::<String>().expect("text").as_str());
    assert_eq!(believed.subject.as_ref().map(|subject| subject.as_str()), subject);
    let count = |name: &str| {
        let patterns = claims.get(name).map(|list| list.get::<Vec<_>>().expect("an array").len());
        patterns.unwrap_or(0)
    };
    assert_eq!(believed.rights.len(), count("publish") + count("subscribe"));
    assert!(!claims.contains_key("aud"));
}
