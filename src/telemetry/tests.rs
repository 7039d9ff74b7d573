//! Together: what is logged, and the end.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tracing::Level;
use tracing_subscriber::EnvFilter;

use super::*;

fn levels(applied: &Arc<Mutex<Vec<EnvFilter>>>) -> Levels {
    let applied = Arc::clone(applied);
    Levels::new(Filter::default(), move |filter| {
        applied.lock().expect("nobody panicked with it").push(filter);
        Ok(())
    })
}

fn nothing_sent(flushers: Vec<Flusher>) -> Telemetry {
    Telemetry { levels: levels(&Arc::default()), flushers }
}

#[tokio::test(start_paused = true)]
async fn a_change_for_a_while_goes_back_by_itself_and_a_newer_one_stays() -> Result<(), InvalidFilter> {
    let applied = Arc::default();
    let levels = levels(&applied);
    let debug = Filter::parse("debug")?;
    levels.set(debug.clone(), Some(Duration::from_secs(600)));
    assert_eq!(levels.current(), debug);
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(levels.current(), Filter::default());

    levels.set(debug, Some(Duration::from_secs(600)));
    let warn = Filter::parse("warn")?;
    levels.set(warn.clone(), None);
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(levels.current(), warn);
    assert_eq!(applied.lock().expect("nobody panicked with it").len(), 4);
    Ok(())
}

#[test]
fn a_level_for_everything_leaves_out_what_is_never_meant() -> Result<(), InvalidFilter> {
    let directives = Filter::parse("trace")?.directives()?.to_string();
    assert!(directives.contains("opentelemetry=off") && directives.contains("sqlx=warn"), "{directives}");
    let named = Filter::parse("info,opentelemetry=debug")?.directives()?.to_string();
    assert!(named.contains("opentelemetry=debug") && !named.contains("opentelemetry=off"), "{named}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_left_is_sent_at_once_and_within_one_deadline() {
    let (met, meets) = std::sync::mpsc::channel();
    let (answer, answered) = std::sync::mpsc::channel();
    let mut telemetry = nothing_sent(Vec::new());
    // Each waits for the other: one after the other they would not end.
    telemetry.at_the_end("traces", move |deadline| {
        let _ = met.send(());
        let _ = answered.recv_timeout(deadline);
        Ok(())
    });
    telemetry.at_the_end("logs", move |deadline| {
        assert!(meets.recv_timeout(deadline).is_ok());
        let _ = answer.send(());
        Ok(())
    });
    let began = Instant::now();
    telemetry.shutdown(Duration::from_secs(20)).await;
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_does_not_answer_holds_up_nothing_and_what_is_lost_is_counted()
-> Result<(), Box<dyn std::error::Error>> {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", silent.local_addr()?);
    let resource = otlp::resource();
    let tracers = Traces::Sent(address.clone()).provider(&resource)?.ok_or("nothing is sent")?;
    let loggers = Logs::Sent(address).provider(&resource)?.ok_or("nothing is sent")?;
    let before = dropped();
    let began = Instant::now();
    let layers = tracing_subscriber::registry().with(traces::layer(&tracers)).with(logs::layer(&loggers));
    tracing::subscriber::with_default(layers, || {
        for _ in 0..10_000 {
            tracing::info_span!(target: SPANS, "call").in_scope(|| tracing::info!("something"));
        }
    });
    let lost = dropped();
    assert!(lost.traces > before.traces && lost.logs > before.logs, "{lost:?}");
    let mut telemetry = nothing_sent(Vec::new());
    telemetry.at_the_end("traces", move |deadline| tracers.shutdown_with_timeout(deadline));
    telemetry.at_the_end("logs", move |deadline| loggers.shutdown_with_timeout(deadline));
    telemetry.shutdown(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    Ok(())
}

#[test]
fn no_filter_makes_libraries_tell_headers_and_bodies() {
    let ceiling = ceiling();
    for library in ["hyper", "h2", "reqwest", "rustls", "tonic", "tower", "log"] {
        assert!(!ceiling.would_enable(library, &Level::DEBUG), "{library}");
        assert!(ceiling.would_enable(library, &Level::INFO), "{library}");
    }
    assert!(!ceiling.would_enable("sqlx", &Level::INFO));
    assert!(!ceiling.would_enable("sqlx_postgres::options::parse", &Level::WARN));
    assert!(ceiling.would_enable("pingone_unblock::engine", &Level::TRACE));
}

#[test]
fn a_panic_tells_no_value() {
    let told = |panics: fn()| {
        let payload = panic::catch_unwind(panics).err().unwrap_or(Box::new(()));
        panic_message(&*payload).to_string()
    };
    assert_eq!(told(|| panic!("nobody is here")), "nobody is here");
    assert_eq!(
        told(|| std::hint::black_box(Err::<(), _>("hunter2")).expect("the token is read")),
        "the token is read"
    );
    assert_eq!(
        told(|| drop("über hunter2"[1..2].to_owned())),
        "start byte index 1 is not a char boundary; it is inside"
    );
    assert_eq!(told(|| panic!("mail {}", "jane@example.com")), "mail [redacted]");
    assert_eq!(told(|| panic::panic_any(7)), "no message");
}
