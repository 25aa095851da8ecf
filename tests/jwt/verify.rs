//! Which tokens are believed.

use std::time::Instant;

use heartwheel::core::admission::jwt::{BUILT_MS, BYTES_MAX, Expected, Fault, Keys};
use heartwheel::core::admission::rights::Right;

use crate::common::rng::Rng;
use crate::maker::*;

fn makers() -> [Maker; 3] {
    [Maker::secret(), Maker::ecdsa(), Maker::ed25519()]
}

#[test]
fn a_token_says_who_comes_and_what_for() {
    for maker in makers() {
        let claims = concat!(
            r#","sub":"device \u0037","publish":["devices.7.*"],"#,
            r#""subscribe":["commands.7","all.*"],"iat":1,"x":{"y":[null]}"#
        );
        let claims = judge(&maker.file(), &maker.token_for(60.0, claims)).unwrap();
        assert_eq!(claims.subject.as_ref().unwrap().as_str(), "device 7");
        assert_eq!(claims.expires_ms, (NOW + 60) * 1000);
        for (right, topic, expected) in [
            (Right::Publish, "devices.7.state", true),
            (Right::Publish, "commands.7", false),
            (Right::Subscribe, "commands.7", true),
            (Right::Subscribe, "all.news", true),
            (Right::Subscribe, "devices.7.state", false),
        ] {
            assert_eq!(claims.rights.may(right, topic), expected, "{topic}");
        }
        let claims = judge(&maker.file(), &maker.token_for(60.0, "")).unwrap();
        assert_eq!((claims.subject, claims.rights.len()), (None, 0), "absent: none");
    }
}

/// RFC 7515, A.1 and A.3, RFC 7520, 4.4, RFC 8037, A.4. Their signatures are good: the first two
/// are refused because their time is over, the others because they claim nothing.
#[test]
fn signatures_of_the_rfcs_are_good() {
    let joe = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
               cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let frodo = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IH\
                 N0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlz\
                 IG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";
    for (jwk, header, claims, signature, fault) in [
        (
            concat!(
                r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKt"#,
                r#"MN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#
            ),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            joe,
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            Fault::Expired,
        ),
        (
            concat!(
                r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
                r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#
            ),
            "eyJhbGciOiJFUzI1NiJ9",
            joe,
            concat!(
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8I",
                "SlSApmWQxfKTUJqPP3-Kg6NU1Q"
            ),
            Fault::Expired,
        ),
        (
            concat!(
                r#"{"kty":"oct","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037","use":"sig","#,
                r#""alg":"HS256","k":"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}"#
            ),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
            frodo,
            "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
            Fault::Malformed,
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            "eyJhbGciOiJFZERTQSJ9",
            "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            concat!(
                "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylG",
                "jg5BhVsPt9g7sVvpAr_MuM0KAg"
            ),
            Fault::Malformed,
        ),
    ] {
        let keys = jwks(&[jwk.into()]);
        let token = format!("{header}.{claims}.{signature}");
        assert_eq!(judge(&keys, &token).unwrap_err(), fault, "{jwk}");
        let other = token.replace(&signature[1..5], "AAAA");
        assert_eq!(judge(&keys, &other).unwrap_err(), Fault::Signature, "{jwk}");
    }
}

/// No key serves another algorithm than its own, whatever a token says: not a public key for a
/// secret in any of its forms, and nothing for `none`.
#[test]
fn a_key_is_good_for_one_algorithm() {
    let makers = makers();
    let claims = format!(r#"{{"exp":{}}}"#, NOW + 60);
    for maker in &makers {
        for name in ["HS256", "ES256", "EdDSA"] {
            let token = maker.token_of(&format!(r#"{{"alg":"{name}"}}"#), &claims);
            for owner in &makers {
                let is_good = name == maker.algorithm() && name == owner.algorithm();
                let judged = judge(&owner.file(), &token).map(drop);
                assert_eq!(judged.is_ok(), is_good, "{name} {}", owner.algorithm());
            }
        }
        // With all keys in one file the token's own algorithm is another key's.
        let all = jwks(&makers.each_ref().map(|maker| maker.jwk("")));
        assert!(judge(&all, &maker.token(&claims)).is_ok());
        for name in ["HS256", "ES256", "EdDSA"].into_iter().filter(|n| *n != maker.algorithm()) {
            let token = maker.token_of(&format!(r#"{{"alg":"{name}"}}"#), &claims);
            assert_eq!(judge(&all, &token).unwrap_err(), Fault::Signature, "{name}");
        }
        let public = maker.public();
        if maker.algorithm() == "HS256" {
            continue;
        }
        let spki = [&[0x30, 0x59, 0x30, 0x13][..], public].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", url(&spki));
        for secret in [public, &public[1..], &spki, pem.as_bytes(), maker.jwk("").as_bytes()] {
            let forger = Maker::Secret(secret.to_vec());
            assert_eq!(judge(&maker.file(), &forger.token(&claims)).unwrap_err(), Fault::Algorithm);
            assert_eq!(judge(&all, &forger.token(&claims)).unwrap_err(), Fault::Signature);
        }
    }
}

#[test]
fn none_is_no_algorithm() {
    let claims = url(format!(r#"{{"exp":{}}}"#, NOW + 60).as_bytes());
    for maker in makers() {
        for name in
            ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "ES384", "hs256"]
        {
            let header = url(format!(r#"{{"alg":"{name}"}}"#).as_bytes());
            let signed = format!("{header}.{claims}");
            let signature = url(&maker.sign(signed.as_bytes()));
            for signature in ["", "AAAA", &signature] {
                let judged = judge(&maker.file(), &format!("{signed}.{signature}"));
                assert_eq!(judged.unwrap_err(), Fault::Algorithm, "{name}");
            }
        }
    }
}

#[test]
fn a_kid_chooses_the_key() {
    let [one, other] = [1, 2].map(|n| Maker::Secret(vec![n; 32]));
    let [a, b] = [one.jwk(r#","kid":"a""#), other.jwk(r#","kid":"b""#)];
    let claims = format!(r#"{{"exp":{}}}"#, NOW + 60);
    let with = |maker: &Maker, kid: &str| {
        maker.token_of(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#), &claims)
    };
    let keys = jwks(&[a.clone(), b]);
    for (token, expected) in [
        (with(&one, r#""a""#), None),
        (with(&one, r#""\u0061""#), None),
        (with(&other, r#""b""#), None),
        (with(&other, r#""a""#), Some(Fault::Signature)),
        (with(&one, r#""c""#), Some(Fault::UnknownKey)),
        (with(&one, "1"), Some(Fault::Malformed)),
        (with(&one, "null"), Some(Fault::Malformed)),
        // Without one, all of the algorithm are tried.
        (one.token(&claims), None),
        (other.token(&claims), None),
        (Maker::Secret(vec![3; 32]).token(&claims), Some(Fault::Signature)),
    ] {
        assert_eq!(judge(&keys, &token).err(), expected, "{token}");
    }
    // A key without one may have signed anything.
    let keys = jwks(&[a, other.jwk("")]);
    assert!(judge(&keys, &with(&other, r#""c""#)).is_ok());
    assert!(judge(&other.line(), &with(&other, r#""c""#)).is_ok());
}

/// Headers and claims that are signed well, and are not good all the same.
#[test]
fn what_is_wrong_is_refused_though_it_is_signed() {
    let exp = NOW + 60;
    let good = format!(r#""exp":{exp}"#);
    let long = format!(r#"{{{good},"x":"{}"}}"#, "x".repeat(BYTES_MAX));
    let huge = format!(r#"{{{good},"x":"{}"}}"#, "x".repeat(1 << 20));
    let name = "x".repeat(257);
    for maker in makers() {
        let header = |more: &str| format!(r#"{{"alg":"{}"{more}}}"#, maker.algorithm());
        for (more, fault) in [
            (r#","crit":["exp"]"#, Fault::Critical),
            (r#","crit":[]"#, Fault::Critical),
            (r#","crit":null"#, Fault::Critical),
            (r#","b64":false,"crit":["b64"]"#, Fault::Critical),
            (r#","alg":"HS256""#, Fault::Malformed),
            (r#","\u0061lg":"HS256""#, Fault::Malformed),
            (r#","x":1,"x":1"#, Fault::Malformed),
            (r#","kid":"a","kid":"a""#, Fault::Malformed),
        ] {
            let token = maker.token_of(&header(more), &format!("{{{good}}}"));
            assert_eq!(judge(&maker.file(), &token).unwrap_err(), fault, "{more}");
        }
        for header in ["", "{}", "[]", "null", "{", r#"{"alg":1}"#, r#"{"typ":"JWT"}"#] {
            let token = maker.token_of(header, &format!("{{{good}}}"));
            assert_eq!(judge(&maker.file(), &token).unwrap_err(), Fault::Malformed, "{header}");
        }
        for (claims, fault) in [
            (long.clone(), Fault::TooLong),
            (huge.clone(), Fault::TooLong),
            ("".into(), Fault::Malformed),
            ("[]".into(), Fault::Malformed),
            ("\u{feff}{}".into(), Fault::Malformed),
            (format!(r#"{{{good},{good}}}"#), Fault::Malformed),
            (format!(r#"{{{good},"sub":"a","s\u0075b":"b"}}"#), Fault::Malformed),
            (format!("{{{good}}}{{}}"), Fault::Malformed),
            (format!(r#"{{{good},"x":{}}}"#, "[".repeat(2000)), Fault::Malformed),
            ("{}".into(), Fault::Claims),
            (format!(r#"{{"exp":"{exp}"}}"#), Fault::Claims),
            (r#"{"exp":null}"#.into(), Fault::Claims),
            (r#"{"exp":true}"#.into(), Fault::Claims),
            (format!(r#"{{"exp":[{exp}]}}"#), Fault::Claims),
            (format!(r#"{{"exp":-{exp}}}"#), Fault::Claims),
            (r#"{"exp":0}"#.into(), Fault::Expired),
            (format!(r#"{{"exp":{}}}"#, NOW * 1000 + 1), Fault::Claims),
            (format!(r#"{{{good},"nbf":"0"}}"#), Fault::Claims),
            (format!(r#"{{{good},"sub":7}}"#), Fault::Claims),
            (format!(r#"{{{good},"sub":""}}"#), Fault::Claims),
            (format!(r#"{{{good},"sub":"a\n"}}"#), Fault::Claims),
            (format!(r#"{{{good},"sub":"{name}"}}"#), Fault::Claims),
            (format!(r#"{{{good},"iss":["a"]}}"#), Fault::Claims),
            (format!(r#"{{{good},"aud":[1]}}"#), Fault::Claims),
            (format!(r#"{{{good},"aud":"a"}}"#), Fault::Audience),
            (format!(r#"{{{good},"aud":[]}}"#), Fault::Audience),
            (format!(r#"{{{good},"publish":"*"}}"#), Fault::Claims),
            (format!(r#"{{{good},"publish":["a b"]}}"#), Fault::Claims),
            (format!(r#"{{{good},"publish":[""]}}"#), Fault::Claims),
            (format!(r#"{{{good},"subscribe":[["a"]]}}"#), Fault::Claims),
            (format!(r#"{{{good},"subscribe":{{"a":1}}}}"#), Fault::Claims),
        ] {
            // A number of milliseconds is a date far away, and no fault.
            let fault = (!claims.contains(&(NOW * 1000 + 1).to_string())).then_some(fault);
            let judged = judge(&maker.file(), &maker.token(&claims)).err();
            assert_eq!(judged, fault, "{}", &claims[..claims.len().min(100)]);
        }
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let maker = Maker::secret();
    let token = maker.token_for(60.0, "");
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    for (text, fault) in [
        ("".to_string(), Fault::Malformed),
        (".".into(), Fault::Malformed),
        ("..".into(), Fault::Malformed),
        ("...".into(), Fault::Malformed),
        (format!("{header}.{claims}"), Fault::Malformed),
        (format!("{header}.{claims}."), Fault::Signature),
        (format!("{header}.{claims}.{}", &signature[..42]), Fault::Malformed),
        (format!("{token}.x"), Fault::Malformed),
        (format!("{token}="), Fault::Malformed),
        (format!(" {token}"), Fault::Malformed),
        (format!("{token}\n"), Fault::Malformed),
        (format!("{header}=.{claims}.{signature}"), Fault::Malformed),
        (format!("{header}.{claims}.{signature}AAAA"), Fault::Signature),
        (format!("{header}.{}.{signature}", url(b"{}")), Fault::Signature),
        (format!("{header}.{claims}.{}", url(&[0xff; 32])), Fault::Signature),
        ("x".repeat(BYTES_MAX + 1), Fault::TooLong),
        (".".repeat(BYTES_MAX), Fault::Malformed),
        (format!("{}.{claims}.{signature}", url(b"\xff\xff")), Fault::Malformed),
    ] {
        assert_eq!(judge(&maker.line(), &text).unwrap_err(), fault, "{text}");
    }
    // Any other bit makes it another token.
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(other) = String::from_utf8(bytes) {
            assert!(judge(&maker.line(), &other).is_err(), "{at}");
        }
    }
}

#[test]
fn a_token_of_the_longest_length_is_taken() {
    let maker = Maker::ecdsa();
    let longest = (0..BYTES_MAX).rev().map(|n| format!(r#","x":"{}""#, "x".repeat(n)));
    let mut tokens = longest.map(|more| maker.token_for(60.0, &more));
    let token = tokens.find(|token| token.len() <= BYTES_MAX).unwrap();
    assert!(token.len() > BYTES_MAX - 3, "{}", token.len());
    assert!(judge(&maker.file(), &token).is_ok());
}

/// `exp` is exact, to the millisecond; `nbf` has 30 s of leeway.
#[test]
fn a_token_has_its_time() {
    let maker = Maker::secret();
    for (claims, at_ms, expected) in [
        (r#"{"exp":1798761600}"#, 1_798_761_599_999, None),
        (r#"{"exp":1798761600}"#, 1_798_761_600_000, Some(Fault::Expired)),
        (r#"{"exp":1798761600.25}"#, 1_798_761_600_249, None),
        (r#"{"exp":1798761600.25}"#, 1_798_761_600_250, Some(Fault::Expired)),
        (r#"{"exp":1798761600.1}"#, 1_798_761_600_099, None),
        (r#"{"exp":1798761600.1}"#, 1_798_761_600_100, Some(Fault::Expired)),
        (r#"{"exp":1.7987616e9}"#, 1_798_761_599_999, None),
        (r#"{"exp":1.7987616E+9}"#, 1_798_761_600_000, Some(Fault::Expired)),
        (r#"{"exp":1e400}"#, u64::MAX / 4, None),
        (r#"{"exp":1e-400}"#, NOW * 1000, Some(Fault::Expired)),
        (r#"{"exp":9999999999999999999999999}"#, NOW * 1000, None),
        (r#"{"exp":2000000000,"nbf":1798761600}"#, 1_798_761_570_000, None),
        (r#"{"exp":2000000000,"nbf":1798761600}"#, 1_798_761_569_999, Some(Fault::NotYet)),
        (r#"{"exp":2000000000,"nbf":1e300}"#, NOW * 1000, Some(Fault::NotYet)),
        // A clock that was never set judges nothing.
        (r#"{"exp":2000000000}"#, BUILT_MS, None),
        (r#"{"exp":2000000000}"#, BUILT_MS - 1, Some(Fault::Clock)),
        (r#"{"exp":2000000000}"#, 0, Some(Fault::Clock)),
    ] {
        let judged = judge_at(&maker.line(), &maker.token(claims), at_ms).err();
        assert_eq!(judged, expected, "{claims} {at_ms}");
    }
}

#[test]
fn issuer_and_audience_are_what_the_configuration_wants() {
    let maker = Maker::secret();
    let keys = Keys::parse(&maker.line()).unwrap();
    for (more, issuer, audience, expected) in [
        ("", None, None, None),
        (r#","iss":"a""#, None, None, None),
        (r#","iss":"a""#, Some("a"), None, None),
        (r#","iss":"b""#, Some("a"), None, Some(Fault::Issuer)),
        (r#","iss":"A""#, Some("a"), None, Some(Fault::Issuer)),
        ("", Some("a"), None, Some(Fault::Issuer)),
        ("", None, Some("a"), Some(Fault::Audience)),
        (r#","aud":"a""#, None, None, Some(Fault::Audience)),
        (r#","aud":"a""#, None, Some("a"), None),
        (r#","aud":["b","a"]"#, None, Some("a"), None),
        (r#","aud":["b"]"#, None, Some("a"), Some(Fault::Audience)),
        (r#","aud":"a b""#, None, Some("a"), Some(Fault::Audience)),
    ] {
        let token = maker.token_for(60.0, more);
        let judged = keys.verify(&token, NOW * 1000, Expected { issuer, audience });
        assert_eq!(judged.err(), expected, "{more} {issuer:?} {audience:?}");
    }
}

/// A flood of members costs little more than other texts of its length, and nothing is verified for
/// what is too long.
#[test]
fn hostile_tokens_cost_no_more_than_their_length() {
    let maker = Maker::ecdsa();
    let members: String = (0..300).map(|n| format!(r#","{n}":1"#)).collect();
    let deep = format!(r#","x":{}{}"#, "[".repeat(99), "]".repeat(99));
    let header = format!(r#"{{"alg":"ES256"{members}}}"#);
    let tokens = [
        maker.token_of(&header, "{}"),
        maker.token_for(60.0, &members),
        maker.token_for(60.0, &deep),
        maker.token_for(60.0, &format!(r#","publish":[{}"a"]"#, r#""a*","#.repeat(400))),
        "x".repeat(1 << 20),
        ".".repeat(4096),
    ];
    let (keys, began) = (maker.file(), Instant::now());
    for token in &tokens {
        for _ in 0..20 {
            let _ = judge(&keys, token);
        }
    }
    // Debug builds and busy machines included: 120 verifications.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

/// Random changes of good tokens, and random bytes in their parts.
#[test]
fn no_change_makes_a_good_token_of_another() {
    let maker = Maker::ed25519();
    let keys = Keys::parse(&maker.file()).unwrap();
    let good = maker.token_for(60.0, r#","sub":"a""#);
    let mut rng = Rng::new(5);
    for round in 0..2000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = b"ABCabc019-_.="[rng.below(13) as usize];
        }
        let token = String::from_utf8(bytes).unwrap();
        let judged = keys.verify(&token, NOW * 1000, Expected::default());
        assert!(judged.is_err() || token == good, "{round} {token}");
    }
}

/// What verifying takes: `cargo test --release --features jwt --test jwt -- --ignored --nocapture`.
#[test]
#[ignore = "it prints times, which mean something in a release build on an idle machine"]
fn figures() {
    for maker in makers() {
        let keys = Keys::parse(&maker.file()).unwrap();
        let more = r#","sub":"device 7","publish":["devices.7.*"],"subscribe":["commands.7"]"#;
        let token = maker.token_for(60.0, more);
        let mut best_us = f64::MAX;
        for _ in 0..20 {
            let began = Instant::now();
            for _ in 0..200 {
                keys.verify(&token, NOW * 1000, Expected::default()).expect("it is good");
            }
            best_us = best_us.min(began.elapsed().as_secs_f64() * 1e6 / 200.0);
        }
        println!("{}: {best_us:.1} us for {} bytes", maker.algorithm(), token.len());
        let most_us = if maker.algorithm() == "HS256" { 5.0 } else { 200.0 };
        assert!(best_us < most_us);
    }
}
