//! The files of keys.

use data_encoding::BASE64;
use heartwheel::core::admission::jwt::{Keys, KeysError};

use crate::maker::*;

#[test]
fn secrets_stand_one_a_line() {
    let [one, other] = [1, 2].map(|n| Maker::Secret(vec![n; 40]));
    let text = format!("# ours\n\n  {}{}\r\n", one.line(), other.line().trim());
    assert_eq!(Keys::parse(&text).unwrap().len(), 2);
    for maker in [one, other] {
        assert!(judge(&text, &maker.token_for(1.0, "")).is_ok());
    }
    let code = |len| BASE64.encode(&vec![1; len]);
    for (text, fault) in [
        (String::new(), KeysError::None),
        ("# none\n".into(), KeysError::None),
        (format!("hs256:{}\n\nhs256:{}", code(32), code(31)), KeysError::Line(3)),
        (format!("HS256:{}", code(32)), KeysError::Line(1)),
        (format!("hs256: {}", code(32)), KeysError::Line(1)),
        (format!("hs256:{}=", code(33)), KeysError::Line(1)),
        (format!("hs256:{}", url(&[0xff; 40])), KeysError::Line(1)),
        (format!("es256:{}", code(32)), KeysError::Line(1)),
        (code(32), KeysError::Line(1)),
        (Maker::secret().line().repeat(Keys::MAX + 1), KeysError::TooMany),
    ] {
        let found = Keys::parse(&text).unwrap_err();
        assert_eq!(found, fault, "{text}");
        assert!(!found.to_string().contains("AQEB"), "no fault shows a secret");
    }
    assert!(Keys::parse(&Maker::secret().line().repeat(Keys::MAX)).is_ok());
    assert!(!format!("{:?}", Keys::parse(&Maker::secret().line())).contains("CA8W"));
}

/// What cannot be used is left out with a word, and the rest is used.
#[test]
fn keys_of_a_jwks_that_cannot_be_used_are_left_out() {
    let (good, ecdsa, okp) = (Maker::secret(), Maker::ecdsa(), Maker::ed25519());
    let short = Maker::Secret(vec![1; 31]);
    let ec = ecdsa.jwk("");
    for (jwk, why) in [
        (short.jwk(""), "32 bytes or more"),
        (r#"{"kty":"oct"}"#.into(), "32 bytes or more"),
        (good.jwk("").replace("\"k\":\"", "\"k\":\"="), "base64url"),
        (good.jwk(r#","alg":"HS512""#), "its alg is another"),
        (good.jwk(r#","alg":"ES256""#), "its alg is another"),
        (ecdsa.jwk(r#","alg":"HS256""#), "its alg is another"),
        (okp.jwk(r#","alg":"ES256""#), "its alg is another"),
        (ecdsa.jwk(r#","use":"enc""#), "not for signatures"),
        (ecdsa.jwk(r#","key_ops":["sign"]"#), "not for signatures"),
        (ecdsa.jwk(r#","key_ops":[]"#), "not for signatures"),
        (ec.replace("P-256", "P-384"), "no algorithm"),
        (ec.replace("\"y\"", "\"z\""), "32 bytes each"),
        (ec.replace("\"x\":\"", "\"x\":\"AAAA"), "32 bytes each"),
        (okp.jwk("").replace("Ed25519", "X25519"), "no algorithm"),
        (okp.jwk("").replace("Ed25519", "Ed448"), "no algorithm"),
        (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.into(), "no algorithm"),
        ("{}".into(), "no algorithm"),
        (good.jwk(r#","kty":"oct""#), "one name"),
        (good.jwk(r#","kid":7"#), "one name"),
        ("7".into(), "one name"),
        (r#""a""#.into(), "one name"),
    ] {
        let keys = Keys::parse(&jwks(&[jwk.clone(), good.jwk("")])).unwrap();
        assert_eq!(keys.len(), 1, "{jwk}");
        let [warning] = keys.warnings() else { panic!("{jwk}: {:?}", keys.warnings()) };
        assert!(warning.starts_with("key 1 is left out: "), "{warning}");
        assert!(warning.contains(why), "{jwk}: {warning}");
        assert_eq!(Keys::parse(&jwks(&[jwk])).unwrap_err(), KeysError::None);
    }
    for more in [r#","alg":"ES256","use":"sig","key_ops":["verify"],"x5t":[1]"#, ""] {
        assert_eq!(Keys::parse(&jwks(&[ecdsa.jwk(more)])).unwrap().warnings(), [""; 0]);
    }
    for text in ["{", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "{\"keys\":[]}x"] {
        assert_eq!(Keys::parse(text).unwrap_err(), KeysError::NoJwks, "{text}");
    }
    assert_eq!(Keys::parse(" {\"keys\" : [ ] } ").unwrap_err(), KeysError::None);
    let many = vec![okp.jwk(""); Keys::MAX + 1];
    assert_eq!(Keys::parse(&jwks(&many)).unwrap_err(), KeysError::TooMany);
}
