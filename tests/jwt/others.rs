//! Tokens made by others: PyJWT and jose. `tests/jwt/install` installs them.

use std::path::Path;
use std::process::Command;

use heartwheel::core::admission::jwt::{Expected, Keys};
use heartwheel::core::admission::rights::Right;

use crate::maker::{NOW, jwks};

/// Gives what a program prints: a line for each token, its key as a JWKS has it, a blank, and the
/// token. `None`, said loudly, if the program or its library is not there.
fn tokens_of(program: &str, script: &str) -> Option<Vec<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let others = std::env::var_os("JWT_OTHERS").map(Into::into);
    let others = others.unwrap_or_else(|| root.join("target/jwt"));
    let output = Command::new(program)
        .arg(root.join("tests/jwt").join(script))
        .env("OTHERS", &others)
        .env("PYTHONPATH", others.join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("EXP", (NOW + 60).to_string())
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        _ => {
            println!(
                "\n== TOKENS OF OTHERS, NOT TESTED: {script} does not run: tests/jwt/install\n"
            );
            return None;
        }
    };
    let text = String::from_utf8(output.stdout).expect("it is text");
    let split = |line: &str| line.split_once(' ').map(|(key, token)| (key.into(), token.into()));
    Some(text.lines().map(|line| split(line).expect("a key and a token")).collect())
}

fn takes_tokens_of(program: &str, script: &str) {
    let Some(tokens) = tokens_of(program, script) else { return };
    assert_eq!(tokens.len(), 3, "{tokens:?}");
    let expected = Expected { issuer: Some("https://issuer.example"), audience: Some("us") };
    for (jwk, token) in &tokens {
        let keys =
            Keys::parse(&jwks(std::slice::from_ref(jwk))).unwrap_or_else(|e| panic!("{e}: {jwk}"));
        assert_eq!(keys.warnings(), [""; 0]);
        let (claims, _) = keys
            .verify(token, NOW * 1000, expected)
            .unwrap_or_else(|fault| panic!("{fault}: {jwk} {token}"));
        assert_eq!(claims.subject.as_ref().unwrap().as_str(), "device \u{fc} 7");
        assert_eq!(claims.expires_ms, (NOW + 60) * 1000);
        assert!(claims.rights.may(Right::Subscribe, "commands.7"));
        assert!(claims.rights.may(Right::Publish, "devices.7.x"));
        for (other, _) in tokens.iter().filter(|(other, _)| other != jwk) {
            let keys = Keys::parse(&jwks(std::slice::from_ref(other))).unwrap();
            assert!(keys.verify(token, NOW * 1000, expected).is_err());
        }
    }
}

#[test]
fn tokens_of_pyjwt_are_taken() {
    takes_tokens_of("python3", "make.py");
}

#[test]
fn tokens_of_jose_are_taken() {
    takes_tokens_of("node", "make.mjs");
}
