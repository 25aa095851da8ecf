//! The program: what it says of files, and that it serves with what is doubtful.

use std::process::{Command, Output};

use super::client::file;

/// Runs `heartwheel check` with these keys.
fn check(pairs: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
    command.env_clear().arg("check");
    for (key, value) in pairs {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command.output().expect("the program was built")
}

#[test]
fn check_judges_files_dates_and_pairs() {
    let [server, key, other_key, expired, expired_key, ca, crl, der] = [
        "server.crt",
        "server.key",
        "second.key",
        "expired.crt",
        "expired.key",
        "ca.crt",
        "ca.crl",
        "client.der",
    ]
    .map(file);
    let listen = ("listen", "tls:127.0.0.1:0");
    let own = [listen, ("tls.certificate", &*server), ("tls.key", &*key)];
    let with = |more: &[(&'static str, &'static str)]| [&own[..], more].concat();
    let good = check(&with(&[]));
    assert!(good.status.success(), "{good:?}");
    assert!(String::from_utf8_lossy(&good.stdout).contains("TLS handshake"), "its memory is told");
    let leaked = |text: String| -> &'static str { text.leak() };
    let [ca, crl, der] = [ca, crl, der].map(leaked);
    let clients = [("tls.client", "required"), ("tls.client_ca", ca), ("tls.client_crl", crl)];
    assert!(check(&with(&clients)).status.success());
    for (pairs, fault) in [
        (vec![listen], "needs tls.certificate and tls.key"),
        (vec![listen, ("tls.certificate", &*server)], "must be set together"),
        (
            vec![listen, ("tls.certificate", &*server), ("tls.key", &*other_key)],
            "does not fit the certificate in ",
        ),
        (vec![listen, ("tls.certificate", &*expired), ("tls.key", &*expired_key)], "has expired"),
        (with(&[("tls.client", "required")]), "tls.client: must be off where tls.client_ca is"),
        (with(&[("tls.client_ca", ca)]), "tls.client_ca: never acts"),
        (with(&[("tls.client", "optional"), ("tls.client_ca", der)]), "no certificate in PEM"),
        (with(&[("tls.ticket_keys", ca)]), "must have 80 bytes"),
        (with(&[("tls.ocsp", ca)]), "is no answer of OCSP in DER"),
        (with(&[("tls.sni", "/nowhere")]), "tls.sni = /nowhere: "),
        (with(&[("tls.ciphers", "TLS_RSA_WITH_RC4_128_SHA")]), "must be auto or a list"),
        (with(&[("tls.tickets", "9")]), "tls.tickets = 9: must be"),
    ] {
        let output = check(&pairs);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{pairs:?} {said}");
        assert!(said.contains(fault), "{fault}: {said}");
    }
}
