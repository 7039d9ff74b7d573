//! What is about to happen, said before it does; and the answer of whoever asked for it.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    time::Duration,
};

use serde_json::json;

use super::{heard, input::Input, mistakes::bad_lines, plan::Planned};
use crate::{
    cli::{
        client::{Client, TimeLimit},
        error::{Error, printed},
        screen::Screen,
    },
    proto::v1::ListEnvironmentsRequest,
};

const LARGEST_PAGE: i32 = 1000;
/// A preview is worth no longer wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// The server reads a device before it sends an unblock asked for longer ago.
const STALE_AFTER: f64 = 900.0;

/// Requests per second, by environment, where the server knows and tells.
pub(super) type Rates = HashMap<String, f64>;

/// How fast each environment may be sent to now. Whoever is not allowed to know gets no estimate.
pub(super) async fn rates(client: &Client, screen: &Screen) -> Rates {
    let send = async |request| client.environments().list_environments(request).await;
    let mut request = ListEnvironmentsRequest { page_size: LARGEST_PAGE, page_token: String::new() };
    let mut rates = Rates::new();
    let limit = TimeLimit::start(PATIENCE);
    while let Ok(page) = client.call(screen, limit, &request, send).await {
        let known = page.environments.into_iter().filter(|one| one.effective_rate_limit > 0.0);
        rates.extend(known.map(|one| (one.environment_id, one.effective_rate_limit)));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    rates
}

/// Says what the file asks for.
///
/// # Errors
/// [`Error::Output`] when it can not be printed.
pub(super) fn show(
    screen: &Screen,
    input: &Input,
    invalid: u64,
    planned: &[Planned],
    rates: &Rates,
) -> Result<(), Error> {
    screen.say(&format!("{}: {}", input.source.name(), rows(input.row_count())));
    if invalid > 0 {
        screen.detail("left out", &bad_lines(invalid));
    }
    let mut batches = Vec::new();
    for one in planned {
        let rate = rates.get(&one.header.environment_id).copied();
        let time = rate.map(|rate| estimate(one.part.rows, one.part.by_user, rate));
        screen.detail("environment", &one.header.environment_id);
        screen.detail("batch", &one.header.batch_id);
        screen.detail("rows", &rows_in_words(one));
        match (rate, time) {
            (Some(rate), Some(time)) => {
                screen.detail("time", &format!("about {} at {rate:.0} requests per second", printed(time)));
            }
            _ => screen.detail("time", "not known: the server names no rate"),
        }
        let mut batch = json!({
            "environmentId": one.header.environment_id,
            "batchId": one.header.batch_id,
            "rowCount": one.part.rows,
            "byUserCount": one.part.by_user,
        });
        if let Some(time) = time {
            batch["estimatedSeconds"] = time.as_secs().into();
        }
        batches.push(batch);
    }
    if screen.is_json() {
        let preview = json!({ "file": input.source.name(), "rowCount": input.row_count(), "invalidCount": invalid,
            "batches": batches });
        heard(screen.print_json(&json!({ "preview": preview })))?;
    }
    Ok(())
}

/// Asks for the number of rows, which nobody types by mistake.
///
/// # Errors
/// [`Error::Usage`] for another answer, and where nobody can be asked.
pub(super) fn confirm(screen: &Screen, count: i64) -> Result<(), Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::Usage("nobody can be asked here: add --yes to go on without".to_owned()));
    }
    screen.draw("type the number of rows to go on: ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Error::failed)?;
    if answer.trim() == count.to_string() {
        return Ok(());
    }
    Err(Error::Usage(format!("that is not {count}; nothing was sent")))
}

fn rows_in_words(one: &Planned) -> String {
    match one.part.by_user {
        0 => one.part.rows.to_string(),
        by_user => format!("{}, {by_user} of them for every blocked device of a user", one.part.rows),
    }
}

fn rows(count: i64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

/// One request for each device, two for a user; one more once the requests are old enough for the device to be read first.
fn estimate(rows: i64, by_user: i64, rate: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let requests = (rows + by_user) as f64;
    let early = (requests / rate).min(STALE_AFTER);
    let seconds = early + 2.0 * (requests / rate - early);
    Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_requests_cost_two() {
        let seconds = |rows, by_user| estimate(rows, by_user, 20.0).as_secs();
        assert_eq!(seconds(1, 0), 1);
        assert_eq!(seconds(18_000, 0), 900);
        assert_eq!(seconds(9_000, 9_000), 900);
        assert_eq!(seconds(38_000, 0), 900 + 2000);
    }
}
