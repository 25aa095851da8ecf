//! What [`Config`](super::Config) says of TLS.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::core::wire::tls::Suite;

/// Certificates, and whom TLS lets in. All files are read at the start, at a reload, and when
/// their times have changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tls {
    /// The chain of the server's certificate, in PEM. Default none; an address of TLS needs it.
    pub certificate: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    pub key: Option<PathBuf>,
    /// A folder of `NAME.crt`, `NAME.key` and, perhaps, `NAME.ocsp`, of which one is chosen by the
    /// name that the client asks for; `*.example.org.crt` stands for one label. Default none.
    pub sni: Option<PathBuf>,
    /// Whether clients show a certificate. Default off.
    pub client: ClientCertificates,
    /// Who signs the certificates of clients, in PEM.
    pub client_ca: Option<PathBuf>,
    /// Which certificates of clients are revoked, in PEM.
    pub client_crl: Option<PathBuf>,
    /// The suites, best first. Default `auto`: the faster one on this machine first.
    pub ciphers: Ciphers,
    /// Tickets for resumption that a client gets. Default 2, 0 to 8.
    pub tickets: usize,
    /// A file of 80 random bytes from which tickets are sealed, so that several servers, and one
    /// after a restart, resume each other's sessions. Default none: keys of this process.
    pub ticket_keys: Option<PathBuf>,
    /// The answer of OCSP for the certificate, in DER. Default none.
    pub ocsp: Option<PathBuf>,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            certificate: None,
            key: None,
            sni: None,
            client: ClientCertificates::Off,
            client_ca: None,
            client_crl: None,
            ciphers: Ciphers::Auto,
            tickets: 2,
            ticket_keys: None,
            ocsp: None,
        }
    }
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    Off,
    /// They may. A certificate that is not good is refused, not ignored.
    Optional,
    /// They must.
    Required,
}

/// Cipher suites, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ciphers {
    /// All, the one first that this machine does faster.
    Auto,
    /// These alone.
    These(Vec<Suite>),
}

impl FromStr for Ciphers {
    type Err = ();

    fn from_str(text: &str) -> Result<Ciphers, ()> {
        if text == "auto" {
            return Ok(Ciphers::Auto);
        }
        let mut suites = Vec::new();
        for name in text.split(',') {
            let suite =
                Suite::ALL.into_iter().find(|suite| suite.label() == name.trim()).ok_or(())?;
            if suites.contains(&suite) {
                return Err(());
            }
            suites.push(suite);
        }
        Ok(Ciphers::These(suites))
    }
}

impl fmt::Display for Ciphers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ciphers::Auto => f.write_str("auto"),
            Ciphers::These(suites) => {
                let names: Vec<_> = suites.iter().map(|suite| suite.label()).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}
