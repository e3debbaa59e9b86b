//! Taking the place of a running process.
//!
//! The sockets are bound first, so that connections wait in the kernel from then on; the
//! process that holds the data folder is told to stop, drains, and lets go of it. What must
//! stay true: only a Fanal that holds this data folder is told to stop, and only with
//! `http.take_over`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use fanal_service::stop::Stop;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::folder::InUse;
use super::listeners::{Addresses, Bound};
use super::parts::{Parts, RUNNING};
use crate::config::Config;

/// Between two looks whether the folder is free.
const PAUSE: Duration = Duration::from_millis(20);
/// What a predecessor may need beyond its drain timeout, to close its parts.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the parts; where they are to be taken over, when the predecessor has closed them.
pub(super) async fn open(config: &Config, bound: &Bound, stop: &Stop) -> anyhow::Result<Parts> {
    let until = Instant::now() + config.drain_timeout() * 2 + CLOSE_TIMEOUT;
    let mut was_told = false;
    loop {
        match Parts::open(config, bound.clickhouse()).await {
            Err(error) if config.http.take_over && InUse::is(&error) && Instant::now() < until => {
                if !was_told {
                    tell_to_stop(&config.path(RUNNING))?;
                    was_told = true;
                }
            }
            opened => return opened,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.stopped() => anyhow::bail!("stopped while waiting for the process to be replaced"),
        }
    }
}

fn tell_to_stop(running: &Path) -> anyhow::Result<()> {
    let refusal = || format!("the data folder is in use, and {} does not say by whom", running.display());
    let text = std::fs::read(running).with_context(refusal)?;
    let addresses: Addresses = serde_json::from_slice(&text).with_context(refusal)?;
    let pid = i32::try_from(addresses.pid).ok().and_then(Pid::from_raw).with_context(refusal)?;
    // A number that another program has got meanwhile must not end that program.
    let name = |pid: String| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let is_ours = name("self".to_owned())
        .is_ok_and(|own| name(addresses.pid.to_string()).is_ok_and(|other| other == own));
    anyhow::ensure!(
        is_ours,
        "process {} of {} is no Fanal; stop what uses the data folder",
        addresses.pid,
        running.display()
    );
    tracing::info!(pid = addresses.pid, "taking over from a running process");
    kill_process(pid, Signal::TERM).with_context(|| format!("cannot tell process {} to stop", addresses.pid))
}
