//! The cipher suites.

use ring::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305};
use ring::hkdf::{self, HKDF_SHA256, HKDF_SHA384};

/// A cipher suite of TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// TLS_AES_128_GCM_SHA256.
    Aes128,
    /// TLS_AES_256_GCM_SHA384.
    Aes256,
    /// TLS_CHACHA20_POLY1305_SHA256.
    ChaCha20,
}

impl Suite {
    /// All suites, in the order in which a machine without instructions for AES wants them last.
    pub const ALL: [Suite; 3] = [Suite::Aes128, Suite::Aes256, Suite::ChaCha20];

    /// The name of the suite in RFC 8446: in `tls.ciphers`, log lines and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Suite::Aes128 => "TLS_AES_128_GCM_SHA256",
            Suite::Aes256 => "TLS_AES_256_GCM_SHA384",
            Suite::ChaCha20 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    /// How many records may be sealed with one key (RFC 8446, 5.5: 2^24.5 full ones). A key update
    /// comes at half of it.
    pub const fn records_max(self) -> u64 {
        match self {
            Suite::Aes128 | Suite::Aes256 => 1 << 24,
            Suite::ChaCha20 => u64::MAX,
        }
    }

    /// The length of a secret.
    pub const fn secret_len(self) -> usize {
        match self {
            Suite::Aes128 | Suite::ChaCha20 => 32,
            Suite::Aes256 => 48,
        }
    }

    /// What both directions of a session keep: each a secret, a key, a vector and a number.
    pub const fn keys_len(self) -> usize {
        2 * (self.secret_len() + self.key_len() + VECTOR_BYTES + NUMBER_BYTES)
    }

    pub(super) const fn key_len(self) -> usize {
        match self {
            Suite::Aes128 => 16,
            Suite::Aes256 | Suite::ChaCha20 => 32,
        }
    }

    pub(super) fn algorithm(self) -> &'static Algorithm {
        match self {
            Suite::Aes128 => &AES_128_GCM,
            Suite::Aes256 => &AES_256_GCM,
            Suite::ChaCha20 => &CHACHA20_POLY1305,
        }
    }

    pub(super) fn hash(self) -> hkdf::Algorithm {
        match self {
            Suite::Aes128 | Suite::ChaCha20 => HKDF_SHA256,
            Suite::Aes256 => HKDF_SHA384,
        }
    }
}

pub(super) const VECTOR_BYTES: usize = 12;
pub(super) const NUMBER_BYTES: usize = 8;
