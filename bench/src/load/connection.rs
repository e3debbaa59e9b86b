//! One connection: send, read the answer, again; connect anew when the server goes away.
//!
//! What must stay true: at most one request is under way; every wait has an end; what was acknowledged is written down
//! before the next request is sent.

use super::report::Report;
use super::stream::{Dialler, Stream};
use super::template::Template;
use super::{Method, Options};
use crate::random::Random;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The SDKs give up after this.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A slot of the schedule that is older than this was missed: a server that comes back gets no burst of all that it
/// missed while it was away.
const SLOT_LATE_MAX: Duration = Duration::from_secs(1);
/// An answer's head and body; errors are a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;
/// Different requests per connection, so that pages and amounts differ.
const TEMPLATES: usize = 4;
/// Each connection draws its templates from the seed and its own number.
pub(super) const TEMPLATES_SEED_SHIFT: u32 = 32;
/// Idle connections that are being opened at a time: the queue of a listener is finite.
pub(super) const OPENING_MAX: usize = 64;

/// What all connections of a run share.
pub(super) struct Shared {
    pub(super) options: Options,
    /// When the run began; with a rate, when every connection had been opened.
    pub(super) started: Cell<Instant>,
    /// Connections that were not opened, or tried, yet.
    pub(super) unopened: Cell<u32>,
    /// Closed once a rate may begin.
    pub(super) begun: Semaphore,
    pub(super) next_slot: Cell<u64>,
    pub(super) next_request: Cell<u64>,
    pub(super) acked: RefCell<Option<File>>,
    pub(super) report: RefCell<Report>,
    pub(super) opening: Semaphore,
    /// Closed once idle connections may go.
    pub(super) held: Semaphore,
}

impl Shared {
    pub(super) fn ends(&self) -> Instant {
        self.started.get() + self.options.duration
    }

    /// A connection was opened for the first time, or could not be. With a rate, the first requests wait for the last
    /// connection: how long it takes to open thousands at once is another question.
    async fn opened(&self) {
        if self.options.rate.is_none() {
            return;
        }
        self.unopened.set(self.unopened.get().saturating_sub(1));
        if self.unopened.get() == 0 {
            self.started.set(Instant::now());
            self.begun.close();
        }
        // Closing is what ends the wait.
        let _ = self.begun.acquire().await;
    }

    /// The number of the next request of the run.
    pub(super) fn take_number(&self) -> u64 {
        let number = self.next_request.get();
        self.next_request.set(number + 1);
        number
    }

    /// Counts the handshake of a new connection.
    pub(super) fn handshake(&self, stream: &Stream) {
        if let Some(resumed) = stream.resumed() {
            let mut report = self.report.borrow_mut();
            report.handshakes += 1;
            report.handshakes_resumed += u64::from(resumed);
        }
    }

    /// Writes down what was acknowledged; `keys` is room for it.
    pub(super) fn write_keys(&self, template: &Template, keys: &mut Vec<u8>) {
        let mut file = self.acked.borrow_mut();
        if let Some(open) = file.as_mut() {
            keys.clear();
            template.append_keys(keys);
            if let Err(error) = open.write_all(keys) {
                // A list with holes would prove nothing: stop as a failed run.
                *file = None;
                self.report.borrow_mut().acked_error = Some(error.to_string());
            }
        }
    }
}

/// Why an exchange had no answer.
pub(super) enum Failure {
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
    dialler: Dialler,
    templates: Vec<Template>,
    turn: usize,
    /// The request in `templates[turn]` got no 2xx and is to be sent once more.
    again: bool,
    answer: Vec<u8>,
    keys: Vec<u8>,
}

impl Connection {
    pub(super) fn new(shared: Rc<Shared>, dialler: Dialler, number: u32) -> Self {
        let options = &shared.options;
        let mut random = Random::new(options.seed ^ (u64::from(number) << TEMPLATES_SEED_SHIFT));
        let lines = if options.method == Method::Get { 1 } else { options.lines_per_request };
        let templates = (0..TEMPLATES)
            .map(|_| Template::new(options.method, &options.address, &options.site, lines, &mut random))
            .collect();
        Self {
            shared,
            dialler,
            templates,
            turn: 0,
            again: false,
            answer: Vec::with_capacity(4096),
            keys: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut back_off = BACK_OFF_MIN;
        let mut is_first = true;
        while is_first || Instant::now() < self.shared.ends() {
            let connected = self.connect().await;
            if is_first {
                self.shared.opened().await;
                is_first = false;
            }
            let answered = match connected {
                Some(stream) => self.exchange_until_broken(stream).await,
                None => false,
            };
            if answered {
                back_off = BACK_OFF_MIN;
            }
            let now = Instant::now();
            if now < self.shared.ends() {
                sleep_until(self.shared.ends().min(now + back_off)).await;
                back_off = BACK_OFF_MAX.min(back_off * 2);
            }
        }
    }

    /// One request per connection; its latency holds the connecting.
    pub(super) async fn run_anew(mut self) {
        while let Some(due) = self.slot().await {
            self.prepare();
            let sent = Instant::now();
            let Some(mut stream) = self.connect().await else {
                self.settle(false);
                sleep_until(self.shared.ends().min(sent + BACK_OFF_MAX)).await;
                continue;
            };
            if self.request(&mut stream, sent, due).await.is_some() {
                stream.close().await;
            }
        }
    }

    /// One request, then nothing on the connection until all may go.
    pub(super) async fn run_idle(mut self) {
        let shared = Rc::clone(&self.shared);
        let permit = shared.opening.acquire().await;
        if Instant::now() >= shared.ends() {
            return;
        }
        let Some(mut stream) = self.connect().await else { return };
        self.prepare();
        let now = Instant::now();
        let answer = self.request(&mut stream, now, now).await;
        drop(permit);
        if answer.is_none_or(|answer| answer.closes) {
            return;
        }
        // A server that hangs up, or says anything, has not kept the connection.
        let open = tokio::select! {
            _ = shared.held.acquire() => true,
            _ = stream.read_u8() => false,
        };
        shared.report.borrow_mut().idle_kept += u64::from(open);
    }

    async fn connect(&self) -> Option<Stream> {
        match timeout(CONNECT_TIMEOUT, self.dialler.dial(&self.shared.options.address)).await {
            Ok(Ok(stream)) => {
                self.shared.handshake(&stream);
                Some(stream)
            }
            _ => {
                self.shared.report.borrow_mut().connect_errors += 1;
                None
            }
        }
    }

    /// True where at least one answer came.
    async fn exchange_until_broken(&mut self, mut stream: Stream) -> bool {
        let mut answered = false;
        while let Some(due) = self.slot().await {
            self.prepare();
            match self.request(&mut stream, Instant::now(), due).await {
                Some(answer) if answer.closes => return true,
                Some(_) => answered = true,
                None => return answered,
            }
        }
        answered
    }

    /// Sends what was prepared and counts the answer, or why there is none.
    async fn request(&mut self, stream: &mut Stream, sent: Instant, due: Instant) -> Option<Answer> {
        self.shared.report.borrow_mut().requests_sent += 1;
        match timeout(ANSWER_TIMEOUT, self.exchange(stream)).await.unwrap_or(Err(Failure::Timeout)) {
            Ok(answer) => {
                let now = Instant::now();
                self.shared.report.borrow_mut().answer(answer.status, now - sent, now - due);
                self.settle((200..300).contains(&answer.status));
                Some(answer)
            }
            Err(failure) => {
                let mut report = self.shared.report.borrow_mut();
                match failure {
                    Failure::Broken => report.broken += 1,
                    Failure::Timeout => report.timeouts += 1,
                }
                drop(report);
                self.settle(false);
                None
            }
        }
    }

    /// Waits until the next request is due; `None` when the run is over.
    async fn slot(&self) -> Option<Instant> {
        let shared = &self.shared;
        let Some(rate) = shared.options.rate else {
            let now = Instant::now();
            return (now < shared.ends()).then_some(now);
        };
        let at = |slot: u64| {
            #[expect(clippy::cast_precision_loss, reason = "slots of a run stay far below 2^52")]
            let seconds = slot as f64 / rate;
            shared.started.get() + Duration::from_secs_f64(seconds)
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
        if due >= shared.ends() {
            return None;
        }
        if due > now {
            sleep_until(due).await;
        }
        (Instant::now() < shared.ends()).then_some(due)
    }

    fn prepare(&mut self) {
        let shared = &self.shared;
        if self.again {
            shared.report.borrow_mut().retries += 1;
            return;
        }
        self.turn = (self.turn + 1) % self.templates.len();
        let number = shared.take_number();
        self.templates[self.turn].fill(shared.options.seed, number, shared.options.visitors);
    }

    /// Writes down what was acknowledged, or marks the request for its one retry.
    fn settle(&mut self, acked: bool) {
        if !acked {
            self.again = self.shared.options.retry && !self.again;
            return;
        }
        self.again = false;
        self.shared.write_keys(&self.templates[self.turn], &mut self.keys);
    }

    async fn exchange(&mut self, stream: &mut Stream) -> Result<Answer, Failure> {
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
