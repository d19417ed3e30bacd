//! Ctrl-C: the first one ends the audit and prints what there is, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, terminal};
use crate::audit::exit::Exit;

/// Watches for SIGINT and SIGTERM from now on; the flag is set by the first.
pub(super) fn watch() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let fault = |error: std::io::Error| Failure {
        exit: Exit::OurFault,
        message: format!("signals cannot be watched: {error}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(fault)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
    drop(guard);
    let flag = stop.clone();
    // The thread ends with the process: there is nothing to clean up in it.
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if flag.swap(true, Ordering::Relaxed) {
                    // The wardens notice that we are gone, empty their containers and end.
                    std::process::exit(Exit::Interrupted.code().into());
                }
                terminal::complain("stopping after the cases under way; once more to stop at once");
            }
        });
    });
    Ok(stop)
}
