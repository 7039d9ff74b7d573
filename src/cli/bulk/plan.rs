//! What will be asked for: one batch for each environment of the file, whose id follows from what it asks for.

use std::fmt::Write as _;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    input::{Input, Part},
    options::BatchOptions,
};
use crate::{
    cli::{args, error::Error},
    proto::v1::BatchHeader,
};

/// Enough to tell the files of one name apart, few enough for an id to stand on one line of a table.
const DIGEST_BYTES: usize = 8;
/// So much of a file's name is in the id.
const LONGEST_STEM: usize = 60;

/// A batch to be made, or to go on with.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) header: BatchHeader,
    pub(super) part: Part,
}

impl Planned {
    /// How the batch is called where there are others beside it.
    pub(super) fn name(&self, is_alone: bool) -> String {
        if is_alone { self.header.batch_id.clone() } else { self.header.environment_id.clone() }
    }
}

/// One batch for each environment.
///
/// # Errors
/// [`Error::Usage`] where an id that was given is too long for several.
pub(super) fn batches(input: &Input, options: &BatchOptions) -> Result<Vec<Planned>, Error> {
    let stem = sanitised(&input.source.stem());
    let alone = input.parts.len() == 1;
    let planned = |part: &Part| {
        let mut header = options.header(part.environment);
        header.batch_id = match &options.batch_id {
            None => derived_id(&stem, part, &header),
            Some(id) if alone => id.clone(),
            Some(id) => suffixed(id, part)?,
        };
        Ok(Planned { header, part: part.clone() })
    };
    input.parts.iter().map(planned).collect()
}

/// Follows from the rows and from everything that the header says, so that the same command means the same batch.
fn derived_id(stem: &str, part: &Part, header: &BatchHeader) -> String {
    debug_assert!(header.batch_id.is_empty(), "the id is derived from all else");
    let digest = Sha256::new().chain_update(header.encode_to_vec()).chain_update(part.digest).finalize();
    digest.iter().take(DIGEST_BYTES).fold(format!("{stem}-"), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

fn suffixed(id: &str, part: &Part) -> Result<String, Error> {
    let environment = part.environment.to_string();
    let id = format!("{id}-{}", environment.split('-').next().unwrap_or_default());
    args::batch_id(&id)
        .map_err(|_| Error::Usage("--batch-id is too long for several environments".to_owned()))
}

/// A file's name with nothing in it that a shell or a terminal could mistake.
fn sanitised(stem: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    stem.chars().take(LONGEST_STEM).map(|c| if plain(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::bulk::input::tests::input, device::EnvironmentId};

    const ENVIRONMENT: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
    const OTHER: &str = "bbfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
    const USER: &str = "b30ac647-e33e-464f-a6ea-0275082d4c26";

    fn ids(file: &str, options: &BatchOptions) -> Result<Vec<String>, Error> {
        Ok(batches(&input(file)?, options)?.into_iter().map(|planned| planned.header.batch_id).collect())
    }

    #[test]
    fn the_same_rows_and_options_give_the_same_id_and_any_other_another() -> Result<(), Error> {
        let options = BatchOptions::default();
        let file = format!("environment_id,user_id\n{ENVIRONMENT},{USER}\n");
        let id = ids(&file, &options)?.remove(0);
        assert!(id.starts_with("stdin-") && id.len() == "stdin-".len() + 2 * DIGEST_BYTES, "{id}");
        let same =
            format!("USER_ID,environment_id\r\n\"{USER}\",{ENVIRONMENT}\r\n\r\n").replace("b30ac", "B30AC");
        assert_eq!(ids(&same, &options)?, [id.as_str()], "how a row is written does not matter");

        let mut others = vec![
            ids(&format!("{file}{ENVIRONMENT},{USER}\n"), &options)?,
            ids(&file.replace(ENVIRONMENT, OTHER), &options)?,
            ids(&file.replace("b30ac", "a30ac"), &options)?,
            ids(&format!("environment_id,user_id,reference\n{ENVIRONMENT},{USER},x\n"), &options)?,
        ];
        let text = Some("x".to_owned());
        for other in [
            BatchOptions { reason: text.clone(), ..options.clone() },
            BatchOptions { ticket: text.clone(), ..options.clone() },
            BatchOptions { on_behalf_of: text, ..options.clone() },
            BatchOptions { canary: Some(1), ..options.clone() },
            BatchOptions { max_failure_ratio: Some(0.5), ..options.clone() },
            BatchOptions { time_to_live: Some(std::time::Duration::from_secs(1)), ..options.clone() },
            BatchOptions { start_when_sealed: true, ..options },
        ] {
            others.push(ids(&file, &other)?);
        }
        others.push(vec![id]);
        let count = others.len();
        others.sort();
        others.dedup();
        assert_eq!(others.len(), count);
        Ok(())
    }

    #[test]
    fn a_given_id_is_told_apart_by_environment_only_where_there_are_several() -> Result<(), Error> {
        let options = BatchOptions { batch_id: Some("mine".to_owned()), ..BatchOptions::default() };
        let one = format!("environment_id,user_id\n{ENVIRONMENT},{USER}\n");
        assert_eq!(ids(&one, &options)?, ["mine"]);
        let two = format!("{one}{OTHER},{USER}\n");
        assert_eq!(ids(&two, &options)?, ["mine-abfba8f6", "mine-bbfba8f6"]);
        let options = BatchOptions { batch_id: Some("x".repeat(120)), ..options };
        assert!(matches!(ids(&two, &options), Err(Error::Usage(_))));
        assert!(EnvironmentId::parse(OTHER).is_ok());
        Ok(())
    }

    #[test]
    fn a_name_is_made_plain() {
        assert_eq!(sanitised("März 2026 (2)"), "M-rz-2026--2-");
        assert_eq!(sanitised(&"x".repeat(200)).len(), LONGEST_STEM);
    }
}
