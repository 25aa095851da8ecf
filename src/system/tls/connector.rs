//! What the handshakes of clients follow: whose certificates are trusted, and what is shown.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::secrets::ToStep;
use super::{by_speed, number, provider};

/// The files that a client goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectorFiles {
    /// PEM: who may sign the server's certificate.
    pub ca: Option<PathBuf>,
    /// The SHA-256 of the one certificate that the server may show; its signer does not matter.
    pub pin: Option<[u8; 32]>,
    /// PEM: the chain that the client shows, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Reads the files.
///
/// # Errors
///
/// A sentence that names the file.
pub(crate) fn connector(files: &ConnectorFiles) -> Result<Arc<ClientConfig>, String> {
    let mut provider = provider::default_provider();
    let order = by_speed();
    let place = |suite| order.iter().position(|found| number(*found) == suite);
    provider.cipher_suites.retain(|suite| place(suite.suite()).is_some());
    provider.cipher_suites.sort_by_key(|suite| place(suite.suite()));
    let provider = Arc::new(provider);
    let verifier: Arc<dyn ServerCertVerifier> = match files.pin {
        Some(pin) => {
            let algorithms = provider.signature_verification_algorithms;
            Arc::new(Pinned { pin, algorithms })
        }
        None => by_roots(files.ca.as_deref(), &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &files.certificate {
        None => builder.with_no_client_auth(),
        Some((chain_path, key_path)) => {
            let chain = read_chain(chain_path)?;
            let text = read(key_path)?;
            let key = PrivateKeyDer::from_pem_slice(&text)
                .map_err(|_| format!("{}: has no key in PEM", key_path.display()))?;
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|error| format!("{}: {error}", key_path.display()))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // What is kept of a session are its keys: there is nothing to resume from.
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(ToStep);
    Ok(Arc::new(config))
}

/// Makes what a connection to Redis follows: it trusts what a client without a CA file trusts.
///
/// # Errors
///
/// A sentence that names the file.
#[cfg(feature = "cluster")]
pub(crate) fn redis_client() -> Result<Arc<ClientConfig>, String> {
    let mut config = ClientConfig::clone(&*connector(&ConnectorFiles::default())?);
    config.alpn_protocols = Vec::new();
    config.enable_secret_extraction = false;
    config.key_log = Arc::new(rustls::NoKeyLog);
    Ok(Arc::new(config))
}

/// Trusts what these certificates have signed: those of the file, else of `SSL_CERT_FILE`, else of
/// the system.
fn by_roots(
    ca: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let named = ca.map(Path::to_owned).or_else(|| env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    let path = match named {
        Some(path) => path,
        None => {
            let found = BUNDLES.iter().map(Path::new).find(|path| path.exists());
            found.ok_or("no CA file: none is named, and the system has no bundle")?.to_owned()
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(&path)? {
        // A bundle may have some that are not understood.
        let added = roots.add(certificate);
        if let (Err(error), true) = (added, ca.is_some()) {
            return Err(format!("{}: {error}", path.display()));
        }
    }
    let built = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build();
    match built {
        Ok(verifier) => Ok(verifier),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{}: has no certificate in PEM", path.display())),
    }
}

/// Trusts one certificate, and what proves that the server has its key.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match digest(&SHA256, end_entity).as_ref() == self.pin {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Where systems keep the certificates that they trust.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];
