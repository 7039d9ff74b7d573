//! Fuzzing: a configuration file is taken, or every mistake in it is told; neither shows a secret.

use std::path::PathBuf;

use super::{File, Reader, ServeArgs, read};

const SECRET: &str = "canary-of-a-secret";
const LEAST: [(&str, &str); 4] = [
    ("UNBLOCK_DATABASE_URL", "postgres://u:canary-of-a-secret@localhost/unblock"),
    ("PINGONE_AUTH_ENVIRONMENT_ID", "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6"),
    ("PINGONE_CLIENT_ID", "client"),
    ("PINGONE_CLIENT_SECRET", SECRET),
];

pub(crate) fn config_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // It must not read what somebody happens to name.
    if text.contains("_file") || text.contains("\\u") || text.contains(SECRET) {
        return;
    }
    let variable =
        |name: &str| LEAST.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
    let (args, mut mistakes) = (ServeArgs::default(), Vec::new());
    let file = File::parse(PathBuf::from("unblock.toml"), text, &mut mistakes);
    let understood = mistakes.is_empty();
    let mut reader = Reader::new(&args, &variable);
    reader.file = file;
    let config = read(&mut reader, &variable);
    let told = match reader.finish(config) {
        Ok(config) => format!("{config:?}"),
        Err(error) => {
            assert!(!error.mistakes.is_empty(), "refused, and nobody is told why");
            mistakes.extend(error.mistakes);
            String::new()
        }
    };
    let told = mistakes.iter().fold(told, |told, mistake| {
        assert!(!mistake.what.is_empty() && !mistake.remedy.is_empty());
        format!("{told}\n{mistake}")
    });
    assert!(!told.contains(SECRET), "{told}");
    assert!(understood || !mistakes.is_empty());
}
