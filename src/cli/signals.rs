//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// By convention 128 and the number of the signal.
const ENDED_BY_INTERRUPT: i32 = 130;
const ENDED_BY_TERMINATE: i32 = 143;

/// Cancelled at the first signal. The second ends the process.
///
/// # Errors
/// When this system lets nobody listen for signals.
pub(super) fn shutdown() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = CancellationToken::new();
    let first = shutdown.clone();
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        first.cancel();
        let code = next(&mut interrupt, &mut terminate).await;
        tracing::warn!("a second signal: ending at once");
        std::process::exit(code);
    });
    Ok(shutdown)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => ENDED_BY_INTERRUPT,
        _ = terminate.recv() => ENDED_BY_TERMINATE,
    }
}
