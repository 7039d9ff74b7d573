//! Who may do what, as the file says it now.

use std::path::Path;

use crate::{
    auth::{Mistakes, Policy},
    redact::Redacted,
    reload::{Current, ReloadError, Reloader},
};

/// Room for the first mistakes; `policy check` tells them all.
const LONGEST: usize = 1000;

/// The policy in `file`, and who reads it anew. Without a file it is that of no authentication, for ever.
///
/// # Errors
/// [`ReloadError`] when there is no usable policy to begin with.
pub fn policy(file: Option<&Path>) -> Result<(Current<Policy>, Option<Reloader<Policy>>), ReloadError> {
    let Some(file) = file else { return Ok((Current::fixed(Policy::open()), None)) };
    let (policy, reader) = Reloader::new("policy", vec![file.to_owned()], |files| read(&files[0]))?;
    Ok((policy, Some(reader)))
}

fn read(text: &[u8]) -> Result<Policy, Redacted> {
    let refused = |mistakes: Mistakes| Redacted::of(&mistakes.to_string(), LONGEST);
    let policy = Policy::parse(text).map_err(refused)?;
    tracing::info!(policy.version = %policy.version(), callers = policy.entries().len(), "policy read");
    Ok(policy)
}
