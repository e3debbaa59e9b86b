//! HTTP/2, as far as a GET beacon and its answer need it: many streams on one connection.
//!
//! Duty: keep `streams` requests under way. A header that is the same in all requests is sent once and then named by
//! its place in the server's table, as browsers do; the path is sent as it is. What must stay true: a stream counts as
//! answered when its end was read; what was acknowledged is written down before the next request is sent.
//! Never: server push, bodies of requests, a table of its own for answers (it announces one of size 0).

use super::connection::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, Failure, Shared, TEMPLATES_SEED_SHIFT};
use super::hpack;
use super::stream::{Dialler, Stream};
use super::template::Template;
use crate::random::Random;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const BACK_OFF: Duration = Duration::from_millis(100);
const FRAME_HEAD: usize = 9;
/// As both sides have it until told otherwise; the generator tells nothing else.
const FRAME_MAX: usize = 16_384;
/// A stream's number has 31 bits.
const STREAM_MAX: u32 = 0x7FFF_FFFF;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
const SETTING_TABLE_SIZE: u16 = 1;
const SETTING_PUSH: u16 = 2;

/// One request under way, or none.
struct Slot {
    template: Template,
    stream: u32,
    sent: Instant,
    status: u16,
}

/// A connection of one client.
pub(super) struct Client {
    shared: Rc<Shared>,
    dialler: Dialler,
    slots: Vec<Slot>,
    next_stream: u32,
    /// The server wants no more requests here.
    leaving: bool,
    out: Vec<u8>,
    input: Vec<u8>,
    keys: Vec<u8>,
}

impl Client {
    pub(super) fn new(shared: Rc<Shared>, dialler: Dialler, number: u32, streams: u32) -> Self {
        let options = &shared.options;
        let mut random = Random::new(options.seed ^ (u64::from(number) << TEMPLATES_SEED_SHIFT));
        let now = Instant::now();
        let slots = (0..streams)
            .map(|_| Slot {
                template: Template::new(options.method, &options.address, &options.site, 1, &mut random),
                stream: 0,
                sent: now,
                status: 0,
            })
            .collect();
        let (out, input, keys) = (Vec::with_capacity(FRAME_MAX), Vec::with_capacity(FRAME_MAX), Vec::new());
        Self { shared, dialler, slots, next_stream: 1, leaving: false, out, input, keys }
    }

    pub(super) async fn run(mut self) {
        while Instant::now() < self.shared.ends() {
            match timeout(CONNECT_TIMEOUT, self.dialler.dial(&self.shared.options.address)).await {
                Ok(Ok(stream)) => {
                    self.shared.handshake(&stream);
                    let failure = self.talk(stream).await.err();
                    self.give_up(failure);
                }
                _ => {
                    self.leaving = false;
                    self.shared.report.borrow_mut().connect_errors += 1;
                }
            }
            if Instant::now() < self.shared.ends() && !self.leaving {
                sleep(BACK_OFF).await;
            }
        }
    }

    /// Counts what got no answer.
    fn give_up(&mut self, failure: Option<Failure>) {
        let lost = self.slots.iter().filter(|slot| slot.stream != 0).count() as u64;
        let mut report = self.shared.report.borrow_mut();
        match failure {
            Some(Failure::Timeout) => report.timeouts += lost,
            _ => report.broken += lost,
        }
        for slot in &mut self.slots {
            slot.stream = 0;
        }
    }

    /// Until the run is over or the connection is no longer good.
    async fn talk(&mut self, mut stream: Stream) -> Result<(), Failure> {
        (self.next_stream, self.leaving) = (1, false);
        self.input.clear();
        self.out.clear();
        self.out.extend_from_slice(PREFACE);
        frame(&mut self.out, SETTINGS, 0, 0, &settings());
        for at in 0..self.slots.len() {
            self.ask(at);
        }
        loop {
            if !self.out.is_empty() {
                timeout(ANSWER_TIMEOUT, stream.write_all(&self.out))
                    .await
                    .map_err(|_| Failure::Timeout)?
                    .map_err(|_| Failure::Broken)?;
                self.out.clear();
            }
            if self.slots.iter().all(|slot| slot.stream == 0) {
                stream.close().await;
                return Ok(());
            }
            let read = timeout(ANSWER_TIMEOUT, stream.read_buf(&mut self.input))
                .await
                .map_err(|_| Failure::Timeout)?;
            if read.map_err(|_| Failure::Broken)? == 0 {
                return Err(Failure::Broken);
            }
            self.frames()?;
        }
    }

    /// Sends the slot's next request, unless the run is over.
    fn ask(&mut self, at: usize) {
        if self.leaving || self.next_stream >= STREAM_MAX || Instant::now() >= self.shared.ends() {
            return;
        }
        let options = &self.shared.options;
        let slot = &mut self.slots[at];
        slot.template.fill(options.seed, self.shared.take_number(), options.visitors);
        let head = self.out.len();
        self.out.extend_from_slice(&[0; FRAME_HEAD]);
        let path = slot.template.path();
        hpack::request(
            &mut self.out,
            options.tls,
            &options.address,
            path,
            slot.template.headers(),
            self.next_stream == 1,
        );
        let length = self.out.len() - head - FRAME_HEAD;
        frame_head(
            &mut self.out[head..head + FRAME_HEAD],
            length,
            HEADERS,
            END_HEADERS | END_STREAM,
            self.next_stream,
        );
        (slot.stream, slot.sent, slot.status) = (self.next_stream, Instant::now(), 0);
        self.next_stream += 2;
        self.shared.report.borrow_mut().requests_sent += 1;
    }

    /// Takes all complete frames from the input.
    fn frames(&mut self) -> Result<(), Failure> {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(head) = input.get(at..at + FRAME_HEAD) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if length > FRAME_MAX {
                return Err(Failure::Broken);
            }
            let Some(payload) = input.get(at + FRAME_HEAD..at + FRAME_HEAD + length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & STREAM_MAX;
            self.frame(head[3], head[4], stream, payload)?;
            at += FRAME_HEAD + length;
        }
        self.input = input;
        self.input.drain(..at);
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Failure> {
        match kind {
            HEADERS => {
                // Heads of answers are short: one in several frames is not what is measured here.
                if flags & END_HEADERS == 0 {
                    return Err(Failure::Broken);
                }
                let padding = usize::from(flags & PADDED != 0);
                let skipped = padding + if flags & PRIORITY == 0 { 0 } else { 5 };
                let status = payload.get(skipped..).and_then(hpack::status).ok_or(Failure::Broken)?;
                self.headers(stream, status, flags & END_STREAM != 0)
            }
            DATA => {
                if !payload.is_empty() {
                    let given = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
                    frame(&mut self.out, WINDOW_UPDATE, 0, 0, &given);
                }
                if flags & END_STREAM != 0 { self.answered(stream) } else { Ok(()) }
            }
            RST_STREAM => Err(Failure::Broken),
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                    let name = u16::from_be_bytes([setting[0], setting[1]]);
                    if name == SETTING_TABLE_SIZE && value < hpack::TABLE_NEEDED {
                        return Err(Failure::Broken);
                    }
                }
                frame(&mut self.out, SETTINGS, ACK, 0, &[]);
                Ok(())
            }
            PING if flags & ACK == 0 => {
                frame(&mut self.out, PING, ACK, 0, payload);
                Ok(())
            }
            GOAWAY => {
                self.leaving = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn headers(&mut self, stream: u32, status: u16, ends: bool) -> Result<(), Failure> {
        let slot = self.slots.iter_mut().find(|slot| slot.stream == stream).ok_or(Failure::Broken)?;
        slot.status = status;
        if ends { self.answered(stream) } else { Ok(()) }
    }

    /// The answer is complete: count it, and send the next request in its place.
    fn answered(&mut self, stream: u32) -> Result<(), Failure> {
        let at = self.slots.iter().position(|slot| slot.stream == stream).ok_or(Failure::Broken)?;
        let slot = &mut self.slots[at];
        slot.stream = 0;
        let took = slot.sent.elapsed();
        self.shared.report.borrow_mut().answer(slot.status, took, took);
        if (200..300).contains(&slot.status) {
            self.shared.write_keys(&slot.template, &mut self.keys);
        }
        self.ask(at);
        Ok(())
    }
}

/// No push, and no table: answers then hold nothing that must be remembered.
fn settings() -> Vec<u8> {
    let pairs = [(SETTING_TABLE_SIZE, 0u32), (SETTING_PUSH, 0)];
    pairs.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect()
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let mut head = [0; FRAME_HEAD];
    frame_head(&mut head, payload.len(), kind, flags, stream);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
}

fn frame_head(place: &mut [u8], length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).unwrap_or(0).to_be_bytes();
    place[..3].copy_from_slice(&length[1..]);
    (place[3], place[4]) = (kind, flags);
    place[5..FRAME_HEAD].copy_from_slice(&stream.to_be_bytes());
}
