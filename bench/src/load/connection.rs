//! One connection: send, read the answer, again; connect anew when the server goes away.
//!
//! What must stay true: at most one request is under way; every wait has an end; what was acknowledged is written down
//! before the next request is sent.

use super::report::Report;
use super::template::Template;
use super::{Method, Options};
use crate::random::Random;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The SDKs give up after this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A slot of the schedule that is older than this was missed: a server that comes back gets no burst of all that it
/// missed while it was away.
const SLOT_LATE_MAX: Duration = Duration::from_secs(1);
/// An answer's head and body; errors are a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;
/// Different requests per connection, so that pages and amounts differ.
const TEMPLATES: usize = 4;

/// What all connections of a run share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) started: Instant,
    pub(super) ends: Instant,
    pub(super) next_slot: Cell<u64>,
    pub(super) next_request: Cell<u64>,
    pub(super) acked: RefCell<Option<File>>,
    pub(super) report: RefCell<Report>,
}

/// Why an exchange had no answer.
enum Failure {
    Broken,
    Timeout,
}

/// A complete answer.
struct Answer {
    status: u16,
    closes: bool,
}

pub(super) struct Connection {
    shared: Rc<Shared>,
    templates: Vec<Template>,
    turn: usize,
    /// The request in `templates[turn]` got no 2xx and is to be sent once more.
    again: bool,
    answer: Vec<u8>,
    keys: Vec<u8>,
}

impl Connection {
    pub(super) fn new(shared: Rc<Shared>, number: u32) -> Self {
        let options = &shared.options;
        let mut random = Random::new(options.seed ^ (u64::from(number) << 32));
        let lines = if options.method == Method::Get { 1 } else { options.lines_per_request };
        let templates = (0..TEMPLATES)
            .map(|_| Template::new(options.method, &options.address, &options.site, lines, &mut random))
            .collect();
        Self { shared, templates, turn: 0, again: false, answer: Vec::with_capacity(4096), keys: Vec::new() }
    }

    pub(super) async fn run(mut self) {
        let mut back_off = BACK_OFF_MIN;
        while Instant::now() < self.shared.ends {
            let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.shared.options.address)).await;
            let answered = match connected {
                Ok(Ok(stream)) => {
                    // Without this a body waits for the acknowledgement of its head.
                    drop(stream.set_nodelay(true));
                    self.exchange_until_broken(stream).await
                }
                _ => {
                    self.shared.report.borrow_mut().connect_errors += 1;
                    false
                }
            };
            if answered {
                back_off = BACK_OFF_MIN;
            }
            let now = Instant::now();
            if now < self.shared.ends {
                sleep_until(self.shared.ends.min(now + back_off)).await;
                back_off = BACK_OFF_MAX.min(back_off * 2);
            }
        }
    }

    /// True where at least one answer came.
    async fn exchange_until_broken(&mut self, mut stream: TcpStream) -> bool {
        let mut answered = false;
        while let Some(due) = self.slot().await {
            self.prepare();
            let sent = Instant::now();
            self.shared.report.borrow_mut().requests_sent += 1;
            match timeout(ANSWER_TIMEOUT, self.exchange(&mut stream)).await.unwrap_or(Err(Failure::Timeout)) {
                Ok(answer) => {
                    answered = true;
                    let now = Instant::now();
                    self.shared.report.borrow_mut().answer(answer.status, now - sent, now - due);
                    self.settle((200..300).contains(&answer.status));
                    if answer.closes {
                        return answered;
                    }
                }
                Err(failure) => {
                    let mut report = self.shared.report.borrow_mut();
                    match failure {
                        Failure::Broken => report.broken += 1,
                        Failure::Timeout => report.timeouts += 1,
                    }
                    drop(report);
                    self.settle(false);
                    return answered;
                }
            }
        }
        answered
    }

    /// Waits until the next request is due; `None` when the run is over.
    async fn slot(&self) -> Option<Instant> {
        let shared = &self.shared;
        let Some(rate) = shared.options.rate else {
            let now = Instant::now();
            return (now < shared.ends).then_some(now);
        };
        let at = |slot: u64| {
            #[expect(clippy::cast_precision_loss, reason = "slots of a run stay far below 2^52")]
            let seconds = slot as f64 / rate;
            shared.started + Duration::from_secs_f64(seconds)
        };
        let mut slot = shared.next_slot.get();
        let mut missed = 0;
        let now = Instant::now();
        while at(slot) + SLOT_LATE_MAX < now {
            slot += 1;
            missed += 1;
        }
        shared.next_slot.set(slot + 1);
        shared.report.borrow_mut().slots_missed += missed;
        let due = at(slot);
        if due >= shared.ends {
            return None;
        }
        if due > now {
            sleep_until(due).await;
        }
        (Instant::now() < shared.ends).then_some(due)
    }

    fn prepare(&mut self) {
        let shared = &self.shared;
        if self.again {
            shared.report.borrow_mut().retries += 1;
            return;
        }
        self.turn = (self.turn + 1) % self.templates.len();
        let number = shared.next_request.get();
        shared.next_request.set(number + 1);
        self.templates[self.turn].fill(shared.options.seed, number, shared.options.visitors);
    }

    /// Writes down what was acknowledged, or marks the request for its one retry.
    fn settle(&mut self, acked: bool) {
        if !acked {
            self.again = self.shared.options.retry && !self.again;
            return;
        }
        self.again = false;
        let mut file = self.shared.acked.borrow_mut();
        if let Some(open) = file.as_mut() {
            self.keys.clear();
            self.templates[self.turn].append_keys(&mut self.keys);
            if let Err(error) = open.write_all(&self.keys) {
                // A list with holes would prove nothing: stop as a failed run.
                *file = None;
                self.shared.report.borrow_mut().acked_error = Some(error.to_string());
            }
        }
    }

    async fn exchange(&mut self, stream: &mut TcpStream) -> Result<Answer, Failure> {
        let request = self.templates[self.turn].bytes();
        stream.write_all(request).await.map_err(|_| Failure::Broken)?;
        self.answer.clear();
        loop {
            let read = stream.read_buf(&mut self.answer).await.map_err(|_| Failure::Broken)?;
            if read == 0 || self.answer.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Broken);
            }
            if let Some(answer) = parse(&self.answer)? {
                return Ok(answer);
            }
        }
    }
}

/// `None` while bytes are missing. A body without a length is not waited for: the connection is closed instead.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Failure::Broken),
    };
    let status = response.code.unwrap_or(0);
    let mut length = (status == 204 || status == 304).then_some(0usize);
    let mut closes = false;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = std::str::from_utf8(header.value).ok().and_then(|value| value.trim().parse().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    match length {
        Some(length) if bytes.len() < head + length => Ok(None),
        Some(_) => Ok(Some(Answer { status, closes })),
        None => Ok(Some(Answer { status, closes: true })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_body() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..whole.len() {
            assert!(matches!(parse(&whole[..cut]), Ok(None)), "{cut}");
        }
        assert!(matches!(parse(whole), Ok(Some(Answer { status: 404, closes: false }))));
    }

    #[test]
    fn an_answer_without_length_ends_the_connection() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(parse(chunked), Ok(Some(Answer { status: 200, closes: true }))));
        let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert!(matches!(parse(empty), Ok(Some(Answer { status: 204, closes: false }))));
    }

    #[test]
    fn nonsense_is_a_broken_connection() {
        assert!(matches!(parse(b"SSH-2.0-x\r\n\r\n"), Err(Failure::Broken)));
    }
}
