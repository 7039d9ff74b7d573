//! One row: a device to unblock, or a user whose blocked devices to unblock.

use sha2::{Digest as _, Sha256};

use super::{
    cells::Cells,
    columns::{Columns, DEVICE, ENVIRONMENT, REFERENCE, USER},
    mistakes::Mistake,
};
use crate::{
    cli::batch::row::disarm,
    device::{DeviceId, EnvironmentId, InvalidId, UserId},
    proto::v1::BatchTarget,
};

const LONGEST_REFERENCE: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) environment: EnvironmentId,
    pub(super) user: UserId,
    /// Without it: every blocked device of the user.
    pub(super) device: Option<DeviceId>,
    pub(super) reference: String,
}

impl Row {
    /// Reads a row; `environment` where its own cell is empty or there is none.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn read(
        columns: &Columns,
        cells: &Cells,
        environment: Option<EnvironmentId>,
        line: u64,
    ) -> Result<Self, Vec<Mistake>> {
        if cells.count() != columns.count {
            let which = if cells.count() < columns.count { "too few" } else { "too many" };
            let what = format!("has {} cells, {which}: the header has {}", cells.count(), columns.count);
            return Err(vec![Mistake { line, column: None, what }]);
        }
        let mut mistakes = Vec::new();
        let mut note = |column, what| mistakes.push(Mistake { line, column: Some(column), what });
        let own = columns.environment.map(|at| cells.get(at)).filter(|cell| !cell.is_empty());
        let environment = match (own, environment) {
            (Some(cell), _) => id(EnvironmentId::parse(cell), ENVIRONMENT, &mut note),
            (None, Some(environment)) => Some(environment),
            (None, None) => {
                note(ENVIRONMENT, "is empty: fill it, or give --environment".to_owned());
                None
            }
        };
        let user = match cells.get(columns.user) {
            "" => {
                note(USER, "is empty".to_owned());
                None
            }
            cell => id(UserId::parse(cell), USER, &mut note),
        };
        let device = columns.device.map(|at| cells.get(at)).filter(|cell| !cell.is_empty());
        let device = device.map(|cell| id(DeviceId::parse(cell), DEVICE, &mut note));
        let reference = columns.reference.map(|at| disarm(cells.get(at))).unwrap_or_default();
        if let Some(what) = wrong_reference(reference) {
            note(REFERENCE, what);
        }
        match (environment, user, device) {
            (Some(environment), Some(user), None | Some(Some(_))) if mistakes.is_empty() => {
                Ok(Self { environment, user, device: device.flatten(), reference: reference.to_owned() })
            }
            _ => Err(mistakes),
        }
    }

    /// Adds to `digest` all that makes this row this row.
    pub(super) fn digest_into(&self, digest: &mut Sha256) {
        digest.update(self.user.as_uuid().as_bytes());
        digest.update(self.device.map(|device| device.as_uuid().into_bytes()).unwrap_or_default());
        digest.update(self.reference.as_bytes());
        // No reference holds it, so none can pass for the beginning of the next row.
        digest.update(b"\n");
    }

    pub(super) fn into_target(self) -> BatchTarget {
        BatchTarget {
            user_id: self.user.to_string(),
            device_id: self.device.map(|device| device.to_string()).unwrap_or_default(),
            client_reference: self.reference,
        }
    }
}

fn id<I>(
    parsed: Result<I, InvalidId>,
    column: &'static str,
    note: &mut impl FnMut(&'static str, String),
) -> Option<I> {
    parsed.map_err(|error| note(column, error.to_string())).ok()
}

fn wrong_reference(reference: &str) -> Option<String> {
    if reference.chars().any(char::is_control) {
        return Some("holds a control character, such as a tab".to_owned());
    }
    let length = reference.chars().count();
    (length > LONGEST_REFERENCE).then(|| format!("has {length} characters; {LONGEST_REFERENCE} are allowed"))
}
