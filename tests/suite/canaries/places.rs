//! What must not be found, and where it is looked for.

pub(super) const TOKEN: &str = "canary-opaque-token-zqx";
pub(super) const CLIENT_SECRET: &str = "canary/secret+zqx &=";
/// As it travels in a form.
const ENCODED_SECRET: &str = "canary%2Fsecret%2Bzqx%20%26%3D";
pub(super) const DATABASE_PASSWORD: &str = "canary-database-password-zqx";
pub(super) const COLLECTOR_HEADER: &str = "x-key=canary-collector-key-zqx";
pub(super) const PASSCODE: &str = "739154";
pub(super) const PAIRING_KEY: &str = "90217364501827";
pub(super) const SEED: &str = "JBSWY3DPEHPK3PXP";

pub(super) const PHONE: &str = "+1 555 010 7788";
pub(super) const PHONE_DIGITS: &str = "15550107788";
pub(super) const EMAIL: &str = "canary.zqx@example.com";

/// What callers say: kept for them, and told to nobody else.
pub(super) const CALLERS_TOKEN: &str = "eyJhbGciOiJub25lIn0.canary-zqx.c2ln";
pub(super) const NOTE: &str = "canary.caller@example.org";
pub(super) const OF_CALLERS: [&str; 2] = [CALLERS_TOKEN, NOTE];

/// What nobody is told, not even whoever may read the device.
pub(super) const SECRETS: [&str; 8] = [
    TOKEN,
    CLIENT_SECRET,
    ENCODED_SECRET,
    DATABASE_PASSWORD,
    "canary-collector-key-zqx",
    PASSCODE,
    PAIRING_KEY,
    SEED,
];

/// Columns for what callers wrote, and the packed snapshot.
pub(super) const CALLERS_COLUMNS: [&str; 10] = [
    "reason",
    "ticket",
    "on_behalf_of",
    "request_id",
    "client_reference",
    "given_user",
    "given_device",
    "message",
    "pause_reason",
    "device",
];

/// What a device's owner can be reached by.
pub(super) const fn contacts() -> [&'static str; 2] {
    [PHONE, EMAIL]
}

pub(super) fn everything() -> Vec<&'static str> {
    [&SECRETS[..], &contacts(), &[PHONE_DIGITS], &OF_CALLERS].concat()
}

/// What was said, and where.
#[derive(Default)]
pub(super) struct Places(Vec<(String, String)>);

impl Places {
    pub(super) fn add(&mut self, place: impl Into<String>, said: impl Into<String>) {
        self.0.push((place.into(), said.into()));
    }

    /// Fails with every place that holds one of `canaries`.
    pub(super) fn hold_none_of(&self, canaries: &[&str]) {
        assert!(self.0.iter().any(|(_, said)| !said.is_empty()), "nothing was looked at");
        let found: Vec<String> = self
            .0
            .iter()
            .flat_map(|(place, said)| said.lines().map(move |line| (place, line)))
            .flat_map(|(place, line)| {
                let here = canaries.iter().filter(|canary| line.contains(**canary));
                here.map(move |canary| format!("{canary:?} in {place}: {}", around(line, canary)))
            })
            .collect();
        assert!(found.is_empty(), "{} times told:\n{}", found.len(), found.join("\n"));
    }
}

fn around(line: &str, canary: &str) -> String {
    let at = line.find(canary).unwrap_or_default();
    let before: String = line[..at].chars().rev().take(200).collect();
    let before: String = before.chars().rev().collect();
    before + &line[at..].chars().take(200).collect::<String>()
}

#[test]
fn a_canary_is_found() {
    let mut places = Places::default();
    places.add("here", format!("one\ntwo {PHONE}\n"));
    assert!(std::panic::catch_unwind(|| places.hold_none_of(&everything())).is_err());
    assert!(std::panic::catch_unwind(|| Places::default().hold_none_of(&everything())).is_err());
}
