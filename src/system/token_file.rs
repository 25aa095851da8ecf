//! The files that say who is let in: `admission.tokens` and `admission.jwt`.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use crate::core::admission::credentials::Credentials;
#[cfg(feature = "jwt")]
use crate::core::admission::jwt::Keys;
use crate::core::admission::tokens::Tokens;
use crate::core::config::Config;

/// Reads the files that the configuration names, and logs what is doubtful of them.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn load(config: &Config) -> Result<Credentials, Vec<String>> {
    let credentials = read(config)?;
    #[cfg(feature = "jwt")]
    doubts(config, &credentials).iter().for_each(|doubt| log::warn!("{doubt}"));
    Ok(credentials)
}

/// Reads the files that the configuration names.
///
/// # Errors
///
/// A line for each fault, which names the file and its line and never a token or a secret.
pub(crate) fn read(config: &Config) -> Result<Credentials, Vec<String>> {
    let mut credentials = Credentials::default();
    if let Some(path) = &config.admission.tokens {
        let tokens = Tokens::parse(&text_of("admission.tokens", path)?);
        let fault = |what| fault("admission.tokens", path, &what);
        let tokens = tokens.map_err(|faults| faults.into_iter().map(fault).collect::<Vec<_>>())?;
        credentials.tokens = Some(tokens);
    }
    #[cfg(feature = "jwt")]
    if let Some(path) = &config.admission.jwt {
        let keys = Keys::parse(&text_of("admission.jwt", path)?);
        let keys = keys.map_err(|what| vec![fault("admission.jwt", path, &what)])?;
        credentials.keys = Some(keys);
    }
    Ok(credentials)
}

/// Returns what is doubtful of the files, a line each.
#[cfg(feature = "jwt")]
pub(crate) fn doubts(config: &Config, credentials: &Credentials) -> Vec<String> {
    let (Some(path), Some(keys)) = (&config.admission.jwt, &credentials.keys) else {
        return Vec::new();
    };
    keys.warnings().iter().map(|doubt| fault("admission.jwt", path, doubt)).collect()
}

fn text_of(key: &str, path: &Path) -> Result<String, Vec<String>> {
    fs::read_to_string(path).map_err(|error| vec![fault(key, path, &error)])
}

fn fault(key: &str, path: &Path, what: &dyn Display) -> String {
    format!("{key} = {}: {what}", path.display())
}
