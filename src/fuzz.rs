//! What parses what others send, each with what must hold whatever they send. `make fuzz` looks for what breaks it; the tests
//! repeat what is in `fuzz/seeds`. In no build of the program.

use crate::{api, auth, cli, config, device, pingone, redact, store};

/// What must hold for every input: a panic says that it does not.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its program in `fuzz/` and of the folder of its seeds.
pub const TARGETS: [(&str, Target); 16] = [
    ("access_token", auth::token::fuzz::access_token),
    ("address", pingone::fuzz::address),
    ("answer", pingone::fuzz::answer),
    ("bulk_file", cli::fuzz::bulk_file),
    ("call_metadata", api::fuzz::call_metadata),
    ("config_file", config::fuzz::config_file),
    ("device_list", device::fuzz::device_list),
    ("device_snapshot", device::fuzz::device_snapshot),
    ("issuer_keys", auth::token::fuzz::issuer_keys),
    ("packed", store::fuzz::packed),
    ("page_token", store::fuzz::page_token),
    ("policy_file", auth::policy::fuzz::policy_file),
    ("redaction", redact::fuzz::redaction),
    ("retry_after", pingone::fuzz::retry_after),
    ("token_answer", pingone::fuzz::token_answer),
    ("unblock_request", api::fuzz::unblock_request),
];

/// Holds `target` against `data`.
///
/// # Panics
/// If it does not hold, or there is none of that name.
pub fn run(target: &str, data: &[u8]) {
    let (_, holds) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of the table");
    holds(data);
}

#[cfg(test)]
mod tests;
