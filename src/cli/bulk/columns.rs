//! Which column is which: read from the first line.

use super::cells::Cells;

pub(super) const ENVIRONMENT: &str = "environment_id";
pub(super) const USER: &str = "user_id";
pub(super) const DEVICE: &str = "device_id";
pub(super) const REFERENCE: &str = "reference";

/// Where the columns stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) environment: Option<usize>,
    pub(super) user: usize,
    pub(super) device: Option<usize>,
    pub(super) reference: Option<usize>,
    /// How many there are.
    pub(super) count: usize,
}

impl Columns {
    /// Reads the header. `environment_given`: it need not have that column.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(super) fn read(header: &Cells, environment_given: bool) -> Result<Self, String> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        let columns = [ENVIRONMENT, USER, DEVICE, REFERENCE];
        let known = |name: &str| columns.contains(&name) || is_result(name);
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            let delimiter = if unknown.contains([';', '\t', '|']) {
                "; columns are separated by commas".to_owned()
            } else {
                format!(
                    "; the header is {}[,{REFERENCE}], in any order",
                    [ENVIRONMENT, USER, DEVICE].join(",")
                )
            };
            return Err(format!("there is no column {unknown:?}{delimiter}"));
        }
        if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(format!("the column {twice} stands there twice"));
        }
        let at = |name: &str| names.iter().position(|given| given == name);
        let environment = at(ENVIRONMENT);
        if environment.is_none() && !environment_given {
            return Err(format!("the column {ENVIRONMENT} is missing: add it, or give --environment"));
        }
        let user = at(USER).ok_or_else(|| format!("the column {USER} is missing"))?;
        Ok(Self { environment, user, device: at(DEVICE), reference: at(REFERENCE), count: names.len() })
    }
}

/// Whether only a file with results has the column: such a file may be given again, and these are passed over.
fn is_result(name: &str) -> bool {
    crate::cli::batch::row::RESULT_COLUMNS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bulk::lines::Length;

    fn read(header: &str, environment_given: bool) -> Result<Columns, String> {
        let mut cells = Cells::new();
        cells.split(&mut header.as_bytes().to_vec(), Length::Usual)?;
        Columns::read(&cells, environment_given)
    }

    #[test]
    fn columns_stand_in_any_order_and_case() {
        let all = Columns { environment: Some(3), user: 1, device: Some(0), reference: Some(2), count: 4 };
        assert_eq!(read("Device_ID, user_id ,REFERENCE,environment_id", false), Ok(all));
        let few = Columns { environment: None, user: 0, device: None, reference: None, count: 1 };
        assert_eq!(read("user_id", true), Ok(few));
        assert!(
            read(&crate::cli::batch::row::header().join(","), false).is_ok(),
            "results can be given again"
        );
    }

    #[test]
    fn a_wrong_header_says_what_is_wrong() {
        let cases = [
            ("user_id,device_id", "environment_id is missing: add it, or give --environment"),
            ("environment_id,device_id", "user_id is missing"),
            ("environment_id,user_id,name", "no column \"name\"; the header is"),
            ("environment_id;user_id", "separated by commas"),
            ("environment_id,user_id,USER_ID", "user_id stands there twice"),
        ];
        for (header, expected) in cases {
            let said = read(header, false).expect_err(expected);
            assert!(said.contains(expected), "{said}");
        }
    }
}
