//! The `Date` header, made once a second instead of once an answer.
//!
//! Never asks for the time when an answer is written: it is as old as the last look of the watch.

use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

const BYTES: usize = 29;

/// The date as of the last [`Self::renew`].
#[derive(Debug)]
pub(in crate::http) struct Date(ArcSwap<Now>);

#[derive(Debug)]
pub(super) struct Now {
    second: u64,
    text: [u8; BYTES],
}

impl Now {
    fn new() -> Self {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut text = [b' '; BYTES];
        // RFC 9110, 5.6.7: always so long.
        text.iter_mut().zip(httpdate::fmt_http_date(now).bytes()).for_each(|(to, byte)| *to = byte);
        Self { second, text }
    }
}

impl Date {
    pub(in crate::http) fn new() -> Self {
        Self(ArcSwap::from_pointee(Now::new()))
    }

    pub(in crate::http) fn renew(&self) {
        let now = Now::new();
        if now.second != self.0.load().second {
            self.0.store(now.into());
        }
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.0.load().text);
    }
}
