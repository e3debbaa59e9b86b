//! A proxy before a broker that loses answers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often the proxy loses an answer.
#[derive(Clone, Default)]
pub(crate) struct Cuts {
    /// One of so many; 0 is none.
    every: Arc<AtomicU32>,
    heard: Arc<AtomicU32>,
    lost: Arc<AtomicU32>,
}

impl Cuts {
    pub(crate) fn begin(&self, every: u32) {
        self.every.store(every, Ordering::Release);
    }

    /// Loses nothing more; how many were lost.
    pub(crate) fn end(&self) -> u32 {
        self.every.store(0, Ordering::Release);
        self.lost.load(Ordering::Acquire)
    }

    fn is_next(&self) -> bool {
        let every = self.every.load(Ordering::Acquire);
        let next = every > 0 && (self.heard.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(every);
        self.lost.fetch_add(u32::from(next), Ordering::AcqRel);
        next
    }
}

/// Passes everything on to `port`, but closes connections instead of some answers.
pub(crate) fn cutting_proxy(own: u16, port: u16) -> Cuts {
    let listener = TcpListener::bind(("127.0.0.1", own)).unwrap();
    let cuts = Cuts::default();
    let theirs = cuts.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(broker) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            client.set_nodelay(true).unwrap();
            broker.set_nodelay(true).unwrap();
            let (from, to) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
            std::thread::spawn(move || pass(from, to, || false));
            let cuts = theirs.clone();
            std::thread::spawn(move || pass(broker, client, || cuts.is_next()));
        }
    });
    cuts
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_cut: impl Fn() -> bool) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if is_cut() || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
