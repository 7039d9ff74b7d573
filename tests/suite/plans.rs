//! Plans are made once for each connection, when the tables may be empty, and kept while they grow to millions of rows: each
//! statement finds its jobs by key all the same.

use std::{fs, path::Path};

use pingone_unblock::store::PLANNING;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::harness::{Result, database::Database};

/// The tables that grow with the jobs.
const LARGE: [&str; 12] = [
    "job",
    "ready",
    "outcome",
    "attempt",
    "redrive",
    "cancellation",
    "batch",
    "batch_target",
    "audit",
    "audit_seal",
    "caller_use",
    "device_use",
];
/// The statements that read all of a lane, as they say of themselves: of what waits, of open batches, of old ones, of callers.
const WALKS: [&str; 4] = [
    "from ready where lane = any($1)\n            group by lane, environment_id, flow",
    "from batch where lane = any($1) and completed_at is null",
    "order by number limit 1",
    "delete from caller_use where lane = $1",
];

struct Statement {
    text: String,
    parameters: usize,
}

fn statements() -> Result<Vec<Statement>> {
    let mut statements = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx"))? {
        let described: serde_json::Value = serde_json::from_str(&fs::read_to_string(entry?.path())?)?;
        let text = described["query"].as_str().ok_or("no query")?.to_owned();
        let parameters = described["describe"]["parameters"]["Left"].as_array().map_or(0, Vec::len);
        statements.push(Statement { text, parameters });
    }
    Ok(statements)
}

/// Each look at a table in a plan: the line that names it, and the condition by which its index is searched.
fn looks(plan: &[String]) -> Vec<(String, String)> {
    let table =
        |line: &str| line.split_once(" on ").map(|(_, rest)| rest.split(' ').next().map(str::to_owned));
    let scan = |line: &&String| line.contains("Scan");
    let named = |line: &String| table(line).flatten().is_some_and(|name| LARGE.contains(&name.as_str()));
    let mut looks = Vec::new();
    for (at, line) in plan.iter().enumerate().filter(|(_, line)| scan(line) && named(line)) {
        let condition = plan.get(at + 1).filter(|next| next.contains("Index Cond:"));
        looks
            .push((line.trim().to_owned(), condition.map(|line| line.trim().to_owned()).unwrap_or_default()));
    }
    looks
}

/// A job by its key, the jobs of one environment, or a stretch of a lane in its order.
fn by_key(look: &str, condition: &str) -> bool {
    let bounds = |column: &str| {
        condition.contains(&format!("({column} ")) || condition.contains(&format!("({column}("))
    };
    match look.split("using ").nth(1).and_then(|rest| rest.split(' ').next()) {
        Some("ready_heads" | "job_history" | "batch_name") => bounds("environment_id"),
        Some("job_request") => bounds("request_id"),
        Some("caller_use_pkey") => bounds("lane") && bounds("caller"),
        // One of them, or a stretch of a lane in their order.
        Some("device_use_pkey") => bounds("lane") && condition.contains("device_id"),
        Some(_) => bounds("lane") && (bounds("job_id") || bounds("number") || bounds("event_id")),
        None => false,
    }
}

/// What finds its jobs otherwise than by key, and how many looks at large tables there are in all.
async fn wrong_looks(connection: &mut PgConnection, round: &str) -> Result<(Vec<String>, usize)> {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (number, Statement { text, parameters }) in statements()?.into_iter().enumerate() {
        let name = format!("{round}_{number}");
        sqlx::raw_sql(AssertSqlSafe(format!("prepare {name} as {text}"))).execute(&mut *connection).await?;
        let values = match parameters {
            0 => String::new(),
            _ => format!("({})", vec!["null"; parameters].join(", ")),
        };
        let explain = AssertSqlSafe(format!("explain (costs off) execute {name}{values}"));
        let rows = sqlx::raw_sql(explain).fetch_all(&mut *connection).await?;
        let plan = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        for (look, condition) in looks(&plan) {
            seen += 1;
            if !by_key(&look, &condition) && !WALKS.iter().any(|walk| text.contains(walk)) {
                wrong.push(format!("{look}\n  {condition}\nin\n{text}"));
            }
        }
    }
    Ok((wrong, seen))
}

#[tokio::test]
async fn every_statement_finds_its_jobs_by_key_even_where_it_was_planned_while_the_tables_were_empty()
-> Result<()> {
    let database = Database::create().await?;
    let mut connection = PgConnection::connect(database.url()).await?;
    for (name, value) in PLANNING {
        sqlx::query(AssertSqlSafe(format!("set {name} = {value}"))).execute(&mut connection).await?;
    }
    let (wrong, seen) = wrong_looks(&mut connection, "fresh").await?;
    assert!(seen > 40, "only {seen} looks at large tables were understood");
    assert!(wrong.is_empty(), "these read more than they look for:\n{}", wrong.join("\n\n"));

    // Vacuumed while nothing waits, and then a hundred thousand jobs come: only `ready` shrinks, so only it is found so again.
    sqlx::query("vacuum analyze").execute(&mut connection).await?;
    let (wrong, _) = wrong_looks(&mut connection, "vacuumed").await?;
    let without_any = |look: &&String| look.contains(" on ready") && !look.contains("Index Cond:");
    let wrong: Vec<&String> = wrong.iter().filter(without_any).collect();
    assert!(wrong.is_empty(), "these read all that ever waited: {wrong:?}");
    Ok(())
}
