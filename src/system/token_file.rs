//! The file that `admission.tokens` names.

use std::fs;

use crate::core::admission::tokens::Tokens;
use crate::core::config::Config;

/// Reads the file; `None` if the configuration names none.
///
/// # Errors
///
/// A line for each fault, which names the file and its line and never a token.
pub(crate) fn read(config: &Config) -> Result<Option<Tokens>, Vec<String>> {
    let Some(path) = &config.admission.tokens else { return Ok(None) };
    let fault =
        |what: &dyn std::fmt::Display| format!("admission.tokens = {}: {what}", path.display());
    let text = fs::read_to_string(path).map_err(|error| vec![fault(&error)])?;
    let tokens = Tokens::parse(&text);
    tokens.map(Some).map_err(|faults| faults.iter().map(|one| fault(one)).collect())
}
