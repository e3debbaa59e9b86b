//! The way to stop, shared by all roles, and the process's signals.
//!
//! Never ends the process by itself: whoever holds a [`Stop`] finishes its work.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// A stop signal. Clones share it; once given it stays given.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Given>);

#[derive(Debug)]
struct Given {
    /// The same as the channel's value, to be read without its lock.
    flag: AtomicBool,
    channel: watch::Sender<bool>,
}

impl Stop {
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Given { flag: AtomicBool::new(false), channel: watch::Sender::new(false) }))
    }

    /// Tells everyone to stop.
    pub fn stop(&self) {
        self.0.flag.store(true, Ordering::Release);
        self.0.channel.send_replace(true);
    }

    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.flag.load(Ordering::Acquire)
    }

    /// Returns when the stop is given; at once if it was given before.
    pub async fn stopped(&self) {
        let mut receiver = self.0.channel.subscribe();
        // The sender lives in `self`, so that this cannot fail.
        let _ = receiver.wait_for(|stopped| *stopped).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

/// Each SIGHUP as one change; a receiver that was busy sees the latest only,
/// which is enough for rereading files.
pub type Reload = watch::Receiver<u64>;

/// Turns SIGTERM and SIGINT into `stop`, SIGHUP into a reload. Must be called
/// in a tokio runtime; installs its handlers before it returns.
pub fn on_signals(stop: &Stop) -> io::Result<Reload> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (sender, receiver) = watch::channel(0_u64);
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                _ = terminate.recv() => {
                    tracing::info!(signal = "SIGTERM", "stopping");
                    stop.stop();
                }
                _ = interrupt.recv() => {
                    tracing::info!(signal = "SIGINT", "stopping");
                    stop.stop();
                }
                _ = hang_up.recv() => {
                    tracing::info!(signal = "SIGHUP", "reloading");
                    sender.send_modify(|count| *count += 1);
                }
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_reaches_those_who_wait_and_those_who_come_later() {
        let stop = Stop::new();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.stopped().await }
        });
        assert!(!stop.is_stopped());
        stop.stop();
        waiting.await.unwrap();
        stop.clone().stopped().await;
        assert!(stop.is_stopped());
    }
}
