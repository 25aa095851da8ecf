//! What the files of TLS say: certificates, keys, who signs, what is revoked; and what a handshake
//! needs of them. All files are read and judged before any of them counts.

#[cfg(any(feature = "client", feature = "cluster"))]
mod connector;
mod names;
mod secrets;
mod staple;
mod tickets;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use ring::aead::{AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, InconsistentKeys, RootCertStore, ServerConfig};

use secrets::ToStep;

use crate::core::config::{Ciphers, ClientCertificates, Config};
use crate::core::wire::tls::{Certificate, Suite};

use names::Names;
use tickets::Tickets;

#[cfg(feature = "cluster")]
pub(crate) use connector::redis_client;
#[cfg(feature = "client")]
pub(crate) use connector::{ConnectorFiles, connector};
pub(crate) use secrets::Secrets;

/// What handshakes follow, made of all files of one moment.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub config: Arc<ServerConfig>,
    /// Until when each certificate is valid: its name, and seconds since 1970.
    pub valid_until: Vec<(String, i64)>,
    /// What is doubtful, a line each: a certificate that has expired, or is not valid yet.
    pub doubts: Vec<String>,
}

impl Acceptor {
    /// Reads all files that the configuration names. None if it names no certificate.
    ///
    /// # Errors
    ///
    /// A line for each fault, which names the key and the file.
    pub fn load(config: &Config) -> Result<Option<Arc<Acceptor>>, Vec<String>> {
        let tls = &config.tls;
        if tls.certificate.is_none() && tls.sni.is_none() {
            return Ok(None);
        }
        let mut loading = Loading::new(&tls.ciphers);
        let names = loading.names(config);
        let verifier = loading.verifier(config);
        let tickets = loading.tickets(config);
        let Loading { provider, faults, doubts, valid_until, .. } = loading;
        let (Some(names), Some(verifier), Some(tickets), []) =
            (names, verifier, tickets, &faults[..])
        else {
            return Err(faults);
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| vec![format!("tls.ciphers: {error}")])?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(Arc::new(names));
        server.ignore_client_order = true;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = tls.tickets;
        server.ticketer = Arc::new(tickets);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        server.enable_secret_extraction = true;
        server.key_log = Arc::new(ToStep);
        Ok(Some(Arc::new(Acceptor { config: Arc::new(server), valid_until, doubts })))
    }
}

/// Faults and findings while files are read.
struct Loading {
    provider: Arc<CryptoProvider>,
    faults: Vec<String>,
    doubts: Vec<String>,
    valid_until: Vec<(String, i64)>,
    /// Who may come: tickets are good as long as this stays the same.
    policy: Context,
    now: i64,
}

impl Loading {
    fn new(ciphers: &Ciphers) -> Loading {
        let mut provider = provider::default_provider();
        let order = match ciphers {
            Ciphers::Auto => by_speed().to_vec(),
            Ciphers::These(suites) => suites.clone(),
        };
        let place = |suite: CipherSuite| order.iter().position(|found| number(*found) == suite);
        provider.cipher_suites.retain(|suite| place(suite.suite()).is_some());
        provider.cipher_suites.sort_by_key(|suite| place(suite.suite()));
        Loading {
            provider: Arc::new(provider),
            faults: Vec::new(),
            doubts: Vec::new(),
            valid_until: Vec::new(),
            policy: Context::new(&SHA256),
            now: unix_seconds_now(),
        }
    }

    fn fault(&mut self, key: &str, path: &Path, what: impl Display) {
        self.faults.push(format!("{key} = {}: {what}", path.display()));
    }

    fn read(&mut self, key: &str, path: &Path) -> Option<Vec<u8>> {
        fs::read(path).map_err(|error| self.fault(key, path, error)).ok()
    }

    /// Reads all certificates of the server.
    fn names(&mut self, config: &Config) -> Option<Names> {
        let tls = &config.tls;
        let mut names = Names::default();
        if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
            let ocsp = tls.ocsp.as_deref();
            let files = [("tls.certificate", &**certificate), ("tls.key", key)];
            names.default = Some(self.certified(files, ocsp, "default")?);
        }
        if let Some(folder) = &tls.sni {
            for path in self.certificates_in(folder)? {
                let name = path.file_stem()?.to_string_lossy().to_lowercase();
                let [key, ocsp] = ["key", "ocsp"].map(|end| path.with_extension(end));
                let ocsp = Some(&*ocsp).filter(|path| path.exists());
                let files = [("tls.sni", &*path), ("tls.sni", &*key)];
                if let Some(found) = self.certified(files, ocsp, &name) {
                    names.by_name.insert(name, found);
                }
            }
            if names.by_name.is_empty() && names.default.is_none() {
                self.fault("tls.sni", folder, "has no NAME.crt");
            }
        }
        Some(names)
    }

    /// Returns the certificates of a folder, in the order of their names.
    fn certificates_in(&mut self, folder: &Path) -> Option<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).map_err(|error| self.fault("tls.sni", folder, error));
        let paths = entries.ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let is_one = |path: &PathBuf| path.extension().is_some_and(|end| end == "crt");
        let mut paths: Vec<_> = paths.filter(is_one).collect();
        paths.sort();
        Some(paths)
    }

    /// Reads a certificate with its key, and judges both.
    fn certified(
        &mut self,
        [(certificate_key, certificate), (key_key, key)]: [(&str, &Path); 2],
        ocsp: Option<&Path>,
        name: &str,
    ) -> Option<Arc<CertifiedKey>> {
        let chain = self.read_chain(certificate_key, certificate)?;
        let text = self.read(key_key, key)?;
        let found = PrivateKeyDer::from_pem_slice(&text);
        let private = found.map_err(|_| self.fault(key_key, key, "has no key in PEM")).ok()?;
        let Some(leaf) = Certificate::read(&chain[0]) else {
            self.fault(certificate_key, certificate, "its first certificate cannot be read");
            return None;
        };
        self.valid_until.push((name.into(), leaf.not_after));
        if leaf.not_after < self.now {
            self.doubts.push(format!("{certificate_key} = {}: has expired", certificate.display()));
        } else if leaf.not_before > self.now {
            let text = format!("{certificate_key} = {}: is not valid yet", certificate.display());
            self.doubts.push(text);
        }
        let certified = CertifiedKey::from_der(chain, private, &self.provider);
        let mut certified = match certified {
            Ok(certified) => certified,
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let what = format!("does not fit the certificate in {}", certificate.display());
                self.fault(key_key, key, what);
                return None;
            }
            Err(error) => {
                self.fault(key_key, key, error);
                return None;
            }
        };
        if let Some(path) = ocsp {
            certified.ocsp = Some(self.read_staple(path)?);
        }
        Some(Arc::new(certified))
    }

    fn read_chain(&mut self, key: &str, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let text = self.read(key, path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Some(chain),
            _ => {
                self.fault(key, path, "has no certificate in PEM");
                None
            }
        }
    }

    fn read_staple(&mut self, path: &Path) -> Option<Vec<u8>> {
        let der = self.read("tls.ocsp", path)?;
        match staple::valid_until(&der) {
            None => self.fault("tls.ocsp", path, "is no answer of OCSP in DER"),
            Some(until) if until.is_some_and(|until| until < self.now) => {
                self.doubts.push(format!("tls.ocsp = {}: is past", path.display()));
                return Some(der);
            }
            Some(_) => return Some(der),
        }
        None
    }

    /// Makes what judges the certificates of clients, if they are asked for one.
    fn verifier(&mut self, config: &Config) -> Option<Option<Arc<dyn ClientCertVerifier>>> {
        let tls = &config.tls;
        let Some(path) = tls.client_ca.as_ref().filter(|_| tls.client != ClientCertificates::Off)
        else {
            return Some(None);
        };
        self.policy.update(&[tls.client as u8]);
        let mut roots = RootCertStore::empty();
        for certificate in self.read_chain("tls.client_ca", path)? {
            self.policy.update(&certificate);
            if let Err(error) = roots.add(certificate) {
                self.fault("tls.client_ca", path, error);
                return None;
            }
        }
        let provider = self.provider.clone();
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if let Some(path) = &tls.client_crl {
            let text = self.read("tls.client_crl", path)?;
            self.policy.update(&text);
            let lists: Result<Vec<_>, _> =
                CertificateRevocationListDer::pem_slice_iter(&text).collect();
            match lists {
                Ok(lists) if !lists.is_empty() => {
                    builder = builder.with_crls(lists).allow_unknown_revocation_status();
                }
                _ => {
                    self.fault("tls.client_crl", path, "has no list in PEM");
                    return None;
                }
            }
        }
        if tls.client == ClientCertificates::Optional {
            builder = builder.allow_unauthenticated();
        }
        match builder.build() {
            Ok(verifier) => Some(Some(verifier)),
            Err(error) => {
                self.fault("tls.client_ca", path, error);
                None
            }
        }
    }

    fn tickets(&mut self, config: &Config) -> Option<Tickets> {
        let tls = &config.tls;
        let lifetime = match tls.client {
            ClientCertificates::Off => LIFETIME,
            _ => LIFETIME_WITH_CERTIFICATES,
        };
        let policy = self.policy.clone().finish();
        let Some(path) = &tls.ticket_keys else {
            return Some(Tickets::rotated(policy.as_ref(), lifetime));
        };
        let bytes = self.read("tls.ticket_keys", path)?;
        let tickets = Tickets::from_file(&bytes, policy.as_ref(), lifetime);
        if tickets.is_none() {
            self.fault("tls.ticket_keys", path, "must have 80 bytes");
        }
        tickets
    }
}

/// Where the acceptor in force stands: the loop takes it from there, a reload puts it there.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    next: Mutex<Option<Arc<Acceptor>>>,
    has_next: AtomicBool,
    faults: std::sync::atomic::AtomicUsize,
}

impl Slot {
    /// Puts one there.
    pub fn put(&self, acceptor: Arc<Acceptor>) {
        let mut next = self.next.lock().expect("nobody panics with it");
        *next = Some(acceptor);
        self.has_next.store(true, Ordering::Release);
    }

    /// Takes the one that was put there since. It never waits: what is being put there now is taken
    /// the next time.
    pub fn take(&self) -> Option<Arc<Acceptor>> {
        if !self.has_next.load(Ordering::Acquire) {
            return None;
        }
        let mut next = self.next.try_lock().ok()?;
        self.has_next.store(false, Ordering::Release);
        next.take()
    }

    /// Counts a reload that was refused for its files.
    pub fn count_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn faults(&self) -> usize {
        self.faults.load(Ordering::Relaxed)
    }
}

/// Returns the times of all files that the configuration names, to see whether one has changed.
#[cfg(feature = "program")]
pub(crate) fn file_times(config: &Config) -> Vec<Option<SystemTime>> {
    let tls = &config.tls;
    let files = [
        &tls.certificate,
        &tls.key,
        &tls.client_ca,
        &tls.client_crl,
        &tls.ticket_keys,
        &tls.ocsp,
        &tls.sni,
    ];
    let mut paths: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
    if let Some(entries) = tls.sni.as_ref().and_then(|folder| fs::read_dir(folder).ok()) {
        let mut inside: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        inside.sort();
        paths.extend(inside);
    }
    paths.iter().map(|path| fs::metadata(path).and_then(|found| found.modified()).ok()).collect()
}

/// Returns the suites, of AES-128 and ChaCha20 the one first that this machine does faster. Takes
/// about a millisecond, once: a session is resumed with its own suite alone, so the order must not
/// change with a reload.
fn by_speed() -> [Suite; 3] {
    static ORDER: OnceLock<[Suite; 3]> = OnceLock::new();
    *ORDER.get_or_init(|| match is_first_faster(seals_of([&AES_128_GCM, &CHACHA20_POLY1305])) {
        true => [Suite::Aes128, Suite::Aes256, Suite::ChaCha20],
        false => [Suite::ChaCha20, Suite::Aes128, Suite::Aes256],
    })
}

/// Returns whether the first of two is as fast as the second. They take turns, so that what else
/// the machine does slows both, and the best of 20 counts: a restart comes to the same result.
fn is_first_faster(mut time: impl FnMut(usize, u8) -> Duration) -> bool {
    let mut best = [Duration::MAX; 2];
    for round in 0..20 {
        for (which, best) in best.iter_mut().enumerate() {
            *best = time(which, round).min(*best);
        }
    }
    best[0] <= best[1]
}

/// Returns what measures how long one of these ciphers takes for four kilobytes: of one kilobyte
/// the set-up takes as long as the cipher.
fn seals_of(algorithms: [&'static Algorithm; 2]) -> impl FnMut(usize, u8) -> Duration {
    let keys = algorithms.map(|algorithm| {
        let key = UnboundKey::new(algorithm, &[1; 32][..algorithm.key_len()]);
        LessSafeKey::new(key.expect("it has the length asked for"))
    });
    let mut bytes = [0; 4096];
    move |which, round| {
        let nonce = Nonce::assume_unique_for_key([round; 12]);
        let began = Instant::now();
        let sealed = keys[which].seal_in_place_separate_tag(nonce, Aad::empty(), &mut bytes);
        let took = began.elapsed();
        debug_assert!(sealed.is_ok(), "four kilobytes can be sealed");
        took
    }
}

fn number(suite: Suite) -> CipherSuite {
    match suite {
        Suite::Aes128 => CipherSuite::TLS13_AES_128_GCM_SHA256,
        Suite::Aes256 => CipherSuite::TLS13_AES_256_GCM_SHA384,
        Suite::ChaCha20 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    }
}

pub(crate) fn unix_seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// A revocation counts at the latest after this, also where the list of it came to another server.
const LIFETIME_WITH_CERTIFICATES: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    /// Another order after a restart would make all handshakes full ones. Of each cipher one round
    /// is left alone; in all others the machine does something else meanwhile.
    #[test]
    fn the_faster_cipher_is_the_same_each_time() {
        let rounds = || 0..20;
        for quiet in rounds().flat_map(|one| rounds().map(move |other| [one, other])) {
            for own in [[2, 3], [3, 2]] {
                let time = |which: usize, round: u8| {
                    let is_alone = round == quiet[which];
                    let other = if is_alone { 0 } else { 1 + u64::from(round) * 7 % 5 };
                    Duration::from_micros(own[which] + other)
                };
                assert_eq!(is_first_faster(time), own[0] < own[1], "{own:?}, alone in {quiet:?}");
            }
        }
    }
}
