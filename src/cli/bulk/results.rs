//! What became of every row, in the order of the file, however many batches it became.

use std::path::Path;

use super::{
    input::{Input, Rows},
    plan::Planned,
};
use crate::{
    cli::{
        batch::{sink::Sink, stream::Results},
        client::Client,
        error::Error,
        screen::Screen,
    },
    device::EnvironmentId,
    proto::v1::StreamBatchResultsRequest,
};

/// So many are read at the same time: a server allows a connection only so many streams.
const STREAMS: usize = 32;

/// Writes the results of all batches to `out`. How many lines it has.
///
/// # Errors
/// What the server refuses, a server that stays away, a file that can not be written.
pub(super) async fn write(
    client: &Client,
    screen: &Screen,
    input: &Input,
    planned: &[Planned],
    out: &Path,
    failures_only: bool,
) -> Result<i64, Error> {
    let mut sink = Sink::open(out, false)?;
    let mut order = Order::of(input, planned);
    let mut batches: Vec<Batch<'_>> =
        planned.iter().map(|one| Batch { planned: one, next: 0, results: None }).collect();
    let mut without = 0_u64;
    while let Some(at) = order.next()? {
        if batches[at].results.is_none()
            && batches.iter().filter(|one| one.results.is_some()).count() == STREAMS
        {
            batches.iter_mut().for_each(|one| one.results = None);
        }
        let batch = &mut batches[at];
        let (planned, next) = (batch.planned, batch.next);
        let results = batch.results.get_or_insert_with(|| results_from(client, planned, next, failures_only));
        let mut has_one = failures_only;
        while results.peek(screen).await?.is_some_and(|result| result.offset <= next) {
            let result = results.next(screen).await?.expect("it was just there");
            sink.write(&planned.header.environment_id, &result)?;
            has_one = true;
        }
        without += u64::from(!has_one);
        batch.next += 1;
        if batch.next == planned.part.rows {
            batch.results = None;
        }
    }
    if without > 0 {
        return Err(Error::Failed(format!(
            "the server gave no result for {without} rows; nothing was written"
        )));
    }
    sink.finish()
}

struct Batch<'a> {
    planned: &'a Planned,
    /// The row that comes next.
    next: i64,
    results: Option<Results<'a>>,
}

fn results_from<'a>(client: &'a Client, planned: &Planned, offset: i64, failures_only: bool) -> Results<'a> {
    let request = StreamBatchResultsRequest {
        environment_id: planned.header.environment_id.clone(),
        batch_id: planned.header.batch_id.clone(),
        start_offset: offset,
        failures_only,
        follow: false,
    };
    Results::of(client, request, planned.part.rows)
}

/// To which batch each row of the file belongs, from the first to the last.
enum Order<'a> {
    /// All to the same: nobody needs to read the file for that.
    One {
        left: i64,
    },
    Several {
        rows: Box<Rows<'a>>,
        environments: Vec<EnvironmentId>,
    },
}

impl<'a> Order<'a> {
    fn of(input: &'a Input, planned: &[Planned]) -> Self {
        match planned {
            [one] => Self::One { left: one.part.rows },
            several => {
                let environments = several.iter().map(|one| one.part.environment).collect();
                Self::Several { rows: Box::new(input.rows()), environments }
            }
        }
    }

    fn next(&mut self) -> Result<Option<usize>, Error> {
        match self {
            Self::One { left: 0 } => Ok(None),
            Self::One { left } => {
                *left -= 1;
                Ok(Some(0))
            }
            Self::Several { rows, environments } => {
                while let Some((_, row)) = rows.next()? {
                    let at =
                        row.ok().and_then(|row| environments.iter().position(|one| *one == row.environment));
                    if at.is_some() {
                        return Ok(at);
                    }
                }
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bulk::{input::tests::input, options::BatchOptions, plan};

    #[test]
    fn the_order_is_that_of_the_file() -> Result<(), Error> {
        let environment = |digit: char| format!("{digit}bfba8f6-49eb-49f5-a5d9-80ad5c98f9f6");
        let order = |digits: &str| -> Result<Vec<usize>, Error> {
            let row = |digit| format!("{},b30ac647-e33e-464f-a6ea-0275082d4c26\n", environment(digit));
            let file = format!("environment_id,user_id\n{}", digits.chars().map(row).collect::<String>());
            let input = input(&file)?;
            let planned = plan::batches(&input, &BatchOptions::default())?;
            let mut order = Order::of(&input, &planned);
            std::iter::from_fn(|| order.next().transpose()).collect()
        };
        assert_eq!(order("abacba")?, [0, 1, 0, 2, 1, 0]);
        assert_eq!(order("aaa")?, [0, 0, 0]);
        Ok(())
    }
}
