//! What systemd, or whoever else starts the process, is told and hands over:
//! readiness, the watchdog, sockets.
//!
//! Says nothing where nobody asked (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `LISTEN_FDS`). What
//! must stay true: the watchdog hears from us only while every worker turns.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::http::Turns;
use crate::stop::Stop;

/// Whoever supervises this process.
#[derive(Debug)]
pub struct Supervisor {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// As the environment names it.
    #[must_use]
    pub fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok();
        let is_ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let microseconds = text("WATCHDOG_USEC").filter(|_| is_ours).and_then(|text| text.parse().ok());
        Self::new(text("NOTIFY_SOCKET").as_deref(), microseconds)
    }

    /// `socket` is a path, or `@` and an abstract name.
    #[must_use]
    pub fn new(socket: Option<&str>, watchdog_microseconds: Option<u64>) -> Self {
        let address = socket.map(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        });
        let to = address.and_then(|address| match (UnixDatagram::unbound(), address) {
            (Ok(socket), Ok(address)) => Some((socket, address)),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "cannot reach the supervisor");
                None
            }
        });
        let watchdog = watchdog_microseconds.filter(|time| *time > 0).map(Duration::from_micros);
        Self { to, watchdog }
    }

    /// Everything answers.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The stop was given.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Files are read again; [`Self::ready`] says when that is done.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// Until `stop`, says at half of the watchdog's time that the process lives, as long as every
    /// worker has turned since the last time.
    pub async fn keep_alive(&self, turns: Turns, stop: &Stop) {
        let Some(time) = self.watchdog else { return stop.stopped().await };
        let mut before = turns.now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(time / 2) => {}
                () = stop.stopped() => return,
            }
            if turns.all_since(&before) {
                self.say("WATCHDOG=1");
                before = turns.now();
            } else {
                tracing::error!("a worker does not turn; the supervisor is not told that all is well");
            }
        }
    }

    fn say(&self, state: &str) {
        let Some((socket, address)) = &self.to else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!(%error, state, "cannot tell the supervisor");
        }
    }
}

/// The listening sockets that were handed over, by name (`FileDescriptorName=`). To be called once,
/// before other threads run: it takes the variables out of the environment.
pub fn handed_over() -> io::Result<BTreeMap<String, Vec<TcpListener>>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut fds = listenfd::ListenFd::from_env();
    let mut sockets: BTreeMap<String, Vec<TcpListener>> = BTreeMap::new();
    for index in 0..fds.len() {
        let name = names.next().unwrap_or_default().to_owned();
        if let Some(socket) = fds.take_tcp_listener(index)? {
            sockets.entry(name).or_default().push(socket);
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HttpLimits, Workers};

    #[tokio::test]
    async fn the_watchdog_hears_from_workers_that_turn_and_not_from_one_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = tokio::net::UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::new(path.to_str(), Some(1_500_000));
        supervisor.ready();
        supervisor.reloading();
        let mut text = [0; 200];
        let next = async |text: &mut [u8; 200]| {
            let received = tokio::time::timeout(Duration::from_secs(3), heard.recv(text)).await;
            received.ok().map(|count| String::from_utf8_lossy(&text[..count.unwrap()]).into_owned())
        };
        assert_eq!(next(&mut text).await.unwrap(), "READY=1");
        assert!(next(&mut text).await.unwrap().starts_with("RELOADING=1\nMONOTONIC_USEC="));

        let (workers, stop) = (Workers::start(2, HttpLimits::default()).unwrap(), Stop::new());
        let turns = workers.turns();
        let keeping = {
            let stop = stop.clone();
            tokio::spawn(async move { supervisor.keep_alive(turns, &stop).await })
        };
        assert_eq!(next(&mut text).await.unwrap(), "WATCHDOG=1");
        assert_eq!(next(&mut text).await.unwrap(), "WATCHDOG=1");
        let (hanging, released) = std::sync::mpsc::channel::<()>();
        workers.spawn_on(1, async move { released.recv().unwrap_or_default() });
        while next(&mut text).await.is_some() {}
        hanging.send(()).unwrap();
        assert_eq!(next(&mut text).await.unwrap(), "WATCHDOG=1");
        stop.stop();
        keeping.await.unwrap();
    }
}
